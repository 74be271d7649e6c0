//! Objects that are stored at another version than the cache's: by an earlier API level, or for good, as upstream still writes
//! CustomResourceDefinitions as v1beta1.

use api::Tree;
use api::model::Resource;
use registry::conversion::Conversion;

use crate::stored::Stored;

/// The version at which an object is stored, where that is another than the cache's and a webhook converts.
pub fn foreign(kind: &Stored, tree: &Tree) -> Option<Box<str>> {
    let Conversion::Other(_) = kind.resource.conversion else { return None };
    let api_version = tree.get("apiVersion").and_then(Tree::as_str).unwrap_or_default();
    (!api_version.is_empty() && api_version != kind.api_version).then(|| api_version.into())
}

/// Brings a stored JSON object to the version that the cache holds.
pub fn upgrade(kind: &Stored, tree: &mut Tree) -> Result<(), String> {
    let api_version = tree.get("apiVersion").and_then(Tree::as_str).unwrap_or_default().to_owned();
    if api_version == kind.api_version || api_version.is_empty() {
        return Ok(());
    }
    if kind.resource.custom().is_some() {
        // Its versions differ in their schemas alone, and the one of the cache is applied next.
        if let Some(object) = tree.as_object_mut() {
            object.insert("apiVersion", kind.api_version.as_str().into());
        }
        return Ok(());
    }
    convert(kind, &api_version, tree)
}

/// The content of a stored protobuf object at the version that the cache has.
pub fn upgraded(kind: &Stored, api_version: &str, value: &[u8]) -> Result<Vec<u8>, String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = api::tables::kind_message(group, version, &kind.resource.kind).ok_or_else(|| {
        format!("no kind {:?} is registered for version {api_version:?}", kind.resource.kind)
    })?;
    let mut tree = api::wire::object_to_tree(value, message).map_err(|error| error.to_string())?;
    convert(kind, api_version, &mut tree)?;
    kind.resource.strategy(None).default(&mut tree).map_err(|error| error.to_string())?;
    let mut raw = Vec::with_capacity(value.len() + 64);
    api::wire::tree_to_proto(&tree, kind.message(), &mut raw).map_err(|error| error.to_string())?;
    Ok(raw)
}

fn convert(kind: &Stored, api_version: &str, tree: &mut Tree) -> Result<(), String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let to = &kind.resource;
    let from = Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        ..Resource::clone(to)
    };
    api::convert::convert(tree, &from, &to.group, &to.version).map_err(|error| error.to_string())
}

/// Takes an object to the version in which the store keeps it, where that is another one than the cache's.
pub fn downgrade(kind: &Stored, tree: &mut Tree) -> Result<(), String> {
    let own = &kind.resource;
    if own.storage_group == own.group && own.storage_version == own.version {
        return Ok(());
    }
    api::convert::convert(tree, own, &own.storage_group, &own.storage_version)
        .map_err(|error| error.to_string())
}
