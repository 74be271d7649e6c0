//! Volumes of CSI drivers, and what the drivers and their nodes say of themselves.

use std::collections::HashMap;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
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
        if is_full(errors) {
            break;
        }
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let at = SPEC.field("volumeLifecycleModes");
            errors.push(at.not_supported(mode, &["Persistent", "Ephemeral"]));
        }
    }
    rules::one_of(spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"], &SPEC, errors);
    let all = SPEC.field("tokenRequests");
    let mut seen = Seen::new();
    for (index, token) in list(spec, "tokenRequests").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (at, audience) = (all.index(index), text(token, "audience"));
        if seen.repeats(audience) {
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
    fn fixed(driver: &Tree) -> (&Tree, &Tree) {
        (get(driver, "nodeID"), get(driver, "topologyKeys"))
    }
    // The first driver of each name, and whether another of that name differs.
    let mut now = HashMap::new();
    for driver in drivers {
        let (first, mixed) = now.entry(text(driver, "name")).or_insert((driver, false));
        *mixed |= fixed(first) != fixed(driver);
    }
    for driver in list_of(old) {
        if is_full(errors) {
            break;
        }
        let own = now.get(text(driver, "name"));
        if own.is_some_and(|(first, mixed)| *mixed || fixed(first) != fixed(driver)) {
            errors.push(all.invalid(Shown::Null, "field is immutable"));
        }
    }
    let mut names_seen = Seen::new();
    for (index, driver) in drivers.iter().enumerate() {
        if is_full(errors) {
            break;
        }
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
        let mut seen = Seen::new();
        for key in texts(driver, "topologyKeys") {
            if is_full(errors) {
                break;
            }
            if seen.repeats(key) {
                errors.push(at.duplicate(key));
            }
            if key.is_empty() {
                errors.push(at.required(""));
            }
            rules::format(key, names::qualified_name(key), &at, errors);
        }
        if names_seen.repeats(name) && !name.is_empty() {
            errors.push(at.field("name").duplicate(name));
        }
    }
}

fn list_of(node: Option<&Tree>) -> &[Tree] {
    node.map(|node| list(node, "spec.drivers")).unwrap_or_default()
}
