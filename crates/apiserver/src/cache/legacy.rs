//! Stored forms that no API version serves any more. Upstream still writes CustomResourceDefinitions as v1beta1.

use api::Tree;
use serde_json::{Map, json};

use super::kind::Kind;

/// Brings a stored JSON object to the kind's storage version.
pub fn upgrade(kind: &Kind, tree: &mut Tree) {
    let from = tree.get("apiVersion").and_then(Tree::as_str).unwrap_or_default();
    if from == "apiextensions.k8s.io/v1beta1" {
        definition(tree);
    }
    if let Some(map) = tree.as_object_mut() {
        map.insert("apiVersion".to_owned(), kind.api_version.as_str().into());
    }
}

/// v1beta1 kept at the top of the spec what v1 keeps per version.
fn definition(tree: &mut Tree) {
    let Some(spec) = tree.get_mut("spec").and_then(Tree::as_object_mut) else { return };
    let schema = spec.shift_remove("validation");
    let subresources = spec.shift_remove("subresources");
    let shared_columns = spec.shift_remove("additionalPrinterColumns").map(columns);
    let fields = spec.shift_remove("selectableFields");
    let version = spec.shift_remove("version");
    if !spec.contains_key("versions")
        && let Some(version) = version
    {
        spec.insert("versions".to_owned(), json!([{"name": version, "served": true, "storage": true}]));
    }
    for version in spec.get_mut("versions").and_then(Tree::as_array_mut).into_iter().flatten() {
        let Some(version) = version.as_object_mut() else { continue };
        if let Some(own) = version.shift_remove("additionalPrinterColumns") {
            version.insert("additionalPrinterColumns".to_owned(), columns(own));
        }
        let shared = [
            ("schema", &schema),
            ("subresources", &subresources),
            ("additionalPrinterColumns", &shared_columns),
            ("selectableFields", &fields),
        ];
        for (name, value) in shared {
            if let Some(value) = value
                && !version.contains_key(name)
            {
                version.insert(name.to_owned(), value.clone());
            }
        }
    }
    if spec.get("preserveUnknownFields") == Some(&Tree::Bool(false)) {
        spec.shift_remove("preserveUnknownFields");
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Tree::as_object_mut) {
        let client = conversion.shift_remove("webhookClientConfig");
        let versions = conversion.shift_remove("conversionReviewVersions");
        if client.is_some() {
            let mut webhook = Map::new();
            webhook.extend(client.map(|client| ("clientConfig".to_owned(), client)));
            webhook.extend(versions.map(|versions| ("conversionReviewVersions".to_owned(), versions)));
            conversion.insert("webhook".to_owned(), webhook.into());
        }
    }
}

/// `JSONPath` became `jsonPath`.
fn columns(mut value: Tree) -> Tree {
    for column in value.as_array_mut().into_iter().flatten() {
        let Some(column) = column.as_object_mut() else { continue };
        if let Some(path) = column.shift_remove("JSONPath") {
            column.insert("jsonPath".to_owned(), path);
        }
    }
    value
}
