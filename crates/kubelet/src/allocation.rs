//! What each pod was given, as against what it asks for by now (in-place resize, KEP-1287). Everything below the sources
//! works on the pod with what it was *allocated*; what the containers that run were last made with is what was *actuated*.
//! A resize changes the first when it is admitted ([`resize`]), the second as the worker carries it out.
//!
//! Both are written down in the kubelet's folder under upstream's names ([`checkpoint`]). The API does not have them: a
//! status names allocated requests and no allocated limits, and for a moment lags behind what was decided.

pub mod checkpoint;
pub mod conditions;
pub mod resize;
pub mod resources;

use crate::pods::uid;
use crate::qos::is_sidecar;
use crate::runtime::{RuntimePod, State as Run};
use checkpoint::{Checkpoint, Error};
use conditions::{Conditions, Resolution};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use resources::{PodResources, Size};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

pub struct Allocations {
    state: Mutex<State>,
    allocated: Checkpoint,
    actuated: Checkpoint,
    /// Locked while it is decided what a pod is given: two pods must not be given the same room.
    deciding: Mutex<()>,
}

type ByUid = BTreeMap<String, PodResources>;
type Quantities = Option<BTreeMap<String, Quantity>>;

#[derive(Default)]
struct State {
    allocated: ByUid,
    actuated: ByUid,
    conditions: HashMap<String, Conditions>,
    /// Pods with a resize that may be admitted yet.
    waiting: HashSet<String>,
}

/// One of the kinds of resources that are resized, each in its own step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Memory,
    Cpu,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Memory => "memory",
            Part::Cpu => "cpu",
        }
    }
}

impl Allocations {
    /// Reads what the last kubelet left in its folder.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let (allocated, actuated) =
            (Checkpoint::new(root, "allocated_pods_state"), Checkpoint::new(root, "actuated_pods_state"));
        let state = State { allocated: allocated.read()?, actuated: actuated.read()?, ..State::default() };
        Ok(Self { state: Mutex::new(state), allocated, actuated, deciding: Mutex::default() })
    }

    /// Writes down what has changed. To be waited for before anything is done by it: a kubelet that is killed then
    /// carries on where it was.
    pub async fn save(&self) -> Result<(), Error> {
        self.allocated.save(|| self.state.lock().allocated.clone()).await?;
        self.actuated.save(|| self.state.lock().actuated.clone()).await
    }

    /// Gives a pod what it asks for, unless it was given something before.
    pub fn admit(&self, pod: &Pod) {
        self.state.lock().allocated.entry(uid(pod).into()).or_insert_with(|| PodResources::of(pod));
    }

    fn allocate(&self, pod: &Pod) {
        self.state.lock().allocated.insert(uid(pod).into(), PodResources::of(pod));
    }

    /// The pod with what it was allocated; as it is where that is nothing else.
    pub fn apply<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        match self.state.lock().allocated.get(uid(pod)) {
            Some(allocated) => allocated.apply(pod),
            None => Cow::Borrowed(pod),
        }
    }

    /// As [`Allocations::apply`], for a pod that is shared.
    pub fn allocated(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        match self.apply(pod) {
            Cow::Borrowed(_) => pod.clone(),
            Cow::Owned(allocated) => Arc::new(allocated),
        }
    }

    /// The pod with what it takes of the node: what it was allocated, and where its containers still have more than that,
    /// what they have.
    pub fn taken<'a>(&self, pod: &'a Pod) -> Cow<'a, Pod> {
        let allocated = self.apply(pod);
        match self.state.lock().actuated.get(uid(pod)) {
            Some(actuated) => actuated.raise(allocated),
            None => allocated,
        }
    }

    /// Whether the pod asks for something else than it was allocated.
    pub fn differs(&self, pod: &Pod) -> bool {
        matches!(self.apply(pod), Cow::Owned(_))
    }

    /// What the pod's containers were last made with or changed to.
    pub fn actuated(&self, uid: &str) -> Option<PodResources> {
        self.state.lock().actuated.get(uid).cloned()
    }

    /// Before the first container of a pod is made, it is as good as made with what was allocated.
    pub fn begin(&self, allocated: &Pod) {
        let mut state = self.state.lock();
        state.actuated.entry(uid(allocated).into()).or_insert_with(|| PodResources::effective(allocated));
    }

    pub fn set_actuated(&self, uid: &str, container: &str, size: Size) {
        let mut state = self.state.lock();
        let of_pod = state.actuated.entry(uid.into()).or_default();
        of_pod.container_resources.insert(container.into(), size.requirements());
    }

    /// The pod's own group was set to what the pod was allocated.
    pub fn set_actuated_pod(&self, allocated: &Pod, part: Part) {
        let Some(whole) = allocated.spec.as_ref().and_then(|spec| spec.resources.as_ref()) else { return };
        let mut state = self.state.lock();
        let of_pod = state.actuated.entry(uid(allocated).into()).or_default();
        let before = of_pod.pod_level_resources.get_or_insert_default();
        let copy = |from: &Quantities, to: &mut Quantities| {
            if let Some(value) = from.as_ref().and_then(|all| all.get(part.name())) {
                to.get_or_insert_default().insert(part.name().to_owned(), value.clone());
            }
        };
        let ResourceRequirements { requests, limits, .. } = before;
        copy(&whole.requests, requests);
        copy(&whole.limits, limits);
    }

    /// Whether a running container, or the pod's own group, has something else than the pod was last allocated. Init
    /// containers that end by themselves count in plans, and not in what is reported.
    pub fn is_resizing(&self, pod: &Pod, runtime: &RuntimePod) -> bool {
        is_resizing(&self.state.lock(), pod, runtime)
    }

    /// Notes whether a resize is under way, by what the pod was last allocated. Returns the generation of the pod whose
    /// resize was completed by now.
    pub fn progress(&self, pod: &Pod, runtime: &RuntimePod, now: Timestamp) -> Option<i64> {
        let mut state = self.state.lock();
        let resizing = is_resizing(&state, pod, runtime);
        let generation = pod.metadata.generation.unwrap_or_default();
        if resizing {
            state.conditions.entry(uid(pod).into()).or_default().go_on(generation, now);
            return None;
        }
        state.conditions.get_mut(uid(pod))?.complete()
    }

    /// Notes why a resize that was begun does not go on; the generation to report it with, unless it was noted before.
    pub fn fail(&self, pod: &Pod, message: &str, now: Timestamp) -> Option<i64> {
        let generation = pod.metadata.generation.unwrap_or_default();
        self.state.lock().conditions.entry(uid(pod).into()).or_default().fail(message, generation, now)
    }

    /// The pod's conditions as its status has them.
    pub fn conditions(&self, uid: &str) -> Vec<PodCondition> {
        self.state.lock().conditions.get(uid).map(Conditions::list).unwrap_or_default()
    }

    /// Takes over the conditions that the last kubelet reported.
    fn recover(&self, pod: &Pod, now: Timestamp) {
        let conditions = Conditions::reported(pod, now);
        if !conditions.is_empty() {
            self.state.lock().conditions.insert(uid(pod).into(), conditions);
        }
    }

    /// A pod that has ended is not resized any more.
    pub fn end(&self, pod: &Pod, now: Timestamp) {
        let mut state = self.state.lock();
        state.waiting.remove(uid(pod));
        if let Some(mut conditions) = state.conditions.remove(uid(pod)) {
            conditions.resolve(Some(pod), Resolution::Terminated, now);
        }
    }

    pub fn forget(&self, uid: &str) {
        let mut state = self.state.lock();
        state.allocated.remove(uid);
        state.actuated.remove(uid);
        state.conditions.remove(uid);
        state.waiting.remove(uid);
    }

    /// Forgets pods that went while no kubelet ran.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let mut state = self.state.lock();
        state.allocated.retain(|uid, _| is_known(uid));
        state.actuated.retain(|uid, _| is_known(uid));
    }

    /// Counts for the metrics: (uid, reason) of pending resizes, and how many are under way.
    pub fn counts(&self) -> (Vec<(String, String)>, usize) {
        let state = self.state.lock();
        let pending =
            state.conditions.iter().filter_map(|(uid, it)| Some((uid.clone(), it.pending()?.to_owned())));
        let in_progress = state.conditions.values().filter(|it| it.is_in_progress()).count();
        (pending.collect(), in_progress)
    }
}

fn is_resizing(state: &State, pod: &Pod, runtime: &RuntimePod) -> bool {
    let (Some(allocated), Some(actuated)) = (state.allocated.get(uid(pod)), state.actuated.get(uid(pod)))
    else {
        return false;
    };
    let spec = pod.spec.as_ref();
    let init = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).filter(|it| is_sidecar(it));
    let mut names = spec.iter().flat_map(|spec| &spec.containers).chain(init).map(|it| it.name.as_str());
    let is_running = |name: &str| runtime.container(name).is_some_and(|it| it.state == Run::Running);
    names.any(|name| is_running(name) && allocated.size(name) != actuated.size(name))
        || allocated.pod_level_resources.is_some()
            && actuated.pod_level_resources.is_some()
            && allocated.pod_size() != actuated.pod_size()
}

#[cfg(test)]
mod tests;
