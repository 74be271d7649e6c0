//! `OwnerReferencesPermissionEnforcement`: who sets an owner may delete the object, and who makes an owner wait for it may finalize the
//! owner.

use std::sync::Arc;

use api::model::Scope;
use api::{Status, Tree};
use async_trait::async_trait;
use cel::Check;
use cel::library::authorizer::{Resource, Target};
use registry::tree::{get, list, same, text};

use crate::{Attributes, Gvk, Operation, Plugin, Point, Services};

pub struct OwnerReferencesPermissionEnforcement {
    services: Arc<dyn Services>,
}

const OWNERS: &str = "metadata.ownerReferences";

fn changes(new: &Tree, old: Option<&Tree>) -> bool {
    let (new, old) = (list(new, OWNERS), old.map_or(&[][..], |old| list(old, OWNERS)));
    new.len() != old.len() || new.iter().zip(old).any(|(new, old)| !same(new, old))
}

fn blocks(owner: &Tree) -> bool {
    get(owner, "blockOwnerDeletion").as_bool() == Some(true)
}

/// Owners that did not wait for the object before.
fn newly_blocked<'t>(new: &'t Tree, old: Option<&Tree>) -> Vec<&'t Tree> {
    let known: machinery::bounds::Seen<&str> = old
        .into_iter()
        .flat_map(|old| list(old, OWNERS))
        .filter(|owner| blocks(owner))
        .map(|owner| text(owner, "uid"))
        .collect();
    list(new, OWNERS).iter().filter(|owner| blocks(owner) && !known.contains(text(owner, "uid"))).collect()
}

impl OwnerReferencesPermissionEnforcement {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    /// Whether the user may; if not, why, as refusals say it.
    async fn may(&self, attributes: &Attributes<'_>, verb: &str, resource: Resource) -> Result<(), String> {
        let check =
            Check { service_account: None, verb: verb.to_owned(), target: Target::Resource(resource) };
        let answer = self.services.check(&attributes.user, &check).await;
        let error = answer.error.unwrap_or_else(|| "<nil>".to_owned());
        if answer.allowed { Ok(()) } else { Err(format!("{}, {error}", answer.reason)) }
    }
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.operation.writes() && !point.is_sub("", "pods", "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        if !changes(object, attributes.old) {
            return Ok(());
        }
        let resource = attributes.resource;
        if attributes.operation != Operation::Create {
            let own = Resource {
                group: resource.group.to_string(),
                resource: resource.plural.to_string(),
                subresource: attributes.subresource.to_owned(),
                namespace: attributes.namespace.to_owned(),
                name: attributes.name.to_owned(),
                ..Resource::default()
            };
            self.may(attributes, "delete", own).await.map_err(|why| {
                attributes.forbid(&format!("cannot set an ownerRef on a resource you can't delete: {why}"))
            })?;
        }
        let blocked = newly_blocked(object, attributes.old);
        if blocked.is_empty() {
            return Ok(());
        }
        let everything = Resource {
            group: "*".to_owned(),
            resource: "*".to_owned(),
            subresource: "finalizers".to_owned(),
            name: "*".to_owned(),
            ..Resource::default()
        };
        if self.may(attributes, "update", everything).await.is_ok() {
            return Ok(());
        }
        for owner in blocked {
            let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
            let Some(of) = attributes.context.kind(&Gvk { group, version, kind }) else {
                return Err(attributes.forbid(&format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
                )));
            };
            let finalizers = Resource {
                group: of.group.to_string(),
                resource: of.plural.to_string(),
                subresource: "finalizers".to_owned(),
                namespace: match of.scope {
                    Scope::Namespaced => attributes.namespace.to_owned(),
                    Scope::Cluster => String::new(),
                },
                name: text(owner, "name").to_owned(),
                ..Resource::default()
            };
            self.may(attributes, "update", finalizers).await.map_err(|why| {
                attributes.forbid(&format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
                ))
            })?;
        }
        Ok(())
    }
}
