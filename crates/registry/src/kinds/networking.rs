//! Ingresses and network policies.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, domain_path};
use machinery::{labels, names};

use crate::kinds::probe;
use crate::kinds::warnings;
use crate::net;
use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, get, has, int, list, number, text, texts, unset};

const GROUP: &str = "networking.k8s.io";

pub(super) const RULES: Table = &[
    ("k8s.io.api.networking.v1.HTTPIngressPath", &[Rule::Own("backend"), Rule::Check(http_path)]),
    ("k8s.io.api.networking.v1.HTTPIngressRuleValue", &[Rule::Required("paths")]),
    ("k8s.io.api.networking.v1.IngressBackend", &[Rule::Check(backend)]),
    (
        "k8s.io.api.networking.v1.NetworkPolicyPort",
        &[Rule::Default("protocol", Literal::Text("TCP")), Rule::Check(policy_port)],
    ),
    (
        "k8s.io.api.networking.v1.NetworkPolicySpec",
        &[Rule::DefaultFn(policy_types), Rule::Check(policy), Rule::After(kinds_of_policy)],
    ),
    ("k8s.io.api.networking.v1.NetworkPolicyPeer", &[Rule::Check(peer)]),
    (
        "k8s.io.api.networking.v1.IngressClassParametersReference",
        &[Rule::Default("scope", Literal::Text("Cluster"))],
    ),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        generation: Generation::Spec,
        status: true,
        check: Some(ingress),
        check_status: Some(ingress_status),
        warn: Some(warnings::ingress),
        warn_status: Some(warnings::balanced),
        full: true,
        ..Profile::new(GROUP, "ingresses")
    },
    Profile {
        generation: Generation::Spec,
        warn: Some(warnings::network_policy),
        full: true,
        ..Profile::new(GROUP, "networkpolicies")
    },
    Profile {
        generation: Generation::Spec,
        check: Some(class),
        full: true,
        ..Profile::new(GROUP, "ingressclasses")
    },
];

fn policy_types(spec: &mut Object) {
    if spec.get("policyTypes").is_none_or(unset) {
        let mut types: Vec<Tree> = vec!["Ingress".into()];
        if spec.get("egress").is_some_and(|egress| !unset(egress)) {
            types.push("Egress".into());
        }
        spec.insert("policyTypes", Tree::Array(types));
    }
}

fn ingress(_: &Context<'_>, ingress: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (spec, path) = (get(ingress, "spec"), Path::new("spec"));
    if list(spec, "rules").is_empty() && !has(spec, "defaultBackend") {
        errors.push(path.invalid(
            machinery::fieldpath::Shown::Null,
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    rules::formatted(spec, "ingressClassName", names::dns1123_subdomain, &path, errors);
    let all = path.field("rules");
    for (index, rule) in list(spec, "rules").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        host(text(rule, "host"), true, &at.field("host"), errors);
    }
    let all = path.field("tls");
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let hosts = at.field("hosts");
        for (position, name) in texts(tls, "hosts").enumerate() {
            if is_full(errors) {
                break;
            }
            host(name, false, &hosts.index(position), errors);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            rules::format(secret, names::dns1123_subdomain(secret), &at.field("secretName"), errors);
        }
    }
}

fn host(host: &str, no_address: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if host.is_empty() && no_address {
        return;
    }
    if no_address && host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(path.invalid(host, "must be a DNS name, not an IP address"));
    }
    let problems =
        if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns1123_subdomain(host) };
    rules::format(host, problems, path, errors);
}

fn http_path(path_rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let value = text(path_rule, "path");
    let Some(kind) = rules::given(path_rule, "pathType") else {
        errors.push(path.field("pathType").required("pathType must be specified"));
        return;
    };
    match kind {
        "Exact" | "Prefix" => {
            let at = path.field("path");
            if !value.starts_with('/') {
                errors.push(at.invalid(value, "must be an absolute path"));
            }
            if !value.is_empty() {
                for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                    if value.contains(bad) {
                        errors.push(at.invalid(value, &format!("must not contain '{bad}'")));
                    }
                }
                for bad in ["/..", "/."] {
                    if value.ends_with(bad) {
                        errors.push(at.invalid(value, &format!("cannot end with '{bad}'")));
                    }
                }
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                errors.push(path.field("path").invalid(value, "must be an absolute path"));
            }
        }
        other => {
            let values = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(path.field("pathType").not_supported(other, &values));
        }
    }
    rules::descend(
        get(path_rule, "backend"),
        "k8s.io.api.networking.v1.IngressBackend",
        &path.field("backend"),
        errors,
    );
}

fn backend(backend: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match (has(backend, "resource"), has(backend, "service")) {
        (true, true) => errors.push(path.invalid("", "cannot set both resource and service backends")),
        (true, false) => {
            reference(get(backend, "resource"), &path.field("resource"), errors);
        }
        (false, true) => {
            let (service, at) = (get(backend, "service"), path.field("service"));
            let name = text(service, "name");
            if name.is_empty() {
                errors.push(at.field("name").required(""));
            } else {
                rules::format(name, names::dns1123_label(name), &at.field("name"), errors);
            }
            let (number, name) = (number(service, "port.number"), text(service, "port.name"));
            match (number != 0, !name.is_empty()) {
                (true, true) => errors.push(path.invalid("", "cannot set both port name & port number")),
                (true, false) => rules::port(number, &at.field("port.number"), errors),
                (false, true) => rules::format(name, names::port_name(name), &at.field("port.name"), errors),
                (false, false) => errors.push(path.required("port name or number is required")),
            }
        }
        (false, false) => errors.push(path.invalid("", "resource or service backend is required")),
    }
}

/// A reference to an object by group, kind and name.
fn reference(reference: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    rules::formatted(reference, "apiGroup", names::dns1123_subdomain, path, errors);
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => errors.push(path.field(field).required("")),
            value => rules::format(value, names::path_segment(value), &path.field(field), errors),
        }
    }
}

fn ingress_status(_: &Context<'_>, ingress: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    const ALL: &str = "status.loadBalancer.ingress";
    let known: Seen<&str> =
        old.map(|old| list(old, ALL)).unwrap_or_default().iter().map(|one| text(one, "ip")).collect();
    let all = Path::new(ALL);
    for (index, one) in list(ingress, ALL).iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let ([ip, name], at) = (["ip", "hostname"].map(|field| text(one, field)), all.index(index));
        if !ip.is_empty() && !known.contains(ip) {
            net::check_ip(ip, &at.field("ip"), errors);
        }
        if !name.is_empty() {
            rules::format(name, names::dns1123_subdomain(name), &at.field("hostname"), errors);
            if net::parse_ip(name).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(at.field("hostname").invalid(name, detail));
            }
        }
    }
}

fn class(_: &Context<'_>, class: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec");
    let controller = text(class, "spec.controller");
    let at = path.field("controller");
    if old.is_some_and(|old| text(old, "spec.controller") != controller) {
        errors.push(at.invalid(controller, "field is immutable"));
    }
    if controller.len() > 250 {
        errors.push(at.too_long(250));
    }
    domain_path(controller, &at, errors);
    let (parameters, at) = (get(class, "spec.parameters"), path.field("parameters"));
    if parameters.is_null() {
        return;
    }
    reference(parameters, &at, errors);
    let namespace = rules::given(parameters, "namespace");
    match rules::given(parameters, "scope") {
        None => errors.push(at.field("scope").required("")),
        Some("Namespace") => match namespace {
            None => {
                errors.push(at.field("namespace").required("`parameters.scope` is set to 'Namespace'"));
            }
            Some(name) => rules::format(name, names::dns1123_label(name), &at.field("namespace"), errors),
        },
        Some("Cluster") => {
            if namespace.is_some() {
                errors.push(at.field("namespace").forbidden("`parameters.scope` is set to 'Cluster'"));
            }
        }
        Some(other) => errors.push(at.field("scope").not_supported(other, &["Cluster", "Namespace"])),
    }
}

fn policy(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    labels::validate_label_selector(get(spec, "podSelector"), &path.field("podSelector"), errors);
}

fn kinds_of_policy(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let types = list(spec, "policyTypes");
    let at = path.field("policyTypes");
    if types.len() > 2 {
        errors.push(at.invalid(get(spec, "policyTypes"), "may not specify more than two policyTypes"));
        return;
    }
    for (index, kind) in texts(spec, "policyTypes").enumerate() {
        if is_full(errors) {
            break;
        }
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(at.index(index).not_supported(kind, &["Ingress", "Egress"]));
        }
    }
}

fn policy_port(port: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    rules::one_of(port, "protocol", &["TCP", "UDP", "SCTP"], path, errors);
    let end = int(port, "endPort");
    match get(port, "port") {
        Tree::Null => {
            if end.is_some() {
                errors.push(
                    path.field("endPort")
                        .invalid(get(port, "endPort"), "may not be specified when `port` is not specified"),
                );
            }
        }
        value => {
            probe::port(value, &path.field("port"), errors);
            match end {
                Some(_) if value.is_string() => {
                    let detail = "may not be specified when `port` is non-numeric";
                    errors.push(path.field("endPort").invalid(get(port, "endPort"), detail));
                }
                Some(end) => {
                    let at = path.field("endPort");
                    if end < value.as_i64().unwrap_or(0) {
                        errors.push(at.invalid(end, "must be greater than or equal to `port`"));
                    }
                    rules::port(end, &at, errors);
                }
                None => {}
            }
        }
    }
}

fn peer(peer: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if has(peer, field) {
            peers += 1;
            labels::validate_label_selector(get(peer, field), &path.field(field), errors);
        }
    }
    if has(peer, "ipBlock") {
        peers += 1;
        block(get(peer, "ipBlock"), &path.field("ipBlock"), errors);
    }
    if peers == 0 {
        errors.push(path.required("must specify a peer"));
    } else if peers > 1 && has(peer, "ipBlock") {
        errors.push(path.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn block(block: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let cidr = text(block, "cidr");
    if cidr.is_empty() {
        errors.push(path.field("cidr").required(""));
        return;
    }
    net::check_cidr(cidr, &path.field("cidr"), errors);
    let Some((_, whole)) = net::parse_cidr(cidr) else { return };
    let all = path.field("except");
    for (index, except) in texts(block, "except").enumerate() {
        if is_full(errors) {
            break;
        }
        net::check_cidr(except, &all.index(index), errors);
        let Some((_, part)) = net::parse_cidr(except) else { continue };
        if !whole.contains(&part.network()) || part.prefix_len() <= whole.prefix_len() {
            errors.push(all.index(index).invalid(except, "must be a strict subset of `cidr`"));
        }
    }
}
