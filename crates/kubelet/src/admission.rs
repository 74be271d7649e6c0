//! Whether a pod that was bound here fits: the scheduler decides with older knowledge than ours.

use crate::allocation;
use crate::pods::{self, phase_is_terminal};
use crate::qos::{self, Amounts};
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

pub fn admit(kubelet: &Kubelet, pod: &Pod, others: &[Arc<Pod>]) -> Result<(), Refusal> {
    if pods::is_static(pod) {
        return Ok(());
    }
    // A resize that cannot be done takes no room.
    let live = others.iter().filter_map(|other| {
        let found = kubelet.pods.status(pods::uid(other));
        let reported = kubelet.reported(other);
        let status = found.as_deref().or(reported.as_ref());
        (!is_over(other, found.as_deref())).then(|| allocation::allocated(other, status))
    });
    let live: Vec<Cow<Pod>> = live.collect();
    let live: Vec<&Pod> = live.iter().map(Cow::as_ref).collect();
    let free = kubelet.allocatable();
    let mut allocatable = Amounts::new();
    allocatable.insert("cpu".into(), i128::from(free.cpu_milli));
    allocatable.insert("memory".into(), i128::from(free.memory_bytes) * 1000);
    allocatable.insert("ephemeral-storage".into(), i128::from(free.ephemeral_storage_bytes) * 1000);
    sysctls(pod, &kubelet.config.allowed_unsafe_sysctls)?;
    features(pod, app_armor())?;
    let labels = node_labels(kubelet);
    check(pod, &live, &allocatable, i64::from(kubelet.config.max_pods), &labels)
}

/// Whether a pod uses nothing any more: by the API server's copy, or by what this kubelet has found out since. After a
/// restart it has found out nothing yet.
fn is_over(pod: &Pod, found: Option<&PodStatus>) -> bool {
    let over = |status: Option<&PodStatus>| phase_is_terminal(status.and_then(|it| it.phase.as_deref()));
    over(pod.status.as_ref()) || over(found)
}

/// Those that touch nothing outside the pod.
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
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        let text = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(refusal("PodOSNotSupported", text));
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

fn node_labels(kubelet: &Kubelet) -> std::collections::BTreeMap<String, String> {
    let mut labels = kubelet.labels.clone();
    labels.insert("kubernetes.io/hostname".into(), kubelet.node_name.clone());
    labels.insert("kubernetes.io/os".into(), "linux".into());
    labels.insert("kubernetes.io/arch".into(), crate::node::machine::architecture().into());
    labels
}

/// Pure: `allocatable` is in thousandths of units.
fn check(
    pod: &Pod,
    others: &[&Pod],
    allocatable: &Amounts,
    max_pods: i64,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<(), Refusal> {
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
    for (name, capacity) in allocatable {
        let (wanted, used) = (wanted.get(name).copied().unwrap_or(0), used.get(name).copied().unwrap_or(0));
        let unit = if name == "cpu" { 1 } else { 1000 };
        if wanted > 0 && wanted + used > *capacity {
            return Err(short(name, wanted / unit, used / unit, capacity / unit));
        }
    }
    let taken: HashSet<_> = others.iter().flat_map(|other| host_ports(other)).collect();
    let conflicts = host_ports(pod).into_iter().any(|(protocol, ip, port)| {
        taken.iter().any(|(other_protocol, other_ip, other_port)| {
            *other_protocol == protocol
                && *other_port == port
                && (*other_ip == ip || other_ip == "0.0.0.0" || ip == "0.0.0.0")
        })
    });
    let failed = |name: &str, text: &str| Refusal {
        reason: name.into(),
        message: format!("Predicate {name} failed: {text}"),
    };
    if conflicts {
        return Err(failed("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let builtin = ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"];
    // Labels set through the API are not known here; only our own can contradict.
    let contradicts = |(key, value): (&String, &String)| {
        builtin.contains(&key.as_str()) && labels.get(key).is_some_and(|label| label != value)
    };
    if selector.is_some_and(|selector| selector.iter().any(contradicts)) {
        return Err(failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    Ok(())
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals() {
        let pod = |spec: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        let cpu = |amount: &str| {
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}))
        };
        let port =
            pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]}));
        let allocatable = Amounts::from([("cpu".to_owned(), 2000)]);
        let run = |pod: &Pod, others: &[&Pod], most: i64| {
            check(pod, others, &allocatable, most, &Default::default())
                .err()
                .map(|it| (it.reason, it.message))
        };
        assert_eq!(run(&cpu("1"), &[&cpu("500m")], 10), None);
        let expect = "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000";
        assert_eq!(run(&cpu("2"), &[&cpu("500m")], 10), Some(("OutOfcpu".into(), expect.into())));
        assert_eq!(run(&cpu("1"), &[&cpu("1")], 1).unwrap().0, "OutOfpods");
        assert_eq!(run(&port, &[&port], 10).unwrap().0, "NodePorts");
    }

    #[test]
    fn what_the_node_cannot_give() {
        let pod = |mut spec: serde_json::Value| -> Pod {
            spec["containers"] = json!([{"name": "c"}]);
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        let reason = |it: Result<(), Refusal>| it.err().map(|it| it.reason);
        assert_eq!(reason(features(&pod(json!({"os": {"name": "linux"}})), false)), None);
        let windows = pod(json!({"os": {"name": "windows"}}));
        assert_eq!(reason(features(&windows, true)).as_deref(), Some("PodOSNotSupported"));
        let confined = |kind: &str| pod(json!({"securityContext": {"appArmorProfile": {"type": kind}}}));
        assert_eq!(reason(features(&confined("RuntimeDefault"), false)).as_deref(), Some("AppArmor"));
        assert_eq!(reason(features(&confined("RuntimeDefault"), true)), None);
        assert_eq!(reason(features(&confined("Unconfined"), false)), None);

        let setting = |name: &str, host: &str| {
            let context = json!({"sysctls": [{"name": name, "value": "1"}]});
            let refusal =
                sysctls(&pod(json!({"securityContext": context, host: true})), &["kernel.sem".into()]);
            refusal.err().map(|it| it.message)
        };
        assert_eq!(setting("net.ipv4.tcp_syncookies", "hostIPC"), None);
        assert_eq!(
            setting("net.ipv4.tcp_syncookies", "hostNetwork").as_deref(),
            Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled")
        );
        assert!(setting("kernel.sem", "hostIPC").is_some());
        assert_eq!(setting("kernel.sem", "hostPID"), None);
    }
}
