//! A pod's volumes: set up before its containers start, kept up to date while it lives, and removed with it.
//!
//! The folders are upstream's (`pods/UID/volumes/kubernetes.io~TYPE/NAME`), so that a kubelet that takes over from
//! another finds them; nothing else is remembered across a restart. Volumes that need a storage driver
//! (claims, CSI and the network file systems) are not set up yet and say so.

pub mod atomic;
mod certificates;
mod container;
mod host_path;
pub mod image;
pub mod mounting;
mod payload;
mod sub_path;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;

pub use container::RecursiveReadOnly;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use machinery::quantity::Quantity;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::env::fields::Allocatable;
use crate::events::Events;
use crate::objects::Objects;
use crate::paths::Paths;
use crate::pods::{PodManager, uid};
use atomic::{Ownership, Payload};
use certificates::Certificates;
use tokens::Tokens;

/// How often each pod's files are compared with what they are made from.
const SYNC: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(5);
/// Pods whose files are brought up to date side by side.
const AT_ONCE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text of the `FailedMount` event.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp { volume: String, reason: String },
    #[error("UnmountVolume.TearDown failed for pod {uid:?}: {source}")]
    TearDown { uid: String, source: io::Error },
    /// Why a container cannot be given its mounts.
    #[error("{0}")]
    Mount(String),
}

/// What the volumes need to know of the node.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub allocatable: Allocatable,
}

/// Sets up and removes volumes. Each pod's are worked on by one task at a time.
pub struct Manager {
    paths: Paths,
    objects: Arc<dyn Objects>,
    node: Node,
    tokens: Tokens,
    certificates: Certificates,
    pods: Mutex<HashMap<String, Arc<OfPod>>>,
    /// Whether secrets and the like get a file system in memory.
    in_memory: bool,
}

/// A pod's volumes.
#[derive(Default)]
struct OfPod {
    /// Locked by the task that works on them.
    alone: Arc<tokio::sync::Mutex<()>>,
    known: Mutex<Known>,
}

/// The right to work on a pod's volumes. Work on another thread goes on when the task that waits for it is dropped,
/// and takes its share along: the volumes are free when the last share is gone.
type Alone = Arc<tokio::sync::OwnedMutexGuard<()>>;

impl OfPod {
    async fn alone(&self) -> Alone {
        Arc::new(self.alone.clone().lock_owned().await)
    }
}

/// What this process knows of a pod's volumes.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The pod's version whose volumes are all set up.
    version: u64,
    synced: Option<tokio::time::Instant>,
}

impl Manager {
    pub fn new(paths: Paths, objects: Arc<dyn Objects>, events: Arc<Events>, node: Node) -> Arc<Manager> {
        Arc::new(Self::make(paths, objects, events, node))
    }

    fn make(paths: Paths, objects: Arc<dyn Objects>, events: Arc<Events>, node: Node) -> Manager {
        let (tokens, certificates) = (Tokens::default(), Certificates::new(&node.name, events));
        Manager { paths, objects, node, tokens, certificates, pods: Mutex::default(), in_memory: true }
    }

    /// Sets up every volume that a container of the pod mounts. Idempotent, and quick when nothing changed. One that cannot
    /// be set up does not keep the others back; there is an error for each.
    pub async fn mount(&self, pod: &Arc<Pod>) -> Result<(), Vec<Error>> {
        let of_pod = self.of_pod(pod);
        let alone = of_pod.alone().await;
        let (known, version) = (*of_pod.known.lock(), version(pod));
        let fresh = known.synced.is_some_and(|synced| synced.elapsed() < SYNC);
        if fresh && known.version == version {
            return Ok(());
        }
        let mut errors = Vec::new();
        for volume in used(pod) {
            if let Err(reason) = self.set_up(pod, volume, &alone).await {
                errors.push(Error::SetUp { volume: volume.name.clone(), reason });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        *of_pod.known.lock() = Known { version, synced: Some(tokio::time::Instant::now()) };
        Ok(())
    }

    /// Removes the pod's volumes with their content, parts mounted into containers first.
    pub async fn unmount(&self, uid: &str) -> Result<(), Error> {
        let of_pod = self.pods.lock().entry(uid.to_owned()).or_default().clone();
        let alone = of_pod.alone().await;
        // Whoever waits to refresh them finds nothing to do.
        *of_pod.known.lock() = Known::default();
        let folders = [self.paths.subpaths_root(uid), self.paths.volumes_dir(uid), self.empty_dirs_meta(uid)];
        let removed = blocking(&alone, move || {
            folders.iter().filter(|folder| folder.exists()).try_for_each(|folder| mounting::remove(folder))
        });
        removed.await.map_err(|source| Error::TearDown { uid: uid.to_owned(), source })?;
        self.tokens.forget(uid);
        self.certificates.forget(uid);
        self.pods.lock().remove(uid);
        Ok(())
    }

    /// Pods that have a folder on this node, known or left over.
    pub fn uids(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.paths.pods_dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Keeps files up to date until the shutdown: with the pod's own changes, with what they are made from, and with
    /// the lifetime of tokens.
    pub async fn run(self: Arc<Self>, pods: Arc<PodManager>, shutdown: CancellationToken) {
        let mut changes = self.objects.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let all = |pods: &PodManager| pods.all().into_iter().filter(|pod| self.is_known(pod)).collect();
            let (due, only_old): (Vec<Arc<Pod>>, bool) = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => (all(&pods), true),
                change = changes.recv() => match change {
                    Ok(change) => {
                        let of = pods.all().into_iter();
                        (of.filter(|pod| self.is_known(pod) && payload::uses(pod, &change)).collect(), false)
                    }
                    Err(RecvError::Lagged(_)) => (all(&pods), false),
                    Err(RecvError::Closed) => return,
                },
            };
            let due: Vec<Arc<Pod>> = due;
            if !only_old {
                // The change may be the one that pods without their volumes wait for.
                due.iter().filter(|pod| !self.is_set_up(pod)).for_each(|pod| pods.wake(uid(pod)));
            }
            let due = due.into_iter().filter(|pod| !only_old || self.is_due(pod));
            // Pods are refreshed concurrently: one that waits for its objects does not delay the others.
            let manager = &self;
            let refreshed = futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |pod| async move { manager.refresh(&pod).await });
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = refreshed => {}
            }
        }
    }

    fn is_known(&self, pod: &Pod) -> bool {
        self.pods.lock().contains_key(uid(pod))
    }

    fn is_set_up(&self, pod: &Pod) -> bool {
        self.pods.lock().get(uid(pod)).is_some_and(|of_pod| of_pod.known.lock().synced.is_some())
    }

    fn is_due(&self, pod: &Pod) -> bool {
        let Some(of_pod) = self.pods.lock().get(uid(pod)).cloned() else { return false };
        let known = *of_pod.known.lock();
        known.synced.is_some_and(|synced| synced.elapsed() >= SYNC || known.version != version(pod))
    }

    /// Writes what has changed. A source that is gone leaves the files as they are.
    pub async fn refresh(&self, pod: &Arc<Pod>) {
        let Some(of_pod) = self.pods.lock().get(uid(pod)).cloned() else { return };
        let alone = of_pod.alone().await;
        if of_pod.known.lock().synced.is_none() {
            return;
        }
        for volume in used(pod) {
            match self.payload(pod, volume).await {
                Ok(Some(payload)) => {
                    if let Err(error) = self.write(pod, volume, payload, &alone).await {
                        tracing::warn!(pod = crate::pods::title(pod), volume = volume.name, %error, "Cannot update volume");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(
                        pod = crate::pods::title(pod),
                        volume = volume.name,
                        error,
                        "Volume keeps its content"
                    );
                }
            }
        }
        *of_pod.known.lock() = Known { version: version(pod), synced: Some(tokio::time::Instant::now()) };
    }

    fn of_pod(&self, pod: &Pod) -> Arc<OfPod> {
        self.pods.lock().entry(uid(pod).to_owned()).or_default().clone()
    }

    async fn set_up(&self, pod: &Arc<Pod>, volume: &Volume, alone: &Alone) -> Result<(), String> {
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(pod, volume, source, alone).await.map_err(|error| error.to_string());
        }
        if let Some(source) = &volume.host_path {
            let source = source.clone();
            return blocking(alone, move || Ok(host_path::set_up(&source)))
                .await
                .unwrap_or_else(|error| Err(error.to_string()));
        }
        if volume.image.is_some() {
            // The runtime mounts it, once the image is pulled for a container.
            return Ok(());
        }
        match self.payload(pod, volume).await? {
            Some(payload) => self.write(pod, volume, payload, alone).await.map_err(|error| error.to_string()),
            None => Err(format!("{} volumes are not supported by this kubelet", kind(volume))),
        }
    }

    async fn payload(&self, pod: &Pod, volume: &Volume) -> Result<Option<Payload>, String> {
        let context = payload::Context {
            pod,
            objects: &*self.objects,
            tokens: &self.tokens,
            certificates: &self.certificates,
            allocatable: self.node.allocatable,
        };
        payload::of(&context, volume).await.map_err(|error| error.to_string())
    }

    async fn write(&self, pod: &Pod, volume: &Volume, payload: Payload, alone: &Alone) -> io::Result<()> {
        let Some(folder) = self.folder(pod, volume) else { return Ok(()) };
        // A config map may lie on disk; everything else may hold secrets.
        let in_memory = self.in_memory && volume.config_map.is_none();
        let (ownership, size) = (ownership(pod), self.memory_size(pod, None));
        blocking(alone, move || {
            make(&folder, 0o777)?;
            if in_memory && !mounting::is_mount_point(&folder)? {
                mounting::tmpfs(&folder, size)?;
                std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
            }
            atomic::write(&folder, &payload, ownership)?;
            atomic::own_folder(&folder, ownership)
        })
        .await
    }

    /// What a volume in memory may hold: no more than its pod may, nor than its own limit.
    fn memory_size(&self, pod: &Pod, limit: Option<i64>) -> i64 {
        let limits = [crate::cgroups::memory_limit(pod), limit].into_iter().flatten();
        limits.filter(|limit| *limit > 0).fold(self.node.allocatable.memory_bytes, i64::min)
    }

    async fn empty_dir(
        &self,
        pod: &Pod,
        volume: &Volume,
        source: &EmptyDirVolumeSource,
        alone: &Alone,
    ) -> io::Result<()> {
        let Some(folder) = self.folder(pod, volume) else { return Ok(()) };
        let ready = self.empty_dirs_meta(uid(pod)).join(&volume.name).join("ready");
        let memory = source.medium.as_deref() == Some("Memory") && self.in_memory;
        let limit = source.size_limit.as_ref().and_then(|limit| Quantity::parse(&limit.0).ok());
        let size = self.memory_size(pod, limit.map(|limit| limit.value()));
        let mode = source.mode.map_or(0o777, |mode| mode as u32);
        let ownership = ownership(pod);
        if let Some(medium) = source.medium.as_deref().filter(|medium| medium.starts_with("HugePages")) {
            return Err(io::Error::other(format!("medium {medium} is not supported by this kubelet")));
        }
        blocking(alone, move || {
            if ready.exists() && folder.is_dir() && (!memory || mounting::is_mount_point(&folder)?) {
                return Ok(());
            }
            make(&folder, mode)?;
            if memory && !mounting::is_mount_point(&folder)? {
                mounting::tmpfs(&folder, size)?;
            }
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))?;
            if let Some(group) = ownership.group {
                std::os::unix::fs::chown(&folder, None, Some(group))?;
                std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode | 0o2770))?;
            }
            if let Some(parent) = ready.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&ready, "")
        })
        .await
    }

    fn empty_dirs_meta(&self, uid: &str) -> PathBuf {
        self.paths.plugins_dir(uid, "kubernetes.io~empty-dir")
    }

    /// Where the volume's content lies, for those that the kubelet makes.
    fn folder(&self, pod: &Pod, volume: &Volume) -> Option<PathBuf> {
        let plugin = match volume {
            Volume { empty_dir: Some(_), .. } => "kubernetes.io~empty-dir",
            Volume { config_map: Some(_), .. } => "kubernetes.io~configmap",
            Volume { secret: Some(_), .. } => "kubernetes.io~secret",
            Volume { downward_api: Some(_), .. } => "kubernetes.io~downward-api",
            Volume { projected: Some(_), .. } => "kubernetes.io~projected",
            _ => return None,
        };
        Some(self.paths.volume_dir(uid(pod), plugin, &volume.name))
    }
}

/// Works on the pod's volumes on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    alone: &Alone,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let share = alone.clone();
    let work = move || {
        let _share = share;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn make(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))
}

/// Hash of the parts of a pod that its files depend on: the files are written again when it changes. The status is no part.
fn version(pod: &Pod) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    let metadata = &pod.metadata;
    (&metadata.uid, metadata.generation, &metadata.labels, &metadata.annotations).hash(&mut hasher);
    hasher.finish()
}

fn ownership(pod: &Pod) -> Ownership {
    let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
    Ownership { group: group.and_then(|group| group.try_into().ok()) }
}

/// The volumes that some container mounts, in the pod's order; others are not waited for.
fn used(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    let ephemeral = spec.into_iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let mounts = mounts.chain(ephemeral.flat_map(|container| container.volume_mounts.iter().flatten()));
    let names: BTreeSet<&str> = mounts.map(|mount| mount.name.as_str()).collect();
    let volumes = spec.into_iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(move |volume| names.contains(volume.name.as_str()))
}

/// The name of the volume's type, as a manifest writes it.
fn kind(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let keys = fields.as_object().into_iter().flat_map(|fields| fields.keys());
    keys.into_iter().find(|key| *key != "name").cloned().unwrap_or_else(|| "unknown".to_owned())
}
