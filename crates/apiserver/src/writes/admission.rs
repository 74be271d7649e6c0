//! The admission chain on the write path, and the cached objects its plugins look at.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;
use registry::Kind;
use registry::admission::{self, Attributes, Authorize, Lookup, Question};

use super::Operation;
use crate::authz::{self, Authorizer};
use crate::resources::Resources;
use crate::user::User;

/// What the chain sees of a write.
#[derive(Clone, Copy)]
pub enum Sees {
    /// The object as it is stored.
    Object,
    /// Another that stands for it.
    View(&'static View),
    /// Nothing: it has seen what was sent, of which this write is a consequence.
    Nothing,
}

/// A form in which a subresource shows an object.
pub struct View {
    pub subresource: &'static str,
    pub show: fn(&Tree) -> Tree,
    /// Takes over what was changed in the form.
    pub apply: fn(&Tree, &mut Tree),
}

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
        subresource: match operation.admission {
            Sees::View(view) => view.subresource,
            Sees::Object | Sees::Nothing => operation.subresource,
        },
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
    let chain = &operation.server.admission;
    match operation.admission {
        Sees::Nothing => Ok(()),
        Sees::Object => chain.admit(&attributes(operation, resource, kind_of(old), old), tree).await,
        Sees::View(view) => {
            let (shown, old) = ((view.show)(tree), old.map(view.show));
            let mut changed = shown.clone();
            let attributes = attributes(operation, resource, kind_of(old.as_ref()), old.as_ref());
            chain.admit(&attributes, &mut changed).await?;
            if changed != shown {
                (view.apply)(&changed, tree);
            }
            Ok(())
        }
    }
}

/// Validating admission.
pub async fn validate(
    operation: &Operation<'_>,
    resource: &Resource,
    tree: &Tree,
    old: Option<&Tree>,
) -> Result<(), Status> {
    let chain = &operation.server.admission;
    match operation.admission {
        Sees::Nothing => Ok(()),
        Sees::Object => chain.validate(&attributes(operation, resource, kind_of(old), old), tree).await,
        Sees::View(view) => {
            let old = old.map(view.show);
            let attributes = attributes(operation, resource, kind_of(old.as_ref()), old.as_ref());
            chain.validate(&attributes, &(view.show)(tree)).await
        }
    }
}

/// Both, of a delete.
pub async fn delete(operation: &Operation<'_>, resource: &Resource, old: &Tree) -> Result<(), Status> {
    if matches!(operation.admission, Sees::Nothing) {
        return Ok(());
    }
    let attributes = attributes(operation, resource, admission::Operation::Delete, Some(old));
    operation.server.admission.admit(&attributes, &mut Tree::Null).await?;
    operation.server.admission.validate(&attributes, &Tree::Null).await
}

#[async_trait]
impl Authorize for Authorizer {
    async fn allows(&self, user: &admission::User<'_>, question: &Question<'_>) -> bool {
        let user = User {
            name: user.name.to_owned(),
            uid: user.uid.to_owned(),
            groups: user.groups.to_vec(),
            extra: user.extra.clone(),
        };
        let Question { verb, group, resource, namespace, name } = *question;
        self.authorize(&authz::Attributes::resource(&user, verb, group, resource, namespace, name)).allowed()
    }
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
fn row(group: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    registry::kind::by_default().find(|kind| kind.group == group && kind.plural == plural)
}
