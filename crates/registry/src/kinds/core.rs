//! The smaller kinds of the core group: nodes, namespaces, service accounts, endpoints, events, quotas, limit ranges.

mod events;
mod limits;

use api::Tree;
use api::json;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::kinds::pod_spec::taint_effect;
use crate::kinds::resources::amount;
use crate::kinds::service::endpoint_ip;
use crate::kinds::warnings;
use crate::net;
use crate::profile::Profile;
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{
    Object, as_object, ensure, entries, fill, get, has, list, member, number, put, same, text, texts,
};

pub(super) const RULES: Table = &[
    ("k8s.io.api.core.v1.Namespace", &[Rule::DefaultFn(namespace_label)]),
    ("k8s.io.api.core.v1.EndpointPort", &[Rule::Default("protocol", Literal::Text("TCP"))]),
    ("k8s.io.api.core.v1.EndpointSubset", &[Rule::Check(subset)]),
    ("k8s.io.api.core.v1.Node", &[Rule::DefaultFn(node)]),
    ("k8s.io.api.core.v1.LimitRangeItem", &[Rule::DefaultFn(limits::default)]),
    ("k8s.io.api.core.v1.LimitRangeSpec", &[Rule::Own("limits"), Rule::Check(limits::items)]),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        name: names::dns1123_label,
        status: true,
        prepare: Some(prepare_namespace),
        check: Some(check_namespace),
        prepare_status: Some(prepare_namespace_status),
        check_status: Some(check_namespace_status),
        full: true,
        is_scope: true,
        ..Profile::new("", "namespaces")
    },
    Profile {
        warn: Some(warnings::service_account),
        full: true,
        answers_deleted: true,
        ..Profile::new("", "serviceaccounts")
    },
    Profile {
        create_on_update: true,
        warn: Some(warnings::endpoints),
        full: true,
        ..Profile::new("", "endpoints")
    },
    Profile {
        status: true,
        status_on_create: true,
        prepare: Some(prepare_node),
        warn: Some(warnings::node),
        check: Some(check_node),
        full: true,
        ..Profile::new("", "nodes")
    },
    Profile {
        name: names::path_segment,
        create_on_update: true,
        any_finalizer: true,
        check: Some(events::check),
        full: true,
        passing: true,
        ..Profile::new("", "events")
    },
    Profile {
        name: events::name,
        create_on_update: true,
        any_finalizer: true,
        check: Some(events::check_new),
        full: true,
        passing: true,
        ..Profile::new("events.k8s.io", "events")
    },
    Profile {
        create_on_update: true,
        prepare: Some(limits::prepare),
        full: true,
        ..Profile::new("", "limitranges")
    },
    Profile {
        status: true,
        check: Some(limits::quota),
        check_status: Some(limits::quota_status),
        full: true,
        answers_deleted: true,
        ..Profile::new("", "resourcequotas")
    },
    Profile { reported: true, full: true, ..Profile::new("", "componentstatuses") },
    Profile { name: names::path_segment, check: Some(binding), full: true, ..Profile::new("", "bindings") },
];

/// A namespace bears its name as a label, so that selectors can name it.
fn namespace_label(namespace: &mut Object) {
    let metadata = as_object(namespace.entry("metadata").or_insert(Tree::Null));
    let name = member(metadata, "name").to_owned();
    // A made-up name that is none is not complained of a second time.
    let is_bad = !member(metadata, "generateName").is_empty() && !names::is_dns1123_label(&name);
    if !name.is_empty() && !is_bad {
        let labels = as_object(metadata.entry("labels").or_insert(Tree::Null));
        labels.insert("kubernetes.io/metadata.name", name.into());
    }
}

fn prepare_namespace(context: &Context<'_>, namespace: &mut Tree, old: Option<&Tree>) {
    match old {
        None => {
            put(as_object(namespace), "status", json!({"phase": "Active"}));
            let finalizers = ensure(namespace, "spec").entry("finalizers").or_insert(Tree::Null);
            if !finalizers.is_array() {
                *finalizers = Tree::Array(Vec::new());
            }
            if let Tree::Array(finalizers) = finalizers
                && !finalizers.iter().any(|one| one == "kubernetes")
            {
                finalizers.push("kubernetes".into());
            }
        }
        Some(old) if context.subresource != Some("finalize") => {
            // Finalizers have a subresource of their own.
            put(ensure(namespace, "spec"), "finalizers", get(old, "spec.finalizers").clone());
        }
        Some(_) => {}
    }
}

/// A namespace whose phase is not said is an active one.
fn prepare_namespace_status(_: &Context<'_>, namespace: &mut Tree, _: Option<&Tree>) {
    fill(ensure(namespace, "status"), "phase", "Active");
}

/// It is active until it is deleted, and never again.
fn check_namespace_status(_: &Context<'_>, namespace: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (wanted, detail) = if has(namespace, "metadata.deletionTimestamp") {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    let own = text(namespace, "status.phase");
    if own != wanted {
        errors.push(Path::new("status.Phase").invalid(own, detail));
    }
}

fn check_namespace(context: &Context<'_>, namespace: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("spec.finalizers");
    for (index, finalizer) in texts(namespace, "spec.finalizers").enumerate() {
        if is_full(errors) {
            break;
        }
        let path = if context.subresource == Some("finalize") { all.index(index) } else { all };
        rules::format(finalizer, names::qualified_name(finalizer), &path, errors);
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            errors.push(
                path.invalid(
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                ),
            );
        }
    }
}

/// Allocatable is the capacity where nobody says less.
fn node(node: &mut Object) {
    if let Some(spec) = node.get_mut("spec").and_then(Tree::as_object_mut) {
        let first = spec.get("podCIDRs").and_then(|list| list.get(0)).cloned();
        match (member(spec, "podCIDR").to_owned(), first) {
            (one, first) if !one.is_empty() && first.as_ref().and_then(Tree::as_str) != Some(&one) => {
                spec.insert("podCIDRs", Tree::Array(vec![one.into()]));
            }
            (one, Some(first)) if one.is_empty() => {
                spec.insert("podCIDR", first);
            }
            _ => {}
        }
    }
    let Some(status) = node.get_mut("status").and_then(Tree::as_object_mut) else { return };
    if let Some(capacity) = status.get("capacity").cloned() {
        fill(status, "allocatable", capacity);
    }
}

fn prepare_node(_: &Context<'_>, node: &mut Tree, _: Option<&Tree>) {
    if let Some(spec) = node.get_mut("spec").and_then(Tree::as_object_mut) {
        spec.remove("configSource");
    }
}

fn check_node(_: &Context<'_>, node: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("metadata.taints");
    let mut seen = Seen::new();
    for (index, taint) in list(node, "spec.taints").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let [key, value, effect] = ["key", "value", "effect"].map(|field| text(taint, field));
        rules::format(key, names::qualified_name(key), &at.field("key"), errors);
        rules::format(value, names::label_value(value), &at.field("value"), errors);
        taint_effect(effect, false, &at.field("effect"), errors);
        if seen.repeats((key, effect)) {
            let shown = crate::internal::shown(taint, "core.v1.Taint");
            let mut cause = at.duplicate(shown);
            cause.message.push_str(": taints must be unique by key and effect pair");
            errors.push(cause);
        }
    }
    for field in ["status.capacity", "status.allocatable"] {
        for (name, value) in entries(node, field) {
            if is_full(errors) {
                break;
            }
            amount(name, value, &Path::new(field).field(name), errors);
        }
    }
    let cidrs = Path::new("spec.podCIDRs");
    for (index, cidr) in texts(node, "spec.podCIDRs").enumerate() {
        if is_full(errors) {
            break;
        }
        net::check_cidr(cidr, &cidrs.index(index), errors);
    }
    let v6 = |cidr: &str| cidr.contains(':');
    let all: Vec<&str> = texts(node, "spec.podCIDRs").collect();
    if all.len() > 1 && !(all.len() == 2 && v6(all[0]) != v6(all[1])) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(cidrs.invalid(get(node, "spec.podCIDRs"), detail));
    }
    let Some(old) = old else { return };
    if !list(old, "spec.podCIDRs").is_empty() && !same(get(node, "spec.podCIDRs"), get(old, "spec.podCIDRs"))
    {
        errors.push(cidrs.forbidden("node updates may not change podCIDR except from \"\" to valid"));
    }
    if has(old, "spec.providerID") && text(node, "spec.providerID") != text(old, "spec.providerID") {
        let cleared = text(node, "spec.providerID").is_empty();
        let detail =
            if cleared { "field cannot be cleared once set" } else { "field cannot be modified once set" };
        errors.push(Path::new("spec.providerID").invalid(Shown::Null, detail));
    }
    if text(node, "spec.externalID") != text(old, "spec.externalID") {
        errors.push(Path::new("spec.externalID").forbidden("may not be updated"));
    }
}

fn subset(subset: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
        errors.push(path.required("must specify `addresses` or `notReadyAddresses`"));
    }
    for field in ["addresses", "notReadyAddresses"] {
        let all = path.field(field);
        for (index, address) in list(subset, field).iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let at = all.index(index);
            let ip = text(address, "ip");
            net::check_ip(ip, &at.field("ip"), errors);
            endpoint_ip(ip, &at.field("ip"), errors);
            let (host, node) = (text(address, "hostname"), text(address, "nodeName"));
            if !host.is_empty() {
                rules::format(host, names::dns1123_label(host), &at.field("hostname"), errors);
            }
            if rules::given(address, "nodeName").is_some() {
                rules::format(node, names::dns1123_subdomain(node), &at.field("nodeName"), errors);
            }
        }
    }
    let ports = list(subset, "ports");
    let all = path.field("ports");
    for (index, port) in ports.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let name = text(port, "name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(at.field("name").required(""));
        } else if !name.is_empty() {
            rules::format(name, names::dns1123_label(name), &at.field("name"), errors);
        }
        rules::port(number(port, "port"), &at.field("port"), errors);
        let protocol = text(port, "protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(at.field("protocol").not_supported(protocol, &["SCTP", "TCP", "UDP"]));
        }
        rules::formatted(port, "appProtocol", names::qualified_name, &at, errors);
    }
}

fn binding(_: &Context<'_>, binding: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let target = Path::new("target");
    let kind = text(binding, "target.kind");
    if !matches!(kind, "" | "Node") {
        errors.push(target.field("kind").not_supported(kind, &["Node", "<empty>"]));
    }
    if text(binding, "target.name").is_empty() {
        errors.push(target.field("name").required(""));
    }
}
