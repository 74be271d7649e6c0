//! Devices that drivers offer and pods claim: the defaults, and of slices for which nodes they are.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, fill, fill_pointer, flag, get, has, list, member, object_mut, same, text};

const GROUP: &str = "resource.k8s.io";
const AMOUNT: &[Rule] = &[Rule::DefaultFn(amount)];

pub(super) const RULES: Table = &[
    ("k8s.io.api.resource.v1.ExactDeviceRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceSubRequest", AMOUNT),
    ("k8s.io.api.resource.v1.DeviceToleration", &[Rule::Default("operator", Literal::Text("Equal"))]),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        generation: Generation::Spec,
        name: names::long_name,
        generate_name: Some(names::path_segment_prefix),
        ..Profile::new(GROUP, "deviceclasses")
    },
    Profile {
        generation: Generation::Spec,
        status: true,
        unconditional_update: false,
        prepare: Some(taint_rule),
        ..Profile::new(GROUP, "devicetaintrules")
    },
    Profile { status: true, status_keeps: ALL_METADATA, ..Profile::new(GROUP, "resourceclaims") },
    Profile {
        generation: Generation::Spec,
        prepare: Some(slice),
        check: Some(check_slice),
        warn: Some(super::warnings::resource_slice),
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

/// Sets `timeAdded` of the rule's taint.
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

/// A slice says in one way for which nodes it is, and remains its driver's, its pool's and its node's: a node writes its own alone.
fn check_slice(_: &Context<'_>, slice: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec");
    let spec = get(slice, "spec");
    for field in ["pool.name", "driver", "nodeName"] {
        let value = get(spec, field);
        if old.is_some_and(|old| !same(value, get(get(old, "spec"), field))) {
            errors.push(path.field(field).invalid(value, "field is immutable"));
        }
    }
    if get(spec, "nodeName").as_str() == Some("") {
        errors.push(path.field("nodeName").invalid("", "must be either unset or set to a non-empty string"));
    }
    for field in ["allNodes", "perDeviceNodeSelection"] {
        if has(spec, field) && !flag(spec, field) {
            errors.push(path.field(field).invalid(get(spec, field), "must be either unset or set to true"));
        }
    }
    let set: Vec<String> = [
        ("nodeName", !text(spec, "nodeName").is_empty()),
        ("nodeSelector", has(spec, "nodeSelector")),
        ("allNodes", flag(spec, "allNodes")),
        ("perDeviceNodeSelection", flag(spec, "perDeviceNodeSelection")),
    ]
    .into_iter()
    .filter(|(_, set)| *set)
    .map(|(field, _)| format!("`{field}`"))
    .collect();
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(path.required(ONE)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.push(path.invalid(shown.as_str(), &format!("{ONE}, but multiple fields are set")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn a_slice_is_of_one_node_or_says_of_which() {
        let check = |spec: Tree, old: Option<Tree>, expect: &[&str]| {
            let context = Context {
                now: jiff::Timestamp::UNIX_EPOCH,
                resource: api::tables::resource(GROUP, "v1", "resourceslices").unwrap(),
                subresource: None,
                namespace: "",
                name: "s",
            };
            let mut errors = Vec::new();
            let old = old.map(|spec| json!({"spec": spec}));
            check_slice(&context, &json!({"spec": spec}), old.as_ref(), &mut errors);
            let said: Vec<String> =
                errors.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(said, expect);
        };
        let own = json!({"driver": "d", "pool": {"name": "p"}, "nodeName": "n1"});
        check(own.clone(), None, &[]);
        check(json!({"allNodes": true}), None, &[]);
        check(
            json!({}),
            None,
            &[
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        );
        check(
            json!({"nodeName": "n1", "allNodes": true}),
            None,
            &[
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ],
        );
        let moved = json!({"driver": "d", "pool": {"name": "p"}, "nodeName": "n2"});
        check(moved, Some(own.clone()), &["spec.nodeName: Invalid value: \"n2\": field is immutable"]);
        check(own.clone(), Some(own), &[]);
    }
}
