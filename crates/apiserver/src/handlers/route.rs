//! The one router: which resource a path names, and which verbs it has there. Where there are none nothing is found, where there are
//! others the method is not allowed. What is answered elsewhere (a pod's log, `proxy`, …) is routed here like everything else,
//! so that no path reaches a kubelet or a pod that discovery does not have.

use std::sync::Arc;

use access::request_info::RequestInfo;
use api::Status;
use api::model::{Scope, Text};
use http::Method;
use registry::Kind;

use crate::request::Request;

/// What a request is for, once it is known that there is such a thing.
pub struct Route<'a> {
    pub resource: &'a Arc<Kind>,
    pub verb: &'a str,
}

/// Why a request goes nowhere.
pub enum Nowhere {
    /// Nobody serves the group: upstream's `404 page not found`.
    Page,
    Refused(Box<Status>),
}

impl From<Status> for Nowhere {
    fn from(status: Status) -> Nowhere {
        Nowhere::Refused(Box::new(status))
    }
}

impl<'a> Route<'a> {
    /// The route of a request for a resource.
    pub fn of(request: &'a Request) -> Result<Route<'a>, Nowhere> {
        let Request { catalog, info, parts, .. } = request;
        let Some(resource) = catalog.kind(&info.group, &info.version, &info.resource) else {
            return Err(match catalog.has_built_in(&info.group) {
                true => Status::unknown_path().into(),
                false => Nowhere::Page,
            });
        };
        Ok(Route { resource, verb: verb(info, resource, &parts.method)? })
    }
}

/// The verb, where the resource has it at this path.
fn verb<'a>(info: &'a RequestInfo, resource: &Kind, method: &Method) -> Result<&'a str, Nowhere> {
    let namespaced = resource.scope == Scope::Namespaced;
    let verb = info.verb.as_str();
    // Of a kind that goes, discovery has fewer verbs than are answered.
    let verbs: &[Text] = resource.custom().map_or(&resource.verbs, |_| &registry::custom::VERBS);
    let (own, at_place): (&[_], &[&str]) = match info.parts.len() {
        _ if verb == "proxy" => return Err(Status::unknown_path().into()),
        3.. if info.below_watch => return Err(Status::unknown_path().into()),
        _ if info.below_watch => (verbs, &["watch"]),
        0 | 1 if namespaced && info.namespace.is_empty() => (verbs, &["list", "watch"]),
        0 | 1 => (verbs, &["list", "watch", "create", "deletecollection"]),
        2 => (verbs, &["get", "update", "patch", "delete"]),
        // a proxied path goes on behind the subresource
        length if length == 3 || info.subresource == "proxy" => {
            let missing = || match resource.custom() {
                Some(_) => Status::not_found(&resource.group, &resource.plural, &info.name),
                None => Status::unknown_path(),
            };
            let found = resource.subresource(&info.subresource).ok_or_else(missing)?;
            (&found.verbs, &["get", "create", "update", "patch", "delete"])
        }
        _ => return Err(Status::unknown_path().into()),
    };
    let misplaced = match (namespaced, info.namespace.is_empty()) {
        (true, true) => info.parts.len() > 1,
        (false, false) => info.namespace != info.name || !resource.profile.is_scope,
        _ => false,
    };
    let mut here = own.iter().map(AsRef::as_ref).filter(|own: &&str| at_place.contains(own));
    let served = here.clone().next().is_some();
    if misplaced && resource.custom().is_some() {
        return Err(Nowhere::Page);
    }
    if misplaced || !served {
        return Err(Status::unknown_path().into());
    }
    // a proxy passes on what is no verb of the API, too
    if info.subresource == "proxy" && matches!(*method, Method::HEAD | Method::OPTIONS) {
        return Ok(verb);
    }
    let watched_otherwise = info.below_watch && method != Method::GET;
    if method == Method::HEAD || watched_otherwise || !here.any(|own| own == verb) {
        return Err(Status::method_not_allowed().into());
    }
    Ok(verb)
}
