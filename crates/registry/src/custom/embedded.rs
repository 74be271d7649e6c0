//! Objects of the API inside others: kind, apiVersion and metadata that they have must be good.

use api::Tree;
use api::status::Cause;
use api::tree::Object;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;

use super::schema::{Additional, Schema};
use crate::meta;

/// Checks the objects inside a value, and the value itself where its schema says that it is one.
pub fn check(schema: &Schema, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if is_full(errors) {
        return;
    }
    match value {
        Tree::Object(object) => {
            if schema.embedded {
                embedded(object, value, path, errors);
            }
            for (name, value) in object {
                match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(below), _) => check(below, value, &path.field(name), errors),
                    (None, Some(Additional::Schema(below))) => check(below, value, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        Tree::Array(items) => {
            if let Some(below) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(below, item, &path.index(i), errors));
            }
        }
        _ => {}
    }
}

/// An object of the API by what it says of itself.
pub fn embedded(object: &Object, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for name in ["apiVersion", "kind"] {
        if !object.contains_key(name) {
            errors.push(path.field(name).required(""));
        }
    }
    match object.get("apiVersion") {
        Some(Tree::String(version)) if version.is_empty() => {
            errors.push(path.field("apiVersion").invalid(version, "must not be empty"));
        }
        Some(Tree::String(version)) if version.matches('/').count() > 1 => {
            let detail = format!("unexpected GroupVersion string: {version}");
            errors.push(path.field("apiVersion").invalid(version, &detail));
        }
        Some(Tree::String(_)) | None => {}
        Some(other) => errors.push(path.field("apiVersion").invalid(other, "must be a string")),
    }
    match object.get("kind") {
        Some(Tree::String(kind)) if kind.is_empty() => {
            errors.push(path.field("kind").invalid(kind, "must not be empty"));
        }
        Some(Tree::String(kind)) => {
            let problems = names::dns1035_label(&kind.to_lowercase());
            if !problems.is_empty() {
                let detail =
                    format!("may have mixed case, but should otherwise match: {}", problems.join(","));
                errors.push(path.field("kind").invalid(kind, &detail));
            }
        }
        None => {}
        Some(other) => errors.push(path.field("kind").invalid(other, "must be a string")),
    }
    if object.contains_key("metadata") {
        meta::validate_embedded(value, path, errors);
    }
}
