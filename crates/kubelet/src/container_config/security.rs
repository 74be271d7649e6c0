//! Security contexts: the pod's and the container's, the latter winning field by field.

use super::Node;
use crate::pods::{is_host_network, title};
use cri::v1;
use cri::v1::NamespaceMode;
use cri::v1::security_profile::ProfileType;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile, SecurityContext};

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The container's context with what it leaves open filled in from the pod's.
pub fn effective(pod: &Pod, container: &Container) -> SecurityContext {
    let pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let mut context = container.security_context.clone().unwrap_or_default();
    context.run_as_user = context.run_as_user.or(pod.run_as_user);
    context.run_as_group = context.run_as_group.or(pod.run_as_group);
    context.run_as_non_root = context.run_as_non_root.or(pod.run_as_non_root);
    context.se_linux_options = context.se_linux_options.or(pod.se_linux_options);
    context.seccomp_profile = context.seccomp_profile.or(pod.seccomp_profile);
    context.app_armor_profile = context.app_armor_profile.or(pod.app_armor_profile);
    context
}

pub fn namespaces(pod: &Pod, target: Option<String>) -> v1::NamespaceOption {
    let spec = pod.spec.clone().unwrap_or_default();
    let pid = if target.is_some() {
        NamespaceMode::Target
    } else if spec.host_pid.unwrap_or_default() {
        NamespaceMode::Node
    } else if spec.share_process_namespace.unwrap_or_default() {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    let of = |host: bool| if host { NamespaceMode::Node } else { NamespaceMode::Pod };
    v1::NamespaceOption {
        network: of(is_host_network(pod)).into(),
        pid: pid.into(),
        ipc: of(spec.host_ipc.unwrap_or_default()).into(),
        target_id: target.unwrap_or_default(),
        userns_options: None,
    }
}

/// Supplemental groups, the volumes' group among them.
pub fn groups(pod: &Pod) -> Vec<i64> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let Some(context) = context else { return Vec::new() };
    context.fs_group.into_iter().chain(context.supplemental_groups.iter().flatten().copied()).collect()
}

pub fn groups_policy(pod: &Pod) -> i32 {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict.into(),
        _ => v1::SupplementalGroupsPolicy::Merge.into(),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, node: &Node) -> v1::SecurityProfile {
    let of =
        |kind: ProfileType| v1::SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() };
    if privileged {
        return of(ProfileType::Unconfined);
    }
    match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => of(ProfileType::RuntimeDefault),
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            v1::SecurityProfile {
                profile_type: ProfileType::Localhost.into(),
                localhost_ref: node.seccomp_root.join(file).display().to_string(),
            }
        }
        None if node.seccomp_default => of(ProfileType::RuntimeDefault),
        _ => of(ProfileType::Unconfined),
    }
}

pub fn container(
    pod: &Pod,
    container: &Container,
    image_user: (Option<i64>, &str),
    target: Option<String>,
    node: &Node,
) -> v1::LinuxContainerSecurityContext {
    let context = effective(pod, container);
    let privileged = context.privileged.unwrap_or_default();
    let capabilities = context.capabilities.clone().unwrap_or_default();
    let int = |value: i64| v1::Int64Value { value };
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    let unmasked = privileged || context.proc_mount.as_deref() == Some("Unmasked");
    let user = context.run_as_user.or(image_user.0);
    let user_name = if user.is_none() { image_user.1.to_owned() } else { String::new() };
    let apparmor = context.app_armor_profile.as_ref().map(|profile| v1::SecurityProfile {
        profile_type: match profile.type_.as_str() {
            "RuntimeDefault" => ProfileType::RuntimeDefault.into(),
            "Localhost" => ProfileType::Localhost.into(),
            _ => ProfileType::Unconfined.into(),
        },
        localhost_ref: profile.localhost_profile.clone().unwrap_or_default(),
    });
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        selinux_options: context.se_linux_options.map(|options| v1::SeLinuxOption {
            user: options.user.unwrap_or_default(),
            role: options.role.unwrap_or_default(),
            r#type: options.type_.unwrap_or_default(),
            level: options.level.unwrap_or_default(),
        }),
        run_as_user: user.map(int),
        run_as_group: context.run_as_group.map(int),
        run_as_username: user_name,
        readonly_rootfs: context.read_only_root_filesystem.unwrap_or_default(),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: context.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { texts(MASKED) },
        readonly_paths: if unmasked { Vec::new() } else { texts(READ_ONLY) },
        seccomp: Some(seccomp(context.seccomp_profile.as_ref(), privileged, node)),
        apparmor,
        ..Default::default()
    }
}

/// `runAsNonRoot`: the text says why the container may not start.
pub fn verify_non_root(
    pod: &Pod,
    container: &Container,
    image_uid: Option<i64>,
    image_user: &str,
) -> Result<(), String> {
    let context = effective(pod, container);
    if context.run_as_non_root != Some(true) {
        return Ok(());
    }
    let pod = title(pod);
    let name = &container.name;
    match (context.run_as_user, image_uid) {
        (Some(0), _) => {
            Err(format!("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {name})"))
        }
        (Some(_), _) => Ok(()),
        (None, _) if !image_user.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root (pod: {pod:?}, container: {name})"
        )),
        (None, None | Some(0)) => Err(format!(
            "container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {name})"
        )),
        (None, Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_root() {
        let check = |context: serde_json::Value, uid: Option<i64>, user: &str, expect: &str| {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"securityContext": {"runAsNonRoot": true},
                         "containers": [{"name": "c", "securityContext": context}]}
            }))
            .unwrap();
            let container = &pod.spec.as_ref().unwrap().containers[0];
            let text = verify_non_root(&pod, container, uid, user).err().unwrap_or_default();
            assert!(text.contains(expect) && text.is_empty() == expect.is_empty(), "{text} / {expect}");
        };
        check(serde_json::json!({}), Some(0), "", "image will run as root");
        check(serde_json::json!({}), None, "app", "non-numeric user (app)");
        check(serde_json::json!({}), Some(5), "", "");
        check(serde_json::json!({"runAsUser": 0}), Some(5), "", "breaks non-root policy");
        check(serde_json::json!({"runAsNonRoot": false}), Some(0), "", "");
    }
}
