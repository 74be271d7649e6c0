//! Whether a pod that was bound here fits: the scheduler decides with older knowledge than ours.

mod node;

pub use node::refresh;

use crate::eviction::Pressure;
use crate::node::machine;
use crate::pods::{self, phase_is_terminal};
use crate::qos::{self, Amounts, Class};
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Taint};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

pub fn admit(kubelet: &Kubelet, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), Refusal> {
    let live = others.iter().filter_map(|other| {
        let found = kubelet.pods.status(pods::uid(other));
        (!is_over(other, found.as_deref())).then(|| kubelet.allocations.taken(other))
    });
    let live: Vec<Cow<Pod>> = live.collect();
    let live: Vec<&Pod> = live.iter().map(Cow::as_ref).collect();
    let free = kubelet.allocatable();
    let mut allocatable = Amounts::new();
    allocatable.insert("cpu".into(), i128::from(free.cpu_milli));
    allocatable.insert("memory".into(), i128::from(free.memory_bytes) * 1000);
    allocatable.insert("ephemeral-storage".into(), i128::from(free.ephemeral_storage_bytes) * 1000);
    for (page, count) in &kubelet.machine.hugepages {
        let bytes = i128::from(*page) * i128::from(*count) * 1024;
        allocatable.insert(machine::hugepages(*page), bytes * 1000);
    }
    pressure(pod, &kubelet.pressure.read())?;
    sysctls(pod, &kubelet.config.allowed_unsafe_sysctls)?;
    features(pod, app_armor())?;
    // The node makes room for what is its own, and drives none of it away.
    let is_static = pods::is_static(pod);
    if !is_static {
        resources(pod, &live, &allocatable, i64::from(kubelet.config.max_pods))?;
    }
    let node = kubelet.node_facts.read().clone();
    node::affinity(pod, &kubelet.node_name, &node)?;
    ports(pod, &live)?;
    if !is_static {
        node::taints(pod, &node)?;
    }
    declared(pod)
}

/// Under pressure the node takes in only what it cannot do without, and where it lacks memory alone, what asked for some.
fn pressure(pod: &Pod, now: &Pressure) -> Result<(), Refusal> {
    let all = [(now.memory, "MemoryPressure"), (now.disk, "DiskPressure"), (now.pids, "PIDPressure")];
    let conditions: Vec<&str> = all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    if conditions.is_empty() || pods::is_critical(pod) {
        return Ok(());
    }
    let lacks_memory = Taint {
        key: "node.kubernetes.io/memory-pressure".into(),
        effect: "NoSchedule".into(),
        ..Default::default()
    };
    let spares = qos::class(pod) != Class::BestEffort || node::tolerates(pod, &lacks_memory);
    if conditions == ["MemoryPressure"] && spares {
        return Ok(());
    }
    let message = format!("The node had condition: [{}]. ", conditions.join(" "));
    Err(Refusal { reason: "Evicted".into(), message })
}

/// What a pod asks of a node by features that this one does not declare.
fn declared(pod: &Pod) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let rules = containers.flat_map(|it| it.restart_policy_rules.iter().flatten());
    let missing = [
        (
            "RestartAllContainersOnContainerExits",
            rules.into_iter().any(|it| it.action == "RestartAllContainers"),
        ),
        (
            "UserNamespacesHostNetworkSupport",
            spec.host_network == Some(true) && spec.host_users == Some(false),
        ),
    ];
    let missing: Vec<&str> = missing.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("Pod requires node features that are not available: {}", missing.join(", "));
    Err(Refusal { reason: "PodFeatureUnsupported".into(), message })
}

/// Whether a pod uses nothing any more: by the API server's copy, or by what this kubelet has found out since. After a
/// restart it has found out nothing yet.
fn is_over(pod: &Pod, found: Option<&PodStatus>) -> bool {
    let over = |status: Option<&PodStatus>| phase_is_terminal(status.and_then(|it| it.phase.as_deref()));
    over(pod.status.as_ref()) || over(found)
}

/// Sysctls that affect nothing outside the pod.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What the node cannot give a pod, which must then not run without.
fn features(pod: &Pod, app_armor: bool) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let refusal = |reason: &str, message: &str| Refusal { reason: reason.into(), message: message.into() };
    let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if labelled.is_some_and(|os| os != "linux") {
        let text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(refusal("PodOSSelectorNodeLabelDoesNotMatch", text));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let text = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refusal("PodOSNotSupported", text));
    }
    let groups = spec.security_context.as_ref().and_then(|it| it.supplemental_groups_policy.as_deref());
    if groups == Some("Strict") {
        let text = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(refusal("SupplementalGroupsPolicyNotSupported", text));
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_containers = containers.filter_map(|it| it.security_context.as_ref()?.app_armor_profile.as_ref());
    let of_pod = spec.security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
    if !app_armor && of_containers.chain(of_pod).any(|profile| profile.type_ != "Unconfined") {
        let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return Err(refusal("AppArmor", text));
    }
    Ok(())
}

fn app_armor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// The namespace of the host that a setting would change, where the pod shares it.
fn shared_with_host(pod: &Pod, sysctl: &str) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    if spec.host_network == Some(true) && sysctl.starts_with("net.") {
        Some("Net")
    } else if spec.host_ipc == Some(true) && ipc.iter().any(|prefix| sysctl.starts_with(prefix)) {
        Some("ipc")
    } else {
        None
    }
}

/// `allowed` are names, or prefixes ending in `*`.
fn sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Refusal> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    for sysctl in context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        let listed = SAFE_SYSCTLS.contains(&name.as_str()) || allowed.iter().any(fits);
        let why = match shared_with_host(pod, &name) {
            Some(namespace) => format!("not allowed with host {namespace} enabled"),
            None if !listed => "not allowlisted".to_owned(),
            None => continue,
        };
        let message = format!("forbidden sysctl: {:?} {why}", sysctl.name);
        return Err(Refusal { reason: "SysctlForbidden".into(), message });
    }
    Ok(())
}

/// Pure: `allocatable` is in thousandths of units.
fn resources(pod: &Pod, others: &[&Pod], allocatable: &Amounts, max_pods: i64) -> Result<(), Refusal> {
    let short = |name: &str, requested: i128, used: i128, capacity: i128| Refusal {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count + 1 > max_pods {
        return Err(short("pods", 1, count.into(), max_pods.into()));
    }
    let wanted = qos::pod_total(pod, |it| it.requests.as_ref());
    let mut used = Amounts::new();
    for other in others {
        qos::add(&mut used, &qos::pod_total(other, |it| it.requests.as_ref()));
    }
    // Others than the node's own may be the cluster's to give.
    let own = wanted.keys().filter(|name| allocatable.contains_key(*name) || !name.contains('/'));
    let rank = |name: &&String| {
        ["cpu", "memory", "ephemeral-storage"].iter().position(|it| it == *name).unwrap_or(3)
    };
    let mut own: Vec<&String> = own.collect();
    own.sort_by_key(rank);
    for name in own {
        let amount = |all: &Amounts| all.get(name).copied().unwrap_or(0);
        let (wanted, used, capacity) = (amount(&wanted), amount(&used), amount(allocatable));
        let unit = if name == "cpu" { 1 } else { 1000 };
        if wanted > 0 && wanted + used > capacity {
            return Err(short(name, wanted / unit, used / unit, capacity / unit));
        }
    }
    Ok(())
}

/// A check of the scheduler's, made again here.
fn predicate(name: &str, text: &str) -> Refusal {
    Refusal { reason: name.into(), message: format!("Predicate {name} failed: {text}") }
}

fn ports(pod: &Pod, others: &[&Pod]) -> Result<(), Refusal> {
    let taken: HashSet<_> = others.iter().flat_map(|other| host_ports(other)).collect();
    let conflicts = host_ports(pod).into_iter().any(|(protocol, ip, port)| {
        taken.iter().any(|(other_protocol, other_ip, other_port)| {
            *other_protocol == protocol
                && *other_port == port
                && (*other_ip == ip || other_ip == "0.0.0.0" || ip == "0.0.0.0")
        })
    });
    let text = "node(s) didn't have free ports for the requested pod ports";
    if conflicts { Err(predicate("NodePorts", text)) } else { Ok(()) }
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let containers =
        spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|it| qos::is_sidecar(it)));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|port| *port > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), ip, number))
        })
        .collect()
}

#[cfg(test)]
mod tests;
