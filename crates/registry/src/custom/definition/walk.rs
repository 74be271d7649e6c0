//! A schema as a definition has it, and what can be asked of all the schemas in it.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::tree::{flag, get, has, list, text, texts};

/// The outermost schemas of a spec, whether its versions share one or have their own.
pub(super) fn schemas(spec: &Tree) -> impl Iterator<Item = &Tree> {
    let shared = get(spec, "validation.openAPIV3Schema");
    let own = list(spec, "versions").iter().map(|version| get(version, "schema.openAPIV3Schema"));
    std::iter::once(shared).chain(own).filter(|schema| schema.is_object())
}

/// The schemas right below one, whatever they are there for.
fn below(schema: &Tree) -> impl Iterator<Item = &Tree> {
    let maps = ["properties", "patternProperties", "definitions", "dependencies"];
    let lists = ["allOf", "anyOf", "oneOf"];
    let single = ["not", "additionalProperties", "additionalItems", "items"];
    let of_maps =
        maps.into_iter().filter_map(|name| schema.get(name)?.as_object()).flat_map(|map| map.values());
    let of_lists = lists.into_iter().flat_map(|name| list(schema, name));
    let singles = single.into_iter().filter_map(|name| schema.get(name));
    let items = list(schema, "items");
    of_maps.chain(of_lists).chain(singles).chain(items).filter(|schema| schema.is_object())
}

/// Visits a schema and all in it.
pub(super) fn each(schema: &Tree, visit: &mut dyn FnMut(&Tree)) {
    visit(schema);
    below(schema).for_each(|schema| each(schema, visit));
}

/// Whether something holds for a schema or one in it.
pub(super) fn any(schema: &Tree, holds: &dyn Fn(&Tree) -> bool) -> bool {
    holds(schema) || below(schema).any(|schema| any(schema, holds))
}

pub(super) fn all(schema: &Tree, holds: &dyn Fn(&Tree) -> bool) -> bool {
    !any(schema, &|schema| !holds(schema))
}

/// Whether it says something that only structural schemas may say.
pub(super) fn has_extensions(schema: &Tree) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
        || has(schema, "x-kubernetes-preserve-unknown-fields")
        || flag(schema, "x-kubernetes-int-or-string")
        || !list(schema, "x-kubernetes-list-map-keys").is_empty()
        || has(schema, "x-kubernetes-list-type")
        || !list(schema, "x-kubernetes-validations").is_empty()
}

pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

pub(super) fn has_known_type(schema: &Tree) -> bool {
    text(schema, "type").is_empty() || TYPES.contains(&text(schema, "type"))
}

/// Whether it is a set of lists or maps that are merged part by part.
pub(super) fn is_set_of_parts(schema: &Tree) -> bool {
    text(schema, "x-kubernetes-list-type") == "set"
        && match text(schema, "items.type") {
            "array" => !matches!(text(schema, "items.x-kubernetes-list-type"), "" | "atomic"),
            "object" => text(schema, "items.x-kubernetes-map-type") != "atomic",
            _ => false,
        }
}

/// The keys of a list that is a map are there, and neither they nor its items are null.
pub(super) fn list_keys(schema: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (items, ty) = (get(schema, "items"), text(schema, "x-kubernetes-list-type"));
    if !items.is_object() || !matches!(ty, "set" | "map") {
        return;
    }
    let at = path.field("items");
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {ty}");
        errors.push(at.field("nullable").forbidden(&detail));
    }
    if ty != "map" {
        return;
    }
    let at = at.field("properties");
    for key in texts(schema, "x-kubernetes-list-map-keys") {
        let Some(property) = items.get("properties").and_then(|properties| properties.get(key)) else {
            continue;
        };
        let place = at.key(key);
        if !texts(items, "required").any(|required| required == key) && !has(property, "default") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(place.field("default").required(detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(place.field("nullable").forbidden(detail));
        }
    }
}
