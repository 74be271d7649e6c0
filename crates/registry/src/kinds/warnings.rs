//! What is allowed but probably not meant: fields and annotations that are deprecated, values that nothing can use.

mod pods;
mod volumes;

use api::Tree;
use machinery::names;

use crate::kind::Kind;
use crate::net::{cidr_warnings, ip_warning};
use crate::tree::{get, has, list, number, text, texts};

pub(super) use pods::{app_armor, app_armor_profile, pod};

/// What every request for a resource is warned of.
pub fn deprecated(resource: &Kind) -> Option<&str> {
    if let Some(custom) = resource.custom() {
        return custom.deprecated.as_deref();
    }
    match (&*resource.group, &*resource.plural) {
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

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

const POD_NAMES: &str = "Pod names and hostnames";

/// Whether the object is new, or other than it was but for metadata and status.
fn raised(object: &Tree, old: Option<&Tree>) -> bool {
    old.is_none_or(|old| number(old, "metadata.generation") != number(object, "metadata.generation"))
}

/// Workloads whose pods are named after them.
pub(super) fn workload(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(object, POD_NAMES));
    }
    if raised(object, old) {
        // for an update of a replication controller upstream checks the old template
        let controller = text(object, "kind") == "ReplicationController";
        let warned = old.filter(|_| controller).unwrap_or(object);
        pods::template(get(warned, "spec.template"), "spec.template", &mut warnings);
    }
    warnings
}

pub(super) fn pod_template(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if raised(object, old) {
        pods::template(get(object, "template"), "template", &mut warnings);
    }
    warnings
}

pub(super) fn daemon_set(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none_or(|old| get(old, "spec.template") != get(object, "spec.template")) {
        pods::template(get(object, "spec.template"), "spec.template", &mut warnings);
    }
    warnings
}

pub(super) fn stateful_set(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if raised(object, old) {
        pods::template(get(object, "spec.template"), "spec.template", &mut warnings);
    }
    let below = if old.is_some() { ".Spec" } else { "" };
    for (index, claim) in list(object, "spec.volumeClaimTemplates").iter().enumerate() {
        let at = format!("spec.volumeClaimTemplates[{index}]{below}");
        claim_spec(get(claim, "spec"), &at, &mut warnings);
    }
    if number(object, "spec.revisionHistoryLimit") < 0 {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    warnings
}

/// Above both of these the record of failed indexes may not fit into the status.
const COMPLETIONS: i64 = 100_000;
const PARALLELISM: i64 = 10_000;

fn job_spec(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    let many = number(spec, "completions") > COMPLETIONS && number(spec, "parallelism") > PARALLELISM;
    if many && text(spec, "completionMode") == "Indexed" {
        warnings.push(format!("{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    pods::template(get(spec, "template"), &format!("{at}.template"), warnings);
}

pub(super) fn job(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(object, POD_NAMES));
    }
    if raised(object, old) {
        job_spec(get(object, "spec"), "spec", &mut warnings);
    }
    warnings
}

pub(super) fn cron_job(object: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    if old.is_none() {
        warnings.extend(not_a_label(object, POD_NAMES));
    }
    if raised(object, old) {
        job_spec(get(object, "spec.jobTemplate.spec"), "spec.jobTemplate.spec", &mut warnings);
    }
    if old.is_some() && text(object, "spec.schedule").contains("TZ") {
        warnings.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
    }
    warnings
}

/// The deprecation of a node label, if any.
fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

fn deprecated_expressions(term: &Tree, at: &str, warnings: &mut Vec<String>) {
    for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let key = text(requirement, "key");
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{at}.matchExpressions[{index}].key: {key} is {message}"));
        }
    }
}

/// The keys of a map of labels, in order.
fn keys<'t>(tree: &'t Tree, path: &str) -> Vec<&'t str> {
    let mut keys: Vec<&str> = crate::tree::entries(tree, path).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys
}

pub(super) fn node(node: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if has(node, "spec.configSource") {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(node, "spec.externalID").is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (index, cidr) in texts(node, "spec.podCIDRs").enumerate() {
        warnings.extend(cidr_warnings(cidr, &format!("spec.podCIDRs[{index}]")));
    }
    warnings
}

pub(super) fn runtime_class(class: &Tree, _: Option<&Tree>) -> Vec<String> {
    let messages = keys(class, "scheduling.nodeSelector").into_iter().filter_map(deprecated_label);
    messages.map(|message| format!("scheduling.nodeSelector: {message}")).collect()
}

pub(super) fn service_account(account: &Tree, old: Option<&Tree>) -> Vec<String> {
    const KEY: &str = "kubernetes.io/enforce-mountable-secrets";
    let said = |account: &Tree| get(account, "metadata.annotations").get(KEY).is_some();
    let new = said(account) && !old.is_some_and(said);
    let text = format!(
        "metadata.annotations[{KEY}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    );
    if new { vec![text] } else { Vec::new() }
}

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OLD_MOUNTS: &str = "volume.beta.kubernetes.io/mount-options";

pub(super) fn claim(claim: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if get(claim, "metadata.annotations").get(OLD_CLASS).is_some() {
        warnings.push(format!(
            "metadata.annotations[{OLD_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec(get(claim, "spec"), "spec", &mut warnings);
    warnings
}

fn claim_spec(spec: &Tree, at: &str, warnings: &mut Vec<String>) {
    for set in ["requests", "limits"] {
        let amount = text(spec, &format!("resources.{set}.storage"));
        fractional(amount, &format!("{at}.resources.{set}[storage]"), warnings);
    }
}

/// Bytes that are no whole number of them.
fn fractional(amount: &str, at: &str, warnings: &mut Vec<String>) {
    if machinery::quantity::looks_fractional(amount) {
        warnings.push(format!("{at}: fractional byte value {amount:?} is invalid, must be an integer"));
    }
}

pub(super) fn volume(volume: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, message) in [
        (OLD_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
        (OLD_MOUNTS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ] {
        if get(volume, "metadata.annotations").get(key).is_some() {
            warnings.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    if text(volume, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    for (index, term) in list(volume, "spec.nodeAffinity.required.nodeSelectorTerms").iter().enumerate() {
        let at = format!("spec.nodeAffinity.required.nodeSelectorTerms[{index}]");
        deprecated_expressions(term, &at, &mut warnings);
    }
    for field in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
        warnings.extend(volumes::removed(get(volume, "spec"), field, "spec"));
    }
    warnings
}

pub(super) fn storage_class(class: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, topology) in list(class, "allowedTopologies").iter().enumerate() {
        for (place, expression) in list(topology, "matchLabelExpressions").iter().enumerate() {
            if let Some(message) = deprecated_label(text(expression, "key")) {
                warnings.push(format!(
                    "allowedTopologies[{index}].matchLabelExpressions[{place}].key: {message}"
                ));
            }
        }
    }
    warnings
}

pub(super) fn storage_capacity(capacity: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    let topology = get(capacity, "nodeTopology");
    deprecated_expressions(topology, "nodeTopology", &mut warnings);
    for key in keys(topology, "matchLabels") {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("nodeTopology.matchLabels.{key}: {message}"));
        }
    }
    warnings
}

pub(super) fn csi_driver(driver: &Tree, old: Option<&Tree>) -> Vec<String> {
    let same = |old: &Tree| get(old, "spec.tokenRequests") == get(driver, "spec.tokenRequests");
    let unsaid = !list(driver, "spec.tokenRequests").is_empty()
        && !has(driver, "spec.serviceAccountTokenInSecrets")
        && !old.is_some_and(same);
    let text = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    if unsaid { vec![text.to_owned()] } else { Vec::new() }
}

pub(super) fn resource_slice(slice: &Tree, _: Option<&Tree>) -> Vec<String> {
    let driver = text(slice, "spec.driver");
    let warning =
        || format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters");
    if driver.to_lowercase() == driver { Vec::new() } else { vec![warning()] }
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
    let spec = get(service, "spec");
    if get(service, "metadata.annotations").get("service.kubernetes.io/topology-aware-hints").is_some() {
        warnings.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".to_owned());
    }
    let (kind, address) = (text(spec, "type"), text(spec, "clusterIP"));
    if !matches!(address, "" | "None") {
        each_address(spec, "clusterIPs", "spec", &mut warnings);
    }
    let headless = kind == "ClusterIP" && address == "None";
    let externals = !list(spec, "externalIPs").is_empty();
    let balancer = text(spec, "loadBalancerIP");
    if headless {
        if !balancer.is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if externals {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(spec, "sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    each_address(spec, "externalIPs", "spec", &mut warnings);
    if externals && !headless && kind != "ExternalName" {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    warnings.extend(ip_warning(balancer, "spec.loadBalancerIP"));
    for (index, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        warnings.extend(cidr_warnings(range, &format!("spec.loadBalancerSourceRanges[{index}]")));
    }
    if kind == "ExternalName" && externals {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !text(spec, "externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    warnings
}

fn each_address(tree: &Tree, field: &str, at: &str, warnings: &mut Vec<String>) {
    for (index, address) in texts(tree, field).enumerate() {
        warnings.extend(ip_warning(address, &format!("{at}.{field}[{index}]")));
    }
}

/// The addresses that a load balancer got.
pub(super) fn balanced(object: &Tree, _: Option<&Tree>) -> Vec<String> {
    let all = list(object, "status.loadBalancer.ingress").iter().enumerate();
    all.filter_map(|(index, one)| {
        ip_warning(text(one, "ip"), &format!("status.loadBalancer.ingress[{index}]"))
    })
    .collect()
}

pub(super) fn ingress(ingress: &Tree, old: Option<&Tree>) -> Vec<String> {
    const KEY: &str = "kubernetes.io/ingress.class";
    let deprecated = old.is_none()
        && get(ingress, "metadata.annotations").get(KEY).is_some()
        && !has(ingress, "spec.ingressClassName");
    let text = format!("annotation {KEY:?} is deprecated, please use 'spec.ingressClassName' instead");
    if deprecated { vec![text] } else { Vec::new() }
}

pub(super) fn network_policy(policy: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(get(policy, "spec"), field).iter().enumerate() {
            for (place, peer) in list(rule, peers).iter().enumerate() {
                let at = format!("spec.{field}[{index}].{peers}[{place}].ipBlock");
                let block = get(peer, "ipBlock");
                warnings.extend(cidr_warnings(text(block, "cidr"), &format!("{at}.cidr")));
                for (position, except) in texts(block, "except").enumerate() {
                    warnings.extend(cidr_warnings(except, &format!("{at}.except[{position}]")));
                }
            }
        }
    }
    warnings
}

pub(super) fn endpoint_slice(slice: &Tree, old: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() && text(slice, "addressType") == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let manager = get(slice, "metadata.labels").get("endpointslice.kubernetes.io/managed-by");
    let ours = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if !manager.and_then(Tree::as_str).is_some_and(|manager| ours.contains(&manager)) {
        for (index, endpoint) in list(slice, "endpoints").iter().enumerate() {
            each_address(endpoint, "addresses", &format!("endpoints[{index}]"), &mut warnings);
        }
    }
    warnings
}

pub(super) fn endpoints(endpoints: &Tree, _: Option<&Tree>) -> Vec<String> {
    let mut warnings = Vec::new();
    let manager = get(endpoints, "metadata.labels").get("endpoints.kubernetes.io/managed-by");
    if manager.and_then(Tree::as_str) == Some("endpoint-controller") {
        return warnings;
    }
    for (index, subset) in list(endpoints, "subsets").iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            for (place, address) in list(subset, field).iter().enumerate() {
                let at = format!("subsets[{index}].{field}[{place}].ip");
                warnings.extend(ip_warning(text(address, "ip"), &at));
            }
        }
    }
    warnings
}
