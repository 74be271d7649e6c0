//! A request as policies meet it: which of them are about it, and what their expressions see.

use std::borrow::Cow;
use std::sync::Arc;

use api::{Status, Tree};
use registry::Kind;
use registry::tree::get;

use super::Bound;
use super::policy::{Binding, Policy};
use crate::criteria::namespace_of;
use crate::described::described;
use crate::expressions::Objects;
use crate::{Attributes, Services};

/// A policy that is about a request, through one of its bindings.
pub(super) struct Invocation<'p> {
    pub policy: &'p Policy,
    pub binding: &'p Binding,
    /// The resource in the version that the policy names.
    pub resource: Arc<Kind>,
    /// Once for each; `None` once where the policy or the binding wants none.
    pub parameters: Vec<Option<Arc<Tree>>>,
}

/// Why a policy, or a binding of it, cannot act on a request that it is about.
pub(super) struct Misconfigured<'p> {
    pub policy: &'p Policy,
    pub binding: Option<&'p Binding>,
    pub message: String,
}

/// What is about a request, in order. `bare`: built-in kinds of parameters do not show what they are, as upstream's mutating policies
/// see them.
pub(super) async fn select<'p>(
    services: &dyn Services,
    attributes: &Attributes<'_>,
    object: &Tree,
    policies: &[&'p Bound],
    bare: bool,
) -> Vec<Result<Invocation<'p>, Misconfigured<'p>>> {
    let mut selected = Vec::new();
    for bound in policies {
        let policy = &*bound.policy;
        let of_policy = |why: &str| {
            let message = format!("failed to configure policy: {why}");
            Err(Misconfigured { policy, binding: None, message })
        };
        let resource = match policy.criteria.matches(services, attributes, object).await {
            Ok(Some(resource)) => resource,
            Ok(None) => continue,
            Err(error) => {
                selected.push(of_policy(&error.message));
                continue;
            }
        };
        let kind = match policy.parameters.as_ref().map(|kind| kind.find(attributes)).transpose() {
            Ok(kind) => kind,
            Err(why) => {
                selected.push(of_policy(&why));
                continue;
            }
        };
        for binding in &bound.bindings {
            let of_binding = |why: &str| {
                let message = format!("failed to configure binding: {why}");
                Err(Misconfigured { policy, binding: Some(binding), message })
            };
            if let Some(criteria) = &binding.criteria {
                match criteria.matches(services, attributes, object).await {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(error) => {
                        selected.push(of_binding(&error.message));
                        continue;
                    }
                }
            }
            let parameters = match (&kind, &binding.parameters) {
                (Some(kind), Some(reference)) => match reference.collect(kind, services, attributes).await {
                    Ok(found) if bare && kind.custom().is_none() => {
                        found.into_iter().map(|object| Some(without_type(object))).collect()
                    }
                    Ok(found) => found.into_iter().map(Some).collect(),
                    Err(why) => {
                        selected.push(of_binding(&why));
                        continue;
                    }
                },
                _ => vec![None],
            };
            selected.push(Ok(Invocation { policy, binding, resource: Arc::clone(&resource), parameters }));
        }
    }
    selected
}

fn without_type(mut object: Arc<Tree>) -> Arc<Tree> {
    if let Some(members) = Arc::make_mut(&mut object).as_object_mut() {
        members.remove("apiVersion");
        members.remove("kind");
    }
    object
}

/// What expressions see of a request whose objects are shown in one version.
pub(super) struct Shown<'o> {
    pub resource: Arc<Kind>,
    pub object: Cow<'o, Tree>,
    old: Cow<'o, Tree>,
    request: Tree,
    /// What match conditions see of it: they are not shown which version of the resource the policy names.
    matched: Option<Tree>,
}

impl<'o> Shown<'o> {
    pub async fn of(
        attributes: &'o Attributes<'_>,
        object: &'o Tree,
        resource: &Arc<Kind>,
    ) -> Result<Shown<'o>, Status> {
        let mut shown = Shown {
            object: attributes.converted(object, attributes.shown, resource).await?,
            old: attributes.old_in(resource).await?,
            request: described(attributes, resource).into(),
            matched: None,
            resource: Arc::clone(resource),
        };
        if !attributes.resource.is_same_version(resource) {
            let mut matched = shown.request.clone();
            matched["resource"] = matched["requestResource"].clone();
            shown.matched = Some(matched);
        }
        Ok(shown)
    }

    pub fn objects<'v>(
        &'v self,
        object: &'v Tree,
        policy: &Policy,
        parameters: Option<&'v Tree>,
        namespace: &'v Tree,
    ) -> Objects<'v> {
        const NONE: &Tree = &Tree::Null;
        let params = policy.parameters.is_some().then(|| parameters.unwrap_or(NONE));
        Objects { object, old: &self.old, namespace, request: &self.request, params }
    }

    /// What match conditions see of these.
    pub fn matching<'v>(&'v self, objects: Objects<'v>) -> Objects<'v> {
        let request = self.matched.as_ref().unwrap_or(&self.request);
        Objects { namespace: &Tree::Null, request, ..objects }
    }
}

/// What expressions see of the request's namespace; null where it is in none.
pub(super) async fn namespace(services: &dyn Services, attributes: &Attributes<'_>) -> Result<Tree, Status> {
    let kind = attributes.kind;
    if attributes.namespace.is_empty() || (kind.group.is_empty() && kind.kind == "Namespace") {
        return Ok(Tree::Null);
    }
    let namespace = namespace_of(services, attributes.namespace).await?;
    let mut seen = api::tree::Object::new();
    for field in ["spec", "status"] {
        if let Some(value) = namespace.get(field) {
            seen.insert(field, value.clone());
        }
    }
    let hidden = ["managedFields", "ownerReferences", "selfLink"];
    let metadata = get(&namespace, "metadata").as_object().into_iter().flatten();
    let metadata: api::tree::Object = metadata
        .filter(|(name, _)| !hidden.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    seen.insert("metadata", metadata.into());
    Ok(seen.into())
}
