//! `/containerLogs`: a container's log, as a stream.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::log_reader::{Alive, Options, Reader};
use super::{Body, Host, parameter, query, text};
use crate::pods::uid;
use crate::runtime::{State, state};

pub async fn serve(
    host: &Arc<Host>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &str,
) -> Response<Body> {
    if container.is_empty() {
        return text(StatusCode::BAD_REQUEST, r#"{"message": "missing container name."}"#);
    }
    let (options, previous) = match options(query, Timestamp::now()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::UNPROCESSABLE_ENTITY, message),
    };
    let Some(pod) = host.pods.get(namespace, name) else {
        return text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist\n"));
    };
    if !has_container(&pod, container) {
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {name:?}\n"));
    }
    let status = host.pods.status(uid(&pod)).map(|status| (*status).clone()).or_else(|| pod.status.clone());
    let id = match container_id(&status.unwrap_or_default(), name, container, previous) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let found = match host.runtime.container_status(&id, false).await {
        Ok(found) => found.status.unwrap_or_default(),
        Err(error) => {
            let message = format!("failed to get container status {id:?}: {error}");
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let running = Running { host: host.clone(), id };
    match Reader::open(found.log_path.clone().into(), options, running).await {
        Ok(reader) => stream(reader, host),
        Err(error) => {
            let message = format!("failed to open log file {:?}: {error}", found.log_path);
            text(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

struct Running {
    host: Arc<Host>,
    id: String,
}

#[async_trait]
impl Alive for Running {
    async fn is_alive(&self) -> bool {
        match self.host.runtime.container_status(&self.id, false).await {
            Ok(found) => {
                matches!(state(found.status.unwrap_or_default().state), State::Running | State::Created)
            }
            // A runtime that is away for a moment says nothing about the container.
            Err(error) => !error.is_not_found(),
        }
    }
}

/// The log as a body. It is read as the client takes it, and forgotten when the client goes.
fn stream(reader: Reader<Running>, host: &Arc<Host>) -> Response<Body> {
    let pieces = futures::stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let ended = host.shutdown.clone().cancelled_owned();
    let mut response = Response::new(StreamBody::new(pieces.take_until(ended)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The options of the query, and whether the previous instance is meant.
fn options(text: &str, now: Timestamp) -> Result<(Options, bool), String> {
    let query = query(text);
    let flag = |name: &str| match parameter(&query, name) {
        None => Ok(false),
        Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some(_) => Err(r#"{"message": "Unable to decode query."}"#.to_owned()),
    };
    let number = |name: &str| {
        parameter(&query, name)
            .map(|value| {
                value.parse::<i64>().map_err(|_| r#"{"message": "Unable to decode query."}"#.to_owned())
            })
            .transpose()
    };
    let invalid = |field: &str, value: i64, rule: &str| format!("{field}: Invalid value: {value}: {rule}");
    let tail = match parameter(&query, "tailLines").or(parameter(&query, "tail")) {
        Some("all") | None => None,
        Some(value) => {
            Some(value.parse::<i64>().map_err(|_| r#"{"message": "Unable to decode query."}"#.to_owned())?)
        }
    };
    if let Some(lines) = tail.filter(|lines| *lines < 0) {
        return Err(invalid("tailLines", lines, "must be greater than or equal to 0"));
    }
    let limit = number("limitBytes")?;
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        return Err(invalid("limitBytes", limit, "must be greater than 0"));
    }
    let seconds = number("sinceSeconds")?;
    if let Some(seconds) = seconds.filter(|seconds| *seconds < 1) {
        return Err(invalid("sinceSeconds", seconds, "must be greater than 0"));
    }
    let time = parameter(&query, "sinceTime")
        .map(|time| {
            time.parse::<Timestamp>().map_err(|_| r#"{"message": "Unable to decode query."}"#.to_owned())
        })
        .transpose()?;
    if seconds.is_some() && time.is_some() {
        return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned());
    }
    // A time before the earliest representable one means the whole log.
    let back = |seconds| now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
    let since = seconds.map(back).or(time);
    let stream = match parameter(&query, "stream") {
        None | Some("" | "All") => None,
        Some("Stdout") => Some("stdout"),
        Some("Stderr") => Some("stderr"),
        Some(other) => {
            return Err(format!(
                "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
            ));
        }
    };
    let options = Options {
        tail: tail.and_then(|lines| lines.try_into().ok()),
        follow: flag("follow")?,
        timestamps: flag("timestamps")?,
        since,
        limit_bytes: limit.and_then(|limit| limit.try_into().ok()),
        stream,
    };
    Ok((options, flag("previous")?))
}

fn has_container(pod: &Pod, name: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init).any(|container| container.name == name)
            || spec.ephemeral_containers.iter().flatten().any(|container| container.name == name)
    })
}

/// The id of the instance whose log is meant, by what the status says of the container.
fn container_id(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|status| status.name == container);
    let Some(status) = found else {
        return Err(format!("container {container:?} in pod {pod:?} is not available"));
    };
    let before = last_terminated(status);
    let state = status.state.clone().unwrap_or_default();
    let bare = |id: &str| id.rsplit_once("://").map_or(id, |(_, id)| id).to_owned();
    if previous {
        return before
            .map(|id| bare(&id))
            .ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"));
    }
    if state.running.is_some() {
        return Ok(bare(status.container_id.as_deref().unwrap_or_default()));
    }
    if let Some(terminated) = &state.terminated {
        return terminated
            .container_id
            .clone()
            .filter(|id| !id.is_empty())
            .or(before)
            .map(|id| bare(&id))
            .ok_or_else(|| format!("container {container:?} in pod {pod:?} is terminated"));
    }
    if let Some(id) = before {
        return Ok(bare(&id));
    }
    Err(match state.waiting.as_ref().map(|waiting| waiting.reason.as_deref().unwrap_or_default()) {
        Some("ErrImagePull") => {
            format!("container {container:?} in pod {pod:?} is waiting to start: image can't be pulled")
        }
        Some("ImagePullBackOff") => {
            format!(
                "container {container:?} in pod {pod:?} is waiting to start: trying and failing to pull image"
            )
        }
        Some(reason) => format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"),
        None => format!("container {container:?} in pod {pod:?} is waiting to start - no logs yet"),
    })
}

fn last_terminated(status: &ContainerStatus) -> Option<String> {
    let terminated = status.last_state.as_ref()?.terminated.as_ref()?;
    terminated.container_id.clone().filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn queries() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let all = Options::default();
        let ok = [
            ("", all.clone(), false),
            ("follow=true&tailLines=5", Options { follow: true, tail: Some(5), ..all.clone() }, false),
            ("previous=true&timestamps=1", Options { timestamps: true, ..all.clone() }, true),
            (
                "sinceSeconds=60",
                Options { since: Some("2026-01-01T00:00:00Z".parse().unwrap()), ..all.clone() },
                false,
            ),
            (
                "sinceTime=2025-12-31T00%3A00%3A00Z&limitBytes=7",
                Options {
                    since: Some("2025-12-31T00:00:00Z".parse().unwrap()),
                    limit_bytes: Some(7),
                    ..all.clone()
                },
                false,
            ),
            ("stream=Stderr", Options { stream: Some("stderr"), ..all.clone() }, false),
            (
                "sinceSeconds=9223372036854775807&tailLines=9223372036854775807",
                Options { since: Some(Timestamp::MIN), tail: Some(i64::MAX.unsigned_abs()), ..all },
                false,
            ),
        ];
        for (text, want, previous) in ok {
            assert_eq!(options(text, now).unwrap(), (want, previous), "{text}");
        }
        for text in [
            "tailLines=-1",
            "tailLines=x",
            "limitBytes=0",
            "sinceSeconds=0",
            "follow=maybe",
            "sinceTime=now",
            "sinceSeconds=1&sinceTime=2025-12-31T00:00:00Z",
            "stream=Both",
        ] {
            assert!(options(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn instances() {
        let last = json!({"terminated": {"exitCode": 1, "containerID": "containerd://old"}});
        let check = |status: Value, previous: bool| {
            let mut status = status;
            status["name"] = "c".into();
            for (key, value) in [
                ("image", json!("i")),
                ("imageID", json!("")),
                ("ready", json!(false)),
                ("restartCount", json!(0)),
            ] {
                status[key] = value;
            }
            let status = serde_json::from_value(json!({"containerStatuses": [status]})).unwrap();
            container_id(&status, "p", "c", previous)
        };
        let running = json!({"state": {"running": {}}, "containerID": "containerd://new", "lastState": last});
        assert_eq!(check(running.clone(), false).unwrap(), "new");
        assert_eq!(check(running, true).unwrap(), "old");
        assert_eq!(
            check(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}), false)
                .unwrap(),
            "old"
        );
        let ended = json!({"state": {"terminated": {"exitCode": 0, "containerID": "containerd://end"}}});
        assert_eq!(check(ended.clone(), false).unwrap(), "end");
        assert_eq!(
            check(ended, true).unwrap_err(),
            "previous terminated container \"c\" in pod \"p\" not found"
        );
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        let table = [
            ("ContainerCreating", "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ("ErrImagePull", "container \"c\" in pod \"p\" is waiting to start: image can't be pulled"),
            (
                "ImagePullBackOff",
                "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
            ),
        ];
        for (reason, want) in table {
            assert_eq!(check(waiting(reason), false).unwrap_err(), want);
        }
        let none = container_id(&PodStatus::default(), "p", "c", false).unwrap_err();
        assert_eq!(none, "container \"c\" in pod \"p\" is not available");
    }
}
