//! One question to one webhook: what is sent, what may go wrong, and what is counted of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::{Cause, Details};
use api::{Status, Tree};
use registry::tree::{get, list, text};

use super::hook::Hook;
use super::matching::Invocation;
use super::review::{Answer, Review};
use crate::{Attributes, Point, Services};

/// Why a webhook could not be asked.
#[derive(Debug)]
pub enum CallError {
    Failed {
        reason: String,
        /// The status code of its answer, where there was one.
        code: u16,
    },
    /// Too many wait for it, so that the request may not. That says nothing of the webhook: where its failures matter, the
    /// request is refused, and may come again.
    Refused(Box<Status>),
}

/// What is counted of a call.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    pub webhook: &'a str,
    /// `admit` or `validating`.
    pub step: &'static str,
    pub operation: &'static str,
    pub took: Duration,
    pub code: u16,
    /// Why the request is refused for it: `no_error` where the webhook said so.
    pub rejected: Option<&'static str>,
    /// It could not be asked, and the request goes on without.
    pub failed_open: bool,
}

/// A call that did not go well.
pub(super) enum Failure {
    /// It could not be asked, or its answer was none.
    Calling { reason: String, code: u16 },
    /// It said no.
    Rejected(Status),
    /// The server could not go on.
    Own(Status),
}

/// How a call ended that did not lead to a refusal.
pub(super) enum Ended<T> {
    Well(T),
    /// It could not be asked, which its configuration says is no harm.
    FailedOpen,
}

impl Failure {
    pub fn calling(reason: impl Into<String>, code: u16) -> Failure {
        Failure::Calling { reason: reason.into(), code }
    }
}

/// The webhooks of all configurations; waits for them for a while when the server has just begun.
pub(super) async fn hooks(
    services: &dyn Services,
    attributes: &Attributes<'_>,
    mutating: bool,
) -> Result<Arc<[Arc<Hook>]>, Status> {
    let known = match services.hooks(mutating) {
        None if services.ready().await => services.hooks(mutating),
        known => known,
    };
    known.ok_or_else(|| attributes.forbid("not yet ready to handle request"))
}

/// Counts a call, and decides whether its failure is one of the request.
pub(super) fn end<T>(
    services: &dyn Services,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    step: &'static str,
    began: Instant,
    outcome: Result<T, Failure>,
) -> Result<Ended<T>, Status> {
    let hook = invocation.hook;
    let (code, rejected) = match &outcome {
        Ok(_) => (200, None),
        Err(Failure::Calling { code, .. }) => {
            (*code, (!hook.ignores_failures).then_some("calling_webhook_error"))
        }
        Err(Failure::Rejected(status)) => (status.code, Some("no_error")),
        Err(Failure::Own(_)) => (0, Some("apiserver_internal_error")),
    };
    services.called(&Called {
        webhook: &hook.name,
        step,
        operation: attributes.operation.name(),
        took: began.elapsed(),
        code,
        rejected,
        failed_open: outcome.is_err() && rejected.is_none(),
    });
    match outcome {
        Ok(answer) => Ok(Ended::Well(answer)),
        Err(Failure::Calling { .. }) if hook.ignores_failures => Ok(Ended::FailedOpen),
        Err(Failure::Calling { reason, .. }) => {
            Err(Status::internal(format!("failed calling webhook {:?}: {reason}", hook.name)))
        }
        Err(Failure::Rejected(status) | Failure::Own(status)) => Err(status),
    }
}

/// Asks the webhook about an object in its version.
pub(super) async fn ask(
    services: &dyn Services,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    object: Tree,
    old: Tree,
    mutating: bool,
) -> Result<Answer, Failure> {
    let hook = invocation.hook;
    if attributes.dry_run && !hook.runs_dry {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Own(Status::bad_request(why)));
    }
    let not_made = |why: String| Failure::calling(format!("could not create admission objects: {why}"), 400);
    let review = Review::begin(invocation).map_err(not_made)?;
    let body = review.request(attributes, invocation, object, old);
    let answered = services.call(&hook.client, body, hook.timeout).await;
    let answered = answered.map_err(|error| match error {
        CallError::Failed { reason, code } => {
            Failure::calling(format!("failed to call webhook: {reason}"), code)
        }
        CallError::Refused(status) if hook.ignores_failures => Failure::calling(status.message, status.code),
        CallError::Refused(status) => Failure::Own(*status),
    })?;
    let answer = review
        .answer(&answered, mutating)
        .map_err(|why| Failure::calling(format!("received invalid webhook response: {why}"), 503))?;
    for (key, value) in &answer.annotations {
        attributes.context.annotate(format!("{}/{key}", hook.name), value.clone());
    }
    for warning in &answer.warnings {
        attributes.context.warn(warning.clone());
    }
    match answer.allowed {
        true => Ok(answer),
        false => Err(Failure::Rejected(denied(&hook.name, &answer.result))),
    }
}

/// The refusal, as far as the webhook words it.
fn denied(webhook: &str, result: &Tree) -> Status {
    let by = format!("admission webhook {webhook:?} denied the request");
    let (message, reason) = (text(result, "message"), text(result, "reason"));
    let message = match (message, reason) {
        ("", "") => format!("{by} without explanation"),
        ("", why) | (why, _) => format!("{by}: {why}"),
    };
    let code = get(result, "code").as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    let mut status = Status::failure(code.max(400), reason, message);
    let details = get(result, "details");
    status.details = details.is_object().then(|| Details {
        name: text(details, "name").to_owned(),
        group: text(details, "group").to_owned(),
        kind: text(details, "kind").to_owned(),
        uid: text(details, "uid").to_owned(),
        causes: list(details, "causes").iter().map(cause).collect(),
        retry_after_seconds: get(details, "retryAfterSeconds")
            .as_i64()
            .and_then(|seconds| i32::try_from(seconds).ok())
            .unwrap_or_default(),
    });
    status
}

fn cause(tree: &Tree) -> Cause {
    let said = |field: &str| text(tree, field).to_owned();
    Cause { reason: said("reason"), message: said("message"), field: said("field") }
}

/// Webhooks are not asked about what configures them, nor about who somebody is and what they may: so nobody locks themselves out.
pub(super) fn is_exempt(point: &Point<'_>) -> bool {
    let exempt = ["admissionregistration.k8s.io", "authentication.k8s.io", "authorization.k8s.io"];
    exempt.contains(&&*point.resource.group)
}
