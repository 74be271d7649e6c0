//! One object in another version of its kind.
//!
//! Most kinds have the same fields in every version that is served, and only say another `apiVersion`. The others
//! have a pair of functions here. What a version cannot hold goes into annotations, as upstream keeps it.
//! Whatever comes out is put into the model's order and form.
//!
//! Absent: the devices of `resource.k8s.io/v1beta1`, which is off by default.

mod apiextensions;
mod autoscaling;
mod events;

use crate::tree::Object;

use crate::decode::{self, Strictness};
use crate::model::Resource;
use crate::{Tree, tables};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    UnknownVersion { kind: String, version: String },
    #[error("converting {kind} to {version}: {reason}")]
    Value { kind: String, version: String, reason: String },
}

/// Turns an object of a resource into another group and version of its kind.
pub fn convert(tree: &mut Tree, from: &Resource, group: &str, version: &str) -> Result<(), Error> {
    between(tree, &from.kind, (&from.group, &from.version), (group, version))
}

/// Turns an object into the version it is stored in.
pub fn to_storage(tree: &mut Tree, resource: &Resource) -> Result<(), Error> {
    convert(tree, resource, &resource.storage_group, &resource.storage_version)
}

/// Turns a stored object into the resource's version.
pub fn from_storage(tree: &mut Tree, resource: &Resource) -> Result<(), Error> {
    let from = (&*resource.storage_group, &*resource.storage_version);
    between(tree, &resource.kind, from, (&resource.group, &resource.version))
}

/// Brings a CustomResourceDefinition of `v1` into the form of `v1beta1`, in which what its versions share stands once, at the
/// top: the form that upstream's errors speak of.
pub fn share_versions(definition: &mut Tree) {
    if let Tree::Object(object) = definition {
        apiextensions::v1_to_v1beta1(object);
    }
}

fn between(tree: &mut Tree, kind: &str, from: (&str, &str), to: (&str, &str)) -> Result<(), Error> {
    if from == to {
        return Ok(());
    }
    let version = if to.0.is_empty() { to.1.to_owned() } else { format!("{}/{}", to.0, to.1) };
    let message = tables::kind_message(to.0, to.1, kind)
        .ok_or_else(|| Error::UnknownVersion { kind: kind.to_owned(), version: version.clone() })?;
    if let Tree::Object(object) = tree {
        match (kind, from, to) {
            ("Event", ("", _), _) => events::from_core(object),
            ("Event", _, ("", _)) => events::to_core(object),
            ("HorizontalPodAutoscaler", (_, "v2"), (_, "v1")) => autoscaling::v2_to_v1(object),
            ("HorizontalPodAutoscaler", (_, "v1"), (_, "v2")) => autoscaling::v1_to_v2(object),
            ("CustomResourceDefinition", (_, "v1"), (_, "v1beta1")) => apiextensions::v1_to_v1beta1(object),
            ("CustomResourceDefinition", (_, "v1beta1"), (_, "v1")) => apiextensions::v1beta1_to_v1(object),
            _ => {}
        }
        object.insert("kind", Tree::from(kind));
        object.insert("apiVersion", Tree::from(version.as_str()));
    }
    let decoded = decode::tree(tree, message, Strictness::Ignore).map_err(|error| Error::Value {
        kind: kind.to_owned(),
        version,
        reason: error.to_string(),
    })?;
    *tree = decoded.tree;
    Ok(())
}

/// Moves a field to another name.
fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

/// Moves a field into another object, under another name; nulls are left behind.
fn move_to(from: &mut Object, name: &str, to: &mut Object, new: &str) {
    if let Some(value) = from.remove(name).filter(|value| !value.is_null()) {
        to.insert(new.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
