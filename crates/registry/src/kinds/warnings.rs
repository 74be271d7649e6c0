//! What is allowed but probably not meant.

use api::Tree;
use api::model::Resource;
use machinery::bounds::Seen;
use machinery::names;

use crate::tree::{get, has, int, list, number, text, texts};

/// The list that both kinds of name complaints end with.
fn not_a_label(object: &Tree, where_used: &str) -> Option<String> {
    let problems = names::dns1123_label(text(object, "metadata.name"));
    (!problems.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {where_used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        )
    })
}

/// Workloads whose pods are named after them.
pub(super) fn workload(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(object, "Pod names and hostnames"));
    }
    if changed(object, old, "spec.template") {
        spec(get(object, "spec.template.spec"), "spec.template.spec", &mut warnings);
    }
    warnings
}

pub(super) fn stateful_set(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if changed(object, old, "spec.template") {
        spec(get(object, "spec.template.spec"), "spec.template.spec", &mut warnings);
    }
    if number(object, "spec.revisionHistoryLimit") < 0 {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    warnings
}

pub(super) fn cron_job(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(object, "Pod names and hostnames"));
    }
    if changed(object, old, "spec.jobTemplate.spec.template") {
        let template = get(object, "spec.jobTemplate.spec.template.spec");
        spec(template, "spec.jobTemplate.spec.template.spec", &mut warnings);
    }
    warnings
}

fn changed(object: &Tree, old: Option<&Tree>, path: &str) -> bool {
    old.is_none_or(|old| get(old, path) != get(object, path))
}

/// What every request for a resource is warned of.
pub fn deprecated(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

pub(super) fn node(node: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if has(node, "spec.configSource") {
        warnings.push("spec.configSource: the feature is no longer supported".to_owned());
    }
    if !text(node, "spec.externalID").is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    warnings
}

pub(super) fn csi_driver(driver: &Tree, _: Option<&Tree>) -> Vec<String> {
    let unsaid =
        !list(driver, "spec.tokenRequests").is_empty() && !has(driver, "spec.serviceAccountTokenInSecrets");
    let text = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    if unsaid { vec![text.to_owned()] } else { Vec::new() }
}

/// A certificate that is none.
pub(super) fn secret(secret: &Tree, _: Option<&Tree>) -> Vec<String> {
    let certificate = get(secret, "data").get("tls.crt").and_then(Tree::as_str);
    // How `-----BEGIN` begins in base64, at any line.
    let none = text(secret, "type") == "kubernetes.io/tls"
        && certificate.is_some_and(|text| !text.contains("LS0tLS1CRUdJTi"));
    let text = "tls: failed to find any PEM data in certificate input";
    if none { vec![text.to_owned()] } else { Vec::new() }
}

pub(super) fn service(service: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if !list(service, "spec.externalIPs").is_empty() {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if text(service, "spec.trafficDistribution") == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    if text(service, "spec.type") != "ExternalName" && !text(service, "spec.externalName").is_empty() {
        let warning = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
        warnings.push(warning.to_owned());
    }
    warnings
}

pub(super) fn pod(pod: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_some() {
        return warnings;
    }
    warnings.extend(not_a_label(pod, "the Pod's hostname"));
    spec(get(pod, "spec"), "spec", &mut warnings);
    warnings
}

/// A pod's spec, its own or a template's.
fn spec(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    affinity(spec, at, warnings);
    let mut seen = Seen::new();
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let ip = text(alias, "ip");
        if seen.repeats(ip) {
            warnings.push(format!("{at}.hostAliases[{index}].ip: duplicate ip {ip:?}"));
        }
    }
    let mut seen = Seen::new();
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        let name = text(secret, "name");
        if name.is_empty() {
            warnings.push(format!("{at}.imagePullSecrets[{index}].name: invalid empty name \"\""));
        } else if seen.repeats(name) {
            warnings.push(format!("{at}.imagePullSecrets[{index}].name: duplicate name {name:?}"));
        }
    }
    for volume in list(spec, "volumes") {
        paths(volume, warnings);
    }
    for field in ["initContainers", "containers"] {
        for (index, one) in list(spec, field).iter().enumerate() {
            container(one, &format!("{at}.{field}[{index}]"), warnings);
        }
    }
}

/// Preferences that nothing can meet.
fn affinity(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let terms = list(get(spec, "affinity.nodeAffinity"), PREFERRED);
    for (index, term) in terms.iter().enumerate() {
        for (place, requirement) in list(term, "preference.matchExpressions").iter().enumerate() {
            for (position, value) in texts(requirement, "values").enumerate() {
                for problem in names::label_value(value) {
                    warnings.push(format!("{at}.affinity.nodeAffinity.{PREFERRED}[{index}].preference.matchExpressions[{place}].values[{position}]: {value} is invalid, {problem}"));
                }
            }
        }
    }
    const MATCHES_NONE: &str = "a null labelSelector results in matching no pod";
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        if !has(constraint, "labelSelector") {
            let at = format!("{at}.topologySpreadConstraints[{index}]");
            warnings.push(format!("{at}.labelSelector: {MATCHES_NONE}"));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = get(spec, "affinity").get(kind).unwrap_or(&Tree::Null);
        for (field, inner) in
            [("requiredDuringSchedulingIgnoredDuringExecution", ""), (PREFERRED, ".podAffinityTerm")]
        {
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

/// Files of one volume that would lie in one place.
fn paths(volume: &Tree, warnings: &mut Vec<String>) {
    let name = text(volume, "name");
    for (field, kind, named) in [
        ("configMap", "ConfigMap", text(volume, "configMap.name")),
        ("secret", "Secret", text(volume, "secret.secretName")),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let items = list(volume, &format!("{field}.items"));
        let mut seen = Seen::new();
        let title = if named.is_empty() { kind.to_owned() } else { format!("{kind} {named:?}") };
        for path in items.iter().map(|item| text(item, "path")) {
            if seen.repeats(path) {
                warnings
                    .push(format!("volume {name:?} ({title}): overlapping paths: {path:?} with {path:?}"));
            }
        }
    }
    let said =
        |source: &Tree| source.as_object().is_some_and(|kinds| kinds.values().any(|kind| !kind.is_null()));
    if list(volume, "projected.sources").iter().any(|source| !said(source)) {
        warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
    }
}

fn container(container: &Tree, at: &str, warnings: &mut Vec<String>) {
    for set in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let value = text(container, &format!("resources.{set}.{name}"));
            if machinery::Quantity::parse(value).is_ok_and(|amount| !amount.is_integer()) {
                warnings.push(format!(
                    "{at}.resources.{set}[{name}]: fractional byte value {value:?} is invalid, must be an integer"
                ));
            }
        }
    }
    for (index, port) in list(container, "ports").iter().enumerate() {
        let ip = text(port, "hostIP");
        if !ip.is_empty() && int(port, "hostPort").unwrap_or(0) == 0 {
            warnings.push(format!(
                "{at}.ports[{index}]: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                text(port, "name"),
                number(port, "containerPort"),
                text(port, "protocol"),
            ));
        }
    }
    let mut seen = Seen::new();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        let refers = text(variable, "value").contains(&format!("$({name})"));
        if seen.repeats(name) && !refers {
            warnings.push(format!("{at}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}
