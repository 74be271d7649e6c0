//! Requests as webhooks and expressions see them: their objects in another version, and what is said of them beside these.

use std::borrow::Cow;

use api::model::Resource;
use api::tree::Object;
use api::{Status, Tree, json};
use registry::Kind;

use crate::{Attributes, Gvk};

impl Attributes<'_> {
    /// What the object is in a version of the resource.
    pub(crate) fn kind_in<'k>(&'k self, resource: &'k Resource) -> Gvk<'k> {
        match self.is_own_kind() {
            true => Gvk::of(resource),
            false => self.kind,
        }
    }

    /// An object of the request, which is in one version of the resource, in another.
    pub(crate) async fn converted<'o>(
        &self,
        object: &'o Tree,
        from: &Kind,
        to: &Kind,
    ) -> Result<Cow<'o, Tree>, Status> {
        match self.is_own_kind() && !object.is_null() && !from.is_same_version(to) {
            true => from.convert_one(to, object.clone()).await.map(Cow::Owned),
            false => Ok(Cow::Borrowed(object)),
        }
    }

    /// The stored object in a version of the resource; null where there is none.
    pub(crate) async fn old_in(&self, to: &Kind) -> Result<Cow<'_, Tree>, Status> {
        match self.old {
            Some(old) => self.converted(old, self.shown, to).await,
            None => Ok(Cow::Owned(Tree::Null)),
        }
    }
}

/// What is said of a request, but for its objects, which are shown in a version of the resource.
pub(crate) fn described(attributes: &Attributes<'_>, resource: &Resource) -> Object {
    let gvk = |gvk: Gvk<'_>| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let gvr = |resource: &Resource| json!({"group": &*resource.group, "version": &*resource.version, "resource": &*resource.plural});
    let mut request = Object::new();
    request.insert("kind", gvk(attributes.kind_in(resource)));
    request.insert("resource", gvr(resource));
    let said = |request: &mut Object, field: &'static str, value: &str| {
        if !value.is_empty() {
            request.insert(field, value.into());
        }
    };
    said(&mut request, "subResource", attributes.subresource);
    request.insert("requestKind", gvk(attributes.kind));
    request.insert("requestResource", gvr(attributes.resource));
    said(&mut request, "requestSubResource", attributes.subresource);
    said(&mut request, "name", attributes.name);
    said(&mut request, "namespace", attributes.namespace);
    request.insert("operation", attributes.operation.name().into());
    request.insert("userInfo", user(attributes));
    request.insert("dryRun", attributes.dry_run.into());
    request.insert("options", (attributes.options)());
    request
}

fn user(attributes: &Attributes<'_>) -> Tree {
    let user = &attributes.user;
    let mut info = Object::new();
    if !user.name.is_empty() {
        info.insert("username", user.name.into());
    }
    if !user.uid.is_empty() {
        info.insert("uid", user.uid.into());
    }
    let texts = |all: &[String]| Tree::Array(all.iter().map(|text| text.as_str().into()).collect());
    if !user.groups.is_empty() {
        info.insert("groups", texts(user.groups));
    }
    if !user.extra.is_empty() {
        let extra: Object = user.extra.iter().map(|(key, values)| (key.clone(), texts(values))).collect();
        info.insert("extra", extra.into());
    }
    info.into()
}
