//! A pod's spec, in pods and in templates: its own fields, and what ties its parts together.

mod affinity;
mod amounts;
mod ephemeral;
mod windows;

use std::collections::HashMap;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use crate::kinds::container::{self, Claims, Place, Volumes};
use crate::meta::NameFormat;
use crate::rules::{self, Literal, Rule, Table};
use crate::tree::{Object, fill_pointer, flag, get, has, int, list, member, text, texts};

use affinity::{node_fields, node_requirement, node_values, pod_affinity, spread, weight};

/// The message of what selects nodes.
pub(super) const NODE_SELECTOR: &str = "k8s.io.api.core.v1.NodeSelector";

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.core.v1.PodSpec",
        &[
            Rule::Default("restartPolicy", Literal::Text("Always")),
            Rule::Default("dnsPolicy", Literal::Text("ClusterFirst")),
            Rule::Default("schedulerName", Literal::Text("default-scheduler")),
            Rule::Default("terminationGracePeriodSeconds", Literal::Number(30)),
            Rule::Default("securityContext", Literal::Json("{}")),
            Rule::DefaultFn(service_account),
            Rule::Check(check),
            Rule::Own("volumes"),
            Rule::After(file_volumes),
        ],
    ),
    ("k8s.io.api.core.v1.HostAlias", &[Rule::Check(host_alias)]),
    ("k8s.io.api.core.v1.PodReadinessGate", &[Rule::Check(readiness_gate)]),
    ("k8s.io.api.core.v1.TopologySpreadConstraint", &[Rule::Check(spread)]),
    (
        "k8s.io.api.core.v1.NodeSelector",
        &[
            Rule::RequiredBy("nodeSelectorTerms", "must have at least one node selector term"),
            Rule::After(node_values),
        ],
    ),
    ("k8s.io.api.core.v1.NodeSelectorRequirement", &[Rule::Check(node_requirement)]),
    ("k8s.io.api.core.v1.NodeSelectorTerm", &[Rule::Own("matchFields"), Rule::After(node_fields)]),
    ("k8s.io.api.core.v1.PreferredSchedulingTerm", &[Rule::Check(weight)]),
    ("k8s.io.api.core.v1.WeightedPodAffinityTerm", &[Rule::Check(weight)]),
    ("k8s.io.api.core.v1.PodAffinityTerm", &[Rule::Check(pod_affinity)]),
    ("k8s.io.api.core.v1.PodSecurityContext", &[Rule::Check(security)]),
    ("k8s.io.api.core.v1.SeccompProfile", &[Rule::Check(container::seccomp)]),
];

/// The old name of `serviceAccountName` says the same as the new one.
fn service_account(spec: &mut Object) {
    let name = match member(spec, "serviceAccountName") {
        "" => member(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = Tree::from(name);
        spec.insert("serviceAccountName", name.clone());
        spec.insert("serviceAccount", name);
    }
}

fn check(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    // Volumes that are wrong in themselves are none.
    let mut volumes = Volumes::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(volume, "name");
        let at = path.field("volumes");
        let at = at.index(index);
        let before = errors.len();
        rules::descend(volume, "k8s.io.api.core.v1.Volume", &at, errors);
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        } else {
            rules::format(name, names::dns1123_label(name), &at.field("name"), errors);
        }
        if volumes.contains_key(name) {
            errors.push(at.field("name").duplicate(name));
        }
        if errors.len() == before {
            volumes.insert(name, volume);
        }
    }
    let (all, mut seen) = (path.field("resourceClaims"), Seen::new());
    for (index, claim) in list(spec, "resourceClaims").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        resource_claim(claim, &mut seen, &all.index(index), errors);
    }
    let claims: Claims<'_> = list(spec, "resourceClaims").iter().map(|claim| text(claim, "name")).collect();
    let grace = int(spec, "terminationGracePeriodSeconds").unwrap_or(30);
    let host_network = flag(spec, "hostNetwork");
    let place = Place { volumes: &volumes, claims: &claims, grace, host_network, init: false, spec };
    if list(spec, "containers").is_empty() {
        errors.push(path.field("containers").required(""));
    }
    let (mut seen, mut host_ports) = (Seen::new(), Seen::new());
    for (field, init) in [("containers", false), ("initContainers", true)] {
        let all = path.field(field);
        for (index, one) in list(spec, field).iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let at = all.index(index);
            container::check(one, &at, &Place { init, ..place }, errors);
            let name = text(one, "name");
            if !name.is_empty() && seen.repeats(name) {
                errors.push(at.field("name").duplicate(name));
            }
            if !init {
                container::host_ports(one, &at, &mut host_ports, errors);
            }
        }
    }
    ephemeral::check(spec, path, &place, errors);
    amounts::check(spec, path, errors);
    windows::host_process(spec, path, errors);
    scalars(spec, path, errors);
    tolerations(list(spec, "tolerations"), &path.field("tolerations"), errors);
    dns(spec, path, errors);
    labels::validate_labels(get(spec, "nodeSelector"), &path.field("nodeSelector"), errors);
    let mut seen = Seen::new();
    for (index, gate) in list(spec, "schedulingGates").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(gate, "name");
        let at = path.field("schedulingGates");
        rules::format(name, names::qualified_name(name), &at.index(index), errors);
        if seen.repeats(name) {
            errors.push(at.index(index).duplicate(name));
        }
    }
    let mut first = HashMap::new();
    for (index, one) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let pair = format!("{{{}, {}}}", text(one, "topologyKey"), text(one, "whenUnsatisfiable"));
        let first = *first.entry(pair.clone()).or_insert(index);
        if first < index {
            let all = path.field("topologySpreadConstraints");
            // The first of the two is the one that is named.
            let at = all.index(first);
            errors.push(at.field("{topologyKey, whenUnsatisfiable}").duplicate(&pair));
        }
    }
    host_users(spec, path, errors);
}

/// Files that hold variables lie in the pod's own volumes.
fn file_volumes(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let volumes: HashMap<&str, bool> =
        list(spec, "volumes").iter().map(|volume| (text(volume, "name"), has(volume, "emptyDir"))).collect();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let all = path.field(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            if is_full(errors) {
                break;
            }
            for (place, variable) in list(container, "env").iter().enumerate() {
                if is_full(errors) {
                    break;
                }
                let volume = text(variable, "valueFrom.fileKeyRef.volumeName");
                let known = volumes.get(volume);
                if !has(variable, "valueFrom.fileKeyRef") || known == Some(&true) {
                    continue;
                }
                let at = all.index(index);
                let at = at.field("env");
                let at = at.index(place);
                let at = at.field("valueFrom.fileKeyRef.volumeName");
                errors.push(match known {
                    None => at.not_found(volume),
                    Some(_) => at.invalid(volume, "referenced volume must be of type emptyDir"),
                });
            }
        }
    }
}

fn scalars(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let one_of = |field: &str, values: &[&str], errors: &mut Vec<Cause>| {
        let value = text(spec, field);
        if value.is_empty() {
            errors.push(path.field(field).required(""));
        } else if !values.contains(&value) {
            errors.push(path.field(field).not_supported(value, values));
        }
    };
    one_of("restartPolicy", &["Always", "OnFailure", "Never"], errors);
    one_of("dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    if text(spec, "schedulerName").is_empty() {
        errors.push(path.field("schedulerName").required(""));
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds").filter(|s| !(1..=2_147_483_647).contains(s)) {
        let detail = "must be between 1 and 2147483647, inclusive";
        errors.push(path.field("activeDeadlineSeconds").invalid(seconds, detail));
    }
    let formats: [(&str, NameFormat); 6] = [
        ("nodeName", names::dns1123_subdomain),
        ("serviceAccountName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ];
    for (field, problems) in formats {
        let value = text(spec, field);
        if !value.is_empty() {
            rules::format(value, problems(value), &path.field(field), errors);
        }
    }
    hostname_override(spec, path, errors);
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(path.field("shareProcessNamespace").invalid(true, detail));
    }
    rules::one_of(spec, "preemptionPolicy", &["Never", "PreemptLowerPriority"], path, errors);
    if has(spec, "os") {
        match text(spec, "os.name") {
            "" => errors.push(path.field("os.name").required("")),
            "windows" if has(spec, "resources") => {
                errors.push(path.field("resources").forbidden("may not be set for a windows pod"));
            }
            "linux" | "windows" => {}
            other => errors.push(path.field("os").not_supported(other, &["linux", "windows"])),
        }
    }
}

/// A name that the pod's containers see instead of its own.
fn hostname_override(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const MOST: usize = 64;
    let Some(name) = rules::given(spec, "hostnameOverride") else { return };
    let at = path.field("hostnameOverride");
    if name.len() > MOST {
        errors.push(at.too_long(MOST));
    }
    rules::format(name, names::dns1123_subdomain(name), &at, errors);
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if flag(spec, field) {
            errors.push(at.forbidden(&format!("may not be specified when {field} is true")));
        }
    }
}

/// Users of its own go with nothing else of the host's.
fn host_users(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if get(spec, "hostUsers").as_bool() != Some(false) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.push(path.field(shown).forbidden("when `hostUsers` is false"));
        }
    }
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let all = path.field(field);
        for (index, one) in list(spec, field).iter().enumerate() {
            if is_full(errors) {
                break;
            }
            if !list(one, "volumeDevices").is_empty() {
                let at = all.index(index);
                errors.push(at.field("volumeDevices").forbidden("when `hostUsers` is false"));
            }
        }
    }
}

/// The field errors of tolerations.
pub fn tolerations(tolerations: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    for (index, toleration) in tolerations.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        let [key, operator, value, effect] =
            ["key", "operator", "value", "effect"].map(|f| text(toleration, f));
        if !key.is_empty() {
            rules::format(key, names::qualified_name(key), &at.field("key"), errors);
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(at.field("operator").invalid(operator, detail));
        }
        if has(toleration, "tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(at.field("effect").invalid(effect, detail));
        }
        match operator {
            "Equal" | "" => {
                if let Some(problem) = names::label_value(value).first() {
                    errors.push(at.field("operator").invalid(value, problem));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.push(
                    at.field("operator").invalid(value, "value must be empty when `operator` is 'Exists'"),
                );
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                errors.push(at.field("operator").not_supported(operator, &["Equal", "Exists", "Lt", "Gt"]));
            }
            other => errors.push(at.field("operator").not_supported(other, &["Equal", "Exists"])),
        }
        taint_effect(effect, true, &at.field("effect"), errors);
    }
}

/// The field errors of a taint's or toleration's effect.
pub fn taint_effect(effect: &str, allow_empty: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match effect {
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
        "" if allow_empty => {}
        "" => errors.push(path.required("")),
        other => errors.push(path.not_supported(other, &["NoSchedule", "PreferNoSchedule", "NoExecute"])),
    }
}

fn dns(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let config = get(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            errors
                .push(path.field("dnsConfig").required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(path.field("dnsConfig.nameservers").required(detail));
            return;
        }
    }
    let at = path.field("dnsConfig");
    let servers = at.field("nameservers");
    if list(config, "nameservers").len() > 3 {
        errors.push(servers.invalid(get(config, "nameservers"), "must not have more than 3 nameservers"));
    }
    for (index, server) in texts(config, "nameservers").enumerate() {
        if is_full(errors) {
            break;
        }
        ip(server, &servers.index(index), errors);
    }
    let searches = list(config, "searches");
    if searches.len() > 32 {
        errors.push(
            at.field("searches").invalid(get(config, "searches"), "must not have more than 32 search paths"),
        );
    }
    let all = at.field("searches");
    for (index, search) in texts(config, "searches").enumerate() {
        if is_full(errors) {
            break;
        }
        // alone it is the root
        if search == "." {
            continue;
        }
        let search = search.strip_suffix('.').unwrap_or(search);
        rules::format(search, names::dns_search(search), &all.index(index), errors);
    }
    for (index, option) in list(config, "options").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if text(option, "name").is_empty() {
            errors.push(at.field("options").index(index).required("must not be empty"));
        }
    }
}

/// The complaint about an IP address, if any.
pub fn ip(value: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    crate::net::check_ip(value, path, errors);
}

fn host_alias(alias: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    ip(text(alias, "ip"), &path.field("ip"), errors);
    let all = path.field("hostnames");
    for (index, host) in texts(alias, "hostnames").enumerate() {
        if is_full(errors) {
            break;
        }
        rules::format(host, names::dns1123_subdomain(host), &all.index(index), errors);
    }
}

fn resource_claim<'t>(claim: &'t Tree, seen: &mut Seen<&'t str>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match text(claim, "name") {
        "" => errors.push(path.field("name").required("")),
        name if seen.repeats(name) => errors.push(path.field("name").duplicate(name)),
        name => rules::format(name, names::dns1123_label(name), &path.field("name"), errors),
    }
    let (one, other) = (get(claim, "resourceClaimName"), get(claim, "resourceClaimTemplateName"));
    let detail = match (one.is_null(), other.is_null()) {
        (true, true) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        (false, false) => {
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        }
        _ => "",
    };
    if !detail.is_empty() {
        let shown = crate::internal::shown(claim, "core.v1.PodResourceClaim");
        errors.push(path.invalid(shown, detail));
    }
    for field in ["resourceClaimName", "resourceClaimTemplateName"] {
        rules::formatted(claim, field, names::dns1123_subdomain, path, errors);
    }
}

fn readiness_gate(gate: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let kind = text(gate, "conditionType");
    rules::format(kind, names::qualified_name(kind), &path.field("conditionType"), errors);
}

fn security(context: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(id) = int(context, field) {
            container::user_id(id, &path.field(field), errors);
        }
    }
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.field("supplementalGroups");
        container::user_id(group.as_i64().unwrap_or(0), &at.index(index), errors);
    }
    let all = path.field("sysctls");
    let mut seen = Seen::new();
    for (index, sysctl) in list(context, "sysctls").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(sysctl, "name");
        let at = all.index(index);
        if name.is_empty() {
            errors.push(at.field("name").required(""));
        } else if !sysctl_name(name) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(at.field("name").invalid(name, detail));
        } else if seen.repeats(name) {
            errors.push(at.field("name").duplicate(name));
        }
    }
    for (field, values) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        rules::one_of(context, field, &values, path, errors);
    }
}

fn sysctl_name(name: &str) -> bool {
    let word = |part: &str| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if good(a) && good(z))
            && bytes.iter().all(|&b| good(b) || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(word)
}

/// Defaults of pods that templates do not get: service links, requests from limits, host ports, amounts of the whole.
pub fn pod_defaults(spec: &mut Object) {
    fill_pointer(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork").and_then(Tree::as_bool).unwrap_or(false);
    for field in ["containers", "initContainers"] {
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut);
        for one in containers.into_iter().flatten() {
            container::requests_from_limits(one);
            if host_network {
                container::fill_host_ports(one);
            }
        }
    }
    amounts::default(spec);
}
