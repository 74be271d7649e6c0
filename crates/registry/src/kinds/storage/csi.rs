//! Volumes of CSI drivers, and what the drivers and their nodes say of themselves.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, by_text, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::volume::driver_name;
use crate::meta::NameFormat;
use crate::strategy::Context;
use crate::tree::{as_object, get, has, int, list, number, object_mut, same, text, texts};
use crate::{internal, rules};

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
        if reference.is_null() {
            continue;
        }
        let forms: [(&str, NameFormat); 2] =
            [("name", names::dns1123_subdomain), ("namespace", names::dns1123_label)];
        let secret = path.field(secret);
        for (field, form) in forms {
            match text(reference, field) {
                "" => errors.push(secret.field(field).required("")),
                value => rules::format(value, form(value), &secret.field(field), errors),
            }
        }
    }
}

static SPEC: Path<'static> = Path::new("spec");

pub(super) fn driver(_: &Context<'_>, driver: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(driver, "spec");
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
    for mode in texts(spec, "volumeLifecycleModes") {
        if is_full(errors) {
            break;
        }
        if !matches!(mode, "Persistent" | "Ephemeral") {
            let at = SPEC.field("volumeLifecycleModes");
            errors.push(at.not_supported(mode, &["Persistent", "Ephemeral"]));
        }
    }
    if let Some(period) = int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|period| *period < 10) {
        let at = SPEC.field("nodeAllocatableUpdatePeriodSeconds");
        errors.push(at.invalid(period, "must be greater than or equal to 10 seconds"));
    }
    let secrets = get(spec, "serviceAccountTokenInSecrets");
    if !secrets.is_null() && list(spec, "tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(SPEC.field("serviceAccountTokenInSecrets").invalid(secrets, detail));
    }
    // the one is complained of by a name that it does not have
    for (field, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        if old.is_some_and(|old| !same(get(spec, field), get(get(old, "spec"), field))) {
            errors.push(SPEC.field(shown).invalid(get(spec, field), "field is immutable"));
        }
    }
}

/// What a node reports of the health of storage: off by default, and dropped then.
pub(super) fn prepare_status(_: &Context<'_>, node: &mut Tree, old: Option<&Tree>) {
    let used = old.is_some_and(|old| !list(old, "status.storageHealth").is_empty());
    if let Some(status) = object_mut(node, "status").filter(|_| !used) {
        status.remove("storageHealth");
    }
}

pub(super) fn node(_: &Context<'_>, node: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let drivers = list(node, "spec.drivers");
    let all = SPEC.field("drivers");
    check_drivers(drivers, &all, errors);
    // A driver that is there stays as it is but for how much it holds.
    fn fixed(driver: &Tree) -> (&Tree, &Tree) {
        (get(driver, "nodeID"), get(driver, "topologyKeys"))
    }
    let before = by_text(list_of(old), "name");
    for driver in drivers {
        if is_full(errors) {
            break;
        }
        if before.get(text(driver, "name")).is_some_and(|old| fixed(old) != fixed(driver)) {
            let mut shown = driver.clone();
            as_object(&mut shown).remove("allocatable");
            let shown = internal::shown(&shown, "storage.v1.CSINodeDriver");
            errors.push(all.invalid(shown, "field is immutable"));
        }
    }
}

fn check_drivers(drivers: &[Tree], all: &Path<'_>, errors: &mut Vec<Cause>) {
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
            errors.push(at.field("nodeID").invalid(id, "must be 256 characters or less"));
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
