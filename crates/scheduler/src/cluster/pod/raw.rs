//! Reading a pod.

mod requests;

use std::collections::BTreeMap;

use api::Tree;
use client::{Key, Metadata, OwnerReference};
use machinery::labels::Selector;
use serde::Deserialize;

use super::volumes::{self, RawVolume};
use super::{
    DeviceEntry, Labels, Needs, Owner, OwnerKind, Pod, PodTerm, Port, Spread, Toleration, TolerationOperator,
};
use crate::cluster::resources::Text;
use crate::cluster::selector::RawTerm;
use crate::cluster::{Effect, Shared, Symbol};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Raw {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    scheduler_name: String,
    priority: Option<i32>,
    preemption_policy: Option<String>,
    containers: Vec<Container>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<BTreeMap<String, Text>>,
    resources: Option<Requirements>,
    node_selector: Option<BTreeMap<String, String>>,
    affinity: Option<Affinity>,
    tolerations: Option<Vec<RawToleration>>,
    scheduling_gates: Option<Vec<Gate>>,
    topology_spread_constraints: Option<Vec<RawSpread>>,
    host_network: bool,
    host_users: Option<bool>,
    volumes: Option<Vec<RawVolume>>,
    resource_claims: Option<Vec<RawEntry>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawEntry {
    name: String,
    resource_claim_name: Option<String>,
    resource_claim_template_name: Option<String>,
}

fn devices(spec: &Spec, status: &Status) -> Box<[DeviceEntry]> {
    let made = status.resource_claim_statuses.iter().flatten();
    let entry = |entry: &RawEntry| {
        let claim =
            |name: &String, is_generated| DeviceEntry::Claim { name: Symbol::new(name), is_generated };
        if let Some(name) = &entry.resource_claim_name {
            return claim(name, false);
        }
        match made.clone().find(|made| made.name == entry.name) {
            None => DeviceEntry::NotYet,
            Some(made) => {
                made.resource_claim_name.as_ref().map_or(DeviceEntry::Unneeded, |name| claim(name, true))
            }
        }
    };
    spec.resource_claims.iter().flatten().map(entry).collect()
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    image: String,
    resources: Requirements,
    ports: Option<Vec<RawPort>>,
    restart_policy: Option<String>,
    restart_policy_rules: Option<Vec<RestartRule>>,
    volume_mounts: Option<Vec<Mount>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RestartRule {
    action: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    bind_mount_options: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requirements {
    requests: Option<BTreeMap<String, Text>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    host_port: i32,
    container_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct Gate {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawToleration {
    key: String,
    operator: Option<TolerationOperator>,
    value: String,
    effect: Option<Effect>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
    pod_affinity: Option<PodAffinity>,
    pod_anti_affinity: Option<PodAffinity>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Option<Vec<Preferred>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelector {
    node_selector_terms: Vec<RawTerm>,
}

#[derive(Deserialize)]
struct Preferred {
    weight: i64,
    preference: RawTerm,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<Vec<RawPodTerm>>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    preferred: Option<Vec<PreferredPodTerm>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreferredPodTerm {
    weight: i64,
    pod_affinity_term: RawPodTerm,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPodTerm {
    topology_key: String,
    label_selector: Option<Tree>,
    namespaces: Option<Vec<String>>,
    namespace_selector: Option<Tree>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpread {
    max_skew: i64,
    topology_key: String,
    when_unsatisfiable: String,
    label_selector: Option<Tree>,
    min_domains: Option<i64>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
    match_label_keys: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    nominated_node_name: Option<String>,
    start_time: Option<jiff::Timestamp>,
    allocated_resources: Option<BTreeMap<String, Text>>,
    resources: Option<Requirements>,
    conditions: Option<Vec<Condition>>,
    resource_claim_statuses: Option<Vec<RawEntry>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl From<Raw> for Pod {
    fn from(raw: Raw) -> Pod {
        let Raw { metadata, mut spec, status } = raw;
        let devices = devices(&spec, &status);
        let needs = needs(&mut spec, &status, &metadata);
        let conditions = status.conditions.unwrap_or_default();
        let disruption = conditions.iter().find(|condition| condition.kind == "DisruptionTarget");
        let preempted = disruption.is_some_and(|disruption| {
            disruption.status == "True" && disruption.reason == "PreemptionByScheduler"
        });
        let condition = conditions
            .into_iter()
            .find(|condition| condition.kind == "PodScheduled" && condition.status == "False")
            .map(|condition| Box::new((condition.status, condition.message)));
        let namespace = Symbol::new(&metadata.namespace);
        Pod {
            key: Key { namespace: namespace.to_arc(), name: metadata.name.into() },
            namespace,
            uid: metadata.uid.into(),
            resource_version: metadata.resource_version.into(),
            generation: metadata.generation,
            labels: Shared::new(Labels::new(&metadata.labels)),
            node: Symbol::new(&spec.node_name),
            needs: Shared::new(needs),
            started: status.start_time.map_or(i64::MAX, |time| time.as_second()),
            deleting: metadata.deletion_timestamp.is_some(),
            preempted: preempted && metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            devices,
            nominated: Symbol::new(status.nominated_node_name.as_deref().unwrap_or_default()),
            condition,
        }
    }
}

fn ports(spec: &Spec) -> Vec<Port> {
    let containers = spec.containers.iter();
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = containers.chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = if spec.host_network { port.container_port } else { port.host_port };
            let every = matches!(port.host_ip.as_str(), "" | "0.0.0.0" | "::");
            (number > 0).then(|| Port {
                address: if every { Symbol::default() } else { Symbol::new(&port.host_ip) },
                protocol: Symbol::new(port.protocol.as_deref().unwrap_or("TCP")),
                port: number,
            })
        })
        .collect()
}

fn needs(spec: &mut Spec, status: &Status, metadata: &Metadata) -> Needs {
    let volumes = spec.volumes.take().unwrap_or_default();
    let features = if spec.node_name.is_empty() { features(spec) } else { Vec::new() };
    let (requests, scored) = requests::of(spec, status);
    let scheduler = if spec.scheduler_name.is_empty() { "default-scheduler" } else { &spec.scheduler_name };
    let affinity = spec.affinity.take().unwrap_or_default();
    let node = affinity.node_affinity.unwrap_or_default();
    let (with, without) =
        (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
    let terms = |terms: Option<Vec<RawPodTerm>>| -> Vec<PodTerm> {
        terms.unwrap_or_default().into_iter().map(pod_term).collect()
    };
    let weighted = |terms: Option<Vec<PreferredPodTerm>>| -> Vec<(i64, PodTerm)> {
        let terms = terms.unwrap_or_default().into_iter();
        terms.map(|term| (term.weight, pod_term(term.pod_affinity_term))).collect()
    };
    // A bound pod's own wishes about nodes no longer matter; what it keeps away from itself does.
    let bound = !spec.node_name.is_empty();
    Needs {
        scheduler: Symbol::new(scheduler),
        priority: spec.priority.unwrap_or(0),
        never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
        requests,
        scored,
        ports: ports(spec),
        gates: spec.scheduling_gates.take().unwrap_or_default().into_iter().map(|gate| gate.name).collect(),
        node_selector: spec
            .node_selector
            .take()
            .unwrap_or_default()
            .iter()
            .filter(|_| !bound)
            .map(|(key, value)| (Symbol::new(key), Symbol::new(value)))
            .collect(),
        required: node
            .required
            .filter(|_| !bound)
            .map(|required| required.node_selector_terms.into_iter().map(Into::into).collect()),
        preferred: node
            .preferred
            .unwrap_or_default()
            .into_iter()
            .filter(|_| !bound)
            .map(|preferred| (preferred.weight, preferred.preference.into()))
            .collect(),
        tolerations: spec
            .tolerations
            .take()
            .unwrap_or_default()
            .into_iter()
            .filter(|_| !bound)
            .map(|raw| Toleration {
                key: Symbol::new(&raw.key),
                operator: raw.operator.unwrap_or_default(),
                value: Symbol::new(&raw.value),
                effect: raw.effect,
            })
            .collect(),
        images: if bound {
            Vec::new()
        } else {
            let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
            let images = containers.map(|container| container.image.as_str());
            let images = images.chain(volumes.iter().filter_map(RawVolume::image));
            images.map(|image| Symbol::new(&normal_image(image))).collect()
        },
        spread: spec
            .topology_spread_constraints
            .take()
            .unwrap_or_default()
            .into_iter()
            .filter(|_| !bound)
            .map(|raw| spread(raw, &metadata.labels))
            .collect(),
        affinity: terms(with.required),
        anti_affinity: terms(without.required),
        preferred_affinity: weighted(with.preferred),
        preferred_anti_affinity: weighted(without.preferred),
        claims: volumes::claims(&metadata.name, &volumes),
        disks: volumes::disks(&volumes),
        features,
        owner: metadata.controller().filter(|_| !bound).and_then(owner),
    }
}

/// Features that kubelets declare, and that not every kubelet has.
fn features(spec: &Spec) -> Vec<Symbol> {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let restarts_all = |container: &Container| {
        let mut rules = container.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == "RestartAllContainers")
    };
    let has_options = |container: &Container| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.bind_mount_options.as_ref().is_some_and(|options| !options.is_empty()))
    };
    let needed = [
        ("RestartAllContainersOnContainerExits", containers().any(restarts_all)),
        ("UserNamespacesHostNetworkSupport", spec.host_network && spec.host_users == Some(false)),
        ("VolumeBindMountOptions", containers().any(has_options)),
    ];
    needed.iter().filter(|(_, is_needed)| *is_needed).map(|(name, _)| Symbol::new(name)).collect()
}

fn owner(reference: &OwnerReference) -> Option<Owner> {
    let kind = match (reference.api_version.as_str(), reference.kind.as_str()) {
        ("v1", "ReplicationController") => OwnerKind::ReplicationController,
        ("apps/v1", "ReplicaSet") => OwnerKind::ReplicaSet,
        ("apps/v1", "StatefulSet") => OwnerKind::StatefulSet,
        _ => return None,
    };
    Some(Owner { kind, name: Symbol::new(&reference.name) })
}

fn selector(label_selector: Option<&Tree>) -> Selector {
    // None selects nothing; the API server has validated the rest.
    label_selector.map_or_else(Selector::nothing, |value| {
        Selector::from_label_selector(value).unwrap_or_else(|_| Selector::nothing())
    })
}

fn pod_term(raw: RawPodTerm) -> PodTerm {
    PodTerm {
        key: Symbol::new(&raw.topology_key),
        selector: selector(raw.label_selector.as_ref()),
        namespaces: raw.namespaces.unwrap_or_default().iter().map(|name| Symbol::new(name)).collect(),
        namespace_selector: raw.namespace_selector.as_ref().map(|value| selector(Some(value))),
    }
}

fn spread(raw: RawSpread, labels: &BTreeMap<String, String>) -> Spread {
    let mut text = raw.label_selector.unwrap_or(Tree::Null);
    for key in raw.match_label_keys.unwrap_or_default() {
        if let Some(value) = labels.get(&key)
            && text.is_object()
        {
            text["matchLabels"][&key] = value.as_str().into();
        }
    }
    Spread {
        max_skew: raw.max_skew,
        key: Symbol::new(&raw.topology_key),
        hard: raw.when_unsatisfiable == "DoNotSchedule",
        selector: selector(Some(&text).filter(|text| text.is_object())),
        min_domains: raw.min_domains.unwrap_or(1),
        honor_affinity: raw.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: raw.node_taints_policy.as_deref() == Some("Honor"),
    }
}

/// Nodes report images with a tag; one without means `:latest`.
fn normal_image(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.to_string() } else { format!("{name}:latest") }
}
