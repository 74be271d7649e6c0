//! The admission chain on the write path, and the cached objects its plugins look at.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;
use registry::admission::{self, Attributes, Lookup};

use super::Operation;
use crate::resources::Resources;

fn attributes<'a>(
    operation: &Operation<'a>,
    resource: &'a Resource,
    kind: admission::Operation,
    old: Option<&'a Tree>,
) -> Attributes<'a> {
    let user = operation.user;
    Attributes {
        user: admission::User { name: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra },
        operation: kind,
        resource,
        subresource: operation.subresource,
        namespace: operation.namespace,
        name: operation.name,
        old,
        options: &Tree::Null,
        dry_run: operation.dry_run,
        now: jiff::Timestamp::now(),
    }
}

fn kind_of(old: Option<&Tree>) -> admission::Operation {
    match old {
        Some(_) => admission::Operation::Update,
        None => admission::Operation::Create,
    }
}

/// Mutating admission. The object is at the storage version.
pub async fn mutate(
    operation: &Operation<'_>,
    resource: &Resource,
    tree: &mut Tree,
    old: Option<&Tree>,
) -> Result<(), Status> {
    let attributes = attributes(operation, resource, kind_of(old), old);
    operation.server.admission.admit(&attributes, tree).await
}

/// Validating admission.
pub async fn validate(
    operation: &Operation<'_>,
    resource: &Resource,
    tree: &Tree,
    old: Option<&Tree>,
) -> Result<(), Status> {
    let attributes = attributes(operation, resource, kind_of(old), old);
    operation.server.admission.validate(&attributes, tree).await
}

/// Both, of a delete.
pub async fn delete(operation: &Operation<'_>, resource: &Resource, old: &Tree) -> Result<(), Status> {
    let attributes = attributes(operation, resource, admission::Operation::Delete, Some(old));
    operation.server.admission.admit(&attributes, &mut Tree::Null).await?;
    operation.server.admission.validate(&attributes, &Tree::Null).await
}

#[async_trait]
impl Lookup for Resources {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>> {
        let entry = Resources::get(self, row(group, plural)?, namespace, name)?;
        Some(Arc::new(entry.tree()))
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Arc<Tree>> {
        let Some(resource) = row(group, plural) else { return Vec::new() };
        Resources::list(self, resource, None).iter().map(|entry| Arc::new(entry.tree())).collect()
    }

    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>> {
        self.catch_up().await;
        Lookup::get(self, group, plural, namespace, name)
    }
}

/// A resource at its preferred version.
fn row(group: &str, plural: &str) -> Option<&'static Resource> {
    api::tables::resources().iter().find(|row| row.group == group && row.plural == plural)
}
