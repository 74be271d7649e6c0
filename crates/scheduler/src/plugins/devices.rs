//! `DynamicResources`: a pod goes where the devices of its claims are, or where those can be allocated that it asks for.
//! What was chosen is counted as allocated when the pod is assumed, and written before it is bound.
//!
//! Absent: extended resources are not served by devices.

mod capacity;
mod pools;
mod ready;
mod result;
mod search;
mod selectors;
mod write;

use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Key};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::facts::devices::{
    Allocated, DeviceClaim, DeviceClass, Exact, Inventory, Prepared, Request,
};
use crate::cluster::pod::DeviceEntry;
use crate::cluster::{Facts, Node, NodeView, Pod, Symbol, Table};
use crate::framework::{
    Change, Cycle, Events, Handle, Plugin, Point, PreFilter, Reason, Reasons, Refusal, Reject, Remedy, Slot,
    normalize_by_max,
};
use search::{Failure, Found, Input};

/// A request may have so many alternatives.
const ALTERNATIVES: i64 = 8;

pub struct DynamicResources {
    /// How long devices may take to be made ready.
    patience: Duration,
    /// Steps that a search may take on a node; none for any number.
    steps: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    filter_timeout: daemon::flags::Duration,
    binding_timeout: daemon::flags::Duration,
}

impl Default for Arguments {
    fn default() -> Self {
        let seconds = daemon::flags::Duration::seconds;
        Arguments { filter_timeout: seconds(10), binding_timeout: seconds(600) }
    }
}

/// A search is bounded by its steps, so that it is a function of what it searches. One takes some microseconds.
const STEPS_IN_A_MILLISECOND: u128 = 100;

pub fn make(arguments: &Value) -> Result<Arc<dyn Plugin>, String> {
    let arguments = Option::<Arguments>::deserialize(arguments).map_err(|error| error.to_string())?;
    let Arguments { filter_timeout, binding_timeout } = arguments.unwrap_or_default();
    let limit = filter_timeout.as_millis();
    let steps = usize::try_from(limit * STEPS_IN_A_MILLISECOND).unwrap_or(usize::MAX);
    Ok(Arc::new(DynamicResources { patience: *binding_timeout, steps: (steps > 0).then_some(steps) }))
}

/// The pod's claims, and what they may get.
struct State {
    /// Those that have devices.
    allocated: Vec<Arc<DeviceClaim>>,
    waiting: Vec<Arc<DeviceClaim>>,
    /// What there is to choose from; none where nothing has to be chosen.
    stock: Option<Stock>,
    /// What was found on each node.
    found: Mutex<FxHashMap<Symbol, Vec<Found>>>,
    /// Allocated claims, by their place, whose devices cannot be made ready, or not in time.
    broken: Vec<usize>,
    /// Allocated claims, by their place, that some node does not reach.
    unavailable: Mutex<FxHashSet<usize>>,
    /// Of the waiting claims, once a node is chosen.
    chosen: Vec<Value>,
    /// Claims that name the pod as their user, with the version that says so.
    reserved: Mutex<Vec<(Arc<DeviceClaim>, u64)>>,
}

struct Stock {
    classes: FxHashMap<Symbol, Arc<DeviceClass>>,
    inventory: Arc<Inventory>,
    devices: Arc<Allocated>,
}

fn key(pod: &Pod, name: &Symbol) -> Key {
    Key { namespace: pod.key.namespace.clone(), name: name.to_arc() }
}

/// The claims of a pod, each once, as far as they can be used.
fn claims(pod: &Pod, facts: &Facts) -> Result<Vec<Arc<DeviceClaim>>, String> {
    let mut claims: Vec<Arc<DeviceClaim>> = Vec::new();
    let mut names = FxHashSet::default();
    for entry in &pod.devices {
        let (name, is_generated) = match entry {
            DeviceEntry::Claim { name, is_generated } => (name, *is_generated),
            DeviceEntry::Unneeded => continue,
            DeviceEntry::NotYet => return Err(format!("pod \"{}\": ResourceClaim not created yet", pod.key)),
        };
        let Some(claim) = facts.devices.claim(&key(pod, name)) else {
            return Err(format!("resourceclaim.resource.k8s.io {:?} not found", name.as_str()));
        };
        if claim.deleting {
            return Err(format!("resourceclaim {:?} is being deleted", name.as_str()));
        }
        if is_generated && claim.owner.as_deref() != Some(&*pod.uid) {
            let (claim, pod) = (&claim.key, &pod.key);
            return Err(format!("ResourceClaim {claim} was not created for Pod {pod} (Pod is not owner)"));
        }
        if names.insert(name) {
            claims.push(claim.clone());
        }
    }
    Ok(claims)
}

fn alternatives(request: &Request) -> impl Iterator<Item = (&Exact, String)> {
    let exactly = request.exactly.iter().map(|exact| (exact, request.name.clone()));
    let several = request.first_available.iter().filter(|_| request.exactly.is_none());
    exactly.chain(several.map(|exact| (exact, format!("{}/{}", request.name, exact.name))))
}

impl State {
    fn of(pod: &Pod, facts: &Facts, patience: Duration) -> Result<State, String> {
        let all = claims(pod, facts)?;
        let (allocated, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|claim| claim.allocation.is_some());
        let mut classes = FxHashMap::default();
        for claim in &allocated {
            if !claim.can_be_reserved() && !claim.is_reserved_for(&pod.uid) {
                return Err("resourceclaim in use".to_owned());
            }
        }
        for claim in &waiting {
            if facts.devices.is_pending(claim) {
                return Err(format!("resource claim {} is in the process of being allocated", claim.key));
            }
            for request in &claim.requests {
                if alternatives(request).next().is_none() {
                    let (key, name) = (&claim.key, &request.name);
                    return Err(format!("resource claim {key}, request {name}: unknown request type"));
                }
                for (exact, name) in alternatives(request) {
                    let class = &exact.device_class_name;
                    let symbol = Symbol::new(class);
                    let Some(found) = facts.devices.classes.get(&symbol) else {
                        return Err(format!("request {name}: device class {class} does not exist"));
                    };
                    classes.insert(symbol, found.clone());
                }
            }
        }
        let stock = (!waiting.is_empty()).then(|| Stock {
            classes,
            inventory: facts.devices.inventory(),
            devices: facts.devices.allocated(),
        });
        let now = jiff::Timestamp::now();
        let is_broken = |claim: &DeviceClaim| match claim.prepared() {
            Prepared::Ready => false,
            Prepared::NotYet => claim.is_overdue(patience, now),
            Prepared::Failed(_) => true,
        };
        let broken = (0..allocated.len()).filter(|place| is_broken(&allocated[*place]));
        Ok(State {
            broken: broken.collect(),
            allocated,
            waiting,
            stock,
            found: Mutex::default(),
            unavailable: Mutex::default(),
            chosen: Vec::new(),
            reserved: Mutex::default(),
        })
    }

    fn judge(&self, node: &Node, steps: Option<usize>) -> Result<Vec<Found>, Failure> {
        let reaches = |claim: &Arc<DeviceClaim>| {
            let terms = claim.allocation.as_ref().and_then(|allocation| allocation.terms.as_ref());
            terms.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
        };
        let missing = (0..self.allocated.len())
            .filter(|place| self.broken.contains(place) || !reaches(&self.allocated[*place]));
        let missing: Vec<usize> = missing.collect();
        if !missing.is_empty() {
            self.unavailable.lock().extend(missing);
            return Err(Failure::OfNode("resourceclaim not available on the node".to_owned()));
        }
        let Some(stock) = &self.stock else { return Ok(Vec::new()) };
        let found = search::search(&self.input(stock), node, steps)?;
        found.ok_or_else(|| Failure::OfNode("cannot allocate all claims".to_owned()))
    }

    /// What is written of the chosen devices holds until it is seen.
    fn settle(&self, pod: &Pod, table: &mut Table) {
        for (claim, version) in std::mem::take(&mut *self.reserved.lock()) {
            table.facts.devices.is_written(&claim, &pod.uid, version);
        }
    }

    fn input<'a>(&'a self, stock: &'a Stock) -> Input<'a> {
        Input {
            claims: &self.waiting,
            classes: &stock.classes,
            inventory: &stock.inventory,
            allocated: &stock.devices,
        }
    }
}

#[async_trait::async_trait]
impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        use Point::*;
        &[PreEnqueue, PreFilter, Filter, PostFilter, PreScore, Score, Reserve, PreBind, PostBind]
    }

    fn pre_enqueue(&self, pod: &Pod, facts: &Facts) -> Result<(), String> {
        claims(pod, facts).map(drop)
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        if pod.devices.is_empty() {
            return PreFilter::Skip;
        }
        match State::of(pod, &table.facts, self.patience) {
            Ok(state) if state.allocated.is_empty() && state.waiting.is_empty() => PreFilter::Skip,
            Ok(state) => {
                cycle.set(own, state);
                PreFilter::Run
            }
            Err(message) => PreFilter::Reject(message),
        }
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        let found = state.judge(view.node, self.steps).map_err(|failure| Reject {
            reasons: match failure {
                Failure::OfNode(message) => Reasons::One(Reason::Message(message.into())),
                Failure::Fatal(message) => Reasons::Failed(Reason::Message(message.into())),
            },
            unresolvable: true,
        })?;
        if state.stock.is_some() {
            state.found.lock().insert(view.node.name.clone(), found);
        }
        Ok(())
    }

    /// One claim at a time is released that keeps its only pod from nodes.
    fn post_filter(&self, own: usize, cycle: &Cycle, pod: &Pod) -> Option<(&'static str, Remedy)> {
        let state = cycle.state::<State>(own)?;
        let unavailable = state.unavailable.lock();
        let mut claims = unavailable.iter().filter_map(|place| state.allocated.get(*place));
        let claim = claims.find(|claim| claim.reserved_for.iter().all(|user| **user == *pod.uid))?;
        Some(("deallocation of ResourceClaim completed", Remedy::Deallocate(claim.clone())))
    }

    fn post_filter_needs_state(&self) -> bool {
        true
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, _: &Pod, _: &Table, _: &[usize]) -> bool {
        let has_alternatives = |claim: &Arc<DeviceClaim>| {
            claim.requests.iter().any(|request| !request.first_available.is_empty())
        };
        cycle.state::<State>(own).is_some_and(|state| state.waiting.iter().any(has_alternatives))
    }

    /// The earlier the alternatives are in their lists, the better.
    fn score(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> i64 {
        let Some(state) = cycle.state::<State>(own) else { return 0 };
        let found = state.found.lock();
        let Some(found) = found.get(&view.node.name) else { return 0 };
        let worth = |place: usize| ALTERNATIVES - i64::try_from(place).unwrap_or(ALTERNATIVES);
        let mut score = 0;
        for claim in &state.allocated {
            let chosen = claim.allocation.as_ref().map_or(&[][..], |allocation| &allocation.alternatives);
            for request in &claim.requests {
                let is_chosen = |exact: &Exact| chosen.contains(&format!("{}/{}", request.name, exact.name));
                score += request.first_available.iter().position(is_chosen).map_or(0, worth);
            }
        }
        for (claim, found) in state.waiting.iter().zip(found) {
            for (request, alternative) in claim.requests.iter().zip(&found.alternatives) {
                if !request.first_available.is_empty() {
                    score += worth(*alternative);
                }
            }
        }
        score
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }

    fn reserve(
        &self,
        own: usize,
        cycle: &mut Cycle,
        pod: &Pod,
        table: &mut Table,
        row: usize,
    ) -> Result<(), Refusal> {
        let Some(state) = cycle.state_mut::<State>(own) else { return Ok(()) };
        let node = table.row(row).node.clone();
        // Released: a binding may take long, and what changes meanwhile would have to be copied.
        let found = std::mem::take(&mut *state.found.lock()).remove(&node.name);
        let Some(stock) = state.stock.take() else { return Ok(()) };
        let Some(found) = found else {
            return Err(Refusal::Error("claim allocation not found for node".to_owned()));
        };
        for (claim, found) in state.waiting.iter().zip(&found) {
            state.chosen.push(result::allocation(&state.input(&stock), claim, found, &node));
            table.facts.devices.choose(claim, &pod.uid, found.taken(claim));
        }
        Ok(())
    }

    fn unreserve(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &mut Table, _: &Symbol) {
        let Some(state) = cycle.state_mut::<State>(own) else { return };
        state.chosen.clear();
        state.settle(pod, table);
        for claim in &state.waiting {
            table.facts.devices.take_back(claim, &pod.uid);
        }
    }

    fn has_pre_bind(&self, own: usize, cycle: &Cycle) -> bool {
        cycle.state::<State>(own).is_some()
    }

    async fn pre_bind(
        &self,
        own: usize,
        cycle: &Cycle,
        pod: &Pod,
        node: &Symbol,
        handle: &Handle,
        slot: &mut Slot,
    ) -> Result<(), String> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        let allocated = state.allocated.iter().map(|claim| (claim, None));
        let chosen = state.chosen.iter().map(Some);
        for (claim, allocation) in allocated.chain(state.waiting.iter().zip(chosen)) {
            let version = match claim.is_reserved_for(&pod.uid) {
                true => claim.version,
                false => write::reserve(handle, pod, claim, allocation).await?,
            };
            state.reserved.lock().push((claim.clone(), version));
        }
        let has_conditions = |allocation: &Value| {
            let results = allocation["devices"]["results"].as_array();
            results.into_iter().flatten().any(|result| !result["bindingConditions"].is_null())
        };
        if state.chosen.iter().any(has_conditions) || state.allocated.iter().any(|own| own.has_prepared()) {
            let note = format!("waiting for binding conditions for device on node {node}");
            handle.event(pod, EventType::Normal, "BindingConditionsPending", "Scheduling", &note);
            let keys = state.allocated.iter().chain(&state.waiting).map(|claim| claim.key.clone()).collect();
            slot.release_during(ready::wait(handle, keys, self.patience)).await?;
        }
        Ok(())
    }

    /// The claims stay allocated, which the pod's next attempt goes on from.
    async fn retract(&self, own: usize, cycle: &Cycle, pod: &Pod, handle: &Handle) {
        let Some(state) = cycle.state::<State>(own) else { return };
        let reserved = state.reserved.lock().clone();
        for (claim, _) in reserved {
            write::release(handle, pod, &claim).await;
        }
    }

    fn post_bind(&self, own: usize, cycle: &Cycle, pod: &Pod, table: &mut Table, _: &Symbol) {
        if let Some(state) = cycle.state::<State>(own) {
            state.settle(pod, table);
        }
    }

    fn events(&self) -> Events {
        let nodes = Events::NODE_ADD | Events::NODE_LABEL | Events::NODE_ALLOCATABLE;
        nodes | Events::DEVICES | Events::DEVICE_CLAIM | Events::POD_DELETE
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::DeviceClaim { claim, change } => {
                let is_its = || pod.device_claims().any(|key| key == claim.key);
                change.has_freed || (change.concerns_users && is_its())
            }
            // One that was not bound in the end has given back what it chose.
            Change::PodRemoved { pod, .. } => !pod.devices.is_empty(),
            _ => true,
        }
    }
}
