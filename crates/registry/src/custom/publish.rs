//! Schemas as OpenAPI publishes them: with what every object of the API has, and in version 2 without what clients of old
//! do not understand.

use api::Tree;
use api::json;
use api::openapi::Dialect;
use api::tree::Object;

use super::definition::is_structural;
use crate::kind::Kind;
use crate::tree::{flag, list, text, texts};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const CONVENTIONS: &str =
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schemas of a kind that a definition makes and of its lists, by their names; none of other kinds.
pub fn schemas(kind: &Kind, dialect: Dialect) -> Vec<(String, Tree)> {
    let Some(custom) = kind.custom() else { return Vec::new() };
    let package = kind.message.strip_suffix(&*kind.kind).unwrap_or_default();
    let published: Tree = serde_json::from_slice(&custom.published).unwrap_or_default();
    let object = object(&published, dialect);
    let name = kind.message.to_string();
    let list_name = format!("{package}{}", custom.list_kind);
    let list = list_of(kind, &custom.list_kind, &name, dialect);
    let own = |mut schema: Tree, of: &str| {
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": &*kind.group, "kind": of, "version": &*kind.version}]);
        if !custom.selectable.is_empty() {
            let fields = custom.selectable.iter().map(|path| json!({"fieldPath": &**path}));
            schema["x-kubernetes-selectable-fields"] = Tree::Array(fields.collect());
        }
        schema
    };
    vec![(name, own(object, &kind.kind)), (list_name, own(list, &custom.list_kind))]
}

fn described(description: &str) -> Tree {
    json!({"description": description, "type": "string"})
}

/// A description beside a reference.
fn referring(description: &str, name: &str, dialect: Dialect) -> Tree {
    let mut schema = json!({ "description": description });
    let reference = dialect.reference(&format!("{META}.{name}"));
    match dialect {
        Dialect::V2 => schema["$ref"] = reference["$ref"].clone(),
        Dialect::V3 => schema["allOf"] = json!([reference]),
    }
    schema
}

fn object(published: &Tree, dialect: Dialect) -> Tree {
    let open = dialect == Dialect::V2 && flag(published, "x-kubernetes-preserve-unknown-fields");
    if published.is_null() || open || !is_structural(published) {
        return json!({"type": "object"});
    }
    let mut schema = clean(published, dialect);
    let mut properties = members(&mut schema);
    properties.insert("apiVersion", described(API_VERSION));
    properties.insert("kind", described(KIND));
    properties.insert("metadata", referring(METADATA, "ObjectMeta", dialect));
    properties.sort_keys();
    schema["properties"] = properties.into();
    schema
}

fn list_of(kind: &Kind, list_kind: &str, name: &str, dialect: Dialect) -> Tree {
    let items = format!("List of {}. More info: {CONVENTIONS}", kind.plural);
    json!({
        "description": format!("{list_kind} is a list of {}", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": described(API_VERSION),
            "items": {"description": items, "type": "array", "items": dialect.reference(name)},
            "kind": described(KIND),
            "metadata": referring(LIST_METADATA, "ListMeta", dialect),
        },
    })
}

fn members(schema: &mut Tree) -> Object {
    match schema.as_object_mut().and_then(|object| object.remove("properties")) {
        Some(Tree::Object(properties)) => properties,
        _ => Object::new(),
    }
}

/// The schema and those in it, as the dialect has them.
fn clean(schema: &Tree, dialect: Dialect) -> Tree {
    let mut object = schema.as_object().cloned().unwrap_or_default();
    object.retain(|name, value| {
        let never =
            ["id", "$schema", "$ref", "definitions", "dependencies", "patternProperties", "additionalItems"];
        !value.is_null() && *value != Tree::Bool(false) && !never.contains(&name.as_str())
            || name == "default"
            || name == "additionalProperties"
    });
    let preserves = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if dialect == Dialect::V2 {
        for name in ["allOf", "anyOf", "oneOf", "not", "default"] {
            object.remove(name);
        }
        let untyped = flag(schema, "nullable") || preserves;
        if untyped {
            object.remove("items");
            object.remove("properties");
        }
        let bare = text(schema, "type") == "array" && !object.contains_key("items");
        let open = preserves && text(schema, "type") == "object";
        if flag(schema, "nullable") || bare || open {
            object.remove("type");
        }
        object.remove("nullable");
        requirements(schema, &mut object);
    } else if flag(schema, "x-kubernetes-int-or-string") {
        int_or_string(schema, &mut object);
    }
    if let Some(Tree::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(|below| *below = clean(below, dialect));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(below) = object.get_mut(name).filter(|below| below.is_object()) {
            *below = clean(below, dialect);
        }
    }
    let mut schema = Tree::Object(object);
    if flag(&schema, "x-kubernetes-embedded-resource") && !(preserves && dialect == Dialect::V2) {
        embedded(&mut schema, dialect);
    }
    schema
}

/// Fields that may be null are not required of clients that do not know null.
fn requirements(schema: &Tree, object: &mut Object) {
    let nullable = |name: &str| {
        schema
            .get("properties")
            .and_then(|properties| properties.get(name))
            .is_some_and(|below| flag(below, "nullable"))
    };
    let values = schema.get("additionalProperties").is_some_and(|below| flag(below, "nullable"));
    let required: Vec<Tree> =
        texts(schema, "required").filter(|name| !nullable(name)).map(Tree::from).collect();
    if required.is_empty() || values {
        object.remove("required");
    } else {
        object.insert("required", required.into());
    }
}

/// An integer or a string, where the schema does not say so in its own words.
fn int_or_string(schema: &Tree, object: &mut Object) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let says_so = |schema: &Tree| schema.get("anyOf") == Some(&either);
    if says_so(schema) || list(schema, "allOf").first().is_some_and(says_so) {
        return;
    }
    if !object.contains_key("anyOf") {
        object.insert("anyOf", either);
        return;
    }
    let mut all = vec![json!({ "anyOf": either })];
    all.extend(list(schema, "allOf").iter().cloned());
    object.insert("allOf", all.into());
}

fn embedded(schema: &mut Tree, dialect: Dialect) {
    let mut properties = members(schema);
    properties.insert("apiVersion", described(EMBEDDED_API_VERSION));
    properties.insert("kind", described(EMBEDDED_KIND));
    properties.insert("metadata", referring(METADATA, "ObjectMeta", dialect));
    properties.sort_keys();
    let mut required: Vec<Tree> = list(schema, "required").to_vec();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|own| *own == *name) {
            required.push(name.into());
        }
    }
    schema["required"] = required.into();
    schema["properties"] = properties.into();
}
