//! Whether a definition can be served: names, versions, conversion, and the schemas of its versions. What is wrong is named
//! after the form that all versions of definitions are converted to, which has at the top what the versions share.

mod approval;
mod conditions;
mod conversion;
mod names;
mod paths;
mod schemas;
mod structural;
mod versions;
mod walk;

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names::dns1035_label;

use crate::strategy::Context;
use crate::tree::{flag, get, has, list, text, texts};

pub use approval::{Approval, approval};
pub use conditions::{Condition, FINALIZER, is_true, set_condition};
pub(super) use paths::field_path;
pub use structural::{is_structural, violations};
pub use versions::warnings;

/// What of an old definition lets a new one be as bad.
#[derive(Clone, Copy)]
pub(super) struct Strictness {
    conversion_versions: bool,
    open_api_schema: bool,
    property_types: bool,
    structural: bool,
    pruned_defaults: bool,
    atomic_sets: bool,
    list_keys: bool,
}

impl Strictness {
    const FULL: Strictness = Strictness {
        conversion_versions: true,
        open_api_schema: true,
        property_types: true,
        structural: true,
        pruned_defaults: true,
        atomic_sets: true,
        list_keys: true,
    };

    /// What an update of this spec must still be.
    fn of_update(old: &Tree) -> Strictness {
        let schemas: Vec<&Tree> = walk::schemas(old).collect();
        let all = |holds: fn(&Tree) -> bool| schemas.iter().all(|schema| walk::all(schema, &holds));
        let known: Vec<&str> = texts(old, "conversion.conversionReviewVersions").collect();
        let versions = list(old, "versions").iter();
        Strictness {
            conversion_versions: known.is_empty()
                || known.iter().any(|version| conversion::is_known(version)),
            open_api_schema: has(old, "validation.openAPIV3Schema")
                || versions.clone().all(|version| has(version, "schema.openAPIV3Schema")),
            property_types: all(walk::has_known_type),
            structural: schemas.iter().all(|schema| structural::is_structural(schema)),
            pruned_defaults: schemas.iter().all(|schema| schemas::has_pruned_defaults(schema)),
            atomic_sets: all(|schema| !walk::is_set_of_parts(schema)),
            list_keys: all(|schema| {
                let mut errors = Vec::new();
                walk::list_keys(schema, &Path::root(), &mut errors);
                errors.is_empty()
            }),
        }
    }
}

/// The definition in the form that errors speak of.
fn internal(definition: &Tree) -> Tree {
    let mut tree = definition.clone();
    api::convert::share_versions(&mut tree);
    tree
}

/// Checks a definition, or what an update makes of one.
pub fn check(_: &Context<'_>, definition: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (new, before) = (internal(definition), old.map(internal));
    let spec = get(&new, "spec");
    let full_name = format!("{}.{}", text(spec, "names.plural"), text(spec, "group"));
    let name = text(&new, "metadata.name");
    if old.is_none() && name != full_name {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Path::new("metadata.name").invalid(name, detail));
    }
    let strictness = before.as_ref().map_or(Strictness::FULL, |old| Strictness::of_update(get(old, "spec")));
    spec_of(spec, before.as_ref(), strictness, errors);
    if let Some(before) = &before {
        let established = is_true(before, "Established");
        let fixed = |field: &'static str, errors: &mut Vec<Cause>| {
            if text(spec, field) != text(before, &format!("spec.{field}")) {
                errors.push(Path::new("spec").field(field).invalid(text(spec, field), "field is immutable"));
            }
        };
        if established {
            fixed("scope", errors);
            fixed("names.kind", errors);
        }
        fixed("group", errors);
        fixed("names.plural", errors);
    }
    names::of(get(&new, "status.acceptedNames"), &Path::new("status.acceptedNames"), errors);
    versions::stored(get(&new, "status.storedVersions"), list(spec, "versions"), errors);
    approval::check(&new, before.as_ref(), errors);
    let preserved = before.as_ref().is_some_and(|old| flag(old, "spec.preserveUnknownFields"));
    if flag(spec, "preserveUnknownFields") && !preserved {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Path::new("spec.preserveUnknownFields").invalid(true, detail));
    }
}

/// Checks an update of a definition's status.
pub fn check_status(_: &Context<'_>, definition: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    names::of(get(definition, "status.acceptedNames"), &Path::new("status.acceptedNames"), errors);
}

fn spec_of(spec: &Tree, old: Option<&Tree>, mut strictness: Strictness, errors: &mut Vec<Cause>) {
    let path = Path::new("spec");
    let group = text(spec, "group");
    let problems = machinery::names::dns1123_subdomain(group);
    match group {
        "" => errors.push(path.field("group").required("")),
        _ if !problems.is_empty() => errors.push(path.field("group").invalid(group, &problems.join(","))),
        group if !group.contains('.') => {
            errors.push(path.field("group").invalid(group, "should be a domain with at least one dot"));
        }
        _ => {}
    }
    match text(spec, "scope") {
        "" => errors.push(path.field("scope").required("")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(path.field("scope").not_supported(other, &["Cluster", "Namespaced"])),
    }
    let preserves = flag(spec, "preserveUnknownFields");
    strictness.structural |= !preserves;
    let versions = list(spec, "versions");
    if !has(spec, "validation.openAPIV3Schema") {
        for (index, version) in versions.iter().enumerate() {
            let at = path.field("versions");
            let at = at.index(index);
            let bare = !has(version, "schema.openAPIV3Schema");
            if bare && strictness.open_api_schema {
                errors.push(at.field("schema.openAPIV3Schema").required(""));
            } else if bare && !preserves && flag(version, "served") {
                let detail = "because otherwise all fields are pruned";
                errors.push(at.field("schema.openAPIV3Schema").required(detail));
            }
        }
    }
    let any = |holds: fn(&Tree) -> bool| walk::schemas(spec).any(|schema| walk::any(schema, &holds));
    if any(|schema| has(schema, "default")) {
        strictness.structural = true;
        if preserves {
            let detail = "must be false in order to use defaults in the schema";
            errors.push(path.field("preserveUnknownFields").invalid(true, detail));
        }
    }
    strictness.structural |= any(walk::has_extensions);
    versions::check(spec, old, strictness, errors);
    for required in ["plural", "singular", "kind", "listKind"] {
        if text(spec, &format!("names.{required}")).is_empty() {
            errors.push(path.field("names").field(required).required(""));
        }
    }
    names::of(get(spec, "names"), &path.field("names"), errors);
    versions::shared(spec, old, strictness, errors);
    let strategy = text(spec, "conversion.strategy");
    if !matches!(strategy, "" | "None") && preserves {
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(path.field("conversion.strategy").invalid(strategy, detail));
    }
    let established = old.is_some_and(|old| is_true(old, "Established"));
    let bad_before = old.is_some_and(|old| conversion::has_bad_authority(get(old, "spec.conversion")));
    let any_authority = !established || bad_before;
    conversion::check(get(spec, "conversion"), strictness.conversion_versions, any_authority, errors);
}

fn label(text: &str) -> Option<String> {
    let problems = dns1035_label(text);
    (!text.is_empty() && !problems.is_empty()).then(|| problems.join(","))
}
