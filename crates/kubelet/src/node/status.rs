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
use std::collections::BTreeMap;

pub async fn generate(kubelet: &Kubelet, old: Option<&NodeStatus>) -> NodeStatus {
    let machine = &kubelet.machine;
    let version = kubelet.runtime.version().await.unwrap_or_default();
    let health = kubelet.runtime_health.read().clone();
    let (capacity, allocatable) = resources(kubelet);
    let mut addresses: Vec<NodeAddress> = kubelet
        .node_ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: kubelet.node_name.clone() });
    let addresses = kubelet.cloud.addresses(addresses, old);
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
        declared_features: Some(vec!["ExtendWebSocketsToKubelet".into()]),
        runtime_handlers: (!handlers.is_empty()).then_some(handlers),
        ..Default::default()
    }
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
        let unit = if *size >= 1 << 20 { format!("{}Gi", size >> 20) } else { format!("{}Mi", size >> 10) };
        let bytes = size * count / 1024;
        let text = if bytes == 0 { "0".to_owned() } else { format!("{bytes}Mi") };
        capacity.insert(format!("hugepages-{unit}"), Quantity(text.clone()));
        allocatable.insert(format!("hugepages-{unit}"), Quantity(text));
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
