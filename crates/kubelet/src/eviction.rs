//! Node pressure: what the node reports, and the eviction of a pod at a time while a hard threshold is crossed.
//!
//! Signals: `memory.available`, `nodefs.available`, `imagefs.available`. Soft thresholds and inodes are not
//! looked at.

use crate::events::Warning;
use crate::node::{machine, threshold};
use crate::pods;
use crate::qos::{self, Class};
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::Pod;
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

pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut memory_seen: Option<Instant> = None;
    let mut disk_seen: Option<Instant> = None;
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
            evict_one(&kubelet, if memory { "memory" } else { "ephemeral-storage" });
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

/// Best-effort pods go first, then burstable, by priority; static pods stay.
fn evict_one(kubelet: &Kubelet, resource: &str) {
    let mut candidates: Vec<Arc<Pod>> = kubelet
        .pods
        .all()
        .into_iter()
        .filter(|pod| !pods::is_static(pod) && pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| {
            let phase = kubelet.pods.status(pods::uid(pod)).and_then(|status| status.phase.clone());
            !pods::phase_is_terminal(phase.as_deref())
        })
        .collect();
    let order = |pod: &Pod| match qos::class(pod) {
        Class::BestEffort => 0,
        Class::Burstable => 1,
        Class::Guaranteed => 2,
    };
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    candidates.sort_by_key(|pod| (priority(pod), order(pod)));
    let Some(pod) = candidates.first() else { return };
    let message = format!("The node was low on resource: {resource}. ");
    warn!(pod = pods::title(pod), resource, "Evicting pod");
    kubelet.events.event(pod, Warning, "Evicted", &message);
    kubelet.supervisor.fail(pods::uid(pod), "Evicted", &message, Some(1));
}
