//! `VolumeBinding`: a pod goes where its bound volumes can be reached, and where those that wait for a consumer can be
//! bound or provisioned. What was chosen is assumed when the pod is, written before it is bound, and waited for.

mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::fit::{ShapePoint, interpolate};
use super::{claim, uses};
use crate::cluster::Facts;
use crate::cluster::facts::storage::{Capacity, Claim, ClaimReference, Class, Volume};
use crate::cluster::{Node, NodeView, Pod, Symbol, Table};
use crate::framework::{
    Change, Cycle, Events, Handle, Plugin, Point, PreFilter, Reason, Reasons, Refusal, Reject, Slot,
};
use write::{is_bound, subjects, write_binding, write_selected_node};

const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub struct VolumeBinding {
    timeout: Duration,
    /// Points of (utilization in percent, score).
    shape: Vec<(i64, i64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    bind_timeout_seconds: u64,
    shape: Vec<ShapePoint>,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments { bind_timeout_seconds: 600, shape: Vec::new() }
    }
}

/// The fuller, the worse.
const SHAPE: [(i64, i64); 2] = [(0, 100), (100, 0)];

pub fn make(arguments: &Value) -> Result<Arc<dyn Plugin>, String> {
    let arguments = Option::<Arguments>::deserialize(arguments).map_err(|error| error.to_string())?;
    let Arguments { bind_timeout_seconds, shape } = arguments.unwrap_or_default();
    let shape = if shape.is_empty() { SHAPE.into() } else { shape.iter().map(ShapePoint::scaled).collect() };
    Ok(Arc::new(VolumeBinding { timeout: Duration::from_secs(bind_timeout_seconds), shape }))
}

/// The pod's claims, and what they may be bound to.
#[derive(Default)]
struct State {
    /// Volumes of bound claims; none where one is gone.
    bound: Vec<Option<Arc<Volume>>>,
    /// Claims that wait for their consumer, the smallest first.
    waiting: Vec<Waiting>,
    chosen: Chosen,
}

struct Waiting {
    claim: Arc<Claim>,
    class: Arc<Class>,
    /// Volumes of its class, for it or for any claim.
    volumes: Vec<Arc<Volume>>,
    /// What the driver can provision; none where it does not say.
    capacities: Option<Vec<Arc<Capacity>>>,
}

/// What a node offers for the claims that wait.
#[derive(Default)]
struct Chosen {
    bindings: Vec<(Arc<Claim>, Arc<Volume>)>,
    provisions: Vec<Arc<Claim>>,
}

impl State {
    fn of(pod: &Pod, facts: &Facts) -> Result<State, String> {
        let mut state = State::default();
        for of_pod in &pod.needs.claims {
            let name = of_pod.name.as_str();
            let claim = claim(facts, pod, of_pod).map_err(|message| {
                if of_pod.is_ephemeral {
                    return format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    );
                }
                message
            })?;
            if claim.lost {
                let volume = claim.volume.as_str();
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.deleting {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if of_pod.is_ephemeral && claim.owner.as_deref() != Some(&*pod.uid) {
                return Err(format!(
                    "PVC {} was not created for pod {} (pod is not owner)",
                    claim.key, pod.key
                ));
            }
            if claim.is_bound() {
                state.bound.push(facts.volumes.get(&claim.volume).cloned());
                continue;
            }
            let class = facts.classes.get(&claim.class).filter(|_| claim.volume.is_empty());
            match class.filter(|class| class.waits_for_consumer) {
                Some(class) => state.waiting.push(Waiting::of(claim, class, facts)),
                None => return Err("pod has unbound immediate PersistentVolumeClaims".into()),
            }
        }
        state.waiting.sort_by_key(|waiting| waiting.claim.size);
        Ok(state)
    }

    /// What the node offers; otherwise why it will not do.
    fn judge(&self, node: &Node) -> Result<Chosen, Vec<&'static str>> {
        let mut reasons = Vec::new();
        let missing = self.bound.iter().any(Option::is_none);
        if !self.bound.iter().flatten().all(|volume| volume.reaches(node)) {
            reasons.push("node(s) didn't match PersistentVolume's node affinity");
        }
        let chosen = self.choose(node).map_err(|reason| reasons.push(reason));
        if missing {
            reasons.push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
        }
        match chosen {
            Ok(chosen) if reasons.is_empty() => Ok(chosen),
            _ => Err(reasons),
        }
    }

    fn choose(&self, node: &Node) -> Result<Chosen, &'static str> {
        const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
        let mut chosen = Chosen::default();
        for waiting in &self.waiting {
            if waiting.claim.selected_node.as_ref().is_some_and(|selected| *selected != node.name) {
                return Err(NONE_TO_BIND);
            }
            let is_selected = waiting.claim.selected_node.is_some();
            let volume = waiting.volume(node, &chosen.bindings).filter(|_| !is_selected);
            if let Some(volume) = volume {
                chosen.bindings.push((waiting.claim.clone(), volume.clone()));
                continue;
            }
            let class = &waiting.class;
            if matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) || !class.provisions_for(node) {
                return Err(NONE_TO_BIND);
            }
            if !waiting.has_capacity(node) {
                return Err("node(s) did not have enough free storage");
            }
            chosen.provisions.push(waiting.claim.clone());
        }
        Ok(chosen)
    }
}

impl Waiting {
    fn of(claim: &Arc<Claim>, class: &Arc<Class>, facts: &Facts) -> Waiting {
        let volumes = facts.volumes_of(&claim.class).filter(|volume| fits(claim, volume));
        let reports = facts.csi_drivers.get(&class.provisioner).is_some_and(|driver| driver.reports_capacity);
        let of_class = |capacity: &&Arc<Capacity>| capacity.class == claim.class;
        let mut volumes: Vec<_> = volumes.cloned().collect();
        // The claim's own one first, then the smallest.
        volumes.sort_by(|one, two| {
            let place = |volume: &Volume| (!volume.is_for(claim), volume.size);
            place(one).cmp(&place(two)).then_with(|| one.name.as_str().cmp(two.name.as_str()))
        });
        Waiting {
            volumes,
            capacities: reports.then(|| facts.capacities.values().filter(of_class).cloned().collect()),
            claim: claim.clone(),
            class: class.clone(),
        }
    }

    fn volume(&self, node: &Node, taken: &[(Arc<Claim>, Arc<Volume>)]) -> Option<&Arc<Volume>> {
        let mut free =
            self.volumes.iter().filter(|volume| !taken.iter().any(|(_, taken)| taken.name == volume.name));
        match self.volumes.first() {
            // Reserved for the claim: this one or none.
            Some(own) if own.is_for(&self.claim) => Some(own).filter(|own| own.reaches(node)),
            _ => free.find(|volume| volume.reaches(node)),
        }
    }

    fn has_capacity(&self, node: &Node) -> bool {
        self.capacities.is_none() || self.claim.size.is_none() || self.capacity(node).is_some()
    }

    /// Storage at the node that takes the claim.
    fn capacity(&self, node: &Node) -> Option<&Capacity> {
        let (capacities, size) = (self.capacities.as_ref()?, self.claim.size?);
        let takes = |capacity: &Capacity| capacity.largest.is_some_and(|largest| largest >= size);
        capacities.iter().map(Arc::as_ref).find(|capacity| takes(capacity) && capacity.reaches(node))
    }
}

/// In percent.
fn share(part: i64, all: i64) -> i64 {
    (i128::from(part) * 100 / i128::from(all)) as i64
}

/// Whether the claim may be bound to the volume, wherever the pod goes.
fn fits(claim: &Claim, volume: &Volume) -> bool {
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    if volume.size < claim.size.unwrap_or(0)
        || mode(&claim.mode) != mode(&volume.mode)
        || attributes(&claim.attributes_class) != attributes(&volume.attributes_class)
        || volume.deleting
    {
        return false;
    }
    if volume.claim.is_some() {
        return volume.is_for(claim);
    }
    let selected = claim
        .selector
        .as_ref()
        .is_none_or(|selector| selector.matches_with(|key| volume.labels.get(key).map(String::as_str)));
    volume.available && selected && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
}

#[async_trait::async_trait]
impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score, Point::Reserve, Point::PreBind]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        if pod.needs.claims.is_empty() {
            return PreFilter::Skip;
        }
        match State::of(pod, &table.facts) {
            Ok(state) => {
                cycle.set(own, state);
                PreFilter::Run
            }
            Err(message) => PreFilter::Reject(message),
        }
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        state.judge(view.node).map(drop).map_err(|reasons| Reject {
            reasons: Reasons::Many(reasons.into_iter().map(Reason::Text).collect()),
            unresolvable: true,
        })
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, _: &Pod, _: &Table, _: &[usize]) -> bool {
        cycle.state::<State>(own).is_some_and(|state| !state.waiting.is_empty())
    }

    /// How much of what the node offers for the claims they would take, class by class.
    fn score(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> i64 {
        let Some(state) = cycle.state::<State>(own) else { return 0 };
        let Ok(chosen) = state.judge(view.node) else { return 0 };
        let mut classes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (claim, volume) in &chosen.bindings {
            let (requested, capacity) = classes.entry(claim.class.as_str()).or_default();
            *requested += claim.size.unwrap_or(0);
            *capacity += volume.size;
        }
        if chosen.bindings.is_empty() {
            for waiting in &state.waiting {
                let Some(total) = waiting.capacity(view.node).and_then(|own| own.total) else { continue };
                let (requested, capacity) = classes.entry(waiting.claim.class.as_str()).or_default();
                *requested += waiting.claim.size.unwrap_or(0);
                *capacity = total;
            }
        }
        let scores = classes.values().map(|(requested, capacity)| match *capacity {
            0 => interpolate(&self.shape, 100),
            capacity if *requested > capacity => interpolate(&self.shape, 100),
            capacity => interpolate(&self.shape, share(*requested, capacity)),
        });
        let (sum, count) = (scores.sum::<i64>(), classes.len() as i64);
        // Rounded to the nearest.
        if count == 0 { 0 } else { (2 * sum + count) / (2 * count) }
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
        state.chosen = state.judge(&node).map_err(|reasons| Refusal::Unschedulable(reasons.join(", ")))?;
        for (claim, volume) in &state.chosen.bindings {
            let reference = ClaimReference {
                namespace: claim.key.namespace.to_string(),
                name: claim.key.name.to_string(),
                uid: claim.uid.to_string(),
            };
            let assumed = Volume { claim: Some(reference), ..(**volume).clone() };
            table.facts.volumes.assume(&volume.name, &pod.uid, Arc::new(assumed));
        }
        for claim in &state.chosen.provisions {
            let assumed = Claim { selected_node: Some(node.name.clone()), ..(**claim).clone() };
            table.facts.claims.assume(&claim.key, &pod.uid, Arc::new(assumed));
        }
        Ok(())
    }

    fn unreserve(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &mut Table, _: &Symbol) {
        let Some(state) = cycle.state_mut::<State>(own) else { return };
        let chosen = std::mem::take(&mut state.chosen);
        for (_, volume) in &chosen.bindings {
            table.facts.volumes.forget(&volume.name, &pod.uid);
        }
        for claim in &chosen.provisions {
            table.facts.claims.forget(&claim.key, &pod.uid);
        }
    }

    fn has_pre_bind(&self, own: usize, cycle: &Cycle) -> bool {
        let chosen = cycle.state::<State>(own).map(|state| &state.chosen);
        chosen.is_some_and(|chosen| !(chosen.bindings.is_empty() && chosen.provisions.is_empty()))
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
        let Chosen { bindings, provisions } = &state.chosen;
        for (claim, volume) in bindings {
            write_binding(handle, claim, volume).await?;
        }
        for claim in provisions {
            write_selected_node(handle, claim, node).await?;
        }
        let bound = async {
            let interest = handle.changes.subscribe(subjects(pod, &state.chosen, node));
            while !is_bound(handle, pod, &state.chosen, node)? {
                interest.changed().await;
            }
            Ok::<(), String>(())
        };
        match slot.release_during(tokio::time::timeout(self.timeout, bound)).await {
            Ok(result) => result.map_err(|message| format!("binding volumes: {message}")),
            Err(_) => Err("binding volumes: context deadline exceeded".into()),
        }
    }

    fn events(&self) -> Events {
        let storage = Events::CLAIM | Events::VOLUME | Events::CLASS | Events::CSI;
        storage | Events::NODE_ADD | Events::NODE_LABEL
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::Claim(claim) => uses(pod, &claim.key),
            _ => true,
        }
    }
}
