//! The node's heartbeat: a Lease in `kube-node-lease`, renewed four times in its duration.

use super::heartbeat::Heartbeat;
use crate::run::Kubelet;
use client::Client;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const NAMESPACE: &str = "kube-node-lease";

pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let Some(client) = &kubelet.client else { return };
    let mut heartbeat = Heartbeat::new(client, &kubelet.config);
    let duration =
        Duration::from_secs(u64::try_from(kubelet.config.node_lease_duration_seconds).unwrap_or(40));
    let mut last: Option<Lease> = None;
    let mut failures = 0;
    loop {
        let outcome = renew(&kubelet, &heartbeat.client, last.take()).await;
        heartbeat.note(&outcome);
        match outcome {
            Ok(lease) => {
                last = Some(lease);
                failures = 0;
            }
            Err(error) => {
                failures += 1;
                warn!(%error, failures, "Failed to renew the node's lease, will retry");
            }
        }
        let pause = if failures == 0 { duration / 4 } else { Duration::from_millis(200 << failures.min(5)) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(kubelet: &Kubelet, client: &Client, last: Option<Lease>) -> client::Result<Lease> {
    let name = &kubelet.node_name;
    let mut lease = match last {
        Some(lease) => lease,
        None => match client.get::<Lease>(Some(NAMESPACE), name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => Lease::default(),
            Err(error) => return Err(error),
        },
    };
    lease.metadata.name = Some(name.clone());
    lease.metadata.namespace = Some(NAMESPACE.into());
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        && let Ok(node) = client.get::<Node>(None, name).await
    {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..Default::default()
        }]);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(kubelet.config.node_lease_duration_seconds);
    spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
    if lease.metadata.resource_version.is_none() {
        return client.create::<Lease>(Some(NAMESPACE), &lease).await;
    }
    client.update::<Lease>(Some(NAMESPACE), name, &lease).await
}
