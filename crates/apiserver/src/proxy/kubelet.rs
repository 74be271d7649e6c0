//! A pod's log and streams, at its kubelet.

use access::request_info::{RequestInfo, flag, parameter, parameters};
use api::status::Cause;
use api::{Status, Tree};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::place::{Place, Transport};
use super::{Proxy, text_response};
use crate::body::Body;

/// Bytes of a kubelet's refusal that are passed on at most.
const MOST_OF_ERROR: usize = 50_000;

impl Proxy {
    pub(super) async fn log(
        &self,
        info: &RequestInfo,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let query = request.uri().query().unwrap_or_default();
        let options = log_options(&info.name, query)?;
        let pod = self.pod(&info.namespace, &info.name)?;
        let container = container(&pod, parameter(query, "container").unwrap_or_default())?;
        let Some(node) = node_of(&pod) else {
            // nothing has been written where nothing runs
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        };
        let mut place = self.kubelet_of_pod(node)?;
        if flag(query, "insecureSkipTLSVerifyBackend") {
            place.transport = Transport::AnyTls;
        }
        place.path = format!("/containerLogs/{}/{}/{container}", info.namespace, info.name);
        if !options.is_empty() {
            place.path = format!("{}?{options}", place.path);
        }
        let out = Request::get(&place.path)
            .header(http::header::HOST, place.host_header())
            .body(Body::empty())
            .map_err(Status::internal)?;
        let answer = self.send(&place, out).await.map_err(|error| {
            let mut status = Status::failure(
                500,
                "",
                format!("Get \"https://{}{}\": {error}", place.authority(), place.path),
            );
            status.reason = String::new();
            status
        })?;
        if answer.status().is_success() {
            return Ok(text_response(Body::wrap(answer.into_body())));
        }
        let code = answer.status();
        let body = Limited::new(answer.into_body(), MOST_OF_ERROR).collect().await;
        let text =
            body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        Err(match code {
            StatusCode::BAD_REQUEST => Status::bad_request(text),
            StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
            StatusCode::NOT_FOUND => {
                let mut status = Status::not_found("", "pods", &info.name);
                status.message =
                    format!("the server could not find the requested resource ( pods {})", info.name);
                status
            }
            other => Status::failure(other.as_u16(), reason(other), format!("unknown: {text}")),
        })
    }

    /// Destination of an exec, attach or port-forward.
    pub(super) fn stream_place(
        &self,
        info: &RequestInfo,
        request: &Request<Incoming>,
    ) -> Result<Place, Status> {
        let query = request.uri().query().unwrap_or_default();
        let forward = info.subresource == "portforward";
        let ports = if forward { forward_options(query)? } else { String::new() };
        let pod = self.pod(&info.namespace, &info.name)?;
        let container = match forward {
            true => String::new(),
            false => container(&pod, parameter(query, "container").unwrap_or_default())?,
        };
        let node = node_of(&pod)
            .ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", info.name)))?;
        let mut place = self.kubelet_of_pod(node)?;
        let RequestInfo { namespace, name, .. } = info;
        place.path = match info.subresource.as_str() {
            "portforward" => format!("/portForward/{namespace}/{name}"),
            subresource => format!("/{subresource}/{namespace}/{name}/{container}"),
        };
        let options = match forward {
            true => ports,
            false => stream_options(query, info.subresource == "exec")?,
        };
        if !options.is_empty() {
            place.path = format!("{}?{options}", place.path);
        }
        Ok(place)
    }
}

fn node_of(pod: &Tree) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
}

fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        _ => "InternalError",
    }
}

fn names(pod: &Tree, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    items.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
}

/// The container asked for, or the only one, or the one an annotation names.
pub(super) fn container(pod: &Tree, asked: String) -> Result<String, Status> {
    let (main, init, ephemeral) =
        (names(pod, "containers"), names(pod, "initContainers"), names(pod, "ephemeralContainers"));
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if !asked.is_empty() {
        let known = main.iter().chain(&init).chain(&ephemeral).any(|own| *own == asked);
        return match known {
            true => Ok(asked),
            false => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
        };
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    if let Some(default) = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str()
        && main.iter().any(|own| own == default)
    {
        return Ok(default.to_owned());
    }
    let mut message =
        format!("a container name must be specified for pod {name}, choose one of: [{}]", main.join(" "));
    if !init.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    if !ephemeral.is_empty() {
        message.push_str(&format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" ")));
    }
    Err(Status::bad_request(message))
}

/// `PodLogOptions` as the kubelet's parameters.
pub(super) fn log_options(pod: &str, query: &str) -> Result<String, Status> {
    let mut out = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if flag(query, name) {
            out.push(format!("{name}=true"));
        }
    }
    let mut causes = Vec::new();
    for (name, least) in [("tailLines", 0i64), ("limitBytes", 1), ("sinceSeconds", 1)] {
        let Some(text) = parameter(query, name).filter(|text| !text.is_empty()) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        if number < least {
            let message = match least {
                0 => format!("Invalid value: {number}: must be greater than or equal to 0"),
                _ => format!("Invalid value: {number}: must be greater than 0"),
            };
            causes.push(Cause { reason: "FieldValueInvalid".into(), message, field: name.into() });
        }
        out.push(format!("{name}={number}"));
    }
    let given = |name: &str| parameter(query, name).is_some_and(|text| !text.is_empty());
    let mut forbidden = |field: &str, why: &str| {
        let message = format!("Forbidden: {why}");
        causes.push(Cause { reason: "FieldValueForbidden".into(), message, field: field.into() });
    };
    if given("sinceSeconds") && given("sinceTime") {
        forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if given("stream") {
        // its feature is off unless asked for
        forbidden("stream", "may not be specified");
    }
    if let Some(text) = parameter(query, "sinceTime").filter(|text| !text.is_empty())
        && api::text::parse_time(&text).is_none()
    {
        return Err(Status::bad_request(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )));
    }
    if !causes.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", pod, causes));
    }
    if let Some(text) = parameter(query, "sinceTime").filter(|text| !text.is_empty()) {
        out.push(format!("sinceTime={}", encode(&text)));
    }
    Ok(out.join("&"))
}

/// `PodExecOptions` and `PodAttachOptions` as the kubelet's parameters.
pub(super) fn stream_options(query: &str, exec: bool) -> Result<String, Status> {
    let mut out = Vec::new();
    let output = parameter(query, "stdout")
        .map_or(!exec && parameter(query, "stderr").is_none(), |_| flag(query, "stdout"));
    for (on, name) in [
        (flag(query, "stdin"), "input"),
        (output, "output"),
        (flag(query, "stderr") && !flag(query, "tty"), "error"),
        (flag(query, "tty"), "tty"),
    ] {
        if on {
            out.push(format!("{name}=1"));
        }
    }
    if exec {
        let commands: Vec<String> = parameters(query)
            .filter(|(name, _)| name == "command")
            .map(|(_, value)| format!("command={}", encode(&value)))
            .collect();
        if commands.is_empty() {
            return Err(Status::bad_request("you must specify at least 1 command for the container"));
        }
        out.extend(commands);
    }
    Ok(out.join("&"))
}

/// `PodPortForwardOptions` as the kubelet's parameters.
pub(super) fn forward_options(query: &str) -> Result<String, Status> {
    let mut out = Vec::new();
    for (_, ports) in parameters(query).filter(|(name, _)| name == "ports" || name == "port") {
        for port in ports.split(',') {
            let number = port.parse::<u16>().map_err(|error| {
                let why = match error.kind() {
                    std::num::IntErrorKind::PosOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                let parsing = format!("strconv.ParseUint: parsing {port:?}: {why}");
                Status::bad_request(format!("cannot convert to []int32: {parsing}"))
            })?;
            out.push(format!("port={number}"));
        }
    }
    Ok(out.join("&"))
}

/// Percent encoding of a query value.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
