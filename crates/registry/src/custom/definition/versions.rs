//! The versions of a definition, and what they share.

use api::Tree;
use api::status::Cause;
use machinery::bounds::Seen;
use machinery::fieldpath::{Path, Shown};
use machinery::names::dns1035_label;

use super::{Strictness, paths, schemas, walk};
use crate::custom::formats;
use crate::tree::{flag, get, has, list, text};

/// Checks the versions of a spec.
pub(super) fn check(spec: &Tree, old: Option<&Tree>, strictness: Strictness, errors: &mut Vec<Cause>) {
    let path = Path::new("spec.versions");
    let versions = list(spec, "versions");
    let per_version = versions.iter().any(|version| has(version, "subresources"));
    for (index, version) in versions.iter().enumerate() {
        let at = path.index(index);
        let name = text(version, "name");
        let problems = dns1035_label(name);
        if !problems.is_empty() {
            errors.push(at.field("name").invalid(name, &problems.join(",")));
        }
        deprecation(version, &at.field("deprecationWarning"), errors);
        let status =
            if per_version { has(version, "subresources.status") } else { has(spec, "subresources.status") };
        let schema = get(version, "schema");
        schemas::check(schema, &schemas_of(old), status, strictness, &at.field("schema"), errors);
        paths::subresources(get(version, "subresources"), &at.field("subresources"), errors);
        columns(list(version, "additionalPrinterColumns"), &at.field("additionalPrinterColumns"), errors);
        let fields = list(version, "selectableFields");
        if !fields.is_empty() {
            let at = at.field("selectableFields");
            if has(schema, "openAPIV3Schema") {
                let many = old.is_some_and(|old| {
                    let before = list(old, "spec.versions").iter().find(|old| text(old, "name") == name);
                    before.is_some_and(|before| list(before, "selectableFields") == fields)
                });
                paths::selectable(fields, get(schema, "openAPIV3Schema"), &at, many, errors);
            } else {
                let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
                errors.push(at.invalid("", detail));
            }
        }
    }
    exclusive(spec, versions, errors);
    let mut seen = Seen::new();
    if versions.iter().any(|version| seen.repeats(text(version, "name"))) {
        errors.push(path.invalid(shown(versions), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(path.invalid(shown(versions), detail));
    }
    let version = text(spec, "version");
    if !version.is_empty() {
        let path = Path::new("spec.version");
        let problems = dns1035_label(version);
        if !problems.is_empty() {
            errors.push(path.invalid(version, &problems.join(",")));
        }
        if versions.first().is_some_and(|first| text(first, "name") != version) {
            errors.push(path.invalid(version, "must match the first version in spec.versions"));
        }
    }
}

/// The schemas that a definition has.
fn schemas_of(definition: Option<&Tree>) -> Vec<&Tree> {
    definition.map(|definition| walk::schemas(get(definition, "spec")).collect()).unwrap_or_default()
}

/// Versions as errors show them, whatever they share apart.
fn shown(versions: &[Tree]) -> Shown<'static> {
    const FIELDS: [(&str, &str); 9] = [
        ("Name", "name"),
        ("Served", "served"),
        ("Storage", "storage"),
        ("Deprecated", "deprecated"),
        ("DeprecationWarning", "deprecationWarning"),
        ("Schema", "schema"),
        ("Subresources", "subresources"),
        ("AdditionalPrinterColumns", "additionalPrinterColumns"),
        ("SelectableFields", "selectableFields"),
    ];
    let form = |version: &Tree| {
        let field = |(shown, name): &(&'static str, &str)| {
            let default = if *shown == "Deprecated" { Tree::Bool(false) } else { Tree::Null };
            (*shown, version.get(name).cloned().unwrap_or(default))
        };
        FIELDS.iter().map(field).collect::<api::tree::Object>()
    };
    let all: Tree = versions.iter().map(form).map(Tree::Object).collect::<Vec<_>>().into();
    Shown::Plain(String::from_utf8_lossy(&api::json::to_vec(&all)).into_owned())
}

/// What stands at the top does not stand in a version, too.
fn exclusive(spec: &Tree, versions: &[Tree], errors: &mut Vec<Cause>) {
    let shared = [
        ("validation", "schema", "top-level and per-version schemas are mutually exclusive"),
        ("subresources", "subresources", "top-level and per-version subresources are mutually exclusive"),
        (
            "additionalPrinterColumns",
            "additionalPrinterColumns",
            "top-level and per-version additionalPrinterColumns are mutually exclusive",
        ),
    ];
    for (top, own, detail) in shared {
        if has(spec, top) && versions.iter().any(|version| has(version, own)) {
            errors.push(Path::new("spec").field(top).forbidden(detail));
        }
    }
}

/// Checks what the versions share.
pub(super) fn shared(spec: &Tree, old: Option<&Tree>, strictness: Strictness, errors: &mut Vec<Cause>) {
    let path = Path::new("spec");
    let any_status = has(spec, "subresources.status")
        || list(spec, "versions").iter().any(|version| has(version, "subresources.status"));
    schemas::check(
        get(spec, "validation"),
        &schemas_of(old),
        any_status,
        strictness,
        &path.field("validation"),
        errors,
    );
    paths::subresources(get(spec, "subresources"), &path.field("subresources"), errors);
    columns(list(spec, "additionalPrinterColumns"), &path.field("additionalPrinterColumns"), errors);
    let fields = list(spec, "selectableFields");
    if !fields.is_empty() {
        let at = path.field("selectableFields");
        if has(spec, "validation") {
            let many = old.is_some_and(|old| list(old, "spec.selectableFields") == fields);
            paths::selectable(fields, get(spec, "validation.openAPIV3Schema"), &at, many, errors);
        } else {
            errors.push(at.invalid("", "may only be set when validations.schema is included"));
        }
    }
}

fn deprecation(version: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let Some(Tree::String(warning)) = version.get("deprecationWarning") else { return };
    let mut report = |detail: &str| errors.push(path.invalid(warning, detail));
    if !flag(version, "deprecated") {
        report("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        report("must be <= 256 characters long");
    }
    if warning.is_empty() {
        report("must not be an empty string");
    }
    let odd = warning.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '));
    if let Some((index, _)) = odd {
        report(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
}

fn columns(columns: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in columns.iter().enumerate() {
        let at = path.index(index);
        if text(column, "name").is_empty() {
            errors.push(at.field("name").required(""));
        }
        let (ty, one_of) = (text(column, "type"), format!("must be one of {}", TYPES.join(",")));
        if ty.is_empty() {
            errors.push(at.field("type").required(&one_of));
        } else if !TYPES.contains(&ty) {
            errors.push(at.field("type").invalid(ty, &one_of));
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.push(at.field("format").invalid(format, &format!("must be one of {}", FORMATS.join(","))));
        }
        let json_path = text(column, "JSONPath");
        if json_path.is_empty() {
            errors.push(at.field("JSONPath").required(""));
        } else {
            paths::simple(json_path, &at.field("JSONPath"), errors);
        }
    }
}

/// The storage version is among the stored ones, and each of these is still a version.
pub(super) fn stored(stored: &Tree, versions: &[Tree], errors: &mut Vec<Cause>) {
    let path = Path::new("status.storedVersions");
    let names = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    if names.is_empty() {
        errors.push(path.invalid(&Tree::Null, "must have at least one stored version"));
        return;
    }
    let storage =
        versions.iter().filter(|version| flag(version, "storage")).map(|version| text(version, "name"));
    for name in storage.filter(|name| !names.iter().any(|stored| *stored == **name)) {
        errors.push(path.invalid(stored, &format!("must have the storage version {name}")));
    }
    for (index, name) in names.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !versions.iter().any(|version| text(version, "name") == name) {
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(path.index(index).invalid(name, &detail));
        }
    }
}

/// Warnings about the schemas of a definition; of an update, those that the old one did not cause.
pub fn warnings(definition: &Tree, old: Option<&Tree>) -> Vec<String> {
    let formats = |definition: &Tree| {
        let mut found = Vec::new();
        for schema in walk::schemas(get(definition, "spec")) {
            walk::each(schema, &mut |schema| {
                let (format, ty) = (text(schema, "format"), text(schema, "type"));
                if !format.is_empty() && !formats::is_known(format, ty) {
                    found.push(format!("unrecognized format {format:?}"));
                }
            });
        }
        found
    };
    let sets = |definition: &Tree| {
        let mut found = std::collections::BTreeSet::new();
        for schema in walk::schemas(get(definition, "spec")) {
            walk::each(schema, &mut |schema| {
                let ty = text(schema, "items.type");
                if text(schema, "x-kubernetes-list-type") == "set" && matches!(ty, "object" | "array") {
                    found.insert(format!(
                        "x-kubernetes-list-type: set for items of type {ty:?} is not supported by server-side apply or CEL validation rules"
                    ));
                }
            });
        }
        found.into_iter().collect::<Vec<_>>()
    };
    let mut known: Seen<String> = Seen::new();
    if let Some(old) = old {
        formats(old).into_iter().chain(sets(old)).for_each(|warning| _ = known.repeats(warning));
    }
    formats(definition)
        .into_iter()
        .chain(sets(definition))
        .filter(|warning| !known.contains(warning))
        .collect()
}
