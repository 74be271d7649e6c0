//! Mirror pods: the API server's read-only copies of this node's static pods.

use crate::pods::{self, CONFIG_HASH, MIRROR};
use crate::run::Kubelet;
use client::{DeleteOptions, RateLimit, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keys are `namespace/name`.
pub type Queue = WorkQueue<String>;

pub fn queue() -> Queue {
    WorkQueue::new(
        "mirror_pods",
        RateLimit { max: std::time::Duration::from_secs(30), ..RateLimit::default() },
    )
}

/// A static pod or a mirror of that name changed.
pub fn changed(kubelet: &Kubelet, namespace: &str, name: &str) {
    kubelet.mirrors.add(format!("{namespace}/{name}"));
}

pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let queue = kubelet.mirrors.clone();
    let reconcile = move |key: String| {
        let kubelet = kubelet.clone();
        async move { sync(&kubelet, &key).await }
    };
    run_workers(queue, 1, shutdown, reconcile).await;
}

async fn sync(kubelet: &Kubelet, key: &str) -> client::Result<()> {
    let (Some(client), Some((namespace, name))) = (&kubelet.client, key.split_once('/')) else {
        return Ok(());
    };
    let wanted = kubelet.pods.get(namespace, name).filter(|pod| pods::is_static(pod));
    let hash = wanted.as_deref().and_then(|pod| pods::annotation(pod, CONFIG_HASH));
    if wanted.is_none() && !kubelet.pods.manifests_known() {
        return Ok(());
    }
    if let Some(mirror) = kubelet.pods.mirror(namespace, name) {
        let fits = pods::annotation(&mirror, MIRROR) == hash && hash.is_some();
        if fits && mirror.metadata.deletion_timestamp.is_none() {
            if let Some(pod) = &wanted {
                kubelet.status.wake(pods::uid(pod));
            }
            return Ok(());
        }
        let options = DeleteOptions::grace(0).uid(pods::uid(&mirror));
        match client.delete::<Pod>(Some(namespace), name, &options).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            // Also where it changed under us, as by its last status: it is tried again.
            Err(error) => return Err(error),
        }
        // Its disappearance brings us back here, to make the new one.
        return Ok(());
    }
    let Some(pod) = wanted.filter(|pod| !kubelet.supervisor.is_rejected(pods::uid(pod))) else {
        return Ok(());
    };
    let node = client.get::<Node>(None, &kubelet.node_name).await?;
    let copy = mirror(&pod, &node);
    match client.create::<Pod>(Some(namespace), &copy).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

fn mirror(pod: &Pod, node: &Node) -> Value {
    let mut copy = pod.clone();
    copy.status = None;
    copy.metadata.uid = None;
    let hash = pods::annotation(pod, CONFIG_HASH).unwrap_or_default().to_owned();
    copy.metadata.annotations.get_or_insert_default().insert(MIRROR.into(), hash);
    copy.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    serde_json::to_value(copy).unwrap_or_default()
}
