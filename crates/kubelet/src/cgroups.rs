//! The pods' place in the cgroup tree: `<cgroupRoot>/kubepods[/burstable|/besteffort]/pod<uid>`, on version 1
//! (every hierarchy) and 2. The runtime makes the containers' groups below.

pub mod limits;

use crate::container_config::resources::shares;
use crate::pods::{self, uid};
use crate::qos::{self, Class};
use k8s_openapi::api::core::v1::Pod;
pub use limits::memory_limit;
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
            log(self.limit_memory(&self.top(), Some(memory_bytes)));
            self.limit_pids(&self.top(), processes);
        }
    }

    /// The burstable pods' share, by what they request together.
    pub fn weigh_burstable(&self, cpu_milli: i64) {
        if self.per_qos {
            self.weigh(&self.class(Class::Burstable), cpu_milli);
        }
    }

    /// Makes a pod's group where it is missing, and sets its limits, unless a resize is about to do that in its own order:
    /// they may have changed, or a kubelet have ended before it set them. Returns whether the group was missing.
    pub fn ensure_pod(&self, pod: &Pod, is_resizing: bool) -> io::Result<bool> {
        if !self.per_qos {
            return Ok(false);
        }
        let group = self.parent(pod);
        let new = self.make(&group)?;
        self.limit_pids(&group, self.pids);
        if new || !is_resizing {
            self.level(&group, &self.limits(pod));
        }
        Ok(new)
    }

    /// A group's part of the processors when they are short.
    fn weigh(&self, group: &str, cpu_milli: i64) {
        self.weigh_by(group, shares(cpu_milli));
    }

    fn weigh_by(&self, group: &str, shares: i64) {
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        log(self.set(
            group,
            "cpu",
            &[("cpu.shares", &shares.to_string()), ("cpu.weight", &weight.to_string())],
        ));
    }

    fn limit_memory(&self, group: &str, bytes: Option<i64>) -> io::Result<()> {
        let text = bytes.map(|bytes| bytes.to_string());
        let (v1, v2) = (text.as_deref().unwrap_or("-1"), text.as_deref().unwrap_or("max"));
        self.set(group, "memory", &[("memory.limit_in_bytes", v1), ("memory.max", v2)])
    }

    fn limit_pids(&self, group: &str, limit: Option<i64>) {
        if let Some(limit) = limit {
            log(self.set(group, "pids", &[("pids.max", &limit.to_string())]));
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
    /// written too: what it holds is unknown, and a limit must not stay unset for that. Tries all of them, and returns the
    /// first error.
    fn set(&self, group: &str, controller: &str, values: &[(&str, &str)]) -> io::Result<()> {
        let mut outcome = Ok(());
        for folder in self.folders(group, controller) {
            for (file, value) in values {
                let path = folder.join(file);
                let is_to_write = match std::fs::read_to_string(&path) {
                    Ok(has) => !is_same(has.trim(), value),
                    Err(error) => !is_gone(&error),
                };
                if is_to_write && let Err(error) = std::fs::write(&path, value) {
                    let text = format!("failed to write {value:?} to {:?}: {error}", path.display());
                    outcome = outcome.and(Err(io::Error::new(error.kind(), text)));
                }
            }
        }
        outcome
    }

    /// A group's folders in the hierarchies that have a controller.
    fn folders(&self, group: &str, controller: &str) -> impl Iterator<Item = PathBuf> {
        let has = |hierarchy: &PathBuf| {
            let name = hierarchy.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            self.v2 || name.split(',').any(|part| part == controller)
        };
        let group = group.trim_start_matches('/').to_owned();
        let found: Vec<PathBuf> = self.hierarchies().into_iter().filter(has).collect();
        found.into_iter().map(move |hierarchy| hierarchy.join(&group))
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

/// Says in the log that the kernel refused a value.
fn log(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        warn!(%error, "Failed to set a cgroup value");
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
mod tests;
