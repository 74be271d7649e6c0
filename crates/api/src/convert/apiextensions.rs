//! CustomResourceDefinitions: `v1`, and `v1beta1`, in which upstream stores them.
//!
//! What all versions of a definition agree on stands once, at the top, in `v1beta1`.

use serde_json::{Map, Value};

use super::{move_to, rename};

/// Fields of a version in `v1`, and where `v1beta1` has them at the top.
const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

pub(super) fn v1_to_v1beta1(definition: &mut Map<String, Value>) {
    let Some(Value::Object(spec)) = definition.get_mut("spec") else { return };
    if let Some(Value::Object(conversion)) = spec.get_mut("conversion")
        && let Some(Value::Object(mut webhook)) = conversion.remove("webhook")
    {
        move_to(&mut webhook, "clientConfig", conversion, "webhookClientConfig");
        move_to(&mut webhook, "conversionReviewVersions", conversion, "conversionReviewVersions");
    }
    let mut top = Map::new();
    if let Some(Value::Array(versions)) = spec.get_mut("versions") {
        if let Some(first) = versions.first().and_then(|version| version.get("name")) {
            top.insert("version".to_owned(), first.clone());
        }
        for version in versions.iter_mut().filter_map(Value::as_object_mut) {
            rename_paths(version, "jsonPath", "JSONPath");
        }
        for (own, shared) in SHARED {
            let value = versions.first().and_then(|version| version.get(own)).cloned();
            let Some(value) = value.filter(|value| !value.is_null()) else { continue };
            if versions.iter().all(|version| version.get(own) == Some(&value)) {
                for version in versions.iter_mut().filter_map(Value::as_object_mut) {
                    version.remove(own);
                }
                top.insert(shared.to_owned(), value);
            }
        }
    }
    spec.extend(top);
    let preserve = spec.get("preserveUnknownFields").and_then(Value::as_bool).unwrap_or(false);
    spec.insert("preserveUnknownFields".to_owned(), Value::Bool(preserve));
}

pub(super) fn v1beta1_to_v1(definition: &mut Map<String, Value>) {
    let Some(Value::Object(spec)) = definition.get_mut("spec") else { return };
    if let Some(Value::Object(conversion)) = spec.get_mut("conversion") {
        let mut webhook = Map::new();
        move_to(conversion, "webhookClientConfig", &mut webhook, "clientConfig");
        move_to(conversion, "conversionReviewVersions", &mut webhook, "conversionReviewVersions");
        if !webhook.is_empty() {
            conversion.insert("webhook".to_owned(), Value::Object(webhook));
        }
    }
    let top: Vec<Option<Value>> =
        SHARED.iter().map(|(_, shared)| spec.remove(*shared).filter(|value| !value.is_null())).collect();
    let only = spec.remove("version").filter(|version| version.as_str().is_some_and(|name| !name.is_empty()));
    let versions = spec.entry("versions").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(versions) = versions {
        if let Some(name) = only.filter(|_| versions.is_empty()) {
            let version = [("name", name), ("served", Value::Bool(true)), ("storage", Value::Bool(true))];
            versions.push(version.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        }
        for version in versions.iter_mut().filter_map(Value::as_object_mut) {
            for ((own, _), shared) in SHARED.iter().zip(&top) {
                if let Some(shared) = shared
                    && version.get(*own).is_none_or(Value::is_null)
                {
                    version.insert((*own).to_owned(), shared.clone());
                }
            }
            rename_paths(version, "JSONPath", "jsonPath");
        }
    }
}

/// The columns' paths are spelled differently.
fn rename_paths(version: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(Value::Array(columns)) = version.get_mut("additionalPrinterColumns") {
        for column in columns.iter_mut().filter_map(Value::as_object_mut) {
            rename(column, from, to);
        }
    }
}
