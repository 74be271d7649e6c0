//! The Node object: registration, status, and what the runtime says of itself.

pub mod addresses;
pub mod cloud;
pub mod heartbeat;
pub mod lease;
pub mod machine;
pub mod shares;
pub mod status;
pub mod swap;

use crate::config::KubeletConfiguration;
use crate::env::Allocatable;
use crate::events::Normal;
use crate::paths::Paths;
use crate::run::Kubelet;
use client::{Client, Patch};
use cri::v1::{NetworkConfig, RuntimeConfig};
use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use machine::Machine;
use machinery::quantity::Quantity;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Problems in the runtime's own status; `None` means healthy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeHealth {
    pub runtime: Option<String>,
    pub network: Option<String>,
    pub handlers: Vec<cri::v1::RuntimeHandler>,
}

/// Facts that others write into the Node object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub uid: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub taints: Vec<Taint>,
}

impl Facts {
    pub fn of(node: &Node) -> Self {
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default(),
        }
    }

    /// Starts with the labels of a node that is not registered yet.
    pub fn first(labels: &std::collections::BTreeMap<String, String>, name: &str) -> Self {
        Self { labels: all_labels(labels, name), ..Self::default() }
    }
}

/// The labels that a node is registered with.
fn all_labels(
    given: &std::collections::BTreeMap<String, String>,
    name: &str,
) -> std::collections::BTreeMap<String, String> {
    let arch = machine::architecture();
    let mut labels = given.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

pub fn name(given: &str) -> anyhow::Result<String> {
    let name = match given {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        given => given.to_owned(),
    };
    let name = name.trim().to_lowercase();
    anyhow::ensure!(!name.is_empty(), "empty hostname is invalid");
    Ok(name)
}

fn reserved(config: &KubeletConfiguration, name: &str) -> i128 {
    let of = |map: &std::collections::BTreeMap<String, String>| {
        map.get(name).and_then(|text| Quantity::parse(text).ok()).map_or(0, |it| it.milli())
    };
    of(&config.system_reserved) + of(&config.kube_reserved)
}

/// An eviction threshold in bytes: a quantity, or a share of the capacity.
pub(crate) fn threshold(config: &KubeletConfiguration, signal: &str, capacity: i64) -> i64 {
    let Some(text) = config.eviction_hard.get(signal) else { return 0 };
    match text.strip_suffix('%') {
        Some(percent) => {
            // A share is kept in single precision, as upstream does: the figure is visible to the byte.
            let percent: f32 = percent.trim().parse().unwrap_or_default();
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            let bytes = (capacity as f64 * f64::from(percent / 100.0)) as i64;
            bytes
        }
        None => Quantity::parse(text).map(|it| it.value()).unwrap_or_default(),
    }
}

/// What pods may use: capacity without what is reserved and kept free.
pub fn allocatable(config: &KubeletConfiguration, machine: &Machine, paths: &Paths) -> Allocatable {
    let storage = machine::disk_capacity(&paths.root);
    let bytes = |milli: i128| i64::try_from(milli / 1000).unwrap_or_default();
    Allocatable {
        cpu_milli: machine.cpus * 1000 - i64::try_from(reserved(config, "cpu")).unwrap_or_default(),
        memory_bytes: machine.memory_bytes
            - bytes(reserved(config, "memory"))
            - threshold(config, "memory.available", machine.memory_bytes),
        ephemeral_storage_bytes: storage
            - bytes(reserved(config, "ephemeral-storage"))
            - threshold(config, "nodefs.available", storage),
    }
}

/// Asks the runtime how it is.
pub async fn update_runtime_health(kubelet: &Kubelet) {
    let health = match kubelet.runtime.status(false).await {
        Err(error) => RuntimeHealth {
            runtime: Some(format!("container runtime is down: {error}")),
            network: kubelet.network_problem(),
            handlers: kubelet.runtime_health.read().handlers.clone(),
        },
        Ok(answer) => {
            let conditions = answer.status.unwrap_or_default().conditions;
            let problem = |kind: &str, prefix: &str| match conditions.iter().find(|it| it.r#type == kind) {
                Some(it) if it.status => None,
                Some(it) => Some(format!("{prefix}{kind}=false reason:{} message:{}", it.reason, it.message)),
                None => Some(format!("{prefix}{kind}=false")),
            };
            RuntimeHealth {
                runtime: problem("RuntimeReady", "container runtime not ready: "),
                network: problem("NetworkReady", "container runtime network not ready: "),
                handlers: answer.runtime_handlers,
            }
        }
    };
    let is_ready = health.network.is_none();
    let before = std::mem::replace(&mut *kubelet.runtime_health.write(), health);
    if is_ready && before.network.is_some() {
        kubelet.pods.wake_all();
    }
}

pub async fn watch_runtime(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => update_runtime_health(&kubelet).await,
        }
    }
}

/// Registers the node, then reports its status: at once when it changed, else now and then.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let Some(client) = &kubelet.client else { return };
    let mut heartbeat = heartbeat::Heartbeat::new(client, &kubelet.config);
    let mut last: Option<(Value, Instant)> = None;
    let mut pod_cidr = String::new();
    let mut registered = !kubelet.config.register_node;
    let mut pause = Duration::from_millis(200);
    loop {
        if !registered {
            let outcome = register(&kubelet, &heartbeat.client).await;
            heartbeat.note(&outcome);
            match outcome {
                Ok(()) => {
                    registered = true;
                    info!(node = kubelet.node_name, "Successfully registered node");
                }
                Err(error) => warn!(%error, "Unable to register node with API server, will retry"),
            }
        }
        if registered {
            let outcome = report(&kubelet, &heartbeat.client, &mut last, &mut pod_cidr).await;
            heartbeat.note(&outcome);
            match outcome {
                Ok(ready) => {
                    let period = kubelet.config.node_status_update_frequency.0;
                    // A node that is coming up should be seen to be ready without delay.
                    pause = if ready { period } else { period.min(Duration::from_secs(1)) };
                }
                Err(error) => {
                    warn!(%error, "Unable to update node status");
                    pause = Duration::from_secs(2);
                    if error.is_not_found() {
                        registered = !kubelet.config.register_node;
                    }
                }
            }
        } else {
            pause = (pause * 2).min(Duration::from_secs(7));
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn register(kubelet: &Kubelet, client: &Client) -> client::Result<()> {
    let labels = all_labels(&kubelet.labels, &kubelet.node_name);
    let provided = kubelet.cloud.provided();
    let mut annotations = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    if let Some(provided) = provided {
        annotations[cloud::PROVIDED_ADDRESS] = provided.into();
    }
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": kubelet.node_name, "labels": labels, "annotations": annotations},
        "spec": {},
        "status": status::generate(kubelet, None).await,
    });
    if !kubelet.config.provider_id.is_empty() {
        node["spec"]["providerID"] = json!(kubelet.config.provider_id);
    }
    let taints = kubelet.cloud.taints(&kubelet.config.register_with_taints);
    if !taints.is_empty() {
        node["spec"]["taints"] = json!(taints);
    }
    match client.create::<Node>(None, &node).await {
        Ok(created) => {
            kubelet.note_node(&created);
            announce(kubelet, &NodeStatus::default(), &status::generate(kubelet, None).await, &["Ready"]);
            return Ok(());
        }
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    let existing = client.get::<Node>(None, &kubelet.node_name).await?;
    let present = existing.metadata.labels.unwrap_or_default();
    let known = existing.metadata.annotations.unwrap_or_default();
    let known = known.get(cloud::PROVIDED_ADDRESS).map(String::as_str);
    if known.is_some() && provided.is_none() {
        annotations[cloud::PROVIDED_ADDRESS] = Value::Null;
    }
    if known != provided || labels.iter().any(|(key, value)| present.get(key) != Some(value)) {
        let body = json!({"metadata": {"labels": labels, "annotations": annotations}});
        client.patch::<Node>(None, &kubelet.node_name, None, Patch::Strategic(body)).await?;
    }
    Ok(())
}

/// Reports to the API server what changed of the node. Returns whether the node is ready.
async fn report(
    kubelet: &Kubelet,
    client: &Client,
    last: &mut Option<(Value, Instant)>,
    pod_cidr: &mut String,
) -> client::Result<bool> {
    let node = client.get::<Node>(None, &kubelet.node_name).await?;
    kubelet.note_node(&node);
    let spec = node.spec.unwrap_or_default();
    let ranges = spec.pod_cidrs.filter(|it| !it.is_empty()).or_else(|| spec.pod_cidr.map(|it| vec![it]));
    pass_on_pod_cidr(kubelet, &ranges.unwrap_or_default().join(","), pod_cidr).await;
    let old = node.status.unwrap_or_default();
    let new = status::generate(kubelet, Some(&old)).await;
    let ready = new.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
    announce(kubelet, &old, &new, &[]);
    let value = serde_json::to_value(&new).unwrap_or_default();
    let essence = without_heartbeats(&value);
    let due = kubelet.config.node_status_report_frequency.0;
    let fresh = last.as_ref().is_some_and(|(sent, when)| *sent == essence && when.elapsed() < due);
    if !fresh || differs(&old, &essence) {
        let body = json!({"status": status::patch(&old, value)});
        client.patch::<Node>(None, &kubelet.node_name, Some("status"), Patch::Strategic(body)).await?;
        *last = Some((essence, Instant::now()));
    }
    Ok(ready)
}

/// Passes the node's range of pod addresses to the runtime, once there is one: the runtime may configure its network from it.
async fn pass_on_pod_cidr(kubelet: &Kubelet, range: &str, known: &mut String) {
    if range.is_empty() || range == known.as_str() {
        return;
    }
    let config = RuntimeConfig { network_config: Some(NetworkConfig { pod_cidr: range.to_owned() }) };
    match kubelet.runtime.update_runtime_config(config).await {
        Ok(()) => {
            info!(range, "Updated the runtime's range of pod addresses");
            range.clone_into(known);
            update_runtime_health(kubelet).await;
        }
        Err(error) => {
            warn!(%error, range, "Unable to update the runtime's range of pod addresses, will retry")
        }
    }
}

/// Whether somebody else changed a condition of ours, as the node lifecycle controller does with a node it
/// believes lost.
fn differs(old: &NodeStatus, essence: &Value) -> bool {
    let ours = essence["conditions"].as_array().cloned().unwrap_or_default();
    ours.iter().any(|condition| {
        let found =
            old.conditions.iter().flatten().find(|it| Some(it.type_.as_str()) == condition["type"].as_str());
        found.is_none_or(|found| Some(found.status.as_str()) != condition["status"].as_str())
    })
}

fn without_heartbeats(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastHeartbeatTime");
        }
    }
    status
}

/// Events of conditions that changed.
fn announce(kubelet: &Kubelet, old: &NodeStatus, new: &NodeStatus, without: &[&str]) {
    let conditions = new.conditions.iter().flatten();
    for condition in conditions.filter(|it| !without.contains(&it.type_.as_str())) {
        let before = old.conditions.iter().flatten().find(|it| it.type_ == condition.type_);
        if before.is_some_and(|before| before.status == condition.status) {
            continue;
        }
        let reason = match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "True") => "NodeReady",
            ("Ready", _) => "NodeNotReady",
            ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
            ("MemoryPressure", _) => "NodeHasSufficientMemory",
            ("DiskPressure", "True") => "NodeHasDiskPressure",
            ("DiskPressure", _) => "NodeHasNoDiskPressure",
            ("PIDPressure", "True") => "NodeHasInsufficientPID",
            ("PIDPressure", _) => "NodeHasSufficientPID",
            _ => continue,
        };
        let text = format!("Node {} status is now: {reason}", kubelet.node_name);
        kubelet.events.node(&kubelet.node_name, Normal, reason, &text);
    }
}
