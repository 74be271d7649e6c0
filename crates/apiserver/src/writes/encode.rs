//! From a tree to the bytes that are stored, and from a tree to one in the model's order.

use api::model::Resource;
use api::{Status, Tree};
use bytes::Bytes;

use watchcache::stored::Stored;

/// Encodes an object as it is stored: without resource version.
pub fn encode(kind: &Stored, mut tree: Tree) -> Result<Bytes, Status> {
    if let Some(metadata) = tree.get_mut("metadata").and_then(Tree::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    let mut out = Vec::with_capacity(1024);
    if kind.json {
        let mut ordered = reordered(&tree, &kind.resource, kind.message(), api::decode::Strictness::Ignore)
            .map_err(Status::internal)?
            .0;
        watchcache::legacy::downgrade(kind, &mut ordered).map_err(Status::internal)?;
        if kind.resource.custom().is_some() {
            // As upstream keeps them; there is one form, by which it is seen whether what is stored has it.
            ordered.sort_all_objects();
        }
        api::json::write(&ordered, &mut out);
        out.push(b'\n');
    } else {
        let type_meta = api::wire::TypeMeta { api_version: &kind.api_version, kind: &kind.resource.kind };
        api::wire::envelope::wrap_with(type_meta, &mut out, |out| {
            api::wire::tree_to_proto(&tree, kind.message(), out)
        })
        .map_err(Status::internal)?;
    }
    Ok(out.into())
}

/// Checks a tree against its model and puts its fields in order, kind and apiVersion first. Answers the warnings, too.
pub fn reordered(
    tree: &Tree,
    resource: &Resource,
    message: api::model::MessageRef<'_>,
    strictness: api::decode::Strictness,
) -> Result<(Tree, Vec<String>), api::decode::Error> {
    let mut decoded = api::decode::tree(tree, message, strictness)?;
    api::decode::put_type_meta(&mut decoded.tree, &resource.kind, &resource.api_version());
    Ok((decoded.tree, decoded.warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_upstream_escapes_it() {
        let resource =
            registry::kind::built_in("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
        let kind = Stored::of(resource, false).unwrap();
        let tree = api::json!({"metadata": {"name": "a.b", "annotations": {"q": "<&> \u{2028}\u{2029}\u{8} é"}}, "spec": {
            "group": "b", "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"n": {"default": {"z": 1e22, "x": "<"}}}}}}],
        }});
        let stored = encode(&kind, tree).unwrap();
        let stored = std::str::from_utf8(&stored).unwrap();
        assert!(stored.contains(r#"{"q":"\u003c\u0026\u003e \u2028\u2029\b é"}"#), "{stored}");
        assert!(stored.contains(r#""default":{"x":"\u003c","z":1e+22}"#), "{stored}");
    }
}
