//! Which verbs a path has: where there are none nothing is found, where there are others the method is not allowed.

use api::Status;
use api::model::{Resource, Scope};
use http::Method;

use crate::request_info::RequestInfo;

/// The verb, where the resource has it at this path.
pub fn verb<'a>(info: &'a RequestInfo, resource: &Resource, method: &Method) -> Result<&'a str, Status> {
    let namespaced = resource.scope == Scope::Namespaced;
    let verb = info.verb.as_str();
    let (own, at_place): (&[_], &[&str]) = match info.parts.len() {
        0 | 1 if namespaced && info.namespace.is_empty() => (&resource.verbs, &["list", "watch"]),
        0 | 1 => (&resource.verbs, &["list", "watch", "create", "deletecollection"]),
        2 => (&resource.verbs, &["get", "watch", "update", "patch", "delete"]),
        3 => {
            let found = resource.subresource(&info.subresource).ok_or_else(Status::unknown_path)?;
            (&found.verbs, &["get", "create", "update", "patch", "delete"])
        }
        _ => return Err(Status::unknown_path()),
    };
    let misplaced = match (namespaced, info.namespace.is_empty()) {
        (true, true) => info.parts.len() > 1,
        (false, false) => info.namespace != info.name || resource.plural != "namespaces",
        _ => false,
    };
    let mut here = own.iter().map(AsRef::as_ref).filter(|own: &&str| at_place.contains(own));
    // a single object is only watched below `/watch`, and then it can be read, too
    let served = here.clone().any(|own| own != "watch" || info.parts.len() < 2);
    if misplaced || !served {
        return Err(Status::unknown_path());
    }
    if method == Method::HEAD || !here.any(|own| own == verb) {
        return Err(Status::method_not_allowed());
    }
    Ok(verb)
}
