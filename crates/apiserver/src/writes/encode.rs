//! From a tree to the bytes that are stored, and from a tree to one in the model's order.

use api::model::Resource;
use api::{Status, Tree};
use bytes::Bytes;

use crate::cache::kind::Kind;

/// Encodes an object as it is stored: without resource version.
pub fn encode(kind: &Kind, mut tree: Tree) -> Result<Bytes, Status> {
    if let Some(metadata) = tree.get_mut("metadata").and_then(Tree::as_object_mut) {
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("selfLink");
    }
    let mut out = Vec::with_capacity(1024);
    if kind.json {
        let mut ordered = reordered(&tree, kind.resource, kind.message, api::decode::Strictness::Ignore)
            .map_err(Status::internal)?
            .0;
        crate::cache::legacy::downgrade(kind, &mut ordered).map_err(Status::internal)?;
        serde_json::to_writer(&mut out, &ordered).map_err(Status::internal)?;
        out.push(b'\n');
    } else {
        let type_meta = api::wire::TypeMeta { api_version: &kind.api_version, kind: &kind.resource.kind };
        api::wire::envelope::wrap_with(type_meta, &mut out, |out| {
            api::wire::tree_to_proto(&tree, kind.message, out)
        })
        .map_err(Status::internal)?;
    }
    Ok(out.into())
}

/// Checks a tree against its model and puts its fields in order, kind and apiVersion first. Answers the warnings, too.
pub fn reordered(
    tree: &Tree,
    resource: &Resource,
    message: &api::model::Message,
    strictness: api::decode::Strictness,
) -> Result<(Tree, Vec<String>), api::decode::Error> {
    let mut decoded = api::decode::tree(tree, message, strictness)?;
    api::decode::put_type_meta(&mut decoded.tree, &resource.kind, &resource.api_version());
    Ok((decoded.tree, decoded.warnings))
}
