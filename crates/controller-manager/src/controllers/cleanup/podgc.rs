//! `pod-garbage-collector-controller`: pods that nobody will clean up otherwise: ended ones beyond a number, those
//! of nodes that are gone or out of service, and those deleted before they were ever on a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, DeleteOptions, Informer, Patch, Text};
use controllers::views::{Node, Pod};
use controllers::{Context, Error, Pods, time};
use futures::StreamExt;
use rustc_hash::FxHashSet;
use serde_json::json;

use crate::Options;

const PERIOD: Duration = Duration::from_secs(20);
/// How long a node may be unknown before its pods are taken for lost: the cache may be behind.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Pods that are collected at a time.
const AT_ONCE: usize = 16;

struct Controller {
    client: Client,
    pods: Pods,
    nodes: Informer<Node>,
    threshold: i64,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "pod-garbage-collector";
    let mut builder = context.builder("orphaned_pods_nodes", account, account).await?;
    let controller = Controller {
        client: builder.client.clone(),
        pods: builder.pods(),
        nodes: builder.reads(),
        threshold: options.terminated_pod_gc_threshold,
    };
    let mut missing = BTreeMap::new();
    let work = async {
        while builder.synced().await {
            controller.round(&mut missing).await;
            tokio::time::sleep(PERIOD).await;
        }
    };
    context.shutdown.run_until_cancelled(work).await;
    Ok(())
}

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reason {
    Surplus,
    Orphaned,
    Unscheduled,
    OutOfService,
}

impl Controller {
    async fn round(&self, missing: &mut BTreeMap<Text, Instant>) {
        let pods = self.pods.cache.list();
        let lost = self.lost_nodes(&pods, missing).await;
        let known = |name: &str| self.nodes.get(None, name);
        let planned = plan(&pods, self.threshold, &lost, &known);
        let collect = |(pod, reason): (Arc<Pod>, Reason)| async move {
            if let Err(error) = self.collect(&pod, reason).await {
                tracing::error!(pod = %pod.metadata.key(), %error, "Collecting a pod failed");
            }
        };
        futures::stream::iter(planned).for_each_concurrent(AT_ONCE, collect).await;
    }

    /// Nodes that pods name and that have been missing for long enough, asked for once more.
    async fn lost_nodes(&self, pods: &[Arc<Pod>], missing: &mut BTreeMap<Text, Instant>) -> FxHashSet<Text> {
        let named: FxHashSet<&Text> = pods.iter().map(|pod| &pod.spec.node_name).collect();
        let unknown = |name: &&Text| !name.is_empty() && self.nodes.get(None, name).is_none();
        let unknown: FxHashSet<&Text> = named.into_iter().filter(unknown).collect();
        missing.retain(|name, _| unknown.contains(name));
        for name in unknown {
            missing.entry(name.clone()).or_insert_with(Instant::now);
        }
        let mut lost = FxHashSet::default();
        for (name, _) in missing.iter().filter(|(_, since)| since.elapsed() >= QUARANTINE) {
            match self.client.get::<Node>(None, name).await {
                Err(error) if error.is_not_found() => drop(lost.insert(name.clone())),
                Err(error) => tracing::warn!(node = %name, %error, "Reading a node failed"),
                Ok(_) => {}
            }
        }
        lost
    }

    async fn collect(&self, pod: &Pod, reason: Reason) -> client::Result<()> {
        let meta = &pod.metadata;
        let namespace = Some(meta.namespace.as_str());
        if !pod.is_terminal() {
            let mut status = json!({"phase": "Failed"});
            if reason == Reason::Orphaned && pod.condition("DisruptionTarget").is_none() {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "lastTransitionTime": time::text(jiff::Timestamp::now()),
                }]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": meta.uid}, "status": status}));
            match self.client.patch::<Pod>(namespace, &meta.name, Some("status"), patch).await {
                Err(error) if error.is_not_found() => return Ok(()),
                result => drop(result?),
            }
        }
        let mut options = DeleteOptions::default().uid(meta.uid.clone());
        options.grace = Some(0);
        match self.client.delete::<Pod>(namespace, &meta.name, &options).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            result => {
                tracing::info!(pod = %meta.key(), ?reason, "Collected pod");
                result
            }
        }
    }
}

fn plan(
    pods: &[Arc<Pod>],
    threshold: i64,
    lost: &FxHashSet<Text>,
    node: &dyn Fn(&str) -> Option<Arc<Node>>,
) -> Vec<(Arc<Pod>, Reason)> {
    let mut chosen: Vec<(Arc<Pod>, Reason)> = Vec::new();
    if threshold > 0 {
        let mut ended: Vec<_> = pods.iter().filter(|pod| pod.is_terminal()).collect();
        let surplus = ended.len().saturating_sub(usize::try_from(threshold).unwrap_or(usize::MAX));
        if surplus > 0 {
            ended.sort_by(|left, right| {
                let evicted = |pod: &Pod| pod.status.phase == "Failed" && pod.status.reason == "Evicted";
                let (left, right) = (&***left, &***right);
                evicted(right)
                    .cmp(&evicted(left))
                    .then_with(|| left.metadata.created().cmp(&right.metadata.created()))
                    .then_with(|| left.metadata.name.cmp(&right.metadata.name))
            });
            chosen.extend(ended[..surplus].iter().map(|pod| ((*pod).clone(), Reason::Surplus)));
        }
    }
    for pod in pods {
        let name = &pod.spec.node_name;
        let reason = if name.is_empty() {
            pod.metadata.is_deleting().then_some(Reason::Unscheduled)
        } else if lost.contains(name) {
            Some(Reason::Orphaned)
        } else if pod.metadata.is_deleting() {
            let out = node(name).is_some_and(|node| {
                !node.is_ready() && node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
            });
            out.then_some(Reason::OutOfService)
        } else {
            None
        };
        chosen.extend(reason.map(|reason| (pod.clone(), reason)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_terminated_orphaned_and_stuck_pods() {
        let pod = |name: &str, node: &str, phase: &str, deleting: bool| {
            let mut pod =
                json!({"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"phase": phase}});
            if deleting {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
        };
        let pods = [
            pod("ended-1", "n", "Failed", false),
            pod("ended-2", "n", "Succeeded", false),
            pod("orphan", "gone", "Running", false),
            pod("never", "", "Pending", true),
            pod("waiting", "", "Pending", false),
            pod("stuck", "down", "Running", true),
            pod("fine", "n", "Running", true),
        ];
        let node = |name: &str| {
            let taints = if name == "down" {
                json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}])
            } else {
                json!([])
            };
            Some(Arc::new(serde_json::from_value(json!({"spec": {"taints": taints}})).unwrap()))
        };
        let found = plan(&pods, 1, &["gone".into()].into_iter().collect(), &node);
        let found: Vec<_> = found.iter().map(|(pod, reason)| (pod.metadata.name.as_str(), *reason)).collect();
        assert_eq!(
            found,
            [
                ("ended-1", Reason::Surplus),
                ("orphan", Reason::Orphaned),
                ("never", Reason::Unscheduled),
                ("stuck", Reason::OutOfService),
            ]
        );
        assert!(plan(&pods[..2], 0, &FxHashSet::default(), &node).is_empty());
    }
}
