//! What pods, services and claims use of a quota's resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Text;
use controllers::views::{
    Container, PersistentVolumeClaim, Pod, Quantities, ResourceQuota, Service, is_of_whole_pods,
};
use machinery::quantity::{Format, Quantity};
use rustc_hash::FxHashMap;

use super::scopes;

/// The objects of a namespace.
pub(super) struct Objects<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) services: &'a [Arc<Service>],
    pub(super) claims: &'a [Arc<PersistentVolumeClaim>],
    /// Of what is counted by number alone.
    pub(super) numbers: &'a FxHashMap<Text, i64>,
}

type Amounts = BTreeMap<Text, Quantity>;

/// Kinds that quotas count under their own names, beside `count/…`.
const PLAIN: [&str; 5] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas", "services"];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// The plural and group of what a quota's resource counts by number.
pub(super) fn counted(name: &str) -> Option<(&str, &str)> {
    match name.strip_prefix("count/") {
        Some(resource) => Some(resource.split_once('.').unwrap_or((resource, ""))),
        None => PLAIN.contains(&name).then_some((name, "")),
    }
}

/// What is used of those resources of a quota that can be known.
pub(super) fn used(quota: &ResourceQuota, objects: &Objects, now: jiff::Timestamp) -> Quantities {
    let mut total = Amounts::new();
    let is_scoped = scopes::is_scoped(quota);
    for name in quota.spec.hard.keys() {
        let number = objects.numbers.get(name);
        let countable = number.is_some() || is_of_pods(name) || is_of_services(name) || is_of_claims(name);
        if countable {
            // Only pods and claims have properties that scopes speak of.
            let count = if is_scoped { 0 } else { number.copied().unwrap_or(0) };
            total.insert(name.clone(), Quantity::new(count, Format::DecimalSi));
        }
    }
    let mut note = |name: &str, amount: Quantity| {
        if let Some(sum) = total.get_mut(name) {
            // What comes first says in which form it is written.
            *sum = if sum.is_zero() { amount } else { sum.add(&amount) };
        }
    };
    for pod in objects.pods.iter().filter(|pod| counts(pod, now) && scopes::has_pod(quota, pod)) {
        pod_usage(pod, &mut note);
    }
    for service in objects.services.iter().filter(|_| !is_scoped) {
        service_usage(service, &mut note);
    }
    for claim in objects.claims.iter().filter(|claim| scopes::has_claim(quota, claim)) {
        claim_usage(claim, &mut note);
    }
    total.into_iter().map(|(name, amount)| (name, amount.to_string().into())).collect()
}

fn is_of_pods(name: &str) -> bool {
    let (prefix, rest) = name.split_once('.').unwrap_or(("", name));
    let compute = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage");
    match prefix {
        "requests" => rest != "storage",
        "limits" => true,
        _ => name == "pods" || compute(name) || name.starts_with("hugepages-"),
    }
}

fn is_of_services(name: &str) -> bool {
    matches!(name, "services.nodeports" | "services.loadbalancers")
}

fn is_of_claims(name: &str) -> bool {
    matches!(name, "persistentvolumeclaims" | "requests.storage") || name.contains(BY_CLASS)
}

/// A pod that ended uses nothing, nor one that should have gone long ago: its node is gone, more likely than not.
fn counts(pod: &Pod, now: jiff::Timestamp) -> bool {
    let meta = &pod.metadata;
    let gone = meta.deletion_timestamp.as_ref().zip(meta.deletion_grace_period_seconds);
    !pod.is_terminal() && gone.is_none_or(|(time, grace)| time.0.as_second() + grace >= now.as_second())
}

fn read(amounts: &Quantities) -> Amounts {
    let amount = |(name, text): (&Text, &Text)| Some((name.clone(), Quantity::parse(text).ok()?));
    amounts.iter().filter_map(amount).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let known = sum.entry(name.clone()).or_insert_with(|| Quantity::new(0, amount.format()));
        *known = known.add(amount);
    }
}

fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if sum.get(name).is_none_or(|known| known < amount) {
            sum.insert(name.clone(), *amount);
        }
    }
}

/// What a pod needs at its peak: its containers and sidecars, or an init container beside the sidecars before it.
fn need(pod: &Pod, of: impl Fn(&Container) -> &Quantities) -> Amounts {
    let mut running = Amounts::new();
    pod.spec.containers.iter().for_each(|container| add(&mut running, &read(of(container))));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in pod.spec.init_containers.iter() {
        let mut own = read(of(container));
        if container.restart_policy == "Always" {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut peak, &own);
    }
    raise(&mut running, &peak);
    running
}

fn pod_usage(pod: &Pod, note: &mut impl FnMut(&str, Quantity)) {
    let overhead = read(&pod.spec.overhead);
    let of_pod = |amounts: &Quantities| read(amounts).into_iter().filter(|(name, _)| is_of_whole_pods(name));
    let mut requests = need(pod, |container| &container.resources.requests);
    requests.extend(of_pod(&pod.spec.resources.requests));
    add(&mut requests, &overhead);
    let mut limits = need(pod, |container| &container.resources.limits);
    limits.extend(of_pod(&pod.spec.resources.limits));
    // The overhead counts only where there is a limit to add it to.
    let limited = overhead.into_iter().filter(|(name, _)| limits.contains_key(name)).collect();
    add(&mut limits, &limited);
    note("pods", Quantity::new(1, Format::DecimalSi));
    for (name, amount) in requests {
        note(&format!("requests.{name}"), amount);
        note(&name, amount);
    }
    for (name, amount) in limits {
        note(&format!("limits.{name}"), amount);
    }
}

fn service_usage(service: &Service, note: &mut impl FnMut(&str, Quantity)) {
    let spec = &service.spec;
    let one = |number: usize| Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi);
    match spec.type_.as_str() {
        "NodePort" => note("services.nodeports", one(spec.ports.len())),
        "LoadBalancer" => {
            let ports = match spec.allocate_load_balancer_node_ports {
                Some(false) => spec.ports.iter().filter(|port| port.node_port != 0).count(),
                _ => spec.ports.len(),
            };
            note("services.nodeports", one(ports));
            note("services.loadbalancers", one(1));
        }
        _ => {}
    }
}

fn claim_usage(claim: &PersistentVolumeClaim, note: &mut impl FnMut(&str, Quantity)) {
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let class = claim.metadata.annotation(CLASS).or(claim.spec.storage_class_name.as_deref());
    let class = class.filter(|class| !class.is_empty());
    let one = || Quantity::new(1, Format::DecimalSi);
    note("persistentvolumeclaims", one());
    if let Some(class) = class {
        note(&format!("{class}{BY_CLASS}persistentvolumeclaims"), one());
    }
    let asked = claim.spec.resources.requests.get("storage").and_then(|text| Quantity::parse(text).ok());
    let given = claim.status.allocated_resources.get("storage").and_then(|text| Quantity::parse(text).ok());
    // A volume that was made larger stays so, whatever the claim asks for by now.
    if let Some(size) = asked.into_iter().chain(given).max() {
        note("requests.storage", size);
        if let Some(class) = class {
            note(&format!("{class}{BY_CLASS}requests.storage"), size);
        }
    }
}
