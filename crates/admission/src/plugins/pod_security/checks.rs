//! The Pod Security Standards: what each level forbids, since which version.

mod baseline;
mod restricted;
mod say;

use api::Tree;
use registry::tree::get;

use super::policy::{Level, LevelVersion, Version};

/// What a pod does that its level forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    reason: String,
    detail: String,
}

/// `pod` is a pod, or a template of one. Checks of one name replace each other with the versions.
type Check = fn(&Tree) -> Option<Violation>;

/// A check of this name, in the order of names.
struct Entry {
    name: &'static str,
    /// Since which minor version it is how.
    versions: &'static [(u32, Check)],
    /// A check of the baseline that this one contains.
    replaces: Option<&'static str>,
}

/// The last version that changed anything.
const NEWEST: u32 = 37;

const BASELINE: &[Entry] = &[
    entry("appArmorProfile", &[(0, baseline::app_armor)]),
    entry("capabilities_baseline", &[(0, baseline::capabilities)]),
    entry("hostNamespaces", &[(0, baseline::host_namespaces)]),
    entry("hostPathVolumes", &[(0, baseline::host_paths)]),
    entry("hostPorts", &[(0, baseline::host_ports)]),
    entry("hostProbesAndHostLifecycle", &[(34, baseline::hosts_of_probes)]),
    entry("privileged", &[(0, baseline::privileged)]),
    entry("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_host_users)]),
    entry("seLinuxOptions", &[(0, baseline::se_linux_0), (31, baseline::se_linux_31)]),
    entry("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    entry(
        "sysctls",
        &[
            (0, baseline::sysctls_0),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
            (37, baseline::sysctls_37),
        ],
    ),
    entry("windowsHostProcess", &[(0, baseline::host_process)]),
];

const RESTRICTED: &[Entry] = &[
    entry(
        "allowPrivilegeEscalation",
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_25)],
    ),
    replacing(
        "capabilities_restricted",
        &[(22, restricted::capabilities), (25, restricted::capabilities_25)],
        "capabilities_baseline",
    ),
    replacing("procMount_restricted", &[(35, baseline::proc_mount)], "procMount"),
    replacing("restrictedVolumes", &[(0, restricted::volumes)], "hostPathVolumes"),
    entry("runAsNonRoot", &[(0, restricted::non_root), (35, restricted::non_root_35)]),
    entry("runAsUser", &[(23, restricted::user), (35, restricted::user_35)]),
    replacing(
        "seccompProfile_restricted",
        &[(19, restricted::seccomp), (25, restricted::seccomp_25)],
        "seccompProfile_baseline",
    ),
];

const fn entry(name: &'static str, versions: &'static [(u32, Check)]) -> Entry {
    Entry { name, versions, replaces: None }
}

const fn replacing(name: &'static str, versions: &'static [(u32, Check)], replaces: &'static str) -> Entry {
    Entry { name, versions, replaces: Some(replaces) }
}

impl Entry {
    fn at(&self, minor: u32) -> Option<Check> {
        self.versions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, check)| *check)
    }
}

/// All that a pod does which a level forbids.
pub fn violations(policy: LevelVersion, pod: &Tree) -> Vec<Violation> {
    let minor = match policy.version {
        Version::Latest => NEWEST,
        Version::Minor(minor) => minor.min(NEWEST),
    };
    let restricted = match policy.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => RESTRICTED,
    };
    let is_replaced =
        |name: &str| restricted.iter().any(|one| one.replaces == Some(name) && one.at(minor).is_some());
    let baseline = BASELINE.iter().filter(|one| !is_replaced(one.name));
    baseline.chain(restricted).filter_map(|one| one.at(minor)).filter_map(|check| check(pod)).collect()
}

/// `privileged (container "c" must not …), hostPort (…)`
pub fn detail(violations: &[Violation]) -> String {
    let text = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// `privileged, hostPort`
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

fn is_windows(pod: &Tree) -> bool {
    get(pod, "spec.os.name") == "windows"
}

/// Whether its users are not those of the host.
fn has_own_users(pod: &Tree) -> bool {
    get(pod, "spec.hostUsers").as_bool() == Some(false)
}
