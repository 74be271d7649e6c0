//! What the status of a pod may say.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, by_text, is_full};
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::rules::{self, format};
use crate::tree::{get, has, int, list, number, text};

static STATUS: Path<'static> = Path::new("status");

/// Statuses of containers, and where the spec has the containers.
const CONTAINERS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub(super) fn check(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    super::pod_update::annotations(pod, Some(old), errors);
    let noted = Path::new("metadata.annotations");
    super::pod_annotations::check(get(pod, "metadata.annotations"), get(pod, "spec"), &noted, errors);
    let (status, before, spec) = (get(pod, "status"), get(old, "status"), get(pod, "spec"));
    conditions(status, errors);
    if text(pod, "spec.nodeName") != text(old, "spec.nodeName") {
        errors.push(STATUS.field("nodeName").forbidden("may not be changed directly"));
    }
    nominated(status, before, !text(old, "spec.nodeName").is_empty(), errors);
    if let Some(generation) = int(status, "observedGeneration").filter(|generation| *generation < 0) {
        let path = STATUS.field("observedGeneration");
        errors.push(path.invalid(generation, "must be a non-negative integer"));
    }
    if text(status, "qosClass") != text(before, "qosClass") {
        errors.push(STATUS.field("qosClass").invalid(text(status, "qosClass"), "field is immutable"));
    }
    for (field, place) in CONTAINERS {
        ended(status, before, get(old, "spec"), field, place, errors);
    }
    claims(status, spec, errors);
    extended_claim(get(status, "extendedResourceClaimStatus"), spec, errors);
    pod_addresses(status, before, errors);
    host_addresses(status, before, errors);
    for (field, _) in CONTAINERS {
        users(status, field, text(spec, "os.name"), errors);
    }
    for (field, place) in CONTAINERS {
        devices(status, spec, field, place, errors);
    }
}

fn conditions(status: &Tree, errors: &mut Vec<Cause>) {
    let all = STATUS.field("conditions");
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        if let Some(generation) = int(condition, "observedGeneration").filter(|generation| *generation < 0) {
            errors.push(at.field("observedGeneration").invalid(generation, "must be a non-negative integer"));
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            format(kind, names::qualified_name(kind), &at.field("Type"), errors);
        }
    }
}

fn nominated(status: &Tree, before: &Tree, bound: bool, errors: &mut Vec<Cause>) {
    let (node, path) = (text(status, "nominatedNodeName"), STATUS.field("nominatedNodeName"));
    if node.is_empty() || node == text(before, "nominatedNodeName") {
        return;
    }
    format(node, names::dns1123_subdomain(node), &path, errors);
    if bound {
        errors.push(path.forbidden("may not be set on pods that are already bound to a node"));
    }
}

/// What a container does when it ends: restarted or not, or all with it.
fn restarts(container: &Tree, spec: &Tree, code: i64) -> bool {
    for rule in list(container, "restartPolicyRules") {
        let mut codes = list(rule, "exitCodes.values").iter().filter_map(Tree::as_i64);
        let among = codes.any(|one| one == code);
        let matches = match text(rule, "exitCodes.operator") {
            "In" => among,
            "NotIn" => !among,
            _ => false,
        };
        if matches && text(rule, "action") == "Restart" {
            return true;
        }
    }
    let own = text(container, "restartPolicy");
    match if own.is_empty() { text(spec, "restartPolicy") } else { own } {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

/// Whether the end of one container may restart them all.
fn may_restart_all(spec: &Tree) -> bool {
    let containers = list(spec, "containers").iter().chain(list(spec, "initContainers"));
    containers
        .flat_map(|one| list(one, "restartPolicyRules"))
        .any(|rule| text(rule, "action") == "RestartAllContainers")
}

/// A container that has ended for good stays so.
fn ended(status: &Tree, before: &Tree, spec: &Tree, field: &str, place: &str, errors: &mut Vec<Cause>) {
    let ephemeral = place == "ephemeralContainers";
    if !ephemeral && may_restart_all(spec) {
        return;
    }
    let path = STATUS.field(field);
    let by_name = by_text(list(status, field), "name");
    let places = by_text(list(spec, place), "name");
    for (index, old) in list(before, field).iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(old, "name");
        let runs = by_name.get(name).is_some_and(|new| !has(new, "state.terminated"));
        if !has(old, "state.terminated") || !runs {
            continue;
        }
        let code = number(old, "state.terminated.exitCode");
        let container = places.get(name);
        if ephemeral || !container.is_some_and(|container| restarts(container, spec, code)) {
            let at = path.index(index);
            errors.push(at.field("state").forbidden("may not be transitioned to non-terminated state"));
        }
    }
}

fn claims(status: &Tree, spec: &Tree, errors: &mut Vec<Cause>) {
    let all = STATUS.field("resourceClaimStatuses");
    let mut seen = std::collections::HashSet::new();
    let own: Seen<&str> = list(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect();
    for (index, claim) in list(status, "resourceClaimStatuses").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (name, at) = (text(claim, "name"), all.index(index));
        if !own.contains(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(at.field("name").invalid(name, detail));
        }
        if !seen.insert(name) {
            errors.push(at.field("name").duplicate(name));
        }
        rules::formatted(claim, "resourceClaimName", names::dns1123_subdomain, &at, errors);
    }
}

fn extended_claim(claim: &Tree, spec: &Tree, errors: &mut Vec<Cause>) {
    if claim.is_null() {
        return;
    }
    let path = STATUS.field("extendedResourceClaimStatus");
    let mappings = path.field("requestMappings");
    if list(claim, "requestMappings").is_empty() {
        errors.push(mappings.required("at least one request mapping is required"));
    }
    let (containers, first) =
        (by_text(list(spec, "containers"), "name"), by_text(list(spec, "initContainers"), "name"));
    let mut seen = std::collections::HashSet::new();
    for (index, mapping) in list(claim, "requestMappings").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = mappings.index(index);
        let [container, resource, request] =
            ["containerName", "resourceName", "requestName"].map(|field| text(mapping, field));
        match containers.get(container).or_else(|| first.get(container)) {
            None => errors.push(at.field("containerName").invalid(
                container,
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            )),
            Some(found) if get(found, "resources.requests").get(resource).is_none() => {
                errors.push(at.field("resourceName").invalid(resource, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"));
            }
            Some(_) => {}
        }
        format(request, names::dns1123_label(request), &path.field("requestName"), errors);
        if !seen.insert((container, resource, request)) {
            for (field, value) in
                [("containerName", container), ("resourceName", resource), ("requestName", request)]
            {
                errors.push(at.field(field).duplicate(value));
            }
        }
    }
    match text(claim, "resourceClaimName") {
        "" => errors.push(path.field("resourceClaimName").required("")),
        name => format(name, names::dns1123_subdomain(name), &path.field("resourceClaimName"), errors),
    }
}

/// Addresses that are new must be good ones, and of each family there is one at most.
fn addresses(status: &Tree, before: &Tree, field: &str, errors: &mut Vec<Cause>) {
    let (all, path) = (list(status, field), STATUS.field(field));
    let known: Seen<&str> = list(before, field).iter().map(|address| text(address, "ip")).collect();
    let mut readable = true;
    for (index, address) in all.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let ip = text(address, "ip");
        readable &= crate::net::parse_ip(ip).is_some();
        if !known.contains(ip) {
            crate::net::check_ip(ip, &path.index(index), errors);
        }
    }
    if all.len() < 2 {
        return;
    }
    if !readable {
        let list: Vec<&str> = all.iter().map(|address| text(address, "ip")).collect();
        let first = list.iter().position(|ip| crate::net::parse_ip(ip).is_none()).unwrap_or_default();
        let detail =
            format!("failed to check for dual stack with error:invalid IP[{first}]: {}", list[first]);
        errors.push(path.internal(&detail));
    }
    let sixth = |address: &Tree| text(address, "ip").contains(':');
    if !readable || all.len() > 2 || sixth(&all[0]) == sixth(&all[1]) {
        errors.push(path.invalid(shown(all), "may specify no more than one IP for each IP family"));
    }
}

fn shown(all: &[Tree]) -> Shown<'static> {
    let all: Vec<String> = all.iter().map(|address| format!("{{\"IP\":{}}}", get(address, "ip"))).collect();
    Shown::Plain(if all.is_empty() { "null".to_owned() } else { format!("[{}]", all.join(",")) })
}

fn pod_addresses(status: &Tree, before: &Tree, errors: &mut Vec<Cause>) {
    addresses(status, before, "podIPs", errors);
    let (all, own, path) = (list(status, "podIPs"), text(status, "podIP"), STATUS.field("podIPs"));
    match all.first().map(|first| text(first, "ip")) {
        None if own.is_empty() => {}
        Some(first) if !own.is_empty() => {
            if first != own {
                errors.push(path.index(0).field("ip").invalid(first, "must be equal to `podIP`"));
            }
        }
        _ => {
            errors.push(path.invalid(shown(all), "podIP and podIPs must either both be set or both be unset"))
        }
    }
}

fn host_addresses(status: &Tree, before: &Tree, errors: &mut Vec<Cause>) {
    let Some(first) = list(status, "hostIPs").first().map(|first| text(first, "ip")) else { return };
    if first != text(status, "hostIP") {
        let path = STATUS.field("hostIPs");
        errors.push(path.index(0).field("ip").invalid(first, "must be equal to `hostIP`"));
    }
    addresses(status, before, "hostIPs", errors);
}

fn group(id: i64, at: &Path<'_>, errors: &mut Vec<Cause>) {
    if !(0..=i64::from(i32::MAX)).contains(&id) {
        errors.push(at.invalid(id, &format!("must be between 0 and {}, inclusive", i32::MAX)));
    }
}

fn users(status: &Tree, field: &str, os: &str, errors: &mut Vec<Cause>) {
    let path = STATUS.field(field);
    for (index, one) in list(status, field).iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        let (at, user) = (at.field("user.linux"), get(one, "user.linux"));
        if user.is_null() {
            continue;
        }
        if os == "windows" {
            errors.push(at.forbidden("cannot be set for a windows pod"));
            continue;
        }
        let own = number(user, "uid");
        if !(0..=i64::from(u32::MAX)).contains(&own) {
            let detail = format!("must be between 0 and {}, inclusive", u32::MAX);
            errors.push(at.field("uid").invalid(own, &detail));
        }
        group(number(user, "gid"), &at.field("gid"), errors);
        let groups = at.field("supplementalGroups");
        for (place, id) in list(user, "supplementalGroups").iter().filter_map(Tree::as_i64).enumerate() {
            if is_full(errors) {
                break;
            }
            group(id, &groups.index(place), errors);
        }
    }
}

/// The longest message about a device's health.
const HEALTH_MESSAGE: usize = 1024;

fn devices(status: &Tree, spec: &Tree, field: &str, place: &str, errors: &mut Vec<Cause>) {
    let path = STATUS.field(field);
    let places = by_text(list(spec, place), "name");
    let mapped = mapped(get(status, "extendedResourceClaimStatus"));
    for (index, one) in list(status, field).iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        let (all, at) = (list(one, "allocatedResourcesStatus"), at.field("allocatedResourcesStatus"));
        if place == "ephemeralContainers" {
            if !all.is_empty() {
                errors.push(at.forbidden("must not be specified in container status"));
            }
            continue;
        }
        let container = places.get(text(one, "name"));
        let claims: Seen<String> = container
            .into_iter()
            .flat_map(|container| list(container, "resources.claims"))
            .map(claim)
            .collect();
        for (position, resource) in all.iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let at = at.index(position);
            let name = text(resource, "name");
            if let Some(container) = container {
                let known = match name.strip_prefix("claim:") {
                    None => get(container, "resources.requests").get(name).is_some(),
                    Some(claim) => {
                        let of_container = (text(container, "name"), claim.to_owned());
                        claims.contains(claim) || mapped.contains(&of_container)
                    }
                };
                if !known {
                    let detail = if name.starts_with("claim:") { NO_CLAIM } else { NO_REQUEST };
                    errors.push(at.field("name").invalid(name, detail));
                }
            }
            health(resource, &at.field("resources"), errors);
        }
    }
}

const NO_REQUEST: &str = "must match one of the container's resource requests";
const NO_CLAIM: &str = "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty";

/// A container's claim as its status names it.
fn claim(claim: &Tree) -> String {
    match text(claim, "request") {
        "" => text(claim, "name").to_owned(),
        request => format!("{}/{request}", text(claim, "name")),
    }
}

/// Containers, each with a request of the claim for extended resources that is its own.
fn mapped(extended: &Tree) -> Seen<(&str, String)> {
    let request =
        |mapping| format!("{}/{}", text(extended, "resourceClaimName"), text(mapping, "requestName"));
    let mappings = list(extended, "requestMappings").iter();
    mappings.map(|mapping| (text(mapping, "containerName"), request(mapping))).collect()
}

fn health(resource: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut seen = std::collections::HashSet::new();
    for (index, one) in list(resource, "resources").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (at, health) = (path.index(index), text(one, "health"));
        if !matches!(health, "Healthy" | "Unhealthy" | "Unknown") {
            errors.push(at.field("health").not_supported(health, &["Healthy", "Unhealthy", "Unknown"]));
        }
        match rules::given(one, "message") {
            Some("") => errors.push(at.field("message").required("must be non-empty if specified")),
            Some(message) if message.len() > HEALTH_MESSAGE => {
                errors.push(at.field("message").too_long(HEALTH_MESSAGE));
            }
            _ => {}
        }
        let id = text(one, "resourceID");
        if !seen.insert(id) {
            errors.push(at.field("resourceID").duplicate(id));
        }
    }
}
