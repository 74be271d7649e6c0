//! Devices that drivers offer and pods claim: the defaults alone.

use api::Tree;

use crate::generic::{ALL_METADATA, Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, fill, fill_pointer, get, list, member, object_mut};

const GROUP: &str = "resource.k8s.io";
const AMOUNT: &[Rule] = &[Rule::DefaultFn(amount)];

pub(super) const RULES: Table = &[
    ("k8s.io.api.resource.v1.ExactDeviceRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceSubRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceToleration", &[Rule::Default("operator", Literal::Text("Equal"))]),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile { generation: Generation::Spec, ..Profile::new(GROUP, "deviceclasses") },
    Profile {
        generation: Generation::Spec,
        status: true,
        unconditional_update: false,
        prepare: Some(taint_rule),
        ..Profile::new(GROUP, "devicetaintrules")
    },
    Profile { status: true, status_keeps: ALL_METADATA, ..Profile::new(GROUP, "resourceclaims") },
    Profile { generation: Generation::Spec, prepare: Some(slice), ..Profile::new(GROUP, "resourceslices") },
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

/// A taint tells since when it is there.
fn taint_rule(context: &Context<'_>, rule: &mut Tree, _: Option<&Tree>) {
    if let Some(taint) = object_mut(rule, "spec.taint") {
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
