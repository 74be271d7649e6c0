//! Declared types of OpenAPI schemas, with the limits that cost estimates are made of.

use std::sync::Arc;

use api::Tree;

use crate::decl::{DeclField, DeclKind, DeclObject, DeclType, ListSemantics, MAX_REQUEST};
use crate::escape::escape;

/// Longest duration, date and date-time in JSON.
const DURATION: u64 = 32;
const DATE: u64 = 12;
const DATE_TIME: u64 = 32;

/// The declared type of a structural schema (an `apiextensions.k8s.io/v1` `JSONSchemaProps`), or `None` where expressions
/// cannot see values of it. `is_resource` is set for the root of a custom resource.
pub fn declare(schema: &Tree, is_resource: bool) -> Option<DeclType> {
    let mut declared = declare_value(schema, is_resource)?;
    declared.nullable = is_true(schema, "nullable");
    Some(declared)
}

fn declare_value(schema: &Tree, is_resource: bool) -> Option<DeclType> {
    if is_true(schema, "x-kubernetes-int-or-string") {
        let max = limit(schema, "maxLength").map_or(MAX_REQUEST - 2, |limit| limit.saturating_mul(4));
        return Some(DeclType::new(DeclKind::Dyn, max, 1));
    }
    let is_resource = is_resource || is_true(schema, "x-kubernetes-embedded-resource");
    match schema["type"].as_str().unwrap_or_default() {
        "array" => declare_list(schema),
        "object" => declare_object(schema, is_resource),
        _ if is_resource => declare_object(schema, true),
        "string" => Some(declare_string(schema)),
        "boolean" => Some(DeclType::boolean()),
        "number" => Some(DeclType::double()),
        "integer" => Some(DeclType::int()),
        _ => None,
    }
}

fn declare_list(schema: &Tree) -> Option<DeclType> {
    let element = declare(schema.get("items")?, false)?;
    let max = limit(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (element.min_size + 1));
    let semantics = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListSemantics::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            ListSemantics::Map(keys.filter_map(Tree::as_str).map(str::to_owned).collect())
        }
        _ => ListSemantics::Atomic,
    };
    Some(DeclType::new(DeclKind::List { element: Arc::new(element), semantics }, max, 2))
}

fn declare_object(schema: &Tree, is_resource: bool) -> Option<DeclType> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let value = declare(values, false)?;
        let max = limit(schema, "maxProperties").unwrap_or((MAX_REQUEST - 2) / (value.min_size + 6));
        return Some(DeclType::new(DeclKind::Map(Arc::new(value)), max, 2));
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Tree::as_str).collect();
    let mut object = DeclObject::default();
    let mut min_size = 2;
    for (json, property) in
        schema["properties"].as_object().into_iter().flat_map(|properties| properties.iter())
    {
        let Some(of) = declare(property, false) else { continue };
        if required.contains(&json.as_str()) && property.get("default").is_none_or(Tree::is_null) {
            min_size += json.len() as u64 + of.min_size + 4;
        }
        add_field(&mut object, json, of);
    }
    if is_resource {
        add_resource_fields(&mut object);
    }
    Some(DeclType::new(DeclKind::Object(object), 0, min_size))
}

fn add_field(object: &mut DeclObject, json: &str, of: DeclType) {
    if let Some(identifier) = escape(json) {
        object.fields.insert(Arc::from(identifier), DeclField { json: Arc::from(json), of: Arc::new(of) });
    }
}

/// What every resource has: its kind, its version, and its name.
fn add_resource_fields(object: &mut DeclObject) {
    let string = || DeclType::string(MAX_REQUEST - 2);
    for name in ["apiVersion", "kind"] {
        add_field(object, name, string());
    }
    add_field(object, "metadata", DeclType::object([("name", string()), ("generateName", string())]));
}

fn declare_string(schema: &Tree) -> DeclType {
    let length = limit(schema, "maxLength");
    match schema["format"].as_str().unwrap_or_default() {
        "byte" => DeclType::new(DeclKind::Bytes, length.unwrap_or(MAX_REQUEST - 2), 2),
        "duration" => DeclType::new(DeclKind::Duration, DURATION, 3),
        "date" => DeclType::new(DeclKind::Timestamp { date: true }, DATE, 12),
        "date-time" => DeclType::new(DeclKind::Timestamp { date: false }, DATE_TIME, 21),
        _ => DeclType::string(match (length, schema["enum"].as_array()) {
            // A limit counts characters, of up to four bytes.
            (Some(length), _) => length.saturating_mul(4),
            (None, Some(values)) if !values.is_empty() => {
                values.iter().filter_map(Tree::as_str).map(|value| value.len() as u64).max().unwrap_or(0)
            }
            _ => MAX_REQUEST - 2,
        }),
    }
}

fn is_true(schema: &Tree, key: &str) -> bool {
    schema[key].as_bool() == Some(true)
}

/// A limit of the schema; negative ones are zero.
fn limit(schema: &Tree, key: &str) -> Option<u64> {
    let limit = schema[key].as_i64()?;
    Some(u64::try_from(limit).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_from_the_schema_or_from_the_largest_request() {
        let declared = declare(
            &api::json!({"type": "object", "required": ["a"], "properties": {
                "a": {"type": "string", "maxLength": 5},
                "e": {"type": "string", "enum": ["one", "three"]},
                "l": {"type": "array", "items": {"type": "integer"}},
                "my-map": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 7},
                "hidden": {"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true}},
            }}),
            false,
        )
        .expect("objects are visible");
        let max = |field: &str| declared.field(field).map(|field| field.of.max_elements);
        assert_eq!(max("a"), Some(20));
        assert_eq!(max("e"), Some(5));
        assert_eq!(max("l"), Some((3 * 1024 * 1024 - 2) / 2));
        assert_eq!(max("my__dash__map"), Some(7));
        assert_eq!(max("hidden"), None);
        assert_eq!(declared.min_size, 2 + 1 + 2 + 4);
    }
}
