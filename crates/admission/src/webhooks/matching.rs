//! Which requests a webhook is asked about, and in which version it sees their objects.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use machinery::labels::Selector;
use registry::Kind;
use registry::tree::get;

use super::hook::{Hook, Rule};
use super::mutating::old_object;
use super::review::described;
use crate::{Attributes, Gvk, Operation, Services};

/// A webhook that is to be asked.
pub(super) struct Invocation<'a> {
    pub hook: &'a Hook,
    /// The resource in the version that the webhook's rule names.
    pub resource: Arc<Kind>,
}

impl Invocation<'_> {
    /// What the object is that the webhook sees.
    pub fn kind<'k>(&'k self, attributes: &Attributes<'k>) -> Gvk<'k> {
        match attributes.is_own_kind() {
            true => Gvk::of(&self.resource),
            false => attributes.kind,
        }
    }
}

/// Whether the webhook is to be asked about the request, whose object may have been changed by others before it, and is in
/// that version.
pub(super) async fn invocation<'a>(
    services: &dyn Services,
    hook: &'a Hook,
    attributes: &Attributes<'_>,
    object: &Tree,
    version: &Kind,
) -> Result<Option<Invocation<'a>>, Status> {
    // what is wrong with a selector counts only where the rules match
    let in_namespace = namespace_matches(services, hook, attributes, object).await;
    if matches!(in_namespace, Ok(false)) {
        return Ok(None);
    }
    let selected = object_matches(&hook.objects, attributes, object);
    if matches!(selected, Ok(false)) {
        return Ok(None);
    }
    let own = hook.rules.iter().any(|rule| rule.matches(attributes, attributes.resource));
    let resource = match own {
        true => Some(Arc::clone(attributes.resource)),
        false if hook.equivalent => equivalent(hook, attributes),
        false => None,
    };
    let Some(resource) = resource else { return Ok(None) };
    in_namespace?;
    selected?;
    let invocation = Invocation { hook, resource };
    if hook.conditions.is_empty() {
        return Ok(Some(invocation));
    }
    match holds(services, &invocation, attributes, object, version).await? {
        Ok(true) => Ok(Some(invocation)),
        Ok(false) => Ok(None),
        Err(_) if hook.ignores_failures => Ok(None),
        Err(why) => Err(attributes.forbid(&why)),
    }
}

/// Whether the webhook's conditions hold for the objects in the version in which it sees them.
async fn holds(
    services: &dyn Services,
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    object: &Tree,
    version: &Kind,
) -> Result<Result<bool, String>, Status> {
    let shown = match attributes.is_own_kind() && !object.is_null() {
        true => version.convert_one(&invocation.resource, object.clone()).await?,
        false => object.clone(),
    };
    let old = old_object(attributes, invocation).await?;
    let request = described(attributes, invocation).into();
    Ok(invocation.hook.conditions.hold(services, attributes, &request, &shown, &old).await)
}

/// Another version of the resource that a rule names; earlier rules first.
fn equivalent(hook: &Hook, attributes: &Attributes<'_>) -> Option<Arc<Kind>> {
    let others = attributes.context.versions(attributes.resource);
    hook.rules.iter().find_map(|rule| others.iter().find(|other| rule.matches(attributes, other)).cloned())
}

impl Rule {
    fn matches(&self, attributes: &Attributes<'_>, resource: &Resource) -> bool {
        let named = |all: &[String], wanted: &str| all.iter().any(|own| own == "*" || own == wanted);
        self.is_in_scope(attributes)
            && named(&self.operations, attributes.operation.name())
            && named(&self.groups, &resource.group)
            && named(&self.versions, &resource.version)
            && self.resources.iter().any(|(plural, subresource)| {
                (plural == "*" || *plural == resource.plural)
                    && (subresource == "*" || subresource == attributes.subresource)
            })
    }

    /// A namespace is itself in none.
    fn is_in_scope(&self, attributes: &Attributes<'_>) -> bool {
        let inside = !attributes.namespace.is_empty() && !attributes.is("", "namespaces");
        match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => inside,
            "Cluster" => !inside,
            _ => false,
        }
    }
}

async fn namespace_matches(
    services: &dyn Services,
    hook: &Hook,
    attributes: &Attributes<'_>,
    object: &Tree,
) -> Result<bool, Status> {
    let of_namespaces = attributes.resource.plural == "namespaces";
    if attributes.namespace.is_empty() && !of_namespaces {
        return Ok(true);
    }
    let selector = hook.namespaces.as_ref().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if of_namespaces && attributes.subresource.is_empty() && written {
        return Ok(selector.matches_map(get(object, "metadata.labels")));
    }
    let namespace = services.find("", "namespaces", "", attributes.namespace).await?;
    let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", attributes.namespace))?;
    Ok(selector.matches_map(get(&namespace, "metadata.labels")))
}

/// Either the object or the old one.
fn object_matches(
    selector: &Result<Selector, String>,
    attributes: &Attributes<'_>,
    object: &Tree,
) -> Result<bool, Status> {
    let selector = selector.as_ref().map_err(Status::internal)?;
    let matches = |object: &Tree| !object.is_null() && selector.matches_map(get(object, "metadata.labels"));
    Ok(selector.is_everything() || matches(object) || attributes.old.is_some_and(matches))
}
