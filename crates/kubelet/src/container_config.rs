//! The CRI configuration of a pod's sandbox and containers. Pure: what had to be fetched or mounted comes in
//! [`Inputs`].

pub mod resources;
pub mod security;

use crate::node::swap::Swap;
use crate::pods::{self, name, namespace, uid};
use crate::runtime as keys;
use cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Security(String),
    #[error(transparent)]
    Expansion(#[from] crate::env::Error),
}

/// What a container's configuration needs beyond the pod.
pub struct Inputs<'a> {
    pub restart_count: u32,
    pub image: v1::ImageSpec,
    /// The user the image names: a number, or else a name.
    pub image_uid: Option<i64>,
    pub image_user: String,
    pub env: Vec<crate::env::Variable>,
    pub mounts: Vec<v1::Mount>,
    /// For an ephemeral container: whose processes it sees.
    pub target: Option<String>,
    pub node: &'a Node,
}

/// Facts of the node that every container's configuration needs.
#[derive(Clone, Debug)]
pub struct Node {
    pub memory_capacity: i64,
    pub cgroup_v2: bool,
    pub swap: Swap,
    pub cfs_quota: bool,
    pub cfs_period_microseconds: i64,
    pub seccomp_default: bool,
    pub seccomp_root: std::path::PathBuf,
}

/// Changes exactly when a running container has to be replaced: name and image.
///
/// The value is the one upstream's kubelet writes (FNV-1a over the printed bytes of a small JSON object), so
/// that a kubelet that takes over from another restarts nothing.
pub fn hash(container: &Container) -> String {
    let image = container.image.as_deref().unwrap_or_default();
    let object = serde_json::json!({"image": image, "name": container.name}).to_string();
    let numbers: Vec<String> = object.bytes().map(|byte| byte.to_string()).collect();
    let mut value: u32 = 0x811c_9dc5;
    for byte in format!("([]uint8)[{}]", numbers.join(" ")).bytes() {
        value = (value ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{value:x}")
}

pub fn sandbox(
    pod: &Pod,
    attempt: u32,
    log_directory: &Path,
    hostname: &str,
    dns: v1::DnsConfig,
    cgroup_parent: &str,
) -> v1::PodSandboxConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    let security = spec.security_context.clone().unwrap_or_default();
    let privileged = spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| {
        container.security_context.as_ref().and_then(|it| it.privileged).unwrap_or_default()
    });
    let int = |value: Option<i64>| value.map(|value| v1::Int64Value { value });
    let sysctls = security.sysctls.iter().flatten();
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name(pod).into(),
            uid: uid(pod).into(),
            namespace: namespace(pod).into(),
            attempt,
        }),
        hostname: if pods::is_host_network(pod) { String::new() } else { hostname.into() },
        log_directory: log_directory.display().to_string(),
        dns_config: Some(dns),
        port_mappings: port_mappings(pod),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(security::namespaces(pod, None)),
                run_as_user: int(security.run_as_user),
                run_as_group: int(security.run_as_group.filter(|_| security.run_as_user.is_some())),
                supplemental_groups: security::groups(pod),
                supplemental_groups_policy: security::groups_policy(pod),
                privileged,
                seccomp: Some(v1::SecurityProfile {
                    profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
                    localhost_ref: String::new(),
                }),
                ..Default::default()
            }),
            sysctls: sysctls.map(|it| (it.name.clone(), it.value.clone())).collect(),
            ..Default::default()
        }),
    }
}

fn identity(pod: &Pod) -> BTreeMap<String, String> {
    BTreeMap::from([
        (keys::POD_NAME.to_owned(), name(pod).to_owned()),
        (keys::POD_NAMESPACE.to_owned(), namespace(pod).to_owned()),
        (keys::POD_UID.to_owned(), uid(pod).to_owned()),
    ])
}

fn port_mappings(pod: &Pod) -> Vec<v1::PortMapping> {
    if pods::is_host_network(pod) {
        return Vec::new();
    }
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|it| crate::qos::is_sidecar(it));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.unwrap_or_default() > 0)
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp.into(),
                Some("SCTP") => v1::Protocol::Sctp.into(),
                _ => v1::Protocol::Tcp.into(),
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

pub fn container(pod: &Pod, container: &Container, inputs: Inputs) -> Result<v1::ContainerConfig, Error> {
    security::verify_non_root(pod, container, inputs.image_uid, &inputs.image_user)
        .map_err(Error::Security)?;
    let mut labels = identity(pod);
    labels.insert(keys::CONTAINER_NAME.into(), container.name.clone());
    let expand = |texts: &Option<Vec<String>>| -> Result<Vec<String>, crate::env::Error> {
        texts.iter().flatten().map(|text| crate::env::expand(text, &inputs.env)).collect()
    };
    let user = (inputs.image_uid, inputs.image_user.as_str());
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: inputs.restart_count }),
        image: Some(inputs.image),
        command: expand(&container.command)?,
        args: expand(&container.args)?,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations(pod, container, inputs.restart_count),
        log_path: format!("{}/{}.log", container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or_default(),
        stdin_once: container.stdin_once.unwrap_or_default(),
        tty: container.tty.unwrap_or_default(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources::linux(pod, container, inputs.node)),
            security_context: Some(security::container(pod, container, user, inputs.target, inputs.node)),
        }),
        envs: inputs.env.into_iter().map(|(key, value)| v1::KeyValue { key, value }).collect(),
        mounts: inputs.mounts,
        ..Default::default()
    })
}

fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> BTreeMap<String, String> {
    let path = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".into());
    let mut all = BTreeMap::from([
        (keys::CONTAINER_HASH.to_owned(), hash(container)),
        (keys::RESTART_COUNT.to_owned(), restart_count.to_string()),
        (keys::TERMINATION_MESSAGE_PATH.to_owned(), path),
        (
            keys::TERMINATION_MESSAGE_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        all.insert(keys::DELETION_GRACE.into(), seconds.to_string());
    }
    if let Some(seconds) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        all.insert(keys::TERMINATION_GRACE.into(), seconds.to_string());
    }
    let pre_stop = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if let Some(text) = pre_stop.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(keys::PRE_STOP_HANDLER.into(), text);
    }
    if let Some(text) = container.ports.as_ref().and_then(|ports| serde_json::to_string(ports).ok()) {
        all.insert(keys::CONTAINER_PORTS.into(), text);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ports_and_hash() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}},
            "spec": {"subdomain": "s", "containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}]}
        }))
        .unwrap();
        let config = sandbox(&pod, 2, Path::new("/l"), "p", v1::DnsConfig::default(), "/kubepods/podu");
        assert_eq!(config.port_mappings.len(), 1);
        assert_eq!(config.labels["io.kubernetes.pod.name"], "p");
        assert_eq!(config.labels["app"], "x");
        let mut container = pod.spec.unwrap().containers.remove(0);
        let before = hash(&container);
        container.env = Some(Vec::new());
        assert_eq!(hash(&container), before, "only name and image count");
        container.image = Some("j".into());
        assert_ne!(hash(&container), before);
        let known =
            Container { name: "a".into(), image: Some("busybox:stable".into()), ..Default::default() };
        assert_eq!(hash(&known), "93382c2e", "as upstream's kubelet writes it");
    }
}
