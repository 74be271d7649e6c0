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
    Schemas { definitions: &Tree::Null, open: Vec::new(), left: usize::MAX, depth: 0 }
        .declare(schema, is_resource)
}

/// The declared type of a resource as a document of OpenAPI publishes it: the schema `name` of the `components.schemas`, with those
/// that it refers to. None where these are more, or deeper, than any real kind has: schemas of other servers can refer to each other
/// so that a few of them stand for a type without bound.
pub fn declare_published(definitions: &Tree, name: &str) -> Option<DeclType> {
    let schema = definitions.get(name)?;
    let mut schemas = Schemas { definitions, open: vec![name], left: MOST_PUBLISHED, depth: 0 };
    let declared = schemas.declare(schema, true);
    declared.filter(|_| schemas.left > 0)
}

/// Most schemas in the type of one published kind, each counted wherever it stands, and how deep they nest.
const MOST_PUBLISHED: usize = 200_000;
const DEEPEST_PUBLISHED: usize = 128;

const REFERENCE: &str = "#/components/schemas/";

/// The name of the schema that stands in place of this one. References with a description or a default are the part of an `allOf`.
fn reference(schema: &Tree) -> Option<&str> {
    match schema["$ref"].as_str() {
        Some(reference) => Some(reference.strip_prefix(REFERENCE).unwrap_or(reference)),
        None => schema["allOf"].as_array()?.iter().find_map(reference),
    }
}

struct Schemas<'s> {
    definitions: &'s Tree,
    /// The definitions that the present schema stands in: within itself one is an object without fields.
    open: Vec<&'s str>,
    /// How many more schemas are declared; nothing is when there are none.
    left: usize,
    depth: usize,
}

impl<'s> Schemas<'s> {
    fn declare(&mut self, schema: &'s Tree, is_resource: bool) -> Option<DeclType> {
        if self.definitions.is_object() {
            self.left = if self.depth == DEEPEST_PUBLISHED { 0 } else { self.left.saturating_sub(1) };
            if self.left == 0 {
                return None;
            }
        }
        self.depth += 1;
        let declared = self.declare_referred(schema, is_resource);
        self.depth -= 1;
        declared
    }

    fn declare_referred(&mut self, schema: &'s Tree, is_resource: bool) -> Option<DeclType> {
        let Some(name) = reference(schema) else { return self.declare_here(schema, is_resource) };
        if self.open.contains(&name) {
            return Some(DeclType::object([]));
        }
        let found = self.definitions.get(name)?;
        self.open.push(name);
        let declared = self.declare_here(found, is_resource);
        self.open.pop();
        declared
    }

    fn declare_here(&mut self, schema: &'s Tree, is_resource: bool) -> Option<DeclType> {
        let mut declared = self.declare_value(schema, is_resource)?;
        declared.nullable = is_true(schema, "nullable");
        Some(declared)
    }

    fn declare_value(&mut self, schema: &'s Tree, is_resource: bool) -> Option<DeclType> {
        // Built-in types say it by their format, schemas of definitions by the extension.
        let published = self.definitions.is_object() && schema["format"] == "int-or-string";
        if published || is_true(schema, "x-kubernetes-int-or-string") {
            let max = limit(schema, "maxLength").map_or(MAX_REQUEST - 2, |limit| limit.saturating_mul(4));
            return Some(DeclType::new(DeclKind::Dyn, max, 1));
        }
        let is_resource = is_resource || is_true(schema, "x-kubernetes-embedded-resource");
        match schema["type"].as_str().unwrap_or_default() {
            "array" => self.declare_list(schema),
            "object" => self.declare_object(schema, is_resource),
            _ if is_resource => self.declare_object(schema, true),
            "string" => Some(declare_string(schema)),
            "boolean" => Some(DeclType::boolean()),
            "number" => Some(DeclType::double()),
            "integer" => Some(DeclType::int()),
            _ => None,
        }
    }

    fn declare_list(&mut self, schema: &'s Tree) -> Option<DeclType> {
        let element = self.declare(schema.get("items")?, false)?;
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

    fn declare_object(&mut self, schema: &'s Tree, is_resource: bool) -> Option<DeclType> {
        if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
            let value = self.declare(values, false)?;
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
            let Some(of) = self.declare(property, false) else { continue };
            if required.contains(&json.as_str()) && property.get("default").is_none_or(Tree::is_null) {
                min_size += json.len() as u64 + of.min_size + 4;
            }
            add_field(&mut object, json, of);
        }
        if is_resource && !has_resource_fields(&object) {
            add_resource_fields(&mut object);
        }
        Some(DeclType::new(DeclKind::Object(object), 0, min_size))
    }
}

/// Whether the schema itself has what every resource has.
fn has_resource_fields(object: &DeclObject) -> bool {
    let is_string = |object: &DeclObject, name: &str| {
        object.fields.get(name).is_some_and(|field| matches!(field.of.kind, DeclKind::String))
    };
    let metadata = object.fields.get("metadata").map(|field| &field.of.kind);
    is_string(object, "kind")
        && is_string(object, "apiVersion")
        && matches!(metadata, Some(DeclKind::Object(metadata)) if ["name", "generateName"].iter().all(|name| is_string(metadata, name)))
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

    #[test]
    fn published_schemas_refer_to_each_other() {
        let text = api::json!({"type": "string"});
        let definitions = api::json!({
            "Thing": {"type": "object", "properties": {
                "kind": text, "apiVersion": text,
                "metadata": {"default": {}, "allOf": [{"$ref": "#/components/schemas/Meta"}]},
                "spec": {"$ref": "#/components/schemas/Spec"},
            }},
            "Meta": {"type": "object", "properties": {"name": text, "generateName": text, "uid": text}},
            "Spec": {"type": "object", "properties": {
                "not": {"$ref": "#/components/schemas/Spec"},
                "either": {"$ref": "#/components/schemas/Either"},
                "port": {"$ref": "#/components/schemas/Port"},
                "size": {"type": "integer"},
            }},
            "Either": {"oneOf": [{"type": "integer"}, text]},
            "Port": {"format": "int-or-string", "oneOf": [{"type": "integer"}, text]},
        });
        let declared = declare_published(&definitions, "Thing").expect("it is there");
        let at = |path: &[&str]| {
            path.iter()
                .try_fold(&declared, |at, name| at.field(name).map(|field| &*field.of))
                .map(DeclType::of)
        };
        assert_eq!(at(&["metadata", "uid"]), Some(crate::Type::String));
        assert_eq!(at(&["spec", "size"]), Some(crate::Type::Int));
        assert!(at(&["spec", "not"]).is_some());
        assert_eq!(at(&["spec", "not", "size"]), None);
        assert_eq!(at(&["spec", "either"]), None);
        assert_eq!(at(&["spec", "port"]), Some(crate::Type::Dyn));
        assert!(declare_published(&definitions, "Other").is_none());
    }

    /// Each refers to the next: twice, which doubles the type with every one, or once and without end.
    #[test]
    fn published_types_are_bounded() {
        let chain = |count: usize, fields: &[&str]| {
            let definition = |index: usize| {
                let mut properties = api::json!({});
                for field in fields {
                    let next = format!("#/components/schemas/S{}", index + 1);
                    properties[*field] = api::json!({"$ref": next});
                }
                (format!("S{index}"), api::json!({"type": "object", "properties": properties}))
            };
            let mut definitions = api::json!({});
            for (name, definition) in (0..count).map(definition) {
                definitions[name.as_str()] = definition;
            }
            definitions
        };
        assert!(declare_published(&chain(10, &["a", "b"]), "S0").is_some());
        assert!(declare_published(&chain(60, &["a", "b"]), "S0").is_none());
        assert!(declare_published(&chain(50_000, &["a"]), "S0").is_none());
    }
}
