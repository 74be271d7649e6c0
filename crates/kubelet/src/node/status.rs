//! The node's status.

use super::machine;
use crate::run::Kubelet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub async fn generate(kubelet: &Kubelet, old: Option<&NodeStatus>) -> NodeStatus {
    let machine = &kubelet.machine;
    let version = kubelet.runtime.version().await.unwrap_or_default();
    let health = kubelet.runtime_health.read().clone();
    let (capacity, allocatable) = resources(kubelet);
    let addresses = kubelet.cloud.addresses(addresses(kubelet, old), old);
    let handlers: Vec<NodeRuntimeHandler> = health
        .handlers
        .iter()
        .map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        })
        .collect();
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(allocatable),
        capacity: Some(capacity),
        conditions: Some(conditions(kubelet, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: kubelet.config.port }),
        }),
        images: Some(images(kubelet).await),
        node_info: Some(NodeSystemInfo {
            architecture: machine::architecture().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!(
                "{}://{}",
                version.runtime_name,
                plain(&version.runtime_version)
            ),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: daemon::version::GIT_VERSION.into(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: (machine.swap_bytes > 0).then_some(NodeSwapStatus { capacity: Some(machine.swap_bytes) }),
            running_in_user_namespace: Some(false),
        }),
        declared_features: Some(DECLARED.map(str::to_owned).into()),
        runtime_handlers: (!handlers.is_empty()).then_some(handlers),
        ..Default::default()
    }
}

/// What the API asks of a node before it lets pods use it.
const DECLARED: [&str; 3] = [
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
];

/// Where the host has no address yet, what was reported before stands.
fn addresses(kubelet: &Kubelet, old: Option<&NodeStatus>) -> Vec<NodeAddress> {
    let own = kubelet.addresses.texts();
    if own.is_empty() {
        return old.and_then(|old| old.addresses.clone()).unwrap_or_default();
    }
    let internal = own.into_iter().map(|address| NodeAddress { type_: "InternalIP".into(), address });
    let name = NodeAddress { type_: "Hostname".into(), address: kubelet.node_name.clone() };
    internal.chain([name]).collect()
}

/// The strategic merge patch that makes a status ours. Its addresses are merged by their type, of which a node with
/// two families has several, so that they are replaced as a whole; and what is gone is named.
pub fn patch(old: &NodeStatus, mut new: Value) -> Value {
    let old = serde_json::to_value(old).unwrap_or_default();
    if let Some(addresses) = new["addresses"].as_array_mut() {
        addresses.push(json!({"$patch": "replace"}));
    }
    let mut clear = |path: &[&str], ours: &dyn Fn(&str) -> bool| {
        let at = |tree: &Value| path.iter().try_fold(tree.clone(), |tree, part| tree.get(part).cloned());
        let (Some(Value::Object(before)), Some(Value::Object(after))) = (at(&old), at(&new)) else { return };
        let target = path.iter().fold(&mut new, |tree, part| &mut tree[*part]);
        for gone in before.keys().filter(|name| !after.contains_key(*name) && ours(name)) {
            target[gone.as_str()] = Value::Null;
        }
    };
    clear(&[], &|name| ["runtimeHandlers", "declaredFeatures"].contains(&name));
    clear(&["nodeInfo"], &|_| true);
    // Other resources are those that somebody advertises through the API.
    for list in ["capacity", "allocatable"] {
        clear(&[list], &|name| name.starts_with("hugepages-"));
    }
    new
}

/// A version without what a distribution put behind it: `1.6.20~ds1` is `1.6.20`.
fn plain(version: &str) -> &str {
    let end = version.find(|it: char| !it.is_ascii_alphanumeric() && !matches!(it, '.' | '-' | '+'));
    &version[..end.unwrap_or(version.len())]
}

type Resources = BTreeMap<String, Quantity>;

fn resources(kubelet: &Kubelet) -> (Resources, Resources) {
    let machine = &kubelet.machine;
    let free = kubelet.allocatable();
    let storage = machine::disk_capacity(&kubelet.paths.root);
    let mut capacity = Resources::new();
    let mut allocatable = Resources::new();
    let kib = |bytes: i64| format!("{}Ki", bytes / 1024);
    let cpu = match free.cpu_milli {
        whole if whole % 1000 == 0 => (whole / 1000).to_string(),
        milli => format!("{milli}m"),
    };
    let max_pods = kubelet.config.max_pods.to_string();
    for (name, total, left) in [
        ("cpu", machine.cpus.to_string(), cpu),
        ("memory", kib(machine.memory_bytes), kib(free.memory_bytes)),
        ("ephemeral-storage", storage.to_string(), free.ephemeral_storage_bytes.to_string()),
        ("pods", max_pods.clone(), max_pods),
    ] {
        capacity.insert(name.into(), Quantity(total));
        allocatable.insert(name.into(), Quantity(left));
    }
    for (size, count) in &machine.hugepages {
        let bytes = size * count / 1024;
        let text = if bytes == 0 { "0".to_owned() } else { format!("{bytes}Mi") };
        capacity.insert(machine::hugepages(*size), Quantity(text.clone()));
        allocatable.insert(machine::hugepages(*size), Quantity(text));
    }
    (capacity, allocatable)
}

/// The largest images, with at most five names each.
async fn images(kubelet: &Kubelet) -> Vec<ContainerImage> {
    const MOST_NAMES: usize = 5;
    let mut images = kubelet.images.list_images(None).await.unwrap_or_default();
    images.sort_by(|a, b| (b.size, &b.id).cmp(&(a.size, &a.id)));
    if let Ok(most) = usize::try_from(kubelet.config.node_status_max_images) {
        images.truncate(most);
    }
    images
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(MOST_NAMES).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

fn conditions(kubelet: &Kubelet, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let pressure = kubelet.pressure.read().clone();
    let health = kubelet.runtime_health.read().clone();
    let problems: Vec<String> =
        [health.runtime, health.network, kubelet.pleg.problem()].into_iter().flatten().collect();
    let choose = |bad: bool, good: [&'static str; 2], worse: [&'static str; 2]| {
        let [reason, message] = if bad { worse } else { good };
        (bad, reason, message.to_owned())
    };
    let ready = match problems.is_empty() {
        true => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        false if problems.len() == 1 => (false, "KubeletNotReady", problems.join("")),
        false => (false, "KubeletNotReady", format!("[{}]", problems.join(", "))),
    };
    let drafts = [
        (
            "MemoryPressure",
            choose(
                pressure.memory,
                ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
                ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
            ),
        ),
        (
            "DiskPressure",
            choose(
                pressure.disk,
                ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
                ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            ),
        ),
        (
            "PIDPressure",
            choose(
                pressure.pids,
                ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
                ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
            ),
        ),
        ("Ready", ready),
    ];
    let now = Time(Timestamp::now());
    drafts
        .into_iter()
        .map(|(kind, (value, reason, message))| {
            let status = if value { "True" } else { "False" };
            let before = old.and_then(|old| old.conditions.iter().flatten().find(|it| it.type_ == kind));
            NodeCondition {
                type_: kind.into(),
                status: status.into(),
                reason: Some(reason.into()),
                message: Some(message),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: before
                    .filter(|before| before.status == status)
                    .and_then(|before| before.last_transition_time.clone())
                    .or_else(|| Some(now.clone())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API server makes of a report.
    fn reported(old: &Value, new: Value) -> Value {
        let patch = json!({"status": patch(&serde_json::from_value(old.clone()).unwrap(), new)});
        let message = api::tables::kind_message("", "v1", "Node").unwrap();
        let tree = |value: &Value| api::Tree::from(value.clone());
        let merged =
            machinery::patch::strategic(&tree(&json!({"status": old})), &tree(&patch), message).unwrap();
        serde_json::to_value(&merged).unwrap()["status"].clone()
    }

    #[test]
    fn reports_leave_what_was_reported() {
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let both = json!([
            address("InternalIP", "10.0.0.1"),
            address("InternalIP", "fd00::1"),
            address("Hostname", "n")
        ]);
        let info = json!({"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
            "osImage": "", "systemUUID": ""});
        let mut with_swap = info.clone();
        with_swap["swap"] = json!({"capacity": 1});
        let new = json!({
            "addresses": both, "nodeInfo": info, "capacity": {"cpu": "2"},
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        for old in [
            json!({}),
            json!({"addresses": both}),
            json!({
                "addresses": [address("InternalIP", "10.0.0.9"), address("ExternalIP", "192.0.2.1")],
                "nodeInfo": with_swap,
                "capacity": {"cpu": "1", "hugepages-2Mi": "0"},
                "runtimeHandlers": [{"name": "old"}],
                "conditions": [{"type": "Ready", "status": "False"}],
            }),
        ] {
            assert_eq!(reported(&old, new.clone()), new, "{old}");
        }
        let foreign = json!({"capacity": {"example.com/dongle": "3"}, "conditions": [{"type": "Other", "status": "True"}]});
        let kept = reported(&foreign, new);
        assert_eq!(kept["capacity"], json!({"cpu": "2", "example.com/dongle": "3"}));
        assert_eq!(kept["conditions"].as_array().unwrap().len(), 2);
    }
}
