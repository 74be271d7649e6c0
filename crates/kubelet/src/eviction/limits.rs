//! Limits of what a pod keeps on the node's disk: of a container, of all of them, of an emptyDir.

use super::usage::{self, Usage};
use super::{PERIOD, Resource, bytes};
use crate::pods;
use crate::qos;
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::{Container, Pod};
use machinery::quantity::Quantity;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const STORAGE: &str = "ephemeral-storage";

pub(super) async fn run(kubelet: &Kubelet, shutdown: &CancellationToken) {
    let mut pause = PERIOD;
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let began = Instant::now();
        if shutdown.run_until_cancelled(enforce(kubelet)).await.is_none() {
            return;
        }
        // Large volumes are not measured all the time.
        pause = PERIOD.max(began.elapsed() * 9);
    }
}

/// Evicts the pods that are over.
async fn enforce(kubelet: &Kubelet) {
    let limited: Vec<Arc<Pod>> =
        super::candidates(kubelet).into_iter().filter(|pod| has_limits(pod)).collect();
    if limited.is_empty() {
        return;
    }
    let usage = usage::measure(kubelet, Resource::Storage, &limited).await;
    for pod in limited {
        if let Some(message) = usage.get(pods::uid(&pod)).and_then(|usage| exceeded(&pod, usage)) {
            super::end(kubelet, &pod, message, Vec::new(), false);
        }
    }
}

/// Containers that run as long as the pod: regular ones and sidecars.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = |init: &&Container| qos::is_sidecar(init);
    pod.spec
        .iter()
        .flat_map(move |spec| spec.init_containers.iter().flatten().filter(sidecars).chain(&spec.containers))
}

fn limit(container: &Container) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    Quantity::parse(&limits.get(STORAGE)?.0).ok().filter(|limit| !limit.is_zero())
}

/// Volumes with a limit of their own.
fn volumes(pod: &Pod) -> impl Iterator<Item = (&str, Quantity)> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        Some((volume.name.as_str(), Quantity::parse(&limit.0).ok().filter(|limit| !limit.is_zero())?))
    })
}

fn has_limits(pod: &Pod) -> bool {
    volumes(pod).next().is_some() || containers(pod).any(|container| limit(container).is_some())
}

fn is_over(used: u64, limit: &Quantity) -> bool {
    i128::from(used) * 1000 > limit.milli()
}

/// What the first limit says that does not hold.
fn exceeded(pod: &Pod, usage: &Usage) -> Option<String> {
    for (name, limit) in volumes(pod) {
        if usage.empty_dirs.get(name).is_some_and(|used| is_over(used.bytes, &limit)) {
            return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit \"{limit}\". "));
        }
    }
    let total = qos::pod_total(pod, |it| it.limits.as_ref());
    if let Some(limit) = total.get(STORAGE).filter(|limit| **limit > 0)
        && i128::from(usage.total()) * 1000 > *limit
    {
        let limit = bytes(limit / 1000);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    containers(pod).find_map(|container| {
        let (name, limit) = (&container.name, limit(container)?);
        is_over(*usage.containers.get(name)?, &limit)
            .then(|| format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::usage::EmptyDir;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_limit_that_does_not_hold() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "1Mi"}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": "2Mi"}}},
            ],
            "volumes": [
                {"name": "cache", "emptyDir": {"sizeLimit": "500Ki"}},
                {"name": "fast", "emptyDir": {"medium": "Memory"}},
                {"name": "config", "configMap": {"name": "c"}},
            ],
        }}))
        .unwrap();
        let message = |a: u64, b: u64, cache: u64, fast: u64| {
            let dir = |kib: u64, in_memory| EmptyDir { bytes: kib << 10, in_memory };
            let usage = Usage {
                containers: [("a".to_owned(), a << 10), ("b".to_owned(), b << 10)].into(),
                empty_dirs: [("cache".to_owned(), dir(cache, false)), ("fast".to_owned(), dir(fast, true))]
                    .into(),
            };
            exceeded(&pod, &usage).unwrap_or_default()
        };
        assert_eq!(message(1024, 1024, 500, 100_000), "");
        assert_eq!(message(0, 0, 501, 0), "Usage of EmptyDir volume \"cache\" exceeds the limit \"500Ki\". ");
        assert_eq!(
            message(1025, 0, 0, 0),
            "Container a exceeded its local ephemeral storage limit \"1Mi\". "
        );
        assert_eq!(
            message(1024, 2048, 1, 0),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "
        );
        assert_eq!(
            message(9_000, 0, 0, 0),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "
        );
    }
}
