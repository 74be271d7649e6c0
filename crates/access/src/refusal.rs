//! The refusal of authorization, in upstream's words.

use api::Status;
use api::status::Details;

use crate::authz::Attributes;

/// Authorization said no.
pub fn denied(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = &attributes.user.name;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !attributes.is_resource {
        let why = plain(format!("User {user:?} cannot {} path {:?}", attributes.verb, attributes.path));
        let message = format!("forbidden: {why}{reason}");
        let mut status = Status::failure(403, "Forbidden", message);
        status.details = Some(Details::default());
        return status;
    }
    let resource = attributes.full_resource();
    let place = match attributes.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = plain(format!(
        "User {user:?} cannot {} resource {resource:?} in API group {:?} {place}",
        attributes.verb, attributes.group
    ));
    let why = why + &reason;
    Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
}

/// What a request made up, so that no browser takes it for a page.
fn plain(text: String) -> String {
    match text.contains(['&', '<', '>']) {
        true => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
        false => text,
    }
}
