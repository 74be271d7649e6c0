//! Services. Addresses and node ports are allocated by the API server, not here.

mod addresses;
mod prepare;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use api::json;

use crate::net;
use crate::profile::Profile;
use crate::rules::{self, Rule, Table};
use crate::strategy::Context;
use crate::tree::{
    Object, as_object, ensure, fill, fill_pointer, get, has, list, member, number, object_mut, put, same,
    text, texts, unset,
};

pub use addresses::cluster_addresses;
use prepare::prepare;

pub(super) const RULES: Table = &[
    ("k8s.io.api.core.v1.Service", &[Rule::DefaultFn(default)]),
    ("k8s.io.api.core.v1.LoadBalancerIngress", &[Rule::DefaultFn(ingress_mode)]),
];

pub(super) const PROFILES: &[Profile] = &[Profile {
    name: names::dns1123_label,
    status: true,
    create_on_update: true,
    prepare: Some(prepare),
    check: Some(check),
    warn: Some(super::warnings::service),
    check_status: Some(check_status),
    warn_status: Some(super::warnings::balanced),
    full: true,
    answers_deleted: true,
    ..Profile::new("", "services")
}];

fn default(service: &mut Object) {
    let spec = as_object(service.entry("spec").or_insert(Tree::Null));
    fill(spec, "type", "ClusterIP");
    fill(spec, "sessionAffinity", "None");
    if member(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    } else if member(spec, "sessionAffinity") == "ClientIP" {
        let config = as_object(spec.entry("sessionAffinityConfig").or_insert(Tree::Null));
        let client = as_object(config.entry("clientIP").or_insert(Tree::Null));
        fill_pointer(client, "timeoutSeconds", 10800);
    }
    let kind = member(spec, "type").to_owned();
    for port in spec.get_mut("ports").and_then(Tree::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        fill(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(unset) {
            let number = port.get("port").cloned().unwrap_or_else(|| 0.into());
            port.insert("targetPort", number);
        }
    }
    let external = spec.get("externalIPs").is_some_and(|ips| !unset(ips));
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (external && kind == "ClusterIP") {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill_pointer(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill_pointer(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// An address is the balancer's own, unless it says otherwise.
fn ingress_mode(ingress: &mut Object) {
    if !member(ingress, "ip").is_empty() {
        fill_pointer(ingress, "ipMode", "VIP");
    }
}

static SPEC: Path<'static> = Path::new("spec");

fn check_status(_: &Context<'_>, service: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("status.loadBalancer.ingress");
    let ingresses = list(service, "status.loadBalancer.ingress");
    if text(service, "spec.type") != "LoadBalancer" && !ingresses.is_empty() {
        errors.push(all.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return;
    }
    let before = old.map(|old| list(old, "status.loadBalancer.ingress")).unwrap_or_default();
    let before: Seen<&str> = before.iter().map(|known| text(known, "ip")).collect();
    for (index, ingress) in ingresses.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let (ip, host) = (text(ingress, "ip"), text(ingress, "hostname"));
        if !ip.is_empty() && !before.contains(ip) {
            net::check_ip(ip, &at.field("ip"), errors);
        }
        match rules::given(ingress, "ipMode") {
            None if !ip.is_empty() => {
                errors.push(at.field("ipMode").required("must be specified when `ip` is set"));
            }
            Some(_) if ip.is_empty() => {
                errors.push(at.field("ipMode").forbidden("may not be specified when `ip` is not set"));
            }
            _ => rules::one_of(ingress, "ipMode", &["Proxy", "VIP"], &at, errors),
        }
        if !host.is_empty() {
            rules::format(host, names::dns1123_subdomain(host), &at.field("hostname"), errors);
            if net::parse_ip(host).is_some() {
                errors.push(at.field("hostname").invalid(host, "must be a DNS name, not an IP address"));
            }
        }
    }
}

/// The same ranges as an annotation, as they were given before there was a field.
fn annotated_ranges(service: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    const KEY: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let noted = |service: &'_ Tree| {
        get(service, "metadata.annotations").get(KEY).and_then(Tree::as_str).map(str::to_owned)
    };
    let Some(ranges) = noted(service) else { return };
    let path = Path::new("metadata.annotations");
    let path = path.key(KEY);
    if text(service, "spec.type") != "LoadBalancer" {
        errors.push(path.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
    if old.and_then(noted).as_ref() != Some(&ranges) && !ranges.trim().is_empty() {
        for range in ranges.split(',') {
            if is_full(errors) {
                break;
            }
            net::check_cidr(range.trim(), &path, errors);
        }
    }
}

fn check(_: &Context<'_>, service: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(service, "spec");
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    let wrong = cluster_addresses(service);
    if let Some(old) = old {
        if wrong.is_empty() {
            cluster_ip_kept(spec, get(old, "spec"), errors);
        }
        load_balancer_kept(spec, get(old, "spec"), errors);
    }
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(SPEC.field("ports").required(""));
    }
    match kind {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {
            if headless && kind != "ClusterIP" {
                let detail = format!("may not be set to 'None' for {kind} services");
                errors.push(SPEC.field("clusterIPs").index(0).invalid("None", &detail));
            }
        }
        "ExternalName" => external_name(spec, errors),
        other => {
            let values = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
            errors.push(SPEC.field("type").not_supported(other, &values));
        }
    }
    ports(spec, kind, errors);
    labels::validate_labels(get(spec, "selector"), &SPEC.field("selector"), errors);
    affinity(spec, errors);
    errors.extend(wrong);
    external_addresses(spec, errors);
    if list(spec, "loadBalancerSourceRanges").is_empty() {
        annotated_ranges(service, old, errors);
    }
    load_balancer(spec, kind, errors);
    let listed = kind == "ClusterIP" && !list(spec, "externalIPs").is_empty();
    let external = matches!(kind, "NodePort" | "LoadBalancer") || listed;
    let policy = text(spec, "externalTrafficPolicy");
    if !policy.is_empty() && !external {
        let detail = "may only be set for externally-accessible services";
        errors.push(SPEC.field("externalTrafficPolicy").invalid(policy, detail));
    } else {
        rules::one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], &SPEC, errors);
    }
    for (field, values) in [
        ("internalTrafficPolicy", ["Cluster", "Local"].as_slice()),
        ("trafficDistribution", &["PreferClose", "PreferSameZone", "PreferSameNode"]),
    ] {
        rules::one_of(spec, field, values, &SPEC, errors);
    }
    let check = number(spec, "healthCheckNodePort");
    let open = kind == "LoadBalancer" && policy == "Local";
    if check != 0 && open {
        rules::port(check, &SPEC.field("healthCheckNodePort"), errors);
    }
    if check != 0 && !(kind == "LoadBalancer" && policy == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(SPEC.field("healthCheckNodePort").invalid(check, detail));
    }
    topology(get(service, "metadata.annotations"), errors);
}

/// The old annotation says what the new one says.
fn topology(annotations: &Tree, errors: &mut Vec<Cause>) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    if let (Some(mode), Some(hints)) = (rules::given(annotations, MODE), rules::given(annotations, HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Path::new("metadata.annotations").key(MODE).invalid(mode, &detail));
    }
}

/// Checks fields that only services of type LoadBalancer have.
fn load_balancer(spec: &Tree, kind: &str, errors: &mut Vec<Cause>) {
    let detail = "may only be used when `type` is 'LoadBalancer'";
    let other = kind != "LoadBalancer";
    if !list(spec, "loadBalancerSourceRanges").is_empty() {
        if other {
            errors.push(SPEC.field("LoadBalancerSourceRanges").forbidden(detail));
        }
        source_ranges(spec, errors);
    }
    if other && has(spec, "allocateLoadBalancerNodePorts") {
        errors.push(SPEC.field("allocateLoadBalancerNodePorts").forbidden(detail));
    }
    if let Some(class) = rules::given(spec, "loadBalancerClass") {
        if other {
            errors.push(SPEC.field("loadBalancerClass").forbidden(detail));
        }
        rules::format(class, names::qualified_name(class), &SPEC.field("loadBalancerClass"), errors);
    }
}

fn external_name(spec: &Tree, errors: &mut Vec<Cause>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !unset(get(spec, field)) {
            errors.push(SPEC.field(field).forbidden("may not be set for ExternalName services"));
        }
    }
    let name = text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(SPEC.field("externalName").required(""));
    } else {
        rules::format(name, names::dns1123_subdomain(name), &SPEC.field("externalName"), errors);
    }
}

fn ports(spec: &Tree, kind: &str, errors: &mut Vec<Cause>) {
    let ports = list(spec, "ports");
    let all = SPEC.field("ports");
    let (mut names_seen, mut nodes, mut identities) = (Seen::new(), Seen::new(), Seen::new());
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
            if names_seen.repeats(name) {
                errors.push(at.field("name").duplicate(name));
            }
        }
        rules::port(number(port, "port"), &at.field("port"), errors);
        let protocol = text(port, "protocol");
        if protocol.is_empty() {
            errors.push(at.field("protocol").required(""));
        } else if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(at.field("protocol").not_supported(protocol, &["SCTP", "TCP", "UDP"]));
        }
        super::probe::port(get(port, "targetPort"), &at.field("targetPort"), errors);
        let application = text(port, "appProtocol");
        if !application.is_empty() {
            rules::format(application, names::qualified_name(application), &at.field("appProtocol"), errors);
        }
        if rules::given(port, "appProtocol") == Some("") {
            rules::format("", names::qualified_name(""), &at.field("appProtocol"), errors);
        }
        let node = number(port, "nodePort");
        if node != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(at.field("nodePort").forbidden(&detail));
        }
        if node != 0 && nodes.repeats((node, protocol)) {
            errors.push(at.field("nodePort").duplicate(node));
        }
        if identities.repeats((number(port, "port"), protocol)) {
            let shown = json!({"port": get(port, "port"), "protocol": protocol});
            let shown = crate::internal::shown(&shown, "core.v1.ServicePort");
            errors.push(at.duplicate(shown));
        }
    }
}

fn affinity(spec: &Tree, errors: &mut Vec<Cause>) {
    match text(spec, "sessionAffinity") {
        "" => errors.push(SPEC.field("sessionAffinity").required("")),
        "None" => {
            if has(spec, "sessionAffinityConfig") {
                let detail = "must not be set when session affinity is None";
                errors.push(SPEC.field("sessionAffinityConfig").forbidden(detail));
            }
        }
        "ClientIP" => {
            let seconds = number(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
            if !(1..=86_400).contains(&seconds) {
                let at = SPEC.field("sessionAffinityConfig.clientIP.timeoutSeconds");
                errors.push(at.invalid(seconds, "must be greater than 0 and less than 86400"));
            }
        }
        other => errors.push(SPEC.field("sessionAffinity").not_supported(other, &["ClientIP", "None"])),
    }
}

fn external_addresses(spec: &Tree, errors: &mut Vec<Cause>) {
    let external = SPEC.field("externalIPs");
    for (index, address) in texts(spec, "externalIPs").enumerate() {
        if is_full(errors) {
            break;
        }
        special_ip(address, &external.index(index), errors);
    }
}

fn source_ranges(spec: &Tree, errors: &mut Vec<Cause>) {
    let ranges = SPEC.field("LoadBalancerSourceRanges");
    for (index, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        if is_full(errors) {
            break;
        }
        let range = range.trim();
        net::check_cidr(range, &ranges.index(index), errors);
    }
}

/// An address that traffic may be sent to: well written, and of no special range.
pub(super) fn special_ip(address: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match net::ip_problem(address) {
        Some(problem) => errors.push(path.invalid(address, problem)),
        None => endpoint_ip(address, path, errors),
    }
}

/// An address of no special range.
pub(super) fn endpoint_ip(address: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let Some(parsed) = net::parse_ip(address) else {
        errors.push(path.invalid(address, "must be a valid IP address"));
        return;
    };
    let (link_local, multicast) = match parsed {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets().starts_with(&[224, 0, 0])),
        std::net::IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if parsed.is_unspecified() {
        errors.push(path.invalid(address, &format!("may not be unspecified ({address})")));
    } else if parsed.is_loopback() {
        errors.push(path.invalid(address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    } else if link_local {
        errors.push(path.invalid(address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    } else if multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(path.invalid(address, detail));
    }
}

/// Class and health check port of a load balancer are immutable.
fn load_balancer_kept(spec: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let stays = text(spec, "type") == "LoadBalancer" && text(old, "type") == "LoadBalancer";
    if stays && get(spec, "loadBalancerClass") != get(old, "loadBalancerClass") {
        let class = get(spec, "loadBalancerClass");
        errors.push(SPEC.field("loadBalancerClass").invalid(class, "may not change once set"));
    }
    let asks =
        |spec: &Tree| text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local";
    if asks(spec) && asks(old) && number(spec, "healthCheckNodePort") != number(old, "healthCheckNodePort") {
        errors.push(SPEC.field("healthCheckNodePort").forbidden("field is immutable"));
    }
}

/// Whether an update keeps the address that a Service has.
pub fn keeps_address(service: &Tree, old: &Tree) -> bool {
    let mut errors = Vec::new();
    cluster_ip_kept(get(service, "spec"), get(old, "spec"), &mut errors);
    errors.is_empty()
}

fn cluster_ip_kept(spec: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let (now, before) = (text(spec, "clusterIP"), text(old, "clusterIP"));
    let both = text(spec, "type") != "ExternalName" && text(old, "type") != "ExternalName";
    if both && !before.is_empty() && now != before {
        let at = SPEC.field("clusterIPs");
        let shown = match get(spec, "clusterIPs") {
            Tree::Null => Tree::Array(vec![now.into()]),
            ips => ips.clone(),
        };
        errors.push(at.index(0).invalid(&shown, "may not change once set"));
    }
}
