//! CustomResourceDefinitions: `v1`, and `v1beta1`, in which upstream stores them.
//!
//! What all versions of a definition agree on stands once, at the top, in `v1beta1`.

use crate::tree::{Object, Tree};

use super::{move_to, rename};

/// Fields of a version in `v1`, and where `v1beta1` has them at the top.
const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

pub(super) fn v1_to_v1beta1(definition: &mut Object) {
    let Some(Tree::Object(spec)) = definition.get_mut("spec") else { return };
    if let Some(Tree::Object(conversion)) = spec.get_mut("conversion")
        && let Some(Tree::Object(mut webhook)) = conversion.remove("webhook")
    {
        move_to(&mut webhook, "clientConfig", conversion, "webhookClientConfig");
        move_to(&mut webhook, "conversionReviewVersions", conversion, "conversionReviewVersions");
    }
    let mut top = Object::new();
    if let Some(Tree::Array(versions)) = spec.get_mut("versions") {
        if let Some(first) = versions.first().and_then(|version| version.get("name")) {
            top.insert("version", first.clone());
        }
        for version in versions.iter_mut().filter_map(Tree::as_object_mut) {
            rename_paths(version, "jsonPath", "JSONPath");
        }
        for (own, shared) in SHARED {
            let value = versions.first().and_then(|version| version.get(own)).cloned();
            let Some(value) = value.filter(|value| !value.is_null()) else { continue };
            if versions.iter().all(|version| version.get(own) == Some(&value)) {
                for version in versions.iter_mut().filter_map(Tree::as_object_mut) {
                    version.remove(own);
                }
                top.insert(shared.to_owned(), value);
            }
        }
    }
    spec.extend(top);
    let preserve = spec.get("preserveUnknownFields").and_then(Tree::as_bool).unwrap_or(false);
    spec.insert("preserveUnknownFields", Tree::Bool(preserve));
}

pub(super) fn v1beta1_to_v1(definition: &mut Object) {
    let Some(Tree::Object(spec)) = definition.get_mut("spec") else { return };
    if let Some(Tree::Object(conversion)) = spec.get_mut("conversion") {
        let mut webhook = Object::new();
        move_to(conversion, "webhookClientConfig", &mut webhook, "clientConfig");
        move_to(conversion, "conversionReviewVersions", &mut webhook, "conversionReviewVersions");
        if !webhook.is_empty() {
            conversion.insert("webhook", Tree::Object(webhook));
        }
    }
    let top: Vec<Option<Tree>> =
        SHARED.iter().map(|(_, shared)| spec.remove(shared).filter(|value| !value.is_null())).collect();
    let only = spec.remove("version").filter(|version| version.as_str().is_some_and(|name| !name.is_empty()));
    let versions = spec.entry("versions").or_insert_with(|| Tree::Array(Vec::new()));
    if let Tree::Array(versions) = versions {
        if let Some(name) = only.filter(|_| versions.is_empty()) {
            let version = [("name", name), ("served", Tree::Bool(true)), ("storage", Tree::Bool(true))];
            versions.push(version.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        }
        for version in versions.iter_mut().filter_map(Tree::as_object_mut) {
            for ((own, _), shared) in SHARED.iter().zip(&top) {
                if let Some(shared) = shared
                    && version.get(own).is_none_or(Tree::is_null)
                {
                    version.insert((*own).to_owned(), shared.clone());
                }
            }
            rename_paths(version, "JSONPath", "jsonPath");
        }
    }
}

/// The columns' paths are spelled differently.
fn rename_paths(version: &mut Object, from: &str, to: &str) {
    if let Some(Tree::Array(columns)) = version.get_mut("additionalPrinterColumns") {
        for column in columns.iter_mut().filter_map(Tree::as_object_mut) {
            rename(column, from, to);
        }
    }
}
