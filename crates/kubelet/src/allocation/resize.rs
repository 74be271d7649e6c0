//! Decides which resizes are admitted: at once where there is room, later and in order where room appears.

use super::conditions::{self, DEFERRED, INFEASIBLE, Resolution};
use super::{Allocations, Part};
use crate::admission;
use crate::container_config::resources::may_swap;
use crate::events::{Normal, Warning};
use crate::figures::FIGURES;
use crate::pods::{title, uid};
use crate::qos::{self, Class};
use crate::run::Kubelet;
use crate::status;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::info;

const FIRST_RETRY: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(3 * 60);

/// What made the kubelet look at pending resizes, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    PodResized,
    PodUpdated,
    PodsAdded,
    PodsRemoved,
    PodTerminated,
    Periodic,
}

impl Trigger {
    fn name(self) -> &'static str {
        match self {
            Trigger::PodResized => "pod_resized",
            Trigger::PodUpdated => "pod_updated",
            Trigger::PodsAdded => "pods_added",
            Trigger::PodsRemoved => "pods_removed",
            Trigger::PodTerminated => "pod_terminated",
            Trigger::Periodic => "periodic_retry",
        }
    }
}

/// Looks at what is pending from time to time: room may appear in ways that nobody notices.
pub async fn run(kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
    let mut pause = FIRST_RETRY;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = if kubelet.pods.are_known() { RETRY } else { FIRST_RETRY };
        retry(&kubelet, Trigger::Periodic);
    }
}

/// A new pod is given room, or refused. One that ran here before was given it then.
pub fn add(
    kubelet: &Kubelet,
    pod: &Arc<Pod>,
    fresh: bool,
    others: &[Arc<Pod>],
) -> Result<(), admission::Refusal> {
    let allocations = &kubelet.allocations;
    if status::manager::is_over(pod) {
        return Ok(());
    }
    {
        let _deciding = allocations.deciding.lock();
        if fresh {
            admission::admit(kubelet, &allocations.apply(pod), others)?;
        }
        allocations.admit(pod);
    }
    if !fresh {
        allocations.recover(pod, kubelet.clock.now());
    }
    if allocations.differs(pod) {
        allocations.wait(uid(pod));
    }
    Ok(())
}

/// A pod has changed in its source.
pub fn update(kubelet: &Arc<Kubelet>, before: &Pod, pod: &Pod) {
    let allocations = &kubelet.allocations;
    if before.spec == pod.spec || !allocations.knows(uid(pod)) {
        return;
    }
    count(before, pod);
    if allocations.differs(pod) {
        allocations.wait(uid(pod));
        retry(kubelet, Trigger::PodUpdated);
    } else {
        allocations.resolve(pod, Resolution::Reverted, kubelet.clock.now());
        kubelet.pods.wake(uid(pod));
    }
}

/// Admits what there is room for by now, in order. Until all pods are known nothing is: there may be less room than it seems.
pub fn retry(kubelet: &Arc<Kubelet>, trigger: Trigger) {
    let allocations = &kubelet.allocations;
    if !allocations.is_waiting() || !kubelet.pods.are_known() {
        return;
    }
    let _deciding = allocations.deciding.lock();
    for uid in order(allocations, |uid| kubelet.pods.by_uid(uid)) {
        let Some(pod) = kubelet.pods.by_uid(&uid) else {
            allocations.settle(&uid);
            continue;
        };
        let before = allocations.conditions(&uid);
        let was_deferred = before.iter().any(|it| it.reason.as_deref() == Some(DEFERRED));
        let allocated = decide(kubelet, &pod);
        if allocated && was_deferred {
            FIGURES.deferred_accepted_resizes.with(&[trigger.name()]).inc();
        }
        if allocated || before != allocations.conditions(&uid) {
            kubelet.pods.wake(&uid);
        }
    }
}

/// Returns whether the pod was allocated what it asks for.
fn decide(kubelet: &Arc<Kubelet>, pod: &Arc<Pod>) -> bool {
    let (allocations, now) = (&kubelet.allocations, kubelet.clock.now());
    let generation = pod.metadata.generation.unwrap_or_default();
    if !allocations.differs(pod) {
        allocations.settle(uid(pod));
        allocations.resolve(pod, Resolution::Reverted, now);
        return false;
    }
    let (reason, message) = match refusal(kubelet, pod) {
        None => {
            allocations.allocate(pod);
            allocations.settle(uid(pod));
            allocations.resolve(pod, Resolution::Accepted, now);
            allocations.with_conditions(uid(pod), |it| it.begin(generation, now));
            info!(pod = title(pod), generation, "Pod resize was allocated");
            let text = conditions::event("Pod resize started", pod, generation, "");
            kubelet.events.event(pod, Normal, "ResizeStarted", &text);
            return true;
        }
        Some(refusal) => refusal,
    };
    if reason == INFEASIBLE {
        allocations.settle(uid(pod));
    }
    if allocations.with_conditions(uid(pod), |it| it.hold_back(reason, &message, generation, now)) {
        info!(pod = title(pod), generation, reason, message, "Pod resize is pending");
        let text = conditions::event(&format!("Pod resize {reason}"), pod, generation, &message);
        let event = if reason == INFEASIBLE { "ResizeInfeasible" } else { "ResizeDeferred" };
        kubelet.events.event(pod, Warning, event, &text);
    }
    false
}

/// Why a resize is not admitted: for good, or as long as there is no room.
fn refusal(kubelet: &Kubelet, pod: &Arc<Pod>) -> Option<(&'static str, String)> {
    let allocated = kubelet.allocations.apply(pod);
    if let Some((detail, message)) = infeasible(kubelet, pod, &allocated) {
        FIGURES.infeasible_resizes.with(&[detail]).inc();
        return Some((INFEASIBLE, message));
    }
    let mut others = kubelet.supervisor.with_room(kubelet);
    others.retain(|other| uid(other) != uid(pod));
    admission::admit(kubelet, pod, &others).err().map(|refusal| (DEFERRED, refusal.message))
}

/// What this node never does: (detail for the metrics, message).
fn infeasible(kubelet: &Kubelet, pod: &Pod, allocated: &Pod) -> Option<(&'static str, String)> {
    let swaps = |of: &Pod, it: &Container| may_swap(of, it, &kubelet.container_node);
    for (asked, given) in pairs(pod, allocated) {
        let policies = || given.resize_policy.iter().flatten();
        let memory = policies().find(|it| it.resource_name == "memory");
        let restarts = memory.is_some_and(|it| it.restart_policy == "RestartContainer");
        let changes = amount(asked, Part::Memory, |it| it.requests.as_ref())
            != amount(given, Part::Memory, |it| it.requests.as_ref());
        if changes && !restarts && (swaps(pod, asked) || swaps(allocated, given)) {
            let message = "In-place resize of containers with swap is not supported.";
            return Some(("swap_limitation", message.into()));
        }
    }
    let policy = &kubelet.config.cpu_manager_policy;
    let requests = |it: &Container| amount(it, Part::Cpu, |it| it.requests.as_ref());
    if policy == "static"
        && qos::class(pod) == Class::Guaranteed
        && pairs(pod, allocated).any(|(asked, given)| requests(asked) != requests(given))
    {
        let message =
            format!("Resize is infeasible for Guaranteed Pods alongside CPU Manager policy {policy:?}");
        return Some(("guaranteed_pod_cpu_manager_static_policy", message));
    }
    None
}

type Quantities = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Requests or limits of resources.
type List = fn(&ResourceRequirements) -> Option<&Quantities>;

fn amount(container: &Container, part: Part, of: List) -> i64 {
    qos::amount(container.resources.as_ref().and_then(of), part.name()).unwrap_or_default()
}

/// Containers of two versions of a pod, by name.
fn pairs<'a>(a: &'a Pod, b: &'a Pod) -> impl Iterator<Item = (&'a Container, &'a Container)> {
    let all = |pod: &'a Pod| {
        pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
    };
    let others: HashMap<&str, &Container> = all(b).map(|it| (it.name.as_str(), it)).collect();
    all(a).filter_map(move |it| Some((it, *others.get(it.name.as_str())?)))
}

/// Pods that wait, in the order in which they are given room: those that ask for no more, then by priority, class, and how
/// long they wait.
fn order(allocations: &Allocations, pod: impl Fn(&str) -> Option<Arc<Pod>>) -> Vec<String> {
    let mut waiting: Vec<(_, String)> = Vec::new();
    for (uid, since) in allocations.waiting() {
        let turn = pod(&uid).map(|pod| turn(&pod, &allocations.apply(&pod), since));
        waiting.push((turn, uid));
    }
    waiting.sort();
    waiting.into_iter().map(|(_, uid)| uid).collect()
}

type Turn = (bool, Reverse<i32>, bool, bool, Option<Timestamp>);

pub(super) fn turn(pod: &Pod, allocated: &Pod, since: Option<Timestamp>) -> Turn {
    let total = |pod: &Pod| qos::pod_total(pod, |it| it.requests.as_ref());
    let (asked, given) = (total(pod), total(allocated));
    let increases = ["cpu", "memory"].iter().any(|name| asked.get(*name) > given.get(*name));
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    let guaranteed = qos::class(pod) == Class::Guaranteed;
    (increases, Reverse(priority), !guaranteed, since.is_none(), since)
}

/// Counts what a change of the spec asks for.
fn count(before: &Pod, pod: &Pod) {
    for (old, new) in pairs(before, pod) {
        for part in [Part::Memory, Part::Cpu] {
            let of: [(&str, List); 2] =
                [("requests", |it| it.requests.as_ref()), ("limits", |it| it.limits.as_ref())];
            for (requirement, of) in of {
                let operation = match (amount(old, part, of), amount(new, part, of)) {
                    (old, new) if old == new => continue,
                    (_, 0) => "remove",
                    (0, _) => "add",
                    (old, new) if new < old => "decrease",
                    _ => "increase",
                };
                FIGURES.requested_resizes.with(&[part.name(), requirement, operation]).inc();
            }
        }
    }
}

/// When a pod has ended, or has less than before, others may have room.
pub fn room_appeared(kubelet: &Arc<Kubelet>, pod: &Pod, trigger: Trigger) {
    if trigger == Trigger::PodTerminated {
        kubelet.allocations.end(pod, kubelet.clock.now());
    }
    retry(kubelet, trigger);
    if qos::class(pod) == Class::Burstable {
        crate::node::shares::weigh_burstable(kubelet);
    }
}

/// Registers counts that are read when asked for.
pub fn register(kubelet: &Arc<Kubelet>) {
    let registry = daemon::metrics::registry();
    let of = Arc::downgrade(kubelet);
    registry.gauge_fn(
        "kubelet_pod_pending_resizes",
        "Number of pending resizes for pods. Label 'priority_bucket' classifies the pod priority (system-critical: >=2000000000, high: 100000..1999999999, medium: 1..99999, normal: 0/default, low: -999..-1, very-low: <=-1000, unknown: nil pod). Label 'reason' describes the state (deferred, infeasible).",
        &["reason", "priority_bucket"],
        move || {
            let Some(kubelet) = of.upgrade() else { return Vec::new() };
            let mut counts: HashMap<Vec<String>, f64> = HashMap::new();
            for (uid, reason) in kubelet.allocations.counts().0 {
                let Some(pod) = kubelet.pods.by_uid(&uid) else { continue };
                let labels = vec![reason.to_lowercase(), conditions::priority_bucket(Some(&pod)).to_owned()];
                *counts.entry(labels).or_default() += 1.0;
            }
            counts.into_iter().collect()
        },
    );
    let of = Arc::downgrade(kubelet);
    registry.gauge_fn(
        "kubelet_pod_in_progress_resizes",
        "Number of in-progress resizes for pods.",
        &[],
        move || {
            let count = of.upgrade().map_or(0, |kubelet| kubelet.allocations.counts().1);
            vec![(Vec::new(), f64::from(u32::try_from(count).unwrap_or(u32::MAX)))]
        },
    );
}

impl Allocations {
    fn wait(&self, uid: &str) {
        self.state.lock().waiting.insert(uid.into());
    }

    fn settle(&self, uid: &str) {
        self.state.lock().waiting.remove(uid);
    }

    pub fn is_waiting(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// Uids with the time since when their resize is pending.
    fn waiting(&self) -> Vec<(String, Option<Timestamp>)> {
        let state = self.state.lock();
        let since = |uid: &String| state.conditions.get(uid)?.pending_since();
        state.waiting.iter().map(|uid| (uid.clone(), since(uid))).collect()
    }

    fn knows(&self, uid: &str) -> bool {
        self.state.lock().allocated.contains_key(uid)
    }

    fn with_conditions<T>(&self, uid: &str, change: impl FnOnce(&mut super::Conditions) -> T) -> T {
        change(self.state.lock().conditions.entry(uid.into()).or_default())
    }

    fn resolve(&self, pod: &Pod, resolution: Resolution, now: Timestamp) {
        if let Some(conditions) = self.state.lock().conditions.get_mut(uid(pod)) {
            conditions.resolve(Some(pod), resolution, now);
        }
    }
}
