//! What the baseline forbids: known ways out of a container.

use std::collections::BTreeSet;

use api::Tree;
use registry::references::containers;
use registry::tree::{entries, flag, get, has, list, number, text, texts};

use super::say::{bad, named, plural, quoted, setters, violation};
use super::{Violation, has_own_users};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Sysctls that are namespaced and harmless, with the minor version that first said so.
const SYSCTLS: [(u32, &str); 14] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

pub fn app_armor(pod: &Tree) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |owner: &Tree, path: &str| {
        let profile = text(owner, &format!("{path}.type"));
        let is_bad = has(owner, path) && !matches!(profile, "RuntimeDefault" | "Localhost");
        if is_bad {
            values.insert(profile.to_owned());
        }
        is_bad
    };
    let by_pod = is_bad(pod, "spec.securityContext.appArmorProfile");
    let names = bad(pod, |container| is_bad(container, "securityContext.appArmorProfile"));
    let allowed = |profile: &str| {
        profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/")
    };
    let annotations: BTreeSet<String> = entries(pod, "metadata.annotations")
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| key.starts_with(APP_ARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let by_annotations =
        (!annotations.is_empty()).then(|| plural("annotation", "annotations", annotations.len()).to_owned());
    let setters: Vec<String> = setters(by_pod, &names).into_iter().chain(by_annotations).collect();
    if setters.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let setters = setters.join(" and ");
    Some(violation(reason, format!("{setters} must not set AppArmor profile type to {}", quoted(values))))
}

pub fn capabilities(pod: &Tree) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = bad(pod, |container| {
        let others: Vec<&str> = texts(container, "securityContext.capabilities.add")
            .filter(|capability| !CAPABILITIES.contains(capability))
            .collect();
        added.extend(others.iter().copied());
        !others.is_empty()
    });
    (!names.is_empty()).then(|| {
        let (named, added) = (named(&names), quoted(&added));
        violation(
            "non-default capabilities",
            format!("{named} must not include {added} in securityContext.capabilities.add"),
        )
    })
}

pub fn host_namespaces(pod: &Tree) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| flag(pod, &format!("spec.{field}")))
        .map(|field| format!("{field}=true"))
        .collect();
    (!used.is_empty()).then(|| violation("host namespaces", used.join(", ")))
}

pub fn host_paths(pod: &Tree) -> Option<Violation> {
    let volumes = list(pod, "spec.volumes").iter().filter(|volume| has(volume, "hostPath"));
    let names: Vec<&str> = volumes.map(|volume| text(volume, "name")).collect();
    (!names.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
        violation("hostPath volumes", detail)
    })
}

pub fn host_ports(pod: &Tree) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = bad(pod, |container| {
        let used = list(container, "ports").iter().map(|port| number(port, "hostPort"));
        let used: Vec<String> = used.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        ports.extend(used.iter().cloned());
        !used.is_empty()
    });
    (!names.is_empty()).then(|| {
        let uses = plural("uses", "use", names.len());
        let word = plural("hostPort", "hostPorts", ports.len());
        let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
        violation("hostPort", format!("{} {uses} {word} {ports}", named(&names)))
    })
}

pub fn hosts_of_probes(pod: &Tree) -> Option<Violation> {
    const HANDLERS: [&str; 5] =
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop"];
    let (mut hosts, mut names) = (BTreeSet::new(), BTreeSet::new());
    for container in containers(pod) {
        let of_handler = |handler: &str| {
            [
                text(container, &format!("{handler}.httpGet.host")),
                text(container, &format!("{handler}.tcpSocket.host")),
            ]
        };
        for host in HANDLERS.into_iter().flat_map(of_handler).filter(|host| !host.is_empty()) {
            hosts.insert(host);
            names.insert(text(container, "name"));
        }
    }
    (!names.is_empty()).then(|| {
        let names: Vec<&str> = names.into_iter().collect();
        let uses = plural("uses", "use", names.len());
        let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
        violation("probe or lifecycle host", format!("{} {uses} {word} {}", named(&names), quoted(&hosts)))
    })
}

pub fn privileged(pod: &Tree) -> Option<Violation> {
    let names = bad(pod, |container| flag(container, "securityContext.privileged"));
    (!names.is_empty()).then(|| {
        violation("privileged", format!("{} must not set securityContext.privileged=true", named(&names)))
    })
}

pub fn proc_mount(pod: &Tree) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let names = bad(pod, |container| {
        let kind = get(container, "securityContext.procMount").as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    (!names.is_empty()).then(|| {
        let (named, kinds) = (named(&names), quoted(&kinds));
        violation("procMount", format!("{named} must not set securityContext.procMount to {kinds}"))
    })
}

pub fn proc_mount_of_host_users(pod: &Tree) -> Option<Violation> {
    if has_own_users(pod) { None } else { proc_mount(pod) }
}

pub fn se_linux_0(pod: &Tree) -> Option<Violation> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub fn se_linux_31(pod: &Tree) -> Option<Violation> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn se_linux(pod: &Tree, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |owner: &Tree, path: &str| {
        let options = get(owner, path);
        let kind = text(options, "type");
        let (bad_type, has_user, has_role) =
            (!allowed.contains(&kind), !text(options, "user").is_empty(), !text(options, "role").is_empty());
        if bad_type {
            types.insert(kind.to_owned());
        }
        user |= has_user;
        role |= has_role;
        bad_type || has_user || has_role
    };
    let by_pod = is_bad(pod, "spec.securityContext.seLinuxOptions");
    let names = bad(pod, |container| is_bad(container, "securityContext.seLinuxOptions"));
    let setters = setters(by_pod, &names)?;
    let types =
        (!types.is_empty()).then(|| format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let what = [types, user, role].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Some(violation(
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {what}"),
    ))
}

pub fn seccomp_annotations(pod: &Tree) -> Option<Violation> {
    let annotations = get(pod, "metadata.annotations");
    let of_containers =
        containers(pod).map(|container| format!("{SECCOMP_OF_CONTAINER}{}", text(container, "name")));
    let allowed = |profile: &str| {
        matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/")
    };
    let forbidden: BTreeSet<String> = std::iter::once(SECCOMP.to_owned())
        .chain(of_containers)
        .filter_map(|key| Some((annotations.get(key.as_str())?.as_str()?, key)))
        .filter(|(value, _)| !allowed(value))
        .map(|(value, key)| format!("{key}={value:?}"))
        .collect();
    (!forbidden.is_empty()).then(|| {
        let word = plural("annotation", "annotations", forbidden.len());
        let forbidden = forbidden.into_iter().collect::<Vec<_>>().join(", ");
        violation("seccompProfile", format!("forbidden {word} {forbidden}"))
    })
}

fn is_seccomp_allowed(profile: &str) -> bool {
    matches!(profile, "Localhost" | "RuntimeDefault")
}

/// Profiles that are set to something else.
pub fn seccomp(pod: &Tree) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut is_bad = |owner: &Tree, path: &str| {
        let profile = text(owner, &format!("{path}.type"));
        let is_bad = has(owner, path) && !is_seccomp_allowed(profile);
        if is_bad {
            values.insert(profile.to_owned());
        }
        is_bad
    };
    let by_pod = is_bad(pod, "spec.securityContext.seccompProfile");
    let names = bad(pod, |container| is_bad(container, "securityContext.seccompProfile"));
    let setters = setters(by_pod, &names)?;
    let values = quoted(&values);
    Some(violation(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {values}"),
    ))
}

pub fn sysctls_0(pod: &Tree) -> Option<Violation> {
    sysctls(pod, 0)
}

pub fn sysctls_27(pod: &Tree) -> Option<Violation> {
    sysctls(pod, 27)
}

pub fn sysctls_29(pod: &Tree) -> Option<Violation> {
    sysctls(pod, 29)
}

pub fn sysctls_32(pod: &Tree) -> Option<Violation> {
    sysctls(pod, 32)
}

pub fn sysctls_37(pod: &Tree) -> Option<Violation> {
    sysctls(pod, 37)
}

fn sysctls(pod: &Tree, minor: u32) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(since, own)| *since <= minor && *own == name);
    let names = list(pod, "spec.securityContext.sysctls").iter().map(|sysctl| text(sysctl, "name"));
    let forbidden: Vec<&str> = names.filter(|name| !allowed(name)).collect();
    (!forbidden.is_empty()).then(|| violation("forbidden sysctls", forbidden.join(", ")))
}

pub fn host_process(pod: &Tree) -> Option<Violation> {
    let by_pod = flag(pod, "spec.securityContext.windowsOptions.hostProcess");
    let names = bad(pod, |container| flag(container, "securityContext.windowsOptions.hostProcess"));
    let setters = setters(by_pod, &names)?;
    Some(violation(
        "hostProcess",
        format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    ))
}
