//! The pods this node should run, and what is known of each.

use crate::runtime::{Container, RuntimePod};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

pub const SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Owned by the run loop; everyone else reads.
#[derive(Default)]
pub struct PodManager {
    inner: RwLock<Inner>,
    wakers: Mutex<HashMap<String, Arc<Notify>>>,
    /// Whether the folder of manifests was read: until then any mirror may be wanted.
    manifests_known: watch::Sender<bool>,
    /// Whether the API server has listed its pods.
    api_known: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    names: HashMap<(String, String), String>,
    /// The API server's copies of static pods, by namespace and name.
    mirrors: HashMap<(String, String), Arc<Pod>>,
}

struct Entry {
    pod: Arc<Pod>,
    status: Option<Arc<PodStatus>>,
    runtime: Option<Arc<RuntimePod>>,
    /// Notified after each update of `runtime`.
    looked: Arc<Notify>,
}

impl PodManager {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let inner = self.inner.read();
        let uid = inner.names.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(inner.entries.get(uid)?.pod.clone())
    }

    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        Some(self.inner.read().entries.get(uid)?.pod.clone())
    }

    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.inner.read().entries.values().map(|entry| entry.pod.clone()).collect()
    }

    /// The status that was generated last.
    pub fn status(&self, uid: &str) -> Option<Arc<PodStatus>> {
        self.inner.read().entries.get(uid)?.status.clone()
    }

    /// The pod's sandboxes and containers when the runtime was last asked.
    pub fn runtime_pod(&self, uid: &str) -> Option<Arc<RuntimePod>> {
        self.inner.read().entries.get(uid)?.runtime.clone()
    }

    /// Notified whenever the runtime was asked about the pod.
    pub(crate) fn looks(&self, uid: &str) -> Option<Arc<Notify>> {
        Some(self.inner.read().entries.get(uid)?.looked.clone())
    }

    /// The newest instance of a container, of any kind.
    pub fn container(&self, namespace: &str, name: &str, container: &str) -> Option<Container> {
        let pod = self.get(namespace, name)?;
        self.runtime_pod(uid(&pod))?.container(container).cloned()
    }

    /// The ready sandbox of a pod.
    pub fn sandbox_id(&self, namespace: &str, name: &str) -> Option<String> {
        let pod = self.get(namespace, name)?;
        let runtime = self.runtime_pod(uid(&pod))?;
        runtime.sandboxes.first().filter(|sandbox| sandbox.ready).map(|sandbox| sandbox.id.clone())
    }

    pub fn mirror(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.inner.read().mirrors.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.inner.read().mirrors.values().cloned().collect()
    }

    pub fn manifests_known(&self) -> bool {
        *self.manifests_known.borrow()
    }

    pub(crate) fn set_manifests_known(&self) {
        self.manifests_known.send_replace(true);
    }

    pub(crate) fn set_api_known(&self) {
        self.api_known.send_replace(true);
    }

    /// Whether every source has listed its pods.
    pub fn are_known(&self) -> bool {
        *self.manifests_known.borrow() && *self.api_known.borrow()
    }

    /// Waits until every source has listed its pods and their workers know of them: before, anything that runs may be
    /// wanted.
    pub async fn all_known(&self) {
        for source in [&self.manifests_known, &self.api_known] {
            // The sender lives as long as this does.
            let _ = source.subscribe().wait_for(|known| *known).await;
        }
    }

    /// Has the pod's worker look again.
    pub fn wake(&self, uid: &str) {
        if let Some(waker) = self.wakers.lock().get(uid) {
            waker.notify_one();
        }
    }

    pub fn wake_all(&self) {
        self.wakers.lock().values().for_each(|waker| waker.notify_one());
    }

    pub(crate) fn set_waker(&self, uid: &str, waker: Arc<Notify>) {
        self.wakers.lock().insert(uid.into(), waker);
    }

    pub(crate) fn put(&self, pod: Arc<Pod>) {
        let mut inner = self.inner.write();
        let key = (namespace(&pod).to_owned(), name(&pod).to_owned());
        inner.names.insert(key, uid(&pod).to_owned());
        match inner.entries.get_mut(uid(&pod)) {
            Some(entry) => entry.pod = pod,
            None => {
                let uid = uid(&pod).to_owned();
                inner.entries.insert(uid, Entry { pod, status: None, runtime: None, looked: Arc::default() });
            }
        }
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.wakers.lock().remove(uid);
        let mut inner = self.inner.write();
        if let Some(entry) = inner.entries.remove(uid) {
            let key = (namespace(&entry.pod).to_owned(), name(&entry.pod).to_owned());
            if inner.names.get(&key).is_some_and(|current| current == uid) {
                inner.names.remove(&key);
            }
        }
    }

    pub(crate) fn set_status(&self, uid: &str, status: Arc<PodStatus>) {
        if let Some(entry) = self.inner.write().entries.get_mut(uid) {
            entry.status = Some(status);
        }
    }

    pub(crate) fn set_runtime(&self, uid: &str, runtime: Arc<RuntimePod>) {
        if let Some(entry) = self.inner.write().entries.get_mut(uid) {
            entry.runtime = Some(runtime);
            entry.looked.notify_waiters();
        }
    }

    pub(crate) fn put_mirror(&self, pod: Arc<Pod>) {
        let key = (namespace(&pod).to_owned(), name(&pod).to_owned());
        self.inner.write().mirrors.insert(key, pod);
    }

    pub(crate) fn remove_mirror(&self, namespace: &str, name: &str) {
        self.inner.write().mirrors.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`: how upstream names a pod in messages.
pub fn title(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// From a file on this node, not from the API server.
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// What the node runs for the cluster's sake.
pub fn is_critical(pod: &Pod) -> bool {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    is_static(pod) || is_mirror(pod) || priority >= CRITICAL_PRIORITY
}

pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or_default()
}

/// `Always` where the pod says nothing.
pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

pub fn phase_is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
