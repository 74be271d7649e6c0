//! Storage version migrations: a resource whose objects are to be written again.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::internal;
use crate::kinds::conditions;
use crate::profile::{ALL_METADATA, Profile};
use crate::strategy::Context;
use crate::tree::{get, list, same, text};

pub(super) const PROFILES: &[Profile] = &[Profile {
    status: true,
    status_keeps: ALL_METADATA,
    unconditional_update: false,
    check: Some(check),
    check_status: Some(check_status),
    full: true,
    ..Profile::new("storagemigration.k8s.io", "storageversionmigrations")
}];

fn check(_: &Context<'_>, migration: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec.resource");
    let resource = text(migration, "spec.resource.resource");
    if resource.is_empty() {
        errors.push(path.field("resource").required("resource is required to be set"));
    } else {
        together(resource, &names::dns1035_label(resource), &path.field("resource"), errors);
    }
    let group = text(migration, "spec.resource.group");
    if !group.is_empty() {
        together(group, &names::dns1123_subdomain(group), &path.field("group"), errors);
    }
    if let Some(old) = old
        && !same(get(migration, "spec"), get(old, "spec"))
    {
        let shown =
            internal::shown(get(migration, "spec"), "storagemigration.v1.StorageVersionMigrationSpec");
        errors.push(Path::new("spec").invalid(shown, "field is immutable"));
    }
}

/// All that is wrong with a value as one complaint.
fn together(value: &str, problems: &[String], path: &Path<'_>, errors: &mut Vec<Cause>) {
    if !problems.is_empty() {
        errors.push(path.invalid(value, &problems.join(",")));
    }
}

fn check_status(_: &Context<'_>, migration: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let version = text(migration, "status.resourceVersion");
    let path = Path::new("status");
    if let Some(problem) = version_problem(version) {
        errors.push(path.field("resourceVersion").invalid(version, &problem));
    }
    let (own, at) = (list(migration, "status.conditions"), path.field("conditions"));
    conditions::check(own, &at, errors);
    let before = text(old, "status.resourceVersion");
    if !before.is_empty() && before != version {
        errors.push(path.field("resourceVersion").invalid(version, "field is immutable"));
    }
    let done = |object: &Tree, kind: &str| conditions::is(list(object, "status.conditions"), kind, "True");
    let shown = get(migration, "status.conditions");
    if done(migration, "Succeeded") && done(migration, "Failed") {
        let detail = "Both success and failed conditions cannot be true at the same time";
        errors.push(at.invalid(shown, detail));
    }
    for (kind, name) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if done(old, kind) && !done(migration, kind) {
            let detail = format!("{name} condition cannot be set to false once it is true");
            errors.push(at.invalid(shown, &detail));
        }
    }
}

/// A resource version is a number without leading zeros, or not given.
fn version_problem(version: &str) -> Option<String> {
    let number = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
    (!version.is_empty() && !number).then(|| format!("resource version is not well formed: {version}"))
}
