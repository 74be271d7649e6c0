//! Node pressure: what the node reports, and the eviction of a pod at a time while a hard threshold is crossed.
//!
//! Signals: `memory.available`, `nodefs.available`, `imagefs.available`. Soft thresholds and inodes are not
//! looked at.

use crate::events::Warning;
use crate::node::{machine, threshold};
use crate::pods;
use crate::qos;
use crate::run::Kubelet;
use crate::runtime::POD_UID;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

const PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod is waited for before the next one has to go.
const ENDING: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Storage,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Storage => "ephemeral-storage",
        }
    }
}

pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut memory_seen: Option<Instant> = None;
    let mut disk_seen: Option<Instant> = None;
    let mut evictor = Evictor::default();
    loop {
        let memory = memory_pressure(&kubelet);
        let disk = disk_pressure(&kubelet).await;
        let linger = kubelet.config.eviction_pressure_transition_period.0;
        let note = |seen: &mut Option<Instant>, now: bool| {
            if now {
                *seen = Some(Instant::now());
            }
            seen.is_some_and(|seen| now || seen.elapsed() < linger)
        };
        *kubelet.pressure.write() = Pressure {
            memory: note(&mut memory_seen, memory),
            disk: note(&mut disk_seen, disk),
            pids: false,
        };
        if memory || disk {
            evictor.evict(&kubelet, if memory { Resource::Memory } else { Resource::Storage }).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn memory_pressure(kubelet: &Kubelet) -> bool {
    let limit = threshold(&kubelet.config, "memory.available", kubelet.machine.memory_bytes);
    machine::memory_available() < limit
}

async fn disk_pressure(kubelet: &Kubelet) -> bool {
    let (capacity, available) = machine::disk(&kubelet.paths.root);
    if available < threshold(&kubelet.config, "nodefs.available", capacity) {
        return true;
    }
    match crate::images::gc::image_file_system(kubelet).await {
        Some((capacity, available)) => {
            let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            signed(available) < threshold(&kubelet.config, "imagefs.available", signed(capacity))
        }
        None => false,
    }
}

/// Evicts one pod after the other.
#[derive(Default)]
pub struct Evictor {
    /// The last one, and since when.
    last: Option<(String, Instant)>,
}

impl Evictor {
    /// Evicts the next pod, unless the last one still holds what it is to give back. Returns the uid.
    pub async fn evict(&mut self, kubelet: &Kubelet, resource: Resource) -> Option<String> {
        if let Some((uid, since)) = &self.last
            && since.elapsed() < ENDING
            && kubelet.pods.runtime_pod(uid).is_some_and(|found| found.is_running())
        {
            return None;
        }
        let mut candidates: Vec<Arc<Pod>> = kubelet
            .pods
            .all()
            .into_iter()
            .filter(|pod| !is_critical(pod) && pod.metadata.deletion_timestamp.is_none())
            .filter(|pod| {
                let phase = kubelet.pods.status(pods::uid(pod)).and_then(|status| status.phase.clone());
                !pods::phase_is_terminal(phase.as_deref())
            })
            .collect();
        let usage = usage(kubelet, resource, &candidates).await;
        candidates.sort_by_key(|pod| rank(pod, resource, usage.get(pods::uid(pod)).copied()));
        let pod = candidates.first()?;
        let name = resource.name();
        let message = format!("The node was low on resource: {name}. ");
        warn!(pod = pods::title(pod), resource = name, "Evicting pod");
        kubelet.events.event(pod, Warning, "Evicted", &message);
        let uid = pods::uid(pod).to_owned();
        kubelet.supervisor.fail(&uid, "Evicted", &message, Some(1));
        self.last = Some((uid.clone(), Instant::now()));
        Some(uid)
    }
}

/// The node needs it more than what it would give back.
fn is_critical(pod: &Pod) -> bool {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    pods::is_static(pod) || pods::is_mirror(pod) || priority(pod) >= CRITICAL_PRIORITY
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default()
}

/// The least goes first: those nothing is known of, then those that use more than they asked for, each by priority
/// and then by how much more they use. `usage` in bytes.
fn rank(pod: &Pod, resource: Resource, usage: Option<u64>) -> (u8, i32, Reverse<i128>) {
    let requests = qos::pod_total(pod, |it| it.requests.as_ref());
    let request = requests.get(resource.name()).copied().unwrap_or_default();
    let Some(usage) = usage else { return (0, priority(pod), Reverse(0)) };
    let over = i128::from(usage) * 1000 - request;
    (if over > 0 { 1 } else { 2 }, priority(pod), Reverse(over))
}

/// Bytes by pod uid; pods nothing is known of are not there.
async fn usage(kubelet: &Kubelet, resource: Resource, pods: &[Arc<Pod>]) -> HashMap<String, u64> {
    let mut usage: HashMap<String, u64> = HashMap::new();
    let stats = kubelet.runtime.list_container_stats(None).await.unwrap_or_else(|error| {
        warn!(%error, "Evicting without knowing what containers use");
        Vec::new()
    });
    for stats in stats {
        let bytes = match resource {
            Resource::Memory => stats.memory.and_then(|it| it.working_set_bytes),
            Resource::Storage => stats.writable_layer.and_then(|it| it.used_bytes),
        };
        let uid = stats.attributes.as_ref().and_then(|attributes| attributes.labels.get(POD_UID));
        if let (Some(bytes), Some(uid)) = (bytes, uid) {
            *usage.entry(uid.clone()).or_default() += bytes.value;
        }
    }
    if resource == Resource::Memory {
        return usage;
    }
    let paths = kubelet.paths.clone();
    let pods: Vec<(String, [std::path::PathBuf; 2])> = pods
        .iter()
        .map(|pod| {
            let uid = pods::uid(pod);
            let logs = paths.pod_logs(pods::namespace(pod), pods::name(pod), uid);
            (uid.to_owned(), [paths.volumes_dir(uid).join("kubernetes.io~empty-dir"), logs])
        })
        .collect();
    let measured = tokio::task::spawn_blocking(move || {
        for (uid, folders) in pods {
            let bytes: u64 = folders.iter().map(|folder| disk_usage(folder)).sum();
            if let Some(used) = usage.get_mut(&uid) {
                *used += bytes;
            }
        }
        usage
    });
    measured.await.unwrap_or_default()
}

/// What a folder takes of the file system it lies on.
fn disk_usage(folder: &Path) -> u64 {
    let Ok(top) = folder.symlink_metadata() else { return 0 };
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != top.dev() {
                continue;
            }
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        let requests = json!({"memory": request, "ephemeral-storage": request});
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "priority": priority,
                "containers": [{"name": "c", "resources": {"requests": requests}}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn order() {
        const MI: u64 = 1 << 20;
        let pods = [
            (pod("below, important", 10, "500Mi"), Some(400 * MI)),
            (pod("below, much left", 0, "500Mi"), Some(100 * MI)),
            (pod("below, little left", 0, "500Mi"), Some(499 * MI)),
            (pod("just as asked for", 0, "500Mi"), Some(500 * MI)),
            (pod("over, important", 10, "10Mi"), Some(400 * MI)),
            (pod("over a little", 0, "100Mi"), Some(101 * MI)),
            (pod("over a lot", 0, "10Mi"), Some(90 * MI)),
            (pod("unknown", 10, "1Gi"), None),
        ];
        for resource in [Resource::Memory, Resource::Storage] {
            let mut order: Vec<_> = pods.iter().collect();
            order.sort_by_key(|(pod, usage)| rank(pod, resource, *usage));
            let order: Vec<&str> = order.iter().map(|(pod, _)| pods::name(pod)).collect();
            let want = [
                "unknown",
                "over a lot",
                "over a little",
                "over, important",
                "just as asked for",
                "below, little left",
                "below, much left",
                "below, important",
            ];
            assert_eq!(order, want);
        }
        assert!(is_critical(&pod("node-critical", 2_000_001_000, "1Mi")));
        assert!(!is_critical(&pod("high", 1_000_000_000, "1Mi")));
    }

    #[test]
    fn folders_are_measured_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/file"), vec![1; 100_000]).unwrap();
        let bytes = disk_usage(folder.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(disk_usage(&folder.path().join("none")), 0);
    }
}
