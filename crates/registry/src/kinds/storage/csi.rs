//! Volumes of CSI drivers, and what the drivers and their nodes say of themselves.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::kinds::volume::driver_name;
use crate::rules;
use crate::strategy::Context;
use crate::tree::{get, has, int, list, number, same, text, texts};

/// `spec.csi` of a persistent volume.
pub(super) fn volume(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    driver_name(text(source, "driver"), &path.field("driver"), errors);
    if text(source, "volumeHandle").is_empty() {
        errors.push(path.field("volumeHandle").required(""));
    }
    for secret in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = get(source, secret);
        for field in ["name", "namespace"] {
            if !reference.is_null() && text(reference, field).is_empty() {
                errors.push(path.field(secret).field(field).required(""));
            }
        }
    }
}

static SPEC: Path<'static> = Path::new("spec");

pub(super) fn driver(_: &Context<'_>, driver: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(driver, "spec");
    if let Some(old) = old {
        for field in ["attachRequired", "fsGroupPolicy", "volumeLifecycleModes"] {
            if !same(get(spec, field), get(get(old, "spec"), field)) {
                errors.push(SPEC.field(field).invalid(get(spec, field), "field is immutable"));
            }
        }
    }
    for mode in texts(spec, "volumeLifecycleModes") {
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let at = SPEC.field("volumeLifecycleModes");
            errors.push(at.not_supported(mode, &["Persistent", "Ephemeral"]));
        }
    }
    rules::one_of(spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], &SPEC, errors);
    let tokens = list(spec, "tokenRequests");
    let all = SPEC.field("tokenRequests");
    for (index, token) in tokens.iter().enumerate() {
        let (at, audience) = (all.index(index), text(token, "audience"));
        if tokens[..index].iter().any(|other| text(other, "audience") == audience) {
            errors.push(at.field("audience").duplicate(audience));
            continue;
        }
        let Some(seconds) = int(token, "expirationSeconds") else { continue };
        let at = at.field("expirationSeconds");
        if seconds < 600 {
            errors.push(at.invalid(seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1 << 32 {
            errors.push(at.invalid(seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
    if let Some(period) = int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|period| *period < 10) {
        let at = SPEC.field("nodeAllocatableUpdatePeriodSeconds");
        errors.push(at.invalid(period, "must be greater than or equal to 10 seconds"));
    }
}

pub(super) fn node(_: &Context<'_>, node: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let drivers = list(node, "spec.drivers");
    let all = SPEC.field("drivers");
    // A driver that is there stays as it is but for how much it holds.
    for driver in list_of(old) {
        let name = text(driver, "name");
        let fixed = |driver: &Tree| (get(driver, "nodeID").clone(), get(driver, "topologyKeys").clone());
        let changed = drivers.iter().find(|one| text(one, "name") == name && fixed(one) != fixed(driver));
        if changed.is_some() {
            errors.push(all.invalid(Shown::Null, "field is immutable"));
        }
    }
    for (index, driver) in drivers.iter().enumerate() {
        let at = all.index(index);
        let name = text(driver, "name");
        driver_name(name, &at.field("name"), errors);
        let id = text(driver, "nodeID");
        if id.is_empty() {
            errors.push(at.field("nodeID").required(""));
        } else if id.len() > 256 {
            errors.push(at.field("nodeID").too_long(256));
        }
        if has(driver, "allocatable") {
            let count = number(driver, "allocatable.count");
            rules::not_negative(count, &at.field("allocatable.count"), errors);
        }
        let keys: Vec<&str> = texts(driver, "topologyKeys").collect();
        for (position, key) in keys.iter().enumerate() {
            if keys[..position].contains(key) {
                errors.push(at.duplicate(*key));
            }
            if key.is_empty() {
                errors.push(at.required(""));
            }
            rules::format(key, names::qualified_name(key), &at, errors);
        }
        if drivers[..index].iter().any(|other| text(other, "name") == name) && !name.is_empty() {
            errors.push(at.field("name").duplicate(name));
        }
    }
}

fn list_of(node: Option<&Tree>) -> &[Tree] {
    node.map(|node| list(node, "spec.drivers")).unwrap_or_default()
}
