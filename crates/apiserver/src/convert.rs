//! Conversion between the versions of a kind. Most differ in nothing but their name.

use api::Tree;
use api::model::Resource;

/// Brings an object from one version to another of the same kind (or of the same kind in another group: events).
pub fn convert(tree: &mut Tree, from: &Resource, to: &Resource) {
    if !same(from, to)
        && let Err(error) = api::convert::convert(tree, from, &to.group, &to.version)
    {
        // only a hole in the model gets here: both versions are rows of one kind
        tracing::error!(%error, kind = %from.kind, "object cannot be converted");
    }
}

/// Whether both are the same version.
pub fn same(one: &Resource, other: &Resource) -> bool {
    one.version == other.version && one.group == other.group
}
