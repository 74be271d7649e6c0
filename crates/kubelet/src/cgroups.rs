//! The pods' place in the cgroup tree: `<cgroupRoot>/kubepods[/burstable|/besteffort]/pod<uid>`, on version 1
//! (every hierarchy) and 2. The runtime makes the containers' groups below.

use crate::container_config::resources::{quota, shares};
use crate::pods::{self, uid};
use crate::qos::{self, Class};
use k8s_openapi::api::core::v1::Pod;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

pub struct Cgroups {
    /// Where the hierarchies are mounted: `/sys/fs/cgroup`.
    mount: PathBuf,
    root: String,
    per_qos: bool,
    v2: bool,
    cfs_quota: bool,
    period: i64,
    pids: Option<i64>,
}

impl Cgroups {
    /// `root` is `cgroupRoot` of the configuration; empty is the top.
    pub fn new(mount: &Path, root: &str, per_qos: bool, cfs_quota: bool, period: i64) -> Self {
        let trimmed = root.trim_matches('/');
        Self {
            mount: mount.into(),
            root: if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") },
            per_qos,
            v2: mount.join("cgroup.controllers").exists(),
            cfs_quota,
            period,
            pids: None,
        }
    }

    /// `podPidsLimit`: so many processes and threads a pod may have; none where it is not above zero.
    pub fn with_pids_limit(self, limit: i64) -> Self {
        Self { pids: (limit > 0).then_some(limit), ..self }
    }

    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// `/kubepods` below the root.
    fn top(&self) -> String {
        format!("{}/kubepods", self.root)
    }

    fn class(&self, class: Class) -> String {
        match class {
            Class::Guaranteed => self.top(),
            Class::Burstable => format!("{}/burstable", self.top()),
            Class::BestEffort => format!("{}/besteffort", self.top()),
        }
    }

    /// The cgroup that the runtime puts the pod's containers into.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.per_qos {
            return self.root.clone();
        }
        let name = match pods::is_static(pod) {
            true => pods::annotation(pod, pods::CONFIG_HASH).unwrap_or(uid(pod)),
            false => uid(pod),
        };
        format!("{}/pod{name}", self.class(qos::class(pod)))
    }

    /// The tops of the trees: one on version 2, one per controller on version 1.
    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.v2 {
            return vec![self.mount.clone()];
        }
        let entries = std::fs::read_dir(&self.mount).into_iter().flatten().flatten();
        let real = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut found: Vec<PathBuf> =
            real.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect();
        found.sort();
        found
    }

    /// The groups that stand as long as the node does.
    pub fn ensure_top(&self) -> io::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            self.make(&self.class(class))?;
        }
        self.weigh(&self.class(Class::BestEffort), 0);
        Ok(())
    }

    /// What all pods together may use of the node.
    pub fn limit_pods(&self, cpu_milli: i64, memory_bytes: i64, processes: Option<i64>) {
        if self.per_qos {
            self.weigh(&self.top(), cpu_milli);
            self.limit_memory(&self.top(), Some(memory_bytes));
            self.limit_pids(&self.top(), processes);
        }
    }

    /// The burstable pods' share, by what they request together.
    pub fn weigh_burstable(&self, cpu_milli: i64) {
        if self.per_qos {
            self.weigh(&self.class(Class::Burstable), cpu_milli);
        }
    }

    /// Makes a pod's group where it is missing, and sets its limits in any case: they may have changed, or a kubelet have
    /// ended before it set them. Returns whether the group was missing.
    pub fn ensure_pod(&self, pod: &Pod) -> io::Result<bool> {
        if !self.per_qos {
            return Ok(false);
        }
        let group = self.parent(pod);
        let new = self.make(&group)?;
        self.limit_pids(&group, self.pids);
        let requests = qos::pod_total(pod, |it| it.requests.as_ref());
        let limits = qos::pod_total(pod, |it| it.limits.as_ref());
        let amount = |all: &qos::Amounts, name: &str, unit: i128| {
            all.get(name).map(|value| i64::try_from(value / unit).unwrap_or(i64::MAX))
        };
        self.weigh(&group, amount(&requests, "cpu", 1).unwrap_or_default());
        let limit = amount(&limits, "cpu", 1).filter(|_| self.cfs_quota && all_limited(pod, "cpu"));
        let quota = limit.map(|limit| quota(limit, self.period).to_string());
        let period = self.period.to_string();
        let both = format!("{} {period}", quota.as_deref().unwrap_or("max"));
        let quota = quota.as_deref().unwrap_or("-1");
        let files = [("cpu.cfs_period_us", &*period), ("cpu.cfs_quota_us", quota), ("cpu.max", &both)];
        self.set(&group, "cpu", &files);
        self.limit_memory(&group, memory_limit(pod));
        Ok(new)
    }

    /// A group's part of the processors when they are short.
    fn weigh(&self, group: &str, cpu_milli: i64) {
        let shares = shares(cpu_milli);
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        self.set(group, "cpu", &[("cpu.shares", &shares.to_string()), ("cpu.weight", &weight.to_string())]);
    }

    fn limit_memory(&self, group: &str, bytes: Option<i64>) {
        let text = bytes.map(|bytes| bytes.to_string());
        let (v1, v2) = (text.as_deref().unwrap_or("-1"), text.as_deref().unwrap_or("max"));
        self.set(group, "memory", &[("memory.limit_in_bytes", v1), ("memory.max", v2)]);
    }

    fn limit_pids(&self, group: &str, limit: Option<i64>) {
        if let Some(limit) = limit {
            self.set(group, "pids", &[("pids.max", &limit.to_string())]);
        }
    }

    /// Makes a group and those above it in all hierarchies; whether any was missing.
    fn make(&self, group: &str) -> io::Result<bool> {
        let mut new = false;
        for hierarchy in self.hierarchies() {
            let mut folder = hierarchy.clone();
            for part in group.split('/').filter(|part| !part.is_empty()) {
                let above = folder.clone();
                folder.push(part);
                if folder.exists() {
                    continue;
                }
                if self.v2 {
                    delegate(&above);
                }
                match std::fs::create_dir(&folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => new = true,
                }
                // Version 1 starts these empty, and a group without them takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if !self.v2
                        && let Ok(value) = std::fs::read(above.join(file))
                    {
                        write(&folder.join(file), &String::from_utf8_lossy(&value));
                    }
                }
            }
            if self.v2 {
                delegate(&folder);
            }
        }
        Ok(new)
    }

    /// Writes those of the files that exist and have another value. A file that cannot be read is
    /// written too: what it holds is unknown, and a limit must not stay unset for that.
    fn set(&self, group: &str, controller: &str, values: &[(&str, &str)]) {
        for hierarchy in self.hierarchies() {
            let name = hierarchy.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.v2 && !name.split(',').any(|part| part == controller) {
                continue;
            }
            for (file, value) in values {
                let path = hierarchy.join(group.trim_start_matches('/')).join(file);
                let is_to_write = match std::fs::read_to_string(&path) {
                    Ok(has) => !is_same(has.trim(), value),
                    Err(error) => !is_gone(&error),
                };
                if is_to_write {
                    write(&path, value);
                }
            }
        }
    }

    /// Removes a pod's groups. Fails while a process is left in one of them.
    pub fn remove_pod(&self, pod: &Pod) -> io::Result<()> {
        if !self.per_qos {
            return Ok(());
        }
        self.remove(&self.parent(pod))
    }

    fn remove(&self, group: &str) -> io::Result<()> {
        for hierarchy in self.hierarchies() {
            remove_tree(&hierarchy.join(group.trim_start_matches('/')))?;
        }
        Ok(())
    }

    /// Uids of pods that have a group.
    pub fn pods(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let Some(hierarchy) = self.hierarchies().into_iter().next() else { return found };
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let group = self.class(class);
            let entries = std::fs::read_dir(hierarchy.join(group.trim_start_matches('/')));
            for entry in entries.into_iter().flatten().flatten() {
                if let Some(uid) = entry.file_name().to_str().and_then(|name| name.strip_prefix("pod")) {
                    found.push((uid.to_owned(), format!("{group}/pod{uid}")));
                }
            }
        }
        found
    }

    /// Removes a group listed by [`Cgroups::pods`].
    pub fn remove_orphan(&self, group: &str) -> io::Result<()> {
        self.remove(group)
    }
}

/// Bytes that a pod may use in all, where all of it is limited.
pub fn memory_limit(pod: &Pod) -> Option<i64> {
    let limits = qos::pod_total(pod, |it| it.limits.as_ref());
    let limit = limits.get("memory").filter(|_| all_limited(pod, "memory"))?;
    Some(i64::try_from(limit / 1000).unwrap_or(i64::MAX))
}

fn all_limited(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let pod_level =
        spec.resources.as_ref().and_then(|it| it.limits.as_ref()).is_some_and(|it| it.contains_key(name));
    pod_level
        || spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten().filter(|it| qos::is_sidecar(it)))
            .all(|container| {
                let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
                qos::amount(limits, name).is_some_and(|value| value > 0)
            })
}

/// Whether a file that reads `has` was written `value`: no limit reads as the largest number there is.
fn is_same(has: &str, value: &str) -> bool {
    has == value || (value == "-1" && has.parse::<u64>().is_ok_and(|it| it > i64::MAX as u64 - (1 << 20)))
}

/// Lets a version 2 group's children use the controllers it has.
fn delegate(folder: &Path) {
    let Ok(controllers) = std::fs::read_to_string(folder.join("cgroup.controllers")) else { return };
    let delegated = std::fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let is_new = |controller: &&str| !delegated.split_whitespace().any(|it| it == *controller);
    for controller in controllers.split_whitespace().filter(is_new) {
        write(&folder.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// Sets a value, or says in the log that the kernel refused it.
fn write(path: &Path, value: &str) {
    if let Err(error) = std::fs::write(path, value) {
        warn!(path = %path.display(), value, %error, "Failed to set a cgroup value");
    }
}

/// Whether there is no such file or group; one that is removed meanwhile answers a read with `ENODEV`.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // Processes that the runtime has lost would keep the group from being removed.
    let left = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for process in left.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}
        }))
        .unwrap()
    }

    #[test]
    fn places_in_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let v1 = folder.path().join("v1");
        for controller in ["cpu,cpuacct", "memory"] {
            std::fs::create_dir_all(v1.join(controller)).unwrap();
            std::fs::write(v1.join(controller).join("cgroup.procs"), "").unwrap();
        }
        let cgroups = Cgroups::new(&v1, "/node/", true, true, 100_000);
        let pod = pod(serde_json::json!({"requests": {"cpu": "1"}}));
        assert_eq!(cgroups.parent(&pod), "/node/kubepods/burstable/podu");
        cgroups.ensure_top().unwrap();
        cgroups.ensure_pod(&pod).unwrap();
        assert!(v1.join("memory/node/kubepods/burstable/podu").is_dir());
        assert!(v1.join("cpu,cpuacct/node/kubepods/besteffort").is_dir());
        assert_eq!(cgroups.pods().len(), 1);
        cgroups.remove_pod(&pod).unwrap();
        assert!(cgroups.pods().is_empty());

        let v2 = folder.path().join("v2");
        std::fs::create_dir_all(&v2).unwrap();
        std::fs::write(v2.join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroups = Cgroups::new(&v2, "", true, true, 100_000);
        assert!(cgroups.is_v2());
        cgroups.ensure_pod(&pod).unwrap();
        assert!(v2.join("kubepods/burstable/podu").is_dir());
    }

    #[test]
    fn a_limit_that_cannot_be_read_is_set() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000);
        let pod = pod(
            serde_json::json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}),
        );
        cgroups.ensure_pod(&pod).unwrap();
        let limit = folder.path().join("kubepods/podu/memory.max");
        std::fs::write(&limit, [0xff, 0xfe]).unwrap();
        cgroups.ensure_pod(&pod).unwrap();
        assert_eq!(std::fs::read_to_string(&limit).unwrap(), "67108864");
    }

    #[test]
    fn groups_above_pods_have_their_part_of_the_node() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000);
        cgroups.ensure_top().unwrap();
        for group in ["kubepods", "kubepods/burstable"] {
            for file in ["cpu.weight", "memory.max", "pids.max"] {
                std::fs::write(folder.path().join(group).join(file), "").unwrap();
            }
        }
        let read = |path: &str| std::fs::read_to_string(folder.path().join("kubepods").join(path)).unwrap();
        cgroups.limit_pods(2000, 1 << 30, Some(1000));
        assert_eq!((read("memory.max"), read("cpu.weight")), ("1073741824".into(), "79".into()));
        assert_eq!(read("pids.max"), "1000");
        cgroups.weigh_burstable(500);
        assert_eq!(
            (read("burstable/memory.max"), read("burstable/cpu.weight")),
            (String::new(), "20".into())
        );
        cgroups.weigh_burstable(0);
        assert_eq!(read("burstable/cpu.weight"), "1");
    }

    #[test]
    fn limits_of_pods_are_set_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let limited = serde_json::json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        let (limited, free) = (pod(limited), pod(serde_json::json!({"requests": {"cpu": "100m"}})));
        let check = |cgroups: &Cgroups, at: &Path, files: &[(&str, &str, &str, &str)]| {
            // The kernel makes the files together with the folder; a kubelet that was killed has set none.
            std::fs::create_dir_all(at).unwrap();
            files.iter().for_each(|(file, first, ..)| std::fs::write(at.join(file), first).unwrap());
            for (pod, with_limits) in [(&limited, true), (&free, false), (&limited, true)] {
                assert!(!cgroups.ensure_pod(pod).unwrap());
                for (file, _, value, without) in files {
                    let found = std::fs::read_to_string(at.join(file)).unwrap();
                    assert_eq!(found, if with_limits { *value } else { *without }, "{file}");
                }
            }
        };
        let v2 = folder.path().join("v2");
        std::fs::create_dir_all(&v2).unwrap();
        std::fs::write(v2.join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroups = Cgroups::new(&v2, "", true, true, 100_000);
        check(
            &cgroups,
            &v2.join("kubepods/burstable/podu"),
            &[
                ("cpu.weight", "100", "39", "4"),
                ("cpu.max", "max 100000", "200000 100000", "max 100000"),
                ("memory.max", "max", "1073741824", "max"),
            ],
        );
        let v1 = folder.path().join("v1");
        for controller in ["cpu", "memory"] {
            std::fs::create_dir_all(v1.join(controller)).unwrap();
            std::fs::write(v1.join(controller).join("cgroup.procs"), "").unwrap();
        }
        let cgroups = Cgroups::new(&v1, "", true, true, 100_000);
        std::fs::create_dir_all(v1.join("memory/kubepods/burstable/podu")).unwrap();
        let cpu = [("cpu.shares", "1024", "1024", "102"), ("cpu.cfs_quota_us", "-1", "200000", "-1")];
        check(&cgroups, &v1.join("cpu/kubepods/burstable/podu"), &cpu);
        let memory = [("memory.limit_in_bytes", "9223372036854771712", "1073741824", "-1")];
        check(&cgroups, &v1.join("memory/kubepods/burstable/podu"), &memory);
        assert!(is_same("9223372036854771712", "-1") && !is_same("1024", "-1"));
    }

    #[test]
    fn a_pod_has_so_many_processes() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("kubepods/besteffort/podu");
        std::fs::write(folder.path().join("cgroup.controllers"), "pids").unwrap();
        let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000).with_pids_limit(100);
        // the kernel makes the file together with the folder
        std::fs::create_dir_all(group.parent().unwrap()).unwrap();
        cgroups.make("/kubepods/besteffort/podu").unwrap();
        std::fs::write(group.join("pids.max"), "max").unwrap();
        cgroups.limit_pids("/kubepods/besteffort/podu", cgroups.pids);
        assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "100");
        let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000).with_pids_limit(-1);
        std::fs::write(group.join("pids.max"), "max").unwrap();
        cgroups.limit_pids("/kubepods/besteffort/podu", cgroups.pids);
        assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "max");
    }
}
