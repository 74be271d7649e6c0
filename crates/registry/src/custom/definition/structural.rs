//! Structural schemas: the type of every value stands in the schema itself, and what is below `allOf`, `anyOf`, `oneOf` and
//! `not` only checks values that have a place outside of these.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::tree::{flag, get, has, list, text, unset};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Whether the schema can be read as a structural one at all.
pub(super) fn unsupported(schema: &Tree) -> Option<String> {
    let set = |name: &str| schema.get(name).is_some_and(|value| !unset(value));
    for name in ["id", "$schema", "$ref", "patternProperties", "dependencies", "definitions"] {
        if set(name) {
            let name = name.strip_suffix("schema").map_or(name, |_| "schema");
            return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
        }
    }
    if has(schema, "additionalItems") {
        return Some("OpenAPIV3Schema 'additionalItems' is not supported".to_owned());
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Tree::Bool(false)) {
        return Some(
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned(),
        );
    }
    if !list(schema, "items").is_empty() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let maps = get(schema, "properties").as_object().into_iter().flat_map(|map| map.values());
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| list(schema, name));
    let singles = ["items", "additionalProperties", "not"].into_iter().filter_map(|name| schema.get(name));
    maps.chain(lists).chain(singles).filter(|schema| schema.is_object()).find_map(unsupported)
}

/// Whether a schema is structural.
pub fn is_structural(schema: &Tree) -> bool {
    unsupported(schema).is_none() && problems(schema, &Path::root()).is_empty()
}

/// What keeps the schemas of a definition from being structural, in words and with its reason.
pub fn violations(definition: &Tree) -> Option<(&'static str, String)> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    if flag(definition, "spec.preserveUnknownFields") {
        errors.push(spec.field("preserveUnknownFields").invalid(true, "must be false"));
    }
    let versions = spec.field("versions");
    for (index, version) in list(definition, "spec.versions").iter().enumerate() {
        let schema = get(version, "schema.openAPIV3Schema");
        if !schema.is_object() {
            continue;
        }
        if let Some(problem) = unsupported(schema) {
            let name = text(version, "name");
            let message = format!("failed to check validation schema for version {name}: {problem}");
            return Some(("StructuralError", message));
        }
        let at = versions.index(index);
        let at = at.field("schema");
        errors.extend(problems(schema, &at.field("openAPIV3Schema")));
    }
    (!errors.is_empty()).then(|| ("Violations", machinery::fieldpath::aggregate(&errors)))
}

/// What keeps a schema that is supported from being structural, in the order of the words.
pub(super) fn problems(schema: &Tree, path: &Path<'_>) -> Vec<Cause> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete(schema, schema, path, path, &mut errors);
    errors.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
    errors
}

fn members(schema: &Tree) -> impl Iterator<Item = (&str, &Tree)> {
    get(schema, "properties").as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema))
}

fn property<'t>(schema: &'t Tree, name: &str) -> Option<&'t Tree> {
    schema.get("properties")?.get(name)
}

fn invariants(schema: &Tree, level: Level, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let ty = text(schema, "type");
    let items = get(schema, "items");
    let (int_or_string, preserves, embedded) = (
        flag(schema, "x-kubernetes-int-or-string"),
        flag(schema, "x-kubernetes-preserve-unknown-fields"),
        flag(schema, "x-kubernetes-embedded-resource"),
    );
    if ty == "array" && items.is_null() {
        errors.push(path.field("items").required("must be specified"));
    }
    if items.is_object() {
        invariants(items, Level::Item, &path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, below) in members(schema) {
        invariants(below, Level::Field, &properties.key(name), errors);
    }
    let additional = get(schema, "additionalProperties");
    if !additional.is_null() {
        let at = path.field("additionalProperties");
        if level == Level::Root {
            errors.push(at.forbidden("must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &at, errors);
        }
    }
    for (name, other) in
        [("x-kubernetes-preserve-unknown-fields", preserves), ("x-kubernetes-embedded-resource", embedded)]
    {
        if int_or_string && other {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(path.field(name).invalid(true, detail));
        }
    }
    let first = list(schema, "allOf").first();
    nested_of(schema, is_int_or_string(schema), first.is_some_and(is_int_or_string), level, path, errors);
    if embedded && ty != "object" {
        let (at, detail) = (path.field("type"), "must be object if x-kubernetes-embedded-resource is true");
        errors.push(if ty.is_empty() { at.required(detail) } else { at.invalid(ty, detail) });
    } else if ty.is_empty() && !int_or_string && !preserves {
        errors.push(path.field("type").required(match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        }));
    }
    if embedded && !additional.is_null() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(path.field("additionalProperties").forbidden(detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(path.field("type").invalid(ty, "must be object at the root"));
    }
    let is_object = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        if let Some(own) = property(schema, name).filter(|own| is_object && text(own, "type") != "string") {
            errors.push(properties.key(name).field("type").invalid(text(own, "type"), "must be string"));
        }
    }
    if let Some(metadata) = property(schema, "metadata") {
        let at = properties.key("metadata");
        if is_object && text(metadata, "type") != "object" {
            errors.push(at.field("type").invalid(text(metadata, "type"), "must be object"));
        }
        if level == Level::Root && !says_names_alone(metadata) {
            errors.push(at.forbidden(
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
    if embedded && !preserves && members(schema).next().is_none() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(path.field("properties").required(detail));
    }
}

/// Whether a schema of metadata is about names alone.
fn says_names_alone(metadata: &Tree) -> bool {
    let names = members(metadata).all(|(name, _)| matches!(name, "name" | "generateName"));
    let rest = metadata.as_object().into_iter().flatten();
    names
        && rest
            .filter(|(key, _)| !matches!(key.as_str(), "properties" | "type" | "default"))
            .all(|(_, value)| unset(value))
}

/// `anyOf` an integer or a string, which `x-kubernetes-int-or-string` may say.
fn is_int_or_string(schema: &Tree) -> bool {
    let types = [("integer", 0), ("string", 1)];
    let any = list(schema, "anyOf");
    let alone = |schema: &Tree| {
        schema.as_object().is_some_and(|object| object.values().filter(|value| !unset(value)).count() == 1)
    };
    any.len() == 2 && types.iter().all(|(ty, place)| text(&any[*place], "type") == *ty && alone(&any[*place]))
}

/// What is below `allOf` and the like. `skip_any`, `skip_first`: where an integer or a string may be distinguished.
fn nested_of(
    schema: &Tree,
    skip_any: bool,
    skip_first: bool,
    level: Level,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && skip_any {
            continue;
        }
        let at = path.field(name);
        for (index, below) in list(schema, name).iter().enumerate() {
            let first = name == "allOf" && index == 0 && skip_first;
            nested(below, first, level, &at.index(index), errors);
        }
    }
    let not = get(schema, "not");
    if not.is_object() {
        nested(not, false, level, &path.field("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Some(error) =
        Some(pattern).filter(|text| !text.is_empty()).and_then(|text| cel::library::re2(text).err())
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(path.field("pattern").invalid(pattern, &detail));
    }
}

fn nested(schema: &Tree, skip_any: bool, level: Level, path: &Path<'_>, errors: &mut Vec<Cause>) {
    nested_of(schema, skip_any, false, level, path, errors);
    let items = get(schema, "items");
    if items.is_object() {
        nested(items, false, level, &path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, below) in members(schema) {
        nested(below, false, Level::Field, &properties.key(name), errors);
    }
    let mut forbidden = |name: &'static str, detail: &str| {
        if schema.get(name).is_some_and(|value| !unset(value)) {
            errors.push(path.field(name).forbidden(detail));
        }
    };
    forbidden("type", "must be empty to be structural");
    if !matches!(get(schema, "additionalProperties"), Tree::Null | Tree::Bool(false)) {
        let at = path.field("additionalProperties");
        errors.push(at.forbidden("must be undefined to be structural"));
    }
    if has(schema, "default") {
        errors.push(path.field("default").forbidden("must be undefined to be structural"));
    }
    let mut forbidden = |name: &'static str, detail: &str| {
        if schema.get(name).is_some_and(|value| !unset(value)) {
            errors.push(path.field(name).forbidden(detail));
        }
    };
    forbidden("title", "must be empty to be structural");
    forbidden("description", "must be empty to be structural");
    forbidden("nullable", "must be false to be structural");
    forbidden("x-kubernetes-preserve-unknown-fields", "must be false to be structural");
    forbidden("x-kubernetes-embedded-resource", "must be false to be structural");
    forbidden("x-kubernetes-int-or-string", "must be false to be structural");
    forbidden("x-kubernetes-list-map-keys", "must be empty to be structural");
    forbidden("x-kubernetes-list-type", "must be undefined to be structural");
    forbidden("x-kubernetes-map-type", "must be undefined to be structural");
    forbidden("x-kubernetes-validations", "must be empty to be structural");
    if property(schema, "metadata").is_some() {
        errors.push(properties.key("metadata").forbidden("must not be specified in a nested context"));
    }
}

/// What `allOf` and the like speak of has its place in the schema itself.
fn complete(checks: &Tree, schema: &Tree, place: &Path<'_>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let not = get(checks, "not");
    if not.is_object() {
        complete_nested(not, Some(schema), place, &path.field("not"), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let at = path.field(name);
        for (index, below) in list(checks, name).iter().enumerate() {
            complete_nested(below, Some(schema), place, &at.index(index), errors);
        }
    }
}

fn complete_nested(
    checks: &Tree,
    schema: Option<&Tree>,
    place: &Path<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let Some(schema) = schema else {
        errors.push(place.required(&format!("because it is defined in {path}")));
        return;
    };
    complete(checks, schema, place, path, errors);
    let items = get(checks, "items");
    if items.is_object() {
        let own = schema.get("items").filter(|items| items.is_object());
        complete_nested(items, own, &place.field("items"), &path.field("items"), errors);
    }
    let (places, paths) = (place.field("properties"), path.field("properties"));
    for (name, below) in members(checks) {
        complete_nested(below, property(schema, name), &places.key(name), &paths.key(name), errors);
    }
}
