//! A pod's metadata and spec, its own or a template's.

use api::Tree;
use machinery::names;

use super::{deprecated_expressions, deprecated_label, fractional, keys, not_a_label, volumes};
use crate::net::ip_warning;
use crate::tree::{get, has, int, list, number, text, texts};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(in crate::kinds) fn pod(pod: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(pod, "the Pod's hostname"));
        all(pod, "", &mut warnings);
    }
    warnings
}

/// Annotations that stand for a field which the pod does not set.
pub(in crate::kinds) fn app_armor(pod: &Tree, old: Option<&Tree>) -> Vec<String> {
    if old.is_some() || text(pod, "spec.os.name") == "windows" {
        return Vec::new();
    }
    let missing = |container: &(String, &Tree)| {
        let key = format!("{APP_ARMOR}{}", text(container.1, "name"));
        let value = get(pod, "metadata.annotations").get(&key)?.as_str()?;
        let own = has(container.1, "securityContext.appArmorProfile");
        let as_of_pod = app_armor_profile(value)
            .is_some_and(|profile| profile == *get(pod, "spec.securityContext.appArmorProfile"));
        (!own && !as_of_pod).then(|| {
            format!(
                "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            )
        })
    };
    containers(get(pod, "spec"), "spec").iter().filter_map(missing).collect()
}

/// The profile that an annotation names, if it names one.
pub(in crate::kinds) fn app_armor_profile(annotation: &str) -> Option<Tree> {
    match annotation {
        "unconfined" => Some(api::json!({"type": "Unconfined"})),
        "runtime/default" => Some(api::json!({"type": "RuntimeDefault"})),
        other => {
            let profile = other.strip_prefix("localhost/").filter(|profile| !profile.is_empty())?;
            Some(api::json!({"type": "Localhost", "localhostProfile": profile}))
        }
    }
}

/// A template that stands at `at`.
pub(super) fn template(template: &Tree, at: &str, warnings: &mut Vec<String>) {
    if !template.is_null() {
        all(template, &format!("{at}."), warnings);
    }
}

/// Every container with its place, in the order in which they start.
fn containers<'t>(spec: &'t Tree, at: &str) -> Vec<(String, &'t Tree)> {
    let of = |field: &'static str| {
        let all = list(spec, field).iter().enumerate();
        all.map(move |(index, one)| (format!("{at}.{field}[{index}]"), one))
    };
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(of).collect()
}

/// `at` is empty for a pod, else the template's place and a dot.
fn all(holder: &Tree, at: &str, warnings: &mut Vec<String>) {
    let (spec, annotations) = (get(holder, "spec"), get(holder, "metadata.annotations"));
    let (here, noted) = (format!("{at}spec"), format!("{at}metadata.annotations"));
    labels_of_nodes(spec, &here, warnings);
    for (key, message) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if annotations.get(key).is_some() {
            warnings.push(format!("{noted}[{key}]: {message}"));
        }
    }
    volumes::kinds(spec, &here, warnings);
    volumes::overlaps(spec, warnings);
    names_twice(spec, &here, warnings);
    for name in ["memory", "ephemeral-storage"] {
        let amount = get(spec, "overhead").get(name).and_then(Tree::as_str).unwrap_or_default();
        fractional(amount, &format!("{here}.overhead[{name}]"), warnings);
    }
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if !has(spec, "securityContext.seccompProfile") && annotations.get(SECCOMP_POD).is_some() {
        warnings.push(format!("{noted}[{SECCOMP_POD}]: {SECCOMP}"));
    }
    let containers = containers(spec, &here);
    for (place, one) in &containers {
        let key = format!("{SECCOMP_CONTAINER}{}", text(one, "name"));
        if !has(one, "securityContext.seccompProfile") && annotations.get(&key).is_some() {
            warnings.push(format!("{noted}[{key}]: {SECCOMP}"));
        }
        let key = format!("{APP_ARMOR}{}", text(one, "name"));
        let noted_profile = annotations.get(&key).and_then(Tree::as_str);
        if let Some(value) = noted_profile.filter(|_| !at.is_empty())
            && !has(one, "securityContext.appArmorProfile")
        {
            let own = get(spec, "securityContext.appArmorProfile");
            if own.is_null() || app_armor_profile(value).as_ref() != Some(own) {
                warnings.push(format!(
                    "{noted}[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
                ));
            }
        }
        amounts(one, place, warnings);
        variables(one, place, warnings);
    }
    ports(&containers, warnings);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        warnings.push(format!("{here}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    selectors(spec, &here, warnings);
    for (index, server) in texts(spec, "dnsConfig.nameservers").enumerate() {
        warnings.extend(ip_warning(server, &format!("{here}.dnsConfig.nameservers[{index}]")));
    }
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        warnings.extend(ip_warning(text(alias, "ip"), &format!("{here}.hostAliases[{index}].ip")));
    }
}

/// Labels that nodes no longer have, and preferences that nothing can meet.
fn labels_of_nodes(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    for key in keys(spec, "nodeSelector") {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{at}.nodeSelector[{key}]: {message}"));
        }
    }
    let affinity = get(spec, "affinity.nodeAffinity");
    let at_affinity = format!("{at}.affinity.nodeAffinity");
    for (index, term) in list(affinity, &format!("{REQUIRED}.nodeSelectorTerms")).iter().enumerate() {
        deprecated_expressions(
            term,
            &format!("{at_affinity}.{REQUIRED}.nodeSelectorTerms[{index}]"),
            warnings,
        );
    }
    for (index, term) in list(affinity, PREFERRED).iter().enumerate() {
        let at = format!("{at_affinity}.{PREFERRED}[{index}].preference.matchExpressions");
        for (place, requirement) in list(term, "preference.matchExpressions").iter().enumerate() {
            let key = text(requirement, "key");
            if let Some(message) = deprecated_label(key) {
                warnings.push(format!("{at}[{place}].key: {key} is {message}"));
            }
            for (position, value) in texts(requirement, "values").enumerate() {
                for problem in names::label_value(value) {
                    warnings.push(format!("{at}[{place}].values[{position}]: {value} is invalid, {problem}"));
                }
            }
        }
    }
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = format!("{at}.topologySpreadConstraints[{index}]");
        let key = text(constraint, "topologyKey");
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{at}.topologyKey: {key} is {message}"));
        }
        if !has(constraint, "labelSelector") {
            warnings.push(format!("{at}.labelSelector: {MATCHES_NONE}"));
        }
    }
}

const MATCHES_NONE: &str = "a null labelSelector results in matching no pod";

/// Terms of pod affinity that select nothing.
fn selectors(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = get(spec, "affinity").get(kind).unwrap_or(&Tree::Null);
        for (field, inner) in [(REQUIRED, ""), (PREFERRED, ".podAffinityTerm")] {
            for (index, term) in list(affinity, field).iter().enumerate() {
                let term = if inner.is_empty() { term } else { get(term, "podAffinityTerm") };
                if !has(term, "labelSelector") {
                    let at = format!("{at}.affinity.{kind}.{field}[{index}]{inner}");
                    warnings.push(format!("{at}.labelSelector: {MATCHES_NONE}"));
                }
            }
        }
    }
}

/// Host aliases and pull secrets that stand there twice, or without a name.
fn names_twice(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    for (list_name, field, what) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let items = list(spec, list_name);
        let mut seen = std::collections::HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let value = text(item, field);
            if !seen.insert(value) {
                warnings.push(format!("{at}.{list_name}[{index}].{field}: duplicate {what} {value:?}"));
            }
        }
    }
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            warnings.push(format!("{at}.imagePullSecrets[{index}].name: invalid empty name \"\""));
        }
    }
}

fn amounts(container: &Tree, at: &str, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for set in ["limits", "requests"] {
            let amount = text(container, &format!("resources.{set}.{name}"));
            fractional(amount, &format!("{at}.resources.{set}[{name}]"), warnings);
        }
    }
}

/// Variables that are set again without what they were.
fn variables(container: &Tree, at: &str, warnings: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        let (value, reference) = (text(variable, "value"), format!("$({name})"));
        if has(variable, "valueFrom") || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{at}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// How many others each port is compared with: a body full of equal ones costs its own length.
const COMPARED: usize = 32;

/// Ports that are there more than once, by their numbers and then by their names.
fn ports(containers: &[(String, &Tree)], warnings: &mut Vec<String>) {
    type Others<'t> = std::collections::HashMap<(i64, &'t str), Vec<(String, &'t Tree)>>;
    let mut others: Others<'_> = Others::new();
    let all = || {
        containers.iter().flat_map(|(place, one)| {
            let ports = list(one, "ports").iter().enumerate();
            ports.map(move |(index, port)| (format!("{place}.ports[{index}]"), port))
        })
    };
    for (at, port) in all() {
        let (ip, host) = (text(port, "hostIP"), number(port, "hostPort"));
        let (own, protocol) = (number(port, "containerPort"), text(port, "protocol"));
        if !ip.is_empty() && host == 0 {
            warnings.push(format!(
                "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}",
                text(port, "name"),
            ));
        }
        let same = others.entry((own, protocol)).or_default();
        for (place, other) in same.iter().take(COMPARED) {
            let (other_ip, other_host) = (text(other, "hostIP"), number(other, "hostPort"));
            if ip == other_ip && host == other_host {
                warnings.push(format!("{at}: duplicate port definition with {place}"));
            } else if host == 0 || other_host == 0 {
                warnings.push(format!("{at}: overlapping port definition with {place}"));
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                warnings.push(format!("{at}: dangerously ambiguous port definition with {place}"));
            }
        }
        same.push((at, port));
    }
    let mut named: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
    for (at, port) in all() {
        let name = text(port, "name");
        if name.is_empty() {
            continue;
        }
        if let Some(other) = named.get(name) {
            warnings.push(format!(
                "{at}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
            ));
        } else {
            named.insert(name, at);
        }
    }
}
