//! A message's schema.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use crate::json;
use crate::tree::{Object, Tree};

use super::{descriptions, enums};
use crate::model::{Field, Leaf, ListType, MessageRef, PatchStrategy, Shape, Type};
use crate::tables;

/// The two versions differ in how a reference stands beside other keywords, and in what they can say of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a schema of the document.
    pub fn reference(self, name: &str) -> Tree {
        let prefix = if self == Dialect::V2 { "#/definitions/" } else { "#/components/schemas/" };
        json!({"$ref": format!("{prefix}{name}")})
    }
}

/// Messages by their OpenAPI names.
pub(super) fn by_openapi_name() -> &'static HashMap<&'static str, MessageRef<'static>> {
    static NAMES: LazyLock<HashMap<&'static str, MessageRef<'static>>> = LazyLock::new(|| {
        let named = tables::messages().iter().filter(|message| !message.openapi.is_empty());
        named.map(|message| (&*message.openapi, tables::message_at(message.index))).collect()
    });
    &NAMES
}

/// The schema of a message; others are referred to by name.
pub fn schema(message: MessageRef<'static>, dialect: Dialect) -> Tree {
    collect(message, dialect, &mut |_| {})
}

/// Builds the same as [`schema`], and calls `refer` with each name that it refers to.
pub(super) fn collect(message: MessageRef<'static>, dialect: Dialect, refer: &mut dyn FnMut(&str)) -> Tree {
    let texts = descriptions::of(&message.openapi);
    let mut schema = Object::new();
    if let Some(texts) = texts
        && !texts.own.is_empty()
    {
        schema.insert("description", Tree::from(texts.own.as_str()));
    }
    if let Some(leaf) = message.leaf {
        schema.extend(leaf_schema(leaf, dialect));
        return Tree::Object(schema);
    }
    let definition = &*message.openapi;
    let mut builder =
        Builder { dialect, definition, refer, properties: BTreeMap::new(), required: Vec::new() };
    builder.fields(message, texts);
    let Builder { properties, required, .. } = builder;
    if !properties.is_empty() {
        schema.insert("properties", properties.into_iter().collect());
    }
    if !required.is_empty() {
        schema.insert("required", Tree::from(required));
    }
    schema.insert("type", Tree::from("object"));
    let kinds = kinds_of(message);
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind", Tree::from(kinds));
    }
    if message.atomic {
        schema.insert("x-kubernetes-map-type", Tree::from("atomic"));
    }
    Tree::Object(schema)
}

fn leaf_schema(leaf: Leaf, dialect: Dialect) -> Object {
    let schema = match (leaf, dialect) {
        (Leaf::Time | Leaf::MicroTime, _) => json!({"format": "date-time", "type": "string"}),
        (Leaf::Duration, _) | (Leaf::Quantity, Dialect::V2) => json!({"type": "string"}),
        (Leaf::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Leaf::IntOrString, Dialect::V2) => json!({"format": "int-or-string", "type": "string"}),
        (Leaf::IntOrString, Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Leaf::RawExtension | Leaf::FieldsV1, _) => json!({"type": "object"}),
        _ => json!({}),
    };
    match schema {
        Tree::Object(map) => map,
        _ => Object::new(),
    }
}

type Row = (&'static str, &'static str, &'static str);

/// Group, version and kind of a message that is one.
fn kinds_of(message: MessageRef<'_>) -> Vec<Tree> {
    static KINDS: LazyLock<HashMap<u32, Vec<Row>>> = LazyLock::new(|| {
        let mut kinds: HashMap<u32, Vec<_>> = HashMap::new();
        let mut groups: Vec<(&str, &str)> = Vec::new();
        for (group, version, kind, index) in tables::kinds() {
            // kinds of every group are registered under the core group here
            if group != "meta.k8s.io" {
                kinds.entry(index).or_default().push((group, version, kind));
                groups.push((group, version));
            }
        }
        // the documents of discovery have no kinds that are deleted or watched; an earlier version of services' has
        groups.retain(|(group, _)| *group != "apidiscovery.k8s.io");
        groups.push(("apiregistration.k8s.io", "v1beta1"));
        groups.sort_unstable();
        groups.dedup();
        for kind in ["DeleteOptions", "WatchEvent"] {
            if let Some(index) =
                tables::message_index(&format!("k8s.io.apimachinery.pkg.apis.meta.v1.{kind}"))
            {
                kinds.insert(index, groups.iter().map(|(group, version)| (*group, *version, kind)).collect());
            }
        }
        for rows in kinds.values_mut() {
            rows.sort_unstable();
        }
        kinds
    });
    let rows = tables::message_index(&message.name).and_then(|index| KINDS.get(&index));
    let rows = rows.map(Vec::as_slice).unwrap_or_default();
    rows.iter()
        .map(|(group, version, kind)| json!({"group": group, "kind": kind, "version": version}))
        .collect()
}

/// The words for what every kind has, for those that have none of their own, such as lists.
fn everywhere(field: &str) -> Option<&'static String> {
    matches!(field, "kind" | "apiVersion")
        .then(|| descriptions::of("io.k8s.api.core.v1.Pod")?.fields.get(field))
        .flatten()
}

struct Builder<'r> {
    dialect: Dialect,
    definition: &'r str,
    refer: &'r mut dyn FnMut(&str),
    properties: BTreeMap<String, Tree>,
    required: Vec<String>,
}

impl Builder<'_> {
    fn fields(&mut self, message: MessageRef<'static>, texts: Option<&descriptions::Texts>) {
        for field in message.fields().iter() {
            match field.ty {
                Type::Message(index) if field.is_inline() => self.fields(tables::message_at(index), texts),
                _ => {
                    let own = texts.and_then(|texts| texts.fields.get(&*field.json));
                    let description = own.or_else(|| everywhere(&field.json));
                    let property = self.property(field, description.map(String::as_str));
                    self.properties.insert(field.json.to_string(), property);
                    if field.required {
                        self.required.push(field.json.to_string());
                    }
                }
            }
        }
    }

    fn property(&mut self, field: &Field, description: Option<&str>) -> Tree {
        let mut property = match field.shape {
            Shape::One => self.value(&field.ty),
            Shape::List => json!({"items": self.value(&field.ty), "type": "array"}),
            Shape::Map => json!({"additionalProperties": self.value(&field.ty), "type": "object"}),
        };
        let Some(map) = property.as_object_mut() else { return property };
        let values = enums::of(self.definition, &field.json);
        if let Some(description) = description {
            let mut description = description.to_owned();
            // Upstream lists the values in the description only where the field has a single value.
            if let Some(values) = values.filter(|_| field.shape == Shape::One) {
                description.push_str(&enums::paragraph(values));
            }
            map.insert("description", Tree::from(description));
        }
        if let Some(values) = values {
            let place = match field.shape {
                Shape::One => Some(&mut *map),
                _ => map.get_mut("items").and_then(Tree::as_object_mut),
            };
            if let Some(place) = place {
                place.insert("enum", json!(values));
            }
        }
        if self.dialect == Dialect::V3
            && let Some(default) = default(field)
        {
            map.insert("default", default);
        }
        if field.list_said && field.shape == Shape::List {
            let name = match field.list {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            map.insert("x-kubernetes-list-type", Tree::from(name));
            if !field.list_keys.is_empty() {
                map.insert("x-kubernetes-list-map-keys", json!(field.list_keys));
            }
        }
        let strategy = match field.patch {
            PatchStrategy::Replace => "",
            PatchStrategy::Merge => "merge",
            PatchStrategy::RetainKeys => "retainKeys",
            PatchStrategy::MergeRetainKeys => "merge,retainKeys",
        };
        if !field.merge_key.is_empty() {
            map.insert("x-kubernetes-patch-merge-key", json!(field.merge_key));
        }
        if !strategy.is_empty() {
            map.insert("x-kubernetes-patch-strategy", Tree::from(strategy));
        }
        if field.atomic {
            map.insert("x-kubernetes-map-type", Tree::from("atomic"));
        } else if field.granular {
            map.insert("x-kubernetes-map-type", Tree::from("granular"));
        }
        // in v3 a reference may not have company
        if self.dialect == Dialect::V3
            && map.len() > 1
            && let Some(reference) = map.remove("$ref")
        {
            map.insert("allOf", json!([{"$ref": reference}]));
        }
        map.sort_keys();
        property
    }

    fn value(&mut self, ty: &Type) -> Tree {
        match ty {
            Type::Bool => json!({"type": "boolean"}),
            Type::Int32 => json!({"format": "int32", "type": "integer"}),
            Type::Int64 => json!({"format": "int64", "type": "integer"}),
            Type::Uint32 | Type::Uint64 => json!({"format": "int64", "type": "integer"}),
            Type::Double => json!({"format": "double", "type": "number"}),
            Type::String => json!({"type": "string"}),
            Type::Bytes => json!({"format": "byte", "type": "string"}),
            Type::Message(index) => {
                let message = tables::message_at(*index);
                match message.leaf {
                    Some(Leaf::Items) => match message.fields().first() {
                        Some(items) => json!({"items": self.value(&items.ty), "type": "array"}),
                        None => json!({"type": "array"}),
                    },
                    _ if message.openapi.is_empty() => json!({"type": "object"}),
                    _ => {
                        (self.refer)(&message.openapi);
                        self.dialect.reference(&message.openapi)
                    }
                }
            }
        }
    }
}

/// The stated default, or the zero value of what upstream always writes.
fn default(field: &Field) -> Option<Tree> {
    if !field.default.is_empty() {
        return serde_json::from_str(&field.default).ok();
    }
    if field.optional || field.shape != Shape::One {
        return None;
    }
    match &field.ty {
        Type::Message(index) => tables::message_at(*index).leaf.is_none().then(|| json!({})),
        _ if field.omit_empty => None,
        Type::Bool => Some(json!(false)),
        Type::String => Some(json!("")),
        Type::Bytes => None,
        _ => Some(json!(0)),
    }
}
