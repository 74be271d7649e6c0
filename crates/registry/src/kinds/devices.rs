//! Devices that drivers offer and pods claim. The expressions that select devices are taken as they come.

mod capacity;
mod claims;
mod results;
mod slices;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::conditions;
use crate::kinds::volume::driver_name;
use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, fill, fill_pointer, get, list, member, object_mut, same, text};

const GROUP: &str = "resource.k8s.io";
const AMOUNT: &[Rule] = &[Rule::DefaultFn(amount)];

pub(super) const RULES: Table = &[
    ("k8s.io.api.resource.v1.ExactDeviceRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceSubRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceToleration", &[Rule::Default("operator", Literal::Text("Equal"))]),
    // checked where the rest of a slice is
    ("k8s.io.api.resource.v1.ResourceSliceSpec", &[Rule::Own("nodeSelector"), Rule::Own("devices")]),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        generation: Generation::Spec,
        name: |_| Vec::new(),
        generate_name: Some(names::path_segment_prefix),
        check: Some(claims::class),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "deviceclasses")
    },
    Profile {
        generation: Generation::Spec,
        status: true,
        status_keeps: ALL_METADATA,
        unconditional_update: false,
        prepare: Some(taint_rule),
        check: Some(check_taint_rule),
        check_status: Some(taint_rule_status),
        full: true,
        ..Profile::new(GROUP, "devicetaintrules")
    },
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        check: Some(claims::claim),
        prepare_status: Some(results::prepare),
        check_status: Some(results::check),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "resourceclaims")
    },
    Profile {
        check: Some(claims::template),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "resourceclaimtemplates")
    },
    Profile {
        generation: Generation::Spec,
        prepare: Some(slice),
        check: Some(slices::check),
        warn: Some(super::warnings::resource_slice),
        full: true,
        answers_deleted: true,
        ..Profile::new(GROUP, "resourceslices")
    },
];

/// One device, unless another number or all are asked for.
fn amount(request: &mut Object) {
    fill(request, "allocationMode", "ExactCount");
    if member(request, "allocationMode") == "ExactCount" {
        fill(request, "count", 1);
    }
}

fn stamp(taint: &mut Object, now: &str) {
    fill_pointer(taint, "timeAdded", now);
}

fn now(context: &Context<'_>) -> String {
    context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Sets `timeAdded` of the rule's taint, anew where it now does something else.
fn taint_rule(context: &Context<'_>, rule: &mut Tree, old: Option<&Tree>) {
    let changed = old.is_some_and(|old| {
        let differs = |path: &str| !same(get(rule, path), get(old, path));
        differs("spec.taint.effect") && !differs("spec.taint.timeAdded")
    });
    if let Some(taint) = object_mut(rule, "spec.taint") {
        if changed {
            taint.remove("timeAdded");
        }
        stamp(taint, &now(context));
    }
}

fn slice(context: &Context<'_>, slice: &mut Tree, _: Option<&Tree>) {
    if list(slice, "spec.devices").iter().all(|device| get(device, "taints").is_null()) {
        return;
    }
    let now = now(context);
    let devices = object_mut(slice, "spec").and_then(|spec| spec.get_mut("devices")?.as_array_mut());
    for device in devices.into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Tree::as_array_mut).into_iter().flatten();
        taints.filter_map(Tree::as_object_mut).for_each(|taint| stamp(taint, &now));
    }
}

fn check_taint_rule(_: &Context<'_>, rule: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (selector, path) = (get(rule, "spec.deviceSelector"), Path::new("spec.deviceSelector"));
    if let Some(driver) = rules::given(selector, "driver") {
        driver_name(driver, &path.field("driver"), errors);
    }
    if let Some(pool) = rules::given(selector, "pool") {
        pool_name(pool, &path.field("pool"), errors);
    }
    if let Some(device) = rules::given(selector, "device") {
        label(device, &path.field("device"), errors);
    }
    taint(get(rule, "spec.taint"), &Path::new("spec.taint"), errors);
}

/// The most conditions of a taint rule's status.
const CONDITIONS: usize = 8;

fn taint_rule_status(_: &Context<'_>, rule: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (all, path) = (list(rule, "status.conditions"), Path::new("status.conditions"));
    conditions::check(all, &path, errors);
    if all.len() > CONDITIONS {
        errors.push(path.too_many(all.len(), CONDITIONS));
    }
}

fn taint(taint: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (key, value) = (text(taint, "key"), text(taint, "value"));
    rules::format(key, names::qualified_name(key), &path.field("key"), errors);
    rules::format(value, names::label_value(value), &path.field("value"), errors);
}

fn tolerations(object: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("tolerations");
    for (index, toleration) in list(object, "tolerations").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (value, at) = (text(toleration, "value"), all.index(index));
        match text(toleration, "operator") {
            "Exists" if !value.is_empty() => {
                errors.push(at.field("value").invalid(value, "must be empty for operator `Exists`"));
            }
            "Equal" => rules::format(value, names::label_value(value), &at.field("value"), errors),
            _ => {}
        }
    }
}

fn label(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    rules::format(name, names::dns1123_label(name), path, errors);
}

/// The name of a pool: names apart by slashes.
fn pool_name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if name.is_empty() {
        errors.push(path.required(""));
        return;
    }
    if name.len() > names::SUBDOMAIN_MAX {
        errors.push(path.too_long(names::SUBDOMAIN_MAX));
    }
    for part in name.split('/') {
        rules::format(part, names::dns1123_subdomain(part), path, errors);
    }
}

/// The most conditions of a device that make a claim on it ready, or fail.
const BINDING: usize = 4;

/// Conditions that a pod's binding waits for, and those that end the wait.
fn binding(device: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const FIELDS: [&str; 2] = ["bindingConditions", "bindingFailureConditions"];
    let [waits, fails] = FIELDS.map(|field| texts(device, field));
    for (field, all) in FIELDS.iter().zip([&waits, &fails]) {
        let at = path.field(field);
        for (index, one) in all.iter().enumerate().filter(|_| all.len() <= BINDING) {
            rules::format(one, names::qualified_name(one), &at.index(index), errors);
        }
    }
    let waited: Seen<&str> = waits.iter().copied().collect();
    for (field, all) in FIELDS.iter().zip([&waits, &fails]) {
        let (at, mut seen) = (path.field(field), Seen::new());
        for (index, one) in all.iter().enumerate() {
            if is_full(errors) {
                return;
            }
            if seen.repeats(*one) {
                errors.push(at.index(index).duplicate(*one));
            }
            if *field == FIELDS[1] && waited.contains(*one) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(at.index(index).invalid(*one, detail));
            }
        }
    }
    for (field, other, all, others) in
        [(FIELDS[0], FIELDS[1], &waits, &fails), (FIELDS[1], FIELDS[0], &fails, &waits)]
    {
        if all.is_empty() && !others.is_empty() {
            let detail = format!("{field} are required to use {other}");
            errors.push(path.field(field).invalid(get(device, field), &detail));
        }
    }
}

fn texts<'t>(tree: &'t Tree, field: &str) -> Vec<&'t str> {
    crate::tree::texts(tree, field).collect()
}
