//! Node pressure: what the node reports, and the eviction of a pod at a time while a hard threshold is crossed; and of
//! pods that keep more on the node's disk than their limits let them. Where the disk is full, what nobody uses goes before
//! any pod does.
//!
//! Signals: `memory.available`, `nodefs.available`, `imagefs.available`. Soft thresholds and inodes are not
//! looked at.

mod limits;
mod usage;

use crate::events::Warning;
use crate::node::{machine, threshold};
use crate::pods;
use crate::qos;
use crate::run::Kubelet;
use crate::worker::Failure;
use k8s_openapi::api::core::v1::Pod;
use machinery::quantity::{Format, Quantity};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use usage::Usage;

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

/// A threshold, in bytes, of which less is there.
#[derive(Clone, Copy, Debug)]
pub struct Crossed {
    pub resource: Resource,
    pub threshold: i64,
    pub available: i64,
}

impl Crossed {
    fn check(resource: Resource, threshold: i64, available: i64) -> Option<Crossed> {
        (available < threshold).then_some(Crossed { resource, threshold, available })
    }
}

/// Limits of pods are looked at beside the node's pressure, which cannot wait until large volumes are measured.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    tokio::join!(watch_pressure(&kubelet, &shutdown), limits::run(&kubelet, &shutdown));
}

async fn watch_pressure(kubelet: &Kubelet, shutdown: &CancellationToken) {
    let mut memory_seen: Option<Instant> = None;
    let mut disk_seen: Option<Instant> = None;
    let mut evictor = Evictor::default();
    loop {
        let memory = memory_pressure(kubelet);
        let disk = disk_pressure(kubelet).await;
        let linger = kubelet.config.eviction_pressure_transition_period.0;
        let note = |seen: &mut Option<Instant>, now: bool| {
            if now {
                *seen = Some(Instant::now());
            }
            seen.is_some_and(|seen| now || seen.elapsed() < linger)
        };
        *kubelet.pressure.write() = Pressure {
            memory: note(&mut memory_seen, memory.is_some()),
            disk: note(&mut disk_seen, disk.is_some()),
            pids: false,
        };
        if let Some(crossed) = memory.or(disk) {
            evictor.relieve(kubelet, crossed, disk_pressure(kubelet)).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn memory_pressure(kubelet: &Kubelet) -> Option<Crossed> {
    let limit = threshold(&kubelet.config, "memory.available", kubelet.machine.memory_bytes);
    Crossed::check(Resource::Memory, limit, machine::memory_available())
}

async fn disk_pressure(kubelet: &Kubelet) -> Option<Crossed> {
    let (capacity, available) = machine::disk(&kubelet.paths.root);
    let limit = threshold(&kubelet.config, "nodefs.available", capacity);
    if let Some(crossed) = Crossed::check(Resource::Storage, limit, available) {
        return Some(crossed);
    }
    let (capacity, available) = crate::images::gc::image_file_system(kubelet).await?;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let limit = threshold(&kubelet.config, "imagefs.available", signed(capacity));
    Crossed::check(Resource::Storage, limit, signed(available))
}

/// Pods that may be evicted, with what they were allocated. One that ends already has nothing more to give.
fn candidates(kubelet: &Kubelet) -> Vec<Arc<Pod>> {
    let may_go = |pod: &Arc<Pod>| {
        let phase = kubelet.pods.status(pods::uid(pod)).and_then(|status| status.phase.clone());
        !pods::is_critical(pod)
            && !kubelet.supervisor.has_failed(pods::uid(pod))
            && pod.metadata.deletion_timestamp.is_none()
            && !pods::phase_is_terminal(phase.as_deref())
    };
    let pods = kubelet.pods.all().into_iter().filter(may_go);
    pods.map(|pod| kubelet.allocations.allocated(&pod)).collect()
}

/// Ends a pod as evicted. `annotations` are the event's.
fn end(kubelet: &Kubelet, pod: &Pod, message: String, annotations: Vec<(String, String)>, disruption: bool) {
    warn!(pod = pods::title(pod), message, "Evicting pod");
    kubelet.events.annotated(pod, Warning, "Evicted", &message, annotations);
    let failure = Failure { reason: "Evicted".into(), message, disruption, lasting: false };
    kubelet.supervisor.fail(pods::uid(pod), failure, Some(1));
}

/// Evicts one pod after the other.
#[derive(Default)]
pub struct Evictor {
    /// The last one, and since when.
    last: Option<(String, Instant)>,
}

impl Evictor {
    /// Makes room: by what nobody uses, and where `look` then finds that it does not do, by a pod. Returns the pod's uid.
    pub async fn relieve(
        &mut self,
        kubelet: &Kubelet,
        crossed: Crossed,
        look: impl Future<Output = Option<Crossed>>,
    ) -> Option<String> {
        let text = format!("Attempting to reclaim {}", crossed.resource.name());
        kubelet.events.node(&kubelet.node_name, Warning, "EvictionThresholdMet", &text);
        let crossed = match crossed.resource {
            Resource::Memory => crossed,
            Resource::Storage => {
                reclaim(kubelet).await;
                look.await?
            }
        };
        self.evict(kubelet, crossed).await
    }

    /// Evicts the next pod, unless the last one still holds what it is to give back. Returns the uid.
    pub async fn evict(&mut self, kubelet: &Kubelet, crossed: Crossed) -> Option<String> {
        if let Some((uid, since)) = &self.last
            && since.elapsed() < ENDING
            && kubelet.pods.runtime_pod(uid).is_some_and(|found| found.is_running())
        {
            return None;
        }
        let mut candidates = candidates(kubelet);
        let usage = usage::measure(kubelet, crossed.resource, &candidates).await;
        let used = |pod: &Pod| usage.get(pods::uid(pod)).filter(|usage| !usage.containers.is_empty());
        candidates.sort_by_key(|pod| rank(pod, crossed.resource, used(pod).map(Usage::total)));
        let pod = candidates.first()?;
        let (message, annotations) = message(crossed, pod, used(pod));
        end(kubelet, pod, message, annotations, true);
        let uid = pods::uid(pod).to_owned();
        self.last = Some((uid.clone(), Instant::now()));
        Some(uid)
    }
}

/// Removes from the disk what nobody uses: containers of pods that are over, and images.
async fn reclaim(kubelet: &Kubelet) {
    for pod in kubelet.pods.all() {
        let uid = pods::uid(&pod);
        let phase = kubelet.pods.status(uid).and_then(|status| status.phase.clone());
        let Some(runtime) = kubelet.pods.runtime_pod(uid) else { continue };
        if !pods::phase_is_terminal(phase.as_deref()) || runtime.may_run() {
            continue;
        }
        for container in &runtime.containers {
            if let Err(error) = kubelet.runtime.remove_container(&container.id).await {
                warn!(pod = pods::title(&pod), id = container.id, %error, "Failed to remove an ended container");
            }
        }
    }
    if let Err(error) = kubelet.image_collector.delete_unused(kubelet).await {
        warn!(%error, "Failed to remove unused images");
    }
}

fn bytes(value: impl TryInto<i64>) -> Quantity {
    Quantity::new(value.try_into().unwrap_or(i64::MAX), Format::BinarySi)
}

/// What the pod's status and its event say, with the containers that use more than they asked for; and the event's
/// annotations, for programs that look for the same.
fn message(crossed: Crossed, pod: &Pod, usage: Option<&Usage>) -> (String, Vec<(String, String)>) {
    let resource = crossed.resource.name();
    let (threshold, available) = (bytes(crossed.threshold), bytes(crossed.available));
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {threshold}, available: {available}. "
    );
    let spec = pod.spec.as_ref();
    let containers =
        spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let Some(usage) = usage else { return (text, Vec::new()) };
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
    for container in containers {
        let Some(used) = usage.containers.get(&container.name) else { continue };
        let asked = container.resources.as_ref().and_then(|it| it.requests.as_ref()?.get(resource));
        let request = asked.and_then(|it| Quantity::parse(&it.0).ok()).unwrap_or(bytes(0));
        if i128::from(*used) * 1000 > request.milli() {
            let (name, used) = (&container.name, bytes(*used));
            text += &format!(
                "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. "
            );
            names.push(name.clone());
            amounts.push(used.to_string());
        }
    }
    let annotations = [
        ("offending_containers", names.join(",")),
        ("offending_containers_usage", amounts.join(",")),
        ("starved_resource", resource.to_owned()),
    ];
    (text, annotations.map(|(name, value)| (name.to_owned(), value)).into())
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
    }

    #[test]
    fn messages() {
        let usage = |bytes: u64| Usage { containers: [("c".to_owned(), bytes)].into(), ..Usage::default() };
        let crossed = Crossed { resource: Resource::Memory, threshold: 100 << 20, available: 3_000 << 10 };
        let low = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 3000Ki. ";
        let text = |request, used: Option<&Usage>| message(crossed, &pod("web", 0, request), used).0;
        assert_eq!(text("0", None), low);
        assert_eq!(text("1Gi", Some(&usage(12 << 10))), low);
        assert_eq!(
            text("0", Some(&usage(12 << 10))),
            format!("{low}Container c was using 12Ki, request is 0, has larger consumption of memory. ")
        );
        let annotations = |request, used: Option<&Usage>| -> Vec<String> {
            message(crossed, &pod("web", 0, request), used).1.into_iter().map(|(_, value)| value).collect()
        };
        assert_eq!(annotations("0", Some(&usage(12 << 10))), ["c", "12Ki", "memory"]);
        assert_eq!(annotations("1Gi", Some(&usage(12 << 10))), ["", "", "memory"]);
        assert!(annotations("0", None).is_empty());
    }
}
