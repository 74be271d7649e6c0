//! What drivers offer: slices of pools of devices.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use super::{binding, capacity, claims, label, pool_name, taint};
use crate::kinds::pod_spec::NODE_SELECTOR;
use crate::kinds::volume::driver_name;
use crate::strategy::Context;
use crate::tree::{entries, flag, get, has, list, number, same, text};
use crate::{declared, internal, rules};

const DEVICES: usize = 128;
/// The most devices where any has taints, counters or lists of values.
const DEVICES_IN_DETAIL: usize = 64;
const COUNTER_SETS: usize = 8;
const COUNTERS: usize = 32;
const CONSUMPTIONS: usize = 2;
const ATTRIBUTES: usize = 32;
const VALUES: usize = 48;
const TAINTS: usize = 16;
const VALUE_BYTES: usize = 64;

/// A slice says in one way for which nodes it is, and remains its driver's, its pool's and its node's: a node writes its own alone.
pub(super) fn check(_: &Context<'_>, slice: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (path, spec) = (Path::new("spec"), get(slice, "spec"));
    driver_name(text(spec, "driver"), &path.field("driver"), errors);
    pool_name(text(spec, "pool.name"), &path.field("pool.name"), errors);
    let (count, generation) = (number(spec, "pool.resourceSliceCount"), number(spec, "pool.generation"));
    if count <= 0 {
        errors.push(path.field("pool.resourceSliceCount").invalid(count, "must be greater than zero"));
    }
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(path.field("pool.generation").invalid(generation, detail));
    }
    for field in ["pool.name", "driver", "nodeName"] {
        let value = get(spec, field);
        if old.is_some_and(|old| !same(value, get(get(old, "spec"), field))) {
            errors.push(path.field(field).invalid(value, "field is immutable"));
        }
    }
    nodes(spec, &path, errors);
    if has(spec, "sharedCounters") && has(spec, "devices") {
        errors.push(path.invalid("", "only one of `sharedCounters` or `devices` is allowed"));
    }
    devices(spec, old, &path, errors);
    let (sets, at) = (list(spec, "sharedCounters"), path.field("sharedCounters"));
    for (index, set) in sets.iter().enumerate().filter(|_| sets.len() <= COUNTER_SETS) {
        counters(set, &at.index(index), errors);
    }
}

/// The fields that say for which nodes something is, of which there is to be one.
fn set_fields(tree: &Tree, flags: &[&'static str]) -> Vec<String> {
    [("nodeName", !text(tree, "nodeName").is_empty()), ("nodeSelector", has(tree, "nodeSelector"))]
        .into_iter()
        .chain(flags.iter().map(|field| (*field, flag(tree, field))))
        .filter(|(_, set)| *set)
        .map(|(field, _)| format!("`{field}`"))
        .collect()
}

fn one_of(set: &[String], detail: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match set.len() {
        0 => errors.push(path.required(detail)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let detail = match detail.split_once(" is required") {
                Some((what, "")) => format!("{what} is required, but multiple fields are set"),
                _ => detail.to_owned(),
            };
            errors.push(path.invalid(shown.as_str(), &detail));
        }
    }
}

fn node_name(tree: &Tree, empty: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("nodeName");
    match rules::given(tree, "nodeName") {
        None => {}
        Some("") => errors.push(at.invalid("", empty)),
        Some(name) => rules::format(name, names::dns1123_subdomain(name), &at, errors),
    }
}

fn only_true(tree: &Tree, field: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if has(tree, field) && !flag(tree, field) {
        errors.push(path.field(field).invalid(get(tree, field), "must be either unset or set to true"));
    }
}

fn nodes(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    node_name(spec, "must be either unset or set to a non-empty string", path, errors);
    let selector = get(spec, "nodeSelector");
    if !selector.is_null() {
        let at = path.field("nodeSelector");
        rules::descend(selector, NODE_SELECTOR, &at, errors);
        if list(selector, "nodeSelectorTerms").len() != 1 {
            let form = internal::form(selector, "core.v1.NodeSelector");
            let shown = form.get("NodeSelectorTerms").cloned().unwrap_or_default();
            let detail = "must have exactly one node selector term";
            errors.push(at.field("nodeSelectorTerms").invalid(&shown, detail));
        }
    }
    only_true(spec, "allNodes", path, errors);
    only_true(spec, "perDeviceNodeSelection", path, errors);
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    one_of(&set_fields(spec, &["allNodes", "perDeviceNodeSelection"]), ONE, path, errors);
}

fn devices(spec: &Tree, old: Option<&Tree>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (all, at) = (list(spec, "devices"), path.field("devices"));
    let detailed = |device: &Tree| {
        !list(device, "taints").is_empty()
            || !list(device, "consumesCounters").is_empty()
            || entries(device, "attributes").any(|(_, attribute)| LISTS.iter().any(|one| has(attribute, one)))
    };
    let most = if all.iter().any(detailed) { DEVICES_IN_DETAIL } else { DEVICES };
    if all.len() > most {
        errors.push(at.too_many(all.len(), most));
        return;
    }
    let before =
        machinery::bounds::by_text(old.map(|old| list(old, "spec.devices")).unwrap_or_default(), "name");
    let own_nodes = flag(spec, "perDeviceNodeSelection");
    for (index, device) in all.iter().enumerate() {
        if is_full(errors) {
            return;
        }
        let old = before.get(text(device, "name")).copied();
        check_device(device, old, own_nodes, &at.index(index), errors);
    }
    claims::unique(all.iter().map(|device| text(device, "name")), &at, errors);
}

const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

fn check_device(
    device: &Tree,
    old: Option<&Tree>,
    own_nodes: bool,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    label(text(device, "name"), &path.field("name"), errors);
    let count = entries(device, "attributes").count() + entries(device, "capacity").count();
    let number = |count: usize| Shown::Number(count as i64);
    if count > ATTRIBUTES {
        let detail = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES}");
        errors.push(path.invalid(number(count), &detail));
    }
    let values = |attribute: &Tree| LISTS.iter().map(|one| list(attribute, one).len()).sum::<usize>().max(1);
    let count: usize = entries(device, "attributes").map(|(_, attribute)| values(attribute)).sum();
    if count > VALUES {
        let detail = format!("the total number of attribute values must not exceed {VALUES}");
        errors.push(path.invalid(number(count), &detail));
    }
    let at = path.field("attributes");
    for (key, attribute) in entries(device, "attributes") {
        if is_full(errors) {
            return;
        }
        qualified(key, &at, errors);
        check_attribute(attribute, &at.key(&short(key)), errors);
    }
    let changed = |field: &str| old.is_none_or(|old| !same(get(old, field), get(device, field)));
    let (amounts, taints) = (changed("capacity"), changed("taints"));
    let shared = flag(device, "allowMultipleAllocations");
    let at = path.field("capacity");
    for (key, amount) in entries(device, "capacity").filter(|_| amounts) {
        if is_full(errors) {
            return;
        }
        qualified(key, &at, errors);
        capacity::check(amount, shared, &at.key(&short(key)), errors);
    }
    let (all, at) = (list(device, "taints"), path.field("taints"));
    if taints && all.len() > TAINTS {
        errors.push(at.too_many(all.len(), TAINTS));
    }
    for (index, one) in all.iter().enumerate().filter(|_| taints && all.len() <= TAINTS) {
        taint(one, &at.index(index), errors);
    }
    let (all, at) = (list(device, "consumesCounters"), path.field("consumesCounters"));
    for (index, one) in all.iter().enumerate().filter(|_| all.len() <= CONSUMPTIONS) {
        counters(one, &at.index(index), errors);
    }
    device_nodes(device, own_nodes, path, errors);
    binding(device, path, errors);
}

fn device_nodes(device: &Tree, own_nodes: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const OWN: &str = "if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !own_nodes {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| has(device, field)) {
            let detail = format!("`nodeName`, `nodeSelector` and `allNodes` can only be set {OWN}");
            errors.push(path.invalid(Shown::Null, &detail));
        }
        return;
    }
    node_name(device, "must not be empty", path, errors);
    let selector = get(device, "nodeSelector");
    if !selector.is_null() {
        rules::descend(selector, NODE_SELECTOR, &path.field("nodeSelector"), errors);
    }
    only_true(device, "allNodes", path, errors);
    let when = OWN.replacen("if", "when", 1);
    let detail = format!("exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required {when}");
    one_of(&set_fields(device, &["allNodes"]), &detail, path, errors);
}

/// The longest key that is shown whole.
const KEY_BYTES: usize = 63 + 1 + 32;

fn short(key: &str) -> String {
    if key.len() <= KEY_BYTES {
        return key.to_owned();
    }
    let rest = KEY_BYTES - 3;
    let part = |range: std::ops::Range<usize>| String::from_utf8_lossy(&key.as_bytes()[range]).into_owned();
    format!("{}...{}", part(0..rest.div_ceil(2)), part(key.len() - rest / 2..key.len()))
}

/// An identifier, with or without the domain of a driver before it.
fn qualified(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [name] => declared::identifier(name, path, errors),
        [domain, name] => {
            if domain.is_empty() {
                errors.push(path.invalid("", "the domain must not be empty"));
            } else {
                driver_name(domain, path, errors);
            }
            if name.is_empty() {
                errors.push(path.invalid("", "the name must not be empty"));
            } else {
                declared::identifier(name, path, errors);
            }
        }
        _ => {}
    }
}

fn check_attribute(attribute: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = |text: &str, path: &Path<'_>, version: bool, errors: &mut Vec<Cause>| {
        if version && !semantic(text) {
            errors.push(path.invalid(text, "must be a string compatible with semver.org spec 2.0.0"));
        }
        if text.len() > VALUE_BYTES {
            errors.push(path.too_long(VALUE_BYTES));
        }
    };
    for (field, version) in [("string", false), ("version", true)] {
        if let Some(text) = rules::given(attribute, field) {
            value(text, &path.field(field), version, errors);
        }
    }
    for field in LISTS {
        let at = path.field(field);
        if has(attribute, field) && list(attribute, field).is_empty() {
            errors.push(at.invalid(get(attribute, field), "must not be empty if specified"));
        }
        for (index, text) in list(attribute, field).iter().filter_map(Tree::as_str).enumerate() {
            if is_full(errors) {
                return;
            }
            value(text, &at.index(index), field == "versions", errors);
        }
    }
}

/// A version as semver.org has it.
fn semantic(version: &str) -> bool {
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|part| part.split('.').all(|one| word(one) && (!digits(one) || number(one))))
        && build.is_none_or(|part| part.split('.').all(word))
}

fn counters(set: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let count = entries(set, "counters").count();
    if count > COUNTERS {
        errors.push(path.field("counters").too_many(count, COUNTERS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn a_slice_is_of_one_node_or_says_of_which() {
        let check = |spec: Tree, old: Option<Tree>, expect: &[&str]| {
            let mut errors = Vec::new();
            let old = old.map(|spec| json!({"spec": spec}));
            let context = Context {
                now: jiff::Timestamp::UNIX_EPOCH,
                resource: api::tables::resource("resource.k8s.io", "v1", "resourceslices").unwrap(),
                subresource: None,
                namespace: "",
                name: "s",
            };
            super::check(&context, &json!({"spec": spec}), old.as_ref(), &mut errors);
            let said: Vec<String> =
                errors.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(said, expect);
        };
        let pool = json!({"name": "p", "resourceSliceCount": 1});
        let own = json!({"driver": "d", "pool": pool, "nodeName": "n1"});
        check(own.clone(), None, &[]);
        check(json!({"driver": "d", "pool": pool, "allNodes": true}), None, &[]);
        check(
            json!({"driver": "d", "pool": pool}),
            None,
            &[
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            ],
        );
        check(
            json!({"driver": "d", "pool": pool, "nodeName": "n1", "allNodes": true}),
            None,
            &[
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ],
        );
        let moved = json!({"driver": "d", "pool": pool, "nodeName": "n2"});
        check(moved, Some(own.clone()), &["spec.nodeName: Invalid value: \"n2\": field is immutable"]);
        check(own.clone(), Some(own), &[]);
    }

    #[test]
    fn versions() {
        for (version, expect) in [
            ("1.2.3", true),
            ("1.2", false),
            ("01.2.3", false),
            ("1.2.3-a.1+b", true),
            ("1.2.3-01", false),
            ("1.2.3-", false),
        ] {
            assert_eq!(semantic(version), expect, "{version}");
        }
    }
}
