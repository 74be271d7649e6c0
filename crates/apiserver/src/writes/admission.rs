//! The admission chain on the write path, and the cached objects its plugins look at.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use async_trait::async_trait;
use registry::Kind;
use registry::admission::{self, Attributes, Authorize, Lookup, Question};

use super::Write;
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

fn attributes<'a>(write: &Write<'a>, resource: &'a Resource, kind: admission::Operation) -> Attributes<'a> {
    let user = &write.request.user;
    Attributes {
        user: admission::User { name: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra },
        operation: kind,
        resource,
        subresource: match write.admission {
            Sees::View(view) => view.subresource,
            Sees::Object | Sees::Nothing => write.subresource,
        },
        namespace: write.namespace,
        name: write.name,
        old: write.old,
        options: &Tree::Null,
        dry_run: write.options.dry_run,
        now: jiff::Timestamp::now(),
    }
}

fn kind_of(write: &Write<'_>) -> admission::Operation {
    match write.old {
        Some(_) => admission::Operation::Update,
        None => admission::Operation::Create,
    }
}

/// Mutating admission. The object is at the storage version.
pub async fn mutate(write: &Write<'_>, resource: &Resource, tree: &mut Tree) -> Result<(), Status> {
    let chain = &write.server.admission;
    match write.admission {
        Sees::Nothing => Ok(()),
        Sees::Object => chain.admit(&attributes(write, resource, kind_of(write)), tree).await,
        Sees::View(view) => {
            let (shown, old) = ((view.show)(tree), write.old.map(view.show));
            let mut changed = shown.clone();
            let write = &Write { old: old.as_ref(), ..*write };
            let attributes = attributes(write, resource, kind_of(write));
            chain.admit(&attributes, &mut changed).await?;
            if changed != shown {
                (view.apply)(&changed, tree);
            }
            Ok(())
        }
    }
}

/// Validating admission.
pub async fn validate(write: &Write<'_>, resource: &Resource, tree: &Tree) -> Result<(), Status> {
    let chain = &write.server.admission;
    match write.admission {
        Sees::Nothing => Ok(()),
        Sees::Object => chain.validate(&attributes(write, resource, kind_of(write)), tree).await,
        Sees::View(view) => {
            let old = write.old.map(view.show);
            let write = &Write { old: old.as_ref(), ..*write };
            let attributes = attributes(write, resource, kind_of(write));
            chain.validate(&attributes, &(view.show)(tree)).await
        }
    }
}

/// Both, of a delete.
pub async fn delete(write: &Write<'_>, resource: &Resource) -> Result<(), Status> {
    if matches!(write.admission, Sees::Nothing) {
        return Ok(());
    }
    let attributes = attributes(write, resource, admission::Operation::Delete);
    write.server.admission.admit(&attributes, &mut Tree::Null).await?;
    write.server.admission.validate(&attributes, &Tree::Null).await
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
