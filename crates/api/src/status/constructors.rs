//! The statuses the API knows, with upstream's texts.

use std::collections::HashSet;

use super::{Cause, Details, ListMeta, MAX_CAUSES, Status};

/// Why a write lost against another one.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// `deployments.apps`, or `pods` in the core group.
fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Details {
    Details { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned(), ..Details::default() }
}

impl Status {
    /// A failure with any code, reason and message, without details.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code,
            ..Self::default()
        }
    }

    fn with(self, details: Details) -> Self {
        Self { details: Some(details), ..self }
    }

    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::failure(404, "NotFound", format!("{} \"{name}\" not found", qualified(group, plural)))
            .with(details(group, plural, name))
    }

    /// A path that no handler serves.
    pub fn unknown_path() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
            .with(Details::default())
    }

    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::failure(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(group, plural)))
            .with(details(group, plural, name))
    }

    /// `why` is most often [`MODIFIED`].
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, plural));
        Self::failure(409, "Conflict", message).with(details(group, plural, name))
    }

    /// Server-side apply met fields of other managers.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::failure(409, "Conflict", message).with(Details { causes, ..Details::default() })
    }

    /// The causes' fields and messages make up the message. What is said before, and those beyond [`MAX_CAUSES`], are left out.
    pub fn invalid(group: &str, kind: &str, name: &str, mut causes: Vec<Cause>) -> Self {
        causes.truncate(MAX_CAUSES);
        let mut seen = HashSet::new();
        causes.retain(|cause| seen.insert((cause.field.clone(), cause.message.clone())));
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let text = match texts.as_slice() {
            [] => "<nil>".to_owned(),
            [text] => text.clone(),
            texts => format!("[{}]", texts.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {text}", qualified(group, kind));
        Self::failure(422, "Invalid", message).with(Details { causes, ..details(group, kind, name) })
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// `why` is what the authorizer or an admission plugin says. Without a name or a plural the text has none.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let subject = qualified(group, plural);
        let message = match (plural, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{subject} is forbidden: {why}"),
            _ => format!("{subject} \"{name}\" is forbidden: {why}"),
        };
        Self::failure(403, "Forbidden", message).with(details(group, plural, name))
    }

    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// A verb that the path does not have at all.
    pub fn method_not_allowed() -> Self {
        Self::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with(Details::default())
    }

    /// An action that this resource refuses.
    pub fn not_supported(group: &str, plural: &str, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind \"{}\"", qualified(group, plural));
        Self::failure(405, "MethodNotAllowed", message).with(details(group, plural, ""))
    }

    /// None of the media types asked for.
    pub fn not_acceptable(available: &[&str]) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", available.join(", "));
        Self::failure(406, "NotAcceptable", message).with(Details::default())
    }

    /// A representation (`Table`, metadata only, …) that this kind does not have.
    pub fn representation_not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(429, "TooManyRequests", message)
            .with(Details { retry_after_seconds, ..Details::default() })
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    /// A resource version or continue token that history no longer covers.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// [`Status::expired`] with a token from which the list can go on at a newer version.
    pub fn expired_continue(message: impl Into<String>, continue_token: &str) -> Self {
        let metadata = ListMeta { continue_token: continue_token.to_owned(), ..ListMeta::default() };
        Self { metadata, ..Self::expired(message) }
    }

    pub fn internal(error: impl std::fmt::Display) -> Self {
        let error = error.to_string();
        let cause = Cause { message: error.clone(), ..Cause::default() };
        Self::failure(500, "InternalError", format!("Internal error occurred: {error}"))
            .with(Details { causes: vec![cause], ..Details::default() })
    }

    pub fn timeout(message: &str, retry_after_seconds: i32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}"))
            .with(Details { retry_after_seconds, ..Details::default() })
    }

    /// A resource version that is ahead of the server's.
    pub fn resource_version_too_large(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            ..Cause::default()
        };
        let details = Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() };
        Self::timeout(&format!("Too large resource version: {asked}, current: {current}"), 1).with(details)
    }

    /// The server could not do it now; the client may try again.
    pub fn server_timeout(group: &str, plural: &str, operation: &str, retry_after_seconds: i32) -> Self {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, plural)
        );
        Self::failure(500, "ServerTimeout", message)
            .with(Details { retry_after_seconds, ..details(group, plural, "") })
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    pub fn request_entity_too_large(message: &str) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {message}"))
    }

    /// What etcd says of an object that it does not take.
    pub fn too_large_to_store() -> Self {
        Self::failure(500, "", "etcdserver: request is too large")
    }

    /// The answer to a delete that leaves no object behind.
    pub fn success(details: Option<Details>) -> Self {
        Self { status: "Success".to_owned(), details, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_upstreams() {
        let check = |status: Status, code: u16, message: &str| {
            assert_eq!((status.code, status.message.as_str()), (code, message))
        };
        check(Status::not_found("apps", "deployments", "x"), 404, "deployments.apps \"x\" not found");
        check(
            Status::conflict("", "pods", "x", MODIFIED),
            409,
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again",
        );
        check(
            Status::forbidden("", "", "", "User \"u\" cannot get path \"/x\""),
            403,
            "forbidden: User \"u\" cannot get path \"/x\"",
        );
        let cause = |field: &str| Cause {
            field: field.to_owned(),
            message: "Required value".to_owned(),
            ..Cause::default()
        };
        check(
            Status::invalid("", "Pod", "x", vec![cause("a")]),
            422,
            "Pod \"x\" is invalid: a: Required value",
        );
        check(
            Status::invalid("apps", "Deployment", "", vec![cause("a"), cause("b"), cause("a")]),
            422,
            "Deployment.apps \"\" is invalid: [a: Required value, b: Required value]",
        );
    }

    #[test]
    fn a_status_is_a_whole_object() {
        let status = Status::not_found("", "pods", "x");
        let json = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#;
        assert_eq!(String::from_utf8(status.to_json()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Status>(json).unwrap(), status);
        let message = crate::tables::kind_message("", "v1", "Status").unwrap();
        assert_eq!(crate::wire::object_to_tree(&status.to_proto(), message).unwrap(), status.to_tree());
    }
}
