//! Where pods come from: the API server, and a folder of manifests.

pub mod api;
pub mod file;
mod queue;

use crate::allocation::resize::{self, Trigger};
use crate::pods::{self, is_mirror};
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::Pod;
pub use queue::Changes;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub enum Change {
    Put(Arc<Pod>),
    Removed(Arc<Pod>),
    /// All manifests were read at least once.
    ManifestsRead,
    /// All pods of the API server were listed.
    ApiListed,
}

/// Takes changes to the workers, one after the other.
pub async fn dispatch(kubelet: Arc<Kubelet>, changes: Changes, shutdown: CancellationToken) {
    loop {
        let change = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => change,
        };
        match change {
            Change::ManifestsRead => {
                kubelet.pods.set_manifests_known();
                resize::retry(&kubelet, Trigger::PodsAdded);
                for mirror in kubelet.pods.mirrors() {
                    crate::mirror::changed(&kubelet, pods::namespace(&mirror), pods::name(&mirror));
                }
            }
            Change::ApiListed => {
                kubelet.pods.set_api_known();
                resize::retry(&kubelet, Trigger::PodsAdded);
            }
            Change::Put(pod) if is_mirror(&pod) => {
                let (namespace, name) = (pods::namespace(&pod), pods::name(&pod));
                kubelet.pods.put_mirror(pod.clone());
                crate::mirror::changed(&kubelet, namespace, name);
            }
            Change::Removed(pod) if is_mirror(&pod) => {
                let (namespace, name) = (pods::namespace(&pod), pods::name(&pod));
                kubelet.pods.remove_mirror(namespace, name);
                crate::mirror::changed(&kubelet, namespace, name);
            }
            Change::Put(pod) => {
                let is_static = pods::is_static(&pod);
                if !kubelet.supervisor.knows(pods::uid(&pod)) {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = crate::admission::refresh(&kubelet, &pod) => {}
                    }
                }
                kubelet.supervisor.update(&kubelet, pod.clone(), &shutdown);
                if is_static {
                    crate::mirror::changed(&kubelet, pods::namespace(&pod), pods::name(&pod));
                }
            }
            Change::Removed(pod) => {
                kubelet.supervisor.remove(&kubelet, pods::uid(&pod));
                if pods::is_static(&pod) {
                    crate::mirror::changed(&kubelet, pods::namespace(&pod), pods::name(&pod));
                }
            }
        }
    }
}
