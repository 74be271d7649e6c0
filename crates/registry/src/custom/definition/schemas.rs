//! The schema of a version: what OpenAPI's schemas may say in a definition, and whether defaults are good values.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;

use super::{Strictness, paths, structural, walk};
use crate::custom::schema::{Additional, Schema};
use crate::custom::{embedded, expressions, values};
use crate::tree::{flag, get, has, list, text, texts, unset};

/// What the outermost schema of a kind with a status subresource may say, in the order in which it is named.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Checks a schema and all in it; `old` has the schemas of the definition before an update.
pub(super) fn check(
    validation: &Tree,
    old: &[&Tree],
    status: bool,
    strictness: Strictness,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let schema = get(validation, "openAPIV3Schema");
    if !schema.is_object() || is_full(errors) {
        return;
    }
    let before = errors.len();
    let at = path.field("openAPIV3Schema");
    if status {
        root(schema, &at, errors);
    }
    if flag(schema, "nullable") {
        errors.push(at.field("nullable").forbidden("nullable cannot be true at the root"));
    }
    let unsupported = structural::unsupported(schema).filter(|_| strictness.structural);
    if strictness.structural && unsupported.is_none() {
        let problems = structural::problems(schema, &at);
        if problems.is_empty() {
            defaults(schema, strictness, &at, errors);
        } else {
            errors.extend(problems);
        }
    }
    Walk { strictness, errors }.schema(schema, &at, Place { root: true, ..Place::default() });
    if errors.len() > before {
        return;
    }
    match unsupported {
        Some(problem) => errors.push(at.invalid("", &problem)),
        None if strictness.structural => expressions::check_definition(schema, old, &at, errors),
        None => {}
    }
}

fn root(schema: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let ty = text(schema, "type");
    let set = schema.as_object().into_iter().flatten().filter(|(_, value)| !unset(value));
    for (name, _) in set {
        if name == "type" && ty != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            errors.push(path.field("type").invalid(ty, detail));
            return;
        }
        if !AT_ROOT.iter().any(|(_, own)| own == name) {
            let names: Vec<&str> = AT_ROOT.iter().map(|(name, _)| *name).collect();
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            );
            errors.push(path.invalid(schema, &detail));
            return;
        }
    }
}

/// Where a schema stands.
#[derive(Clone, Copy, Default)]
struct Place<'p> {
    root: bool,
    /// In kind, apiVersion or metadata.
    in_metadata: bool,
    /// Why there may be no default.
    no_default: Option<&'p str>,
}

struct Walk<'w> {
    strictness: Strictness,
    errors: &'w mut Vec<Cause>,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Tree, path: &Path<'_>, place: Place<'_>) {
        if !schema.is_object() || is_full(self.errors) {
            return;
        }
        self.plain(schema, path, place);
        let inside = Place { root: false, ..place };
        let additional = get(schema, "additionalProperties");
        if !additional.is_null() {
            let at = path.field("additionalProperties");
            let properties = get(schema, "properties").as_object().is_some_and(|own| !own.is_empty());
            if properties && *additional != Tree::Bool(true) {
                self.errors.push(at.forbidden("additionalProperties and properties are mutual exclusive"));
            }
            let reason = Some("inside additionalProperties applying to object metadata");
            let below =
                Place { no_default: if place.in_metadata { reason } else { place.no_default }, ..inside };
            self.schema(additional, &at, below);
        }
        let properties = path.field("properties");
        for (name, below) in get(schema, "properties").as_object().into_iter().flatten() {
            let embedded = flag(schema, "x-kubernetes-embedded-resource");
            let meta = matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
            let in_metadata = place.in_metadata || meta && (place.root || embedded);
            let reason = format!("in top-level {name}");
            let no_default = if meta && place.root { Some(reason.as_str()) } else { place.no_default };
            self.schema(below, &properties.key(name), Place { root: false, in_metadata, no_default });
        }
        self.schema(get(schema, "not"), &path.field("not"), inside);
        for name in ["allOf", "oneOf", "anyOf"] {
            let at = path.field(name);
            for (index, below) in list(schema, name).iter().enumerate() {
                self.schema(below, &at.index(index), inside);
            }
        }
        for name in ["definitions", "dependencies"] {
            let at = path.field(name);
            for (key, below) in get(schema, name).as_object().into_iter().flatten() {
                self.schema(below, &at.key(key), inside);
            }
        }
        let items = get(schema, "items");
        self.schema(items, &path.field("items"), inside);
        let at = path.field("items");
        for (index, below) in items.as_array().into_iter().flatten().enumerate() {
            self.schema(below, &at.index(index), inside);
        }
        self.extensions(schema, path);
        self.list_map(schema, path);
        if self.strictness.list_keys {
            walk::list_keys(schema, path, self.errors);
        }
        for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
            let at = path.field("x-kubernetes-validations");
            rule_text(rule, schema, &at.index(index), self.errors);
        }
    }

    /// What a schema may not say.
    fn plain(&mut self, schema: &Tree, path: &Path<'_>, place: Place<'_>) {
        let ty = text(schema, "type");
        let errors = &mut *self.errors;
        if self.strictness.property_types && !ty.is_empty() && !walk::TYPES.contains(&ty) {
            errors.push(path.field("type").not_supported(ty, &walk::TYPES));
        }
        if let Some(reason) = place.no_default.filter(|_| has(schema, "default")) {
            errors.push(path.field("default").forbidden(&format!("must not be set {reason}")));
        }
        let set = |name: &str| schema.get(name).is_some_and(|value| !unset(value));
        if set("id") {
            errors.push(path.field("id").forbidden("id is not supported"));
        }
        if has(schema, "additionalItems") {
            errors.push(path.field("additionalItems").forbidden("additionalItems is not supported"));
        }
        if set("patternProperties") {
            errors.push(path.field("patternProperties").forbidden("patternProperties is not supported"));
        }
        if set("definitions") {
            errors.push(path.field("definitions").forbidden("definitions is not supported"));
        }
        if has(schema, "dependencies") {
            errors.push(path.field("dependencies").forbidden("dependencies is not supported"));
        }
        if has(schema, "$ref") {
            errors.push(path.field("$ref").forbidden("$ref is not supported"));
        }
        if ty == "null" {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.push(path.field("type").forbidden(detail));
        }
        if !list(schema, "items").is_empty() {
            errors.push(path.field("items").forbidden("items must be a schema object and not an array"));
        }
        if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
            let detail = "must not be used inside of resource meta";
            errors.push(path.field("x-kubernetes-embedded-resource").forbidden(detail));
        }
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(path.field("uniqueItems").forbidden(detail));
        }
    }

    fn extensions(&mut self, schema: &Tree, path: &Path<'_>) {
        let errors = &mut *self.errors;
        let ty = text(schema, "type");
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Tree::Bool(false)) {
            let at = path.field("x-kubernetes-preserve-unknown-fields");
            errors.push(at.invalid(false, "must be true or undefined"));
        }
        let mut of_type = |name: &str, wanted: &str| {
            if has(schema, name) && ty != wanted {
                let (at, detail) = (path.field("type"), format!("must be {wanted} if {name} is specified"));
                errors.push(if ty.is_empty() { at.required(&detail) } else { at.invalid(ty, &detail) });
                return false;
            }
            true
        };
        of_type("x-kubernetes-map-type", "object");
        let is_list = of_type("x-kubernetes-list-type", "array");
        if let Some(Tree::String(map)) = schema.get("x-kubernetes-map-type")
            && !matches!(map.as_str(), "atomic" | "granular")
        {
            errors.push(path.field("x-kubernetes-map-type").not_supported(map, &["atomic", "granular"]));
        }
        if is_list && self.strictness.atomic_sets && walk::is_set_of_parts(schema) {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let own = get(schema, "items").get("x-kubernetes-list-type");
            let name = match text(schema, "items.type") {
                "array" => "x-kubernetes-list-type",
                _ => "x-kubernetes-map-type",
            };
            errors.push(path.field("items").field(name).invalid(own, detail));
        }
    }

    fn list_map(&mut self, schema: &Tree, path: &Path<'_>) {
        let errors = &mut *self.errors;
        let own = schema.get("x-kubernetes-list-type").and_then(Tree::as_str);
        let (at, keys_at) = (path.field("x-kubernetes-list-type"), path.field("x-kubernetes-list-map-keys"));
        if let Some(ty) = own.filter(|ty| !matches!(*ty, "atomic" | "set" | "map")) {
            errors.push(at.not_supported(ty, &["atomic", "set", "map"]));
        }
        let keys = list(schema, "x-kubernetes-list-map-keys");
        if !keys.is_empty() && own != Some("map") {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(own.map_or_else(|| at.required(detail), |ty| at.invalid(ty, detail)));
        }
        if own != Some("map") {
            return;
        }
        if keys.is_empty() {
            errors.push(keys_at.required("must not be empty if x-kubernetes-list-type is map"));
        }
        let (items, items_at) = (get(schema, "items"), path.field("items"));
        if items.is_null() {
            errors.push(items_at.required("must have a schema if x-kubernetes-list-type is map"));
            return;
        }
        if !items.is_object() {
            errors.push(
                items_at.invalid(items, "must only have a single schema if x-kubernetes-list-type is map"),
            );
            return;
        }
        let ty = text(items, "type");
        if ty != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            errors.push(items_at.field("type").invalid(ty, detail));
            return;
        }
        let mut seen = Seen::new();
        for key in texts(schema, "x-kubernetes-list-map-keys") {
            match get(items, "properties").get(key) {
                Some(property) if matches!(text(property, "type"), "array" | "object") => {
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let at = items_at.field("properties");
                    errors.push(at.key(key).field("type").invalid(ty, detail));
                }
                Some(_) => {}
                None => {
                    let keys = get(schema, "x-kubernetes-list-map-keys");
                    errors.push(keys_at.invalid(keys, "entries must all be names of item properties"));
                }
            }
            if seen.repeats(key) {
                let keys = get(schema, "x-kubernetes-list-map-keys");
                errors.push(keys_at.invalid(keys, "must not contain duplicate entries"));
            }
        }
    }
}

/// The texts of a rule, whatever its expression means.
fn rule_text(rule: &Tree, schema: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
    if expression.is_empty() {
        errors.push(path.field("rule").required("rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(path.field("message").invalid(message, "must be non-empty if specified"));
    } else if breaks(message.trim()) {
        errors.push(path.field("message").invalid(message, "must not contain line breaks"));
    } else if breaks(expression) && message.trim().is_empty() {
        let detail = "message must be specified if rule contains line breaks";
        errors.push(path.field("message").required(detail));
    }
    let message_expression = text(rule, "messageExpression");
    if !message_expression.is_empty() && message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(path.field("messageExpression").required(detail));
    }
    if let Some(Tree::String(reason)) = rule.get("reason")
        && !REASONS.contains(&reason.as_str())
    {
        errors.push(path.field("reason").not_supported(reason, &REASONS));
    }
    let field_path = text(rule, "fieldPath");
    let at = path.field("fieldPath");
    if !field_path.is_empty() {
        if field_path.trim().is_empty() {
            errors.push(at.invalid(field_path, "must be non-empty if specified"));
        }
        if breaks(field_path) {
            errors.push(at.invalid(field_path, "must not contain line breaks"));
        }
        if structural::unsupported(schema).is_none() && paths::leads_to(field_path, schema, true).is_err() {
            errors.push(at.invalid(field_path, "must be a valid path"));
        }
    }
}

/// Whether no default of a schema has fields that the schema does not know.
pub(super) fn has_pruned_defaults(schema: &Tree) -> bool {
    let has_defaults = walk::any(schema, &|schema| has(schema, "default"));
    !has_defaults || !structural::is_structural(schema) || {
        let schema = Schema::of(schema);
        !has_unknown_defaults(&schema)
    }
}

fn has_unknown_defaults(schema: &Schema) -> bool {
    schema.default.as_deref().is_some_and(|default| has_unknown(default, Some(schema)))
        || schema.properties.values().chain(schema.items.as_deref()).any(has_unknown_defaults)
}

/// Whether the schema would drop something of a value.
fn has_unknown(value: &Tree, schema: Option<&Schema>) -> bool {
    match value {
        Tree::Object(object) => object.iter().any(|(name, value)| {
            let Some(schema) = schema else { return true };
            if schema.embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                return false;
            }
            match (schema.properties.get(name.as_str()), &schema.additional) {
                (Some(below), _) => has_unknown(value, Some(below)),
                (None, Some(Additional::Schema(below))) => has_unknown(value, Some(below)),
                (None, Some(Additional::Any(_))) => !schema.preserves && has_unknown(value, None),
                (None, None) => !schema.preserves,
            }
        }),
        Tree::Array(items) => {
            let below = schema.and_then(|schema| schema.items.as_deref());
            let kept = below.is_none() && schema.is_some_and(|schema| schema.preserves);
            !kept && items.iter().any(|item| has_unknown(item, below))
        }
        _ => false,
    }
}

/// Checks that defaults are values that their schema accepts.
fn defaults(schema: &Tree, strictness: Strictness, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if walk::any(schema, &|schema| has(schema, "default")) {
        let schema = Schema::of(schema);
        default_of(&schema, strictness, false, true, path, errors);
    }
}

fn default_of(
    schema: &Schema,
    strictness: Strictness,
    in_metadata: bool,
    root: bool,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    if is_full(errors) {
        return;
    }
    let embedded = schema.embedded || root;
    let in_metadata = in_metadata && !schema.embedded;
    if let Some(default) = schema.default.as_deref() {
        let at = path.field("default");
        if !in_metadata && strictness.pruned_defaults && has_unknown(default, Some(schema)) {
            errors.push(at.invalid(default, "must not have unknown fields"));
        }
        let before = errors.len();
        embedded::check(schema, default, &at, errors);
        if errors.len() == before {
            values::check(schema, default, None, &at.to_string(), errors);
        }
    }
    if let Some(items) = &schema.items {
        default_of(items, strictness, in_metadata, false, &path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, below) in &schema.properties {
        let meta = embedded && matches!(&**name, "metadata" | "apiVersion" | "kind");
        default_of(below, strictness, in_metadata || meta, false, &properties.key(name), errors);
    }
}
