//! What pods use of memory or of the node's disk.

use super::Resource;
use crate::pods;
use crate::run::Kubelet;
use crate::runtime::{CONTAINER_NAME, POD_UID};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// Bytes a pod uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Disk usage by container: writable layer and logs.
    pub containers: BTreeMap<String, u64>,
    /// Usage by volume name; measured for disk only, though some volumes are in memory.
    pub empty_dirs: BTreeMap<String, EmptyDir>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EmptyDir {
    pub bytes: u64,
    pub in_memory: bool,
}

impl Usage {
    /// On disk, or in memory, as it was measured.
    pub fn total(&self) -> u64 {
        let on_disk = self.empty_dirs.values().filter(|it| !it.in_memory).map(|it| it.bytes);
        self.containers.values().copied().chain(on_disk).sum()
    }
}

/// By pod uid. Of containers that do not run the runtime says nothing.
pub(super) async fn measure(
    kubelet: &Kubelet,
    resource: Resource,
    pods: &[Arc<Pod>],
) -> HashMap<String, Usage> {
    let mut usage: HashMap<String, Usage> = HashMap::new();
    let stats = kubelet.runtime.list_container_stats(None).await.unwrap_or_else(|error| {
        warn!(%error, "What containers use is not known");
        Vec::new()
    });
    for stats in stats {
        let bytes = match resource {
            Resource::Memory => stats.memory.and_then(|it| it.working_set_bytes),
            Resource::Storage => stats.writable_layer.and_then(|it| it.used_bytes),
        };
        let labels = stats.attributes.map(|attributes| attributes.labels).unwrap_or_default();
        if let (Some(bytes), Some(uid), Some(name)) = (bytes, labels.get(POD_UID), labels.get(CONTAINER_NAME))
        {
            *usage.entry(uid.clone()).or_default().containers.entry(name.clone()).or_default() += bytes.value;
        }
    }
    if resource == Resource::Memory {
        return usage;
    }
    let folders: Vec<Folders> = pods.iter().map(|pod| Folders::of(kubelet, pod)).collect();
    let measured = tokio::task::spawn_blocking(move || {
        for folders in folders {
            folders.measure(usage.entry(folders.uid.clone()).or_default());
        }
        usage
    });
    measured.await.unwrap_or_default()
}

/// Folders with a pod's files.
struct Folders {
    uid: String,
    logs: PathBuf,
    empty_dirs: Vec<(String, PathBuf, bool)>,
}

impl Folders {
    fn of(kubelet: &Kubelet, pod: &Pod) -> Folders {
        let uid = pods::uid(pod);
        let volumes = kubelet.paths.volumes_dir(uid).join("kubernetes.io~empty-dir");
        let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let empty_dirs = all.filter_map(|volume| {
            let in_memory = volume.empty_dir.as_ref()?.medium.as_deref() == Some("Memory");
            Some((volume.name.clone(), volumes.join(&volume.name), in_memory))
        });
        Folders {
            uid: uid.to_owned(),
            logs: kubelet.paths.pod_logs(pods::namespace(pod), pods::name(pod), uid),
            empty_dirs: empty_dirs.collect(),
        }
    }

    fn measure(&self, usage: &mut Usage) {
        for (name, bytes) in &mut usage.containers {
            *bytes += disk_usage(&self.logs.join(name));
        }
        for (name, folder, in_memory) in &self.empty_dirs {
            let found = EmptyDir { bytes: disk_usage(folder), in_memory: *in_memory };
            usage.empty_dirs.insert(name.clone(), found);
        }
    }
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
