//! Which nodes lack a pod and which pods have to go, node by node, and how an update proceeds.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::EventType;
use rustc_hash::FxHashMap;

use super::fit::Fit;
use super::places::Place;
use super::{GENERATION_ANNOTATION, GENERATION_LABEL, REVISION_HASH};
use controllers::scaled::{Round, resolve};
use controllers::views::{DaemonSet, DaemonSetStatus, Pod};

/// The most pods made or deleted in one go.
const BURST: usize = 250;

pub(super) struct Input<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) places: &'a [Place<'a>],
    /// Hash of the current revision.
    pub(super) revision: &'a str,
    pub(super) now: jiff::Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nodes to make a pod for.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) events: Vec<(EventType, &'static str, String)>,
    pub(super) again: Option<Duration>,
}

/// How often pods failed, so that one that always fails is not replaced in a tight loop.
#[derive(Default)]
pub(super) struct Backoff(FxHashMap<(String, String), (Duration, Instant)>);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

impl Backoff {
    /// How long to wait before the next failed pod of the set on the node may be killed; None lets it be killed.
    fn wait(&mut self, set: &str, node: &str) -> Option<Duration> {
        let key = (set.to_owned(), node.to_owned());
        let now = Instant::now();
        match self.0.get_mut(&key) {
            Some((delay, since)) => {
                let passed = now.duration_since(*since);
                if passed < *delay {
                    return Some(*delay - passed);
                }
                *delay = if passed > LONGEST * 2 { FIRST } else { (*delay * 2).min(LONGEST) };
                *since = now;
            }
            None => drop(self.0.insert(key, (FIRST, now))),
        }
        None
    }

    pub(super) fn forget(&mut self, set: &str) {
        self.0.retain(|(own, _), _| own != set);
    }
}

struct Limits {
    surge: i32,
    unavailable: i32,
}

fn rolls(set: &DaemonSet) -> bool {
    set.spec.update_strategy.type_ != "OnDelete"
}

/// How many pods there may be besides those of `desired` nodes during an update.
fn surge(set: &DaemonSet, desired: i32) -> i32 {
    let rolling = set.spec.update_strategy.rolling_update.as_ref().filter(|_| rolls(set));
    resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), desired, Round::Up)
}

fn limits(set: &DaemonSet, desired: i32) -> Limits {
    let rolling = set.spec.update_strategy.rolling_update.as_ref();
    let surge = surge(set, desired);
    let unavailable =
        resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), desired, Round::Up);
    // Something must be allowed, or no update could proceed.
    let unavailable = if desired > 0 && surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Limits { surge, unavailable }
}

pub(super) fn plan(input: &Input, backoff: &mut Backoff) -> Plan {
    let mut plan = Plan::default();
    let surges = surge(input.set, 1) > 0;
    for place in input.places {
        let staying = place.pods.iter().filter(|pod| !pod.metadata.is_deleting());
        match place.fit {
            Some(fit) if fit.runs && place.pods.is_empty() => plan.create.push(place.node.to_owned()),
            Some(fit) if fit.stays => tend(input, place, surges.then_some(fit), backoff, &mut plan),
            Some(_) => plan.delete.extend(staying.copied().cloned()),
            // Pods tied to nodes that are gone would wait for ever.
            None => plan.delete.extend(staying.filter(|pod| pod.spec.node_name.is_empty()).copied().cloned()),
        }
    }
    if rolls(input.set) && plan.create.is_empty() && plan.delete.is_empty() {
        let desired = input.places.iter().filter(|place| place.runs()).count();
        let desired = i32::try_from(desired).unwrap_or(i32::MAX);
        let limits = limits(input.set, desired);
        if limits.surge > 0 {
            replace_beside(input, &limits, desired, &mut plan)
        } else {
            replace(input, &limits, &mut plan)
        }
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// One node that has pods: failed and finished ones make room, and of several one stays. `surge` is the node's fit where
/// updates may make a second pod on it.
fn tend(input: &Input, place: &Place, surge: Option<Fit>, backoff: &mut Backoff, plan: &mut Plan) {
    let mut running = Vec::new();
    let node = place.node;
    for &pod in place.pods.iter().filter(|pod| !pod.metadata.is_deleting()) {
        let key = || pod.metadata.key();
        match pod.status.phase.as_str() {
            "Failed" => match backoff.wait(&input.set.metadata.key(), node) {
                Some(wait) => plan.again = Some(plan.again.map_or(wait, |known| known.min(wait))),
                None => {
                    let message =
                        format!("Found failed daemon pod {} on node {node}, will try to kill it", key());
                    plan.events.push((EventType::Warning, "FailedDaemonPod", message));
                    plan.delete.push(pod.clone());
                }
            },
            "Succeeded" => {
                let message =
                    format!("Found succeeded daemon pod {} on node {node}, will try to delete it", key());
                plan.events.push((EventType::Normal, "SucceededDaemonPod", message));
                plan.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    if running.is_empty() && surge.is_some_and(|fit| fit.runs) {
        // No need to wait until the present one has gone.
        plan.create.push(node.to_owned());
    }
    if running.len() <= 1 {
        return;
    }
    running.sort_by(|left, right| by_age(left, right));
    if surge.is_none() {
        plan.delete.extend(running.drain(1..).cloned());
        return;
    }
    // While an update surges there may be an old and a new one.
    let (mut new, mut old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| is_new(input, pod));
    if let (Some(newest), Some(oldest)) = (new.first(), old.first())
        && (!oldest.is_ready() || available(input, newest))
    {
        plan.delete.push(Arc::clone(oldest));
    }
    plan.delete.extend(new.drain(1.min(new.len())..).cloned());
    plan.delete.extend(old.drain(1.min(old.len())..).cloned());
}

/// The one that was assigned a node first is the first.
fn by_age(left: &Pod, right: &Pod) -> Ordering {
    let unassigned = |pod: &Pod| pod.spec.node_name.is_empty();
    unassigned(left)
        .cmp(&unassigned(right))
        .then_with(|| left.metadata.created().cmp(&right.metadata.created()))
        .then_with(|| left.metadata.name.cmp(&right.metadata.name))
}

/// Pods older than revisions have the number of the template they were made of.
fn is_new(input: &Input, pod: &Pod) -> bool {
    let labels = &pod.metadata.labels;
    let generation = input.set.metadata.annotation(GENERATION_ANNOTATION);
    labels.get(REVISION_HASH) == Some(input.revision)
        || (generation.is_some() && labels.get(GENERATION_LABEL) == generation)
}

fn available(input: &Input, pod: &Pod) -> bool {
    pod.is_available(input.set.spec.min_ready_seconds, input.now)
}

/// The old and the new pod of a node; None where there are several of a kind, which is tended to first.
type Pair<'a> = (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>);

fn pair<'a>(input: &Input, place: &Place<'a>) -> Option<Pair<'a>> {
    let mut pair: Pair = (None, None);
    for &pod in place.pods.iter().filter(|pod| !pod.metadata.is_deleting()) {
        let one = if is_new(input, pod) { &mut pair.1 } else { &mut pair.0 };
        if one.replace(pod).is_some() {
            return None;
        }
    }
    Some(pair)
}

/// Deletes old pods; the next round makes the new ones in their place.
fn replace(input: &Input, limits: &Limits, plan: &mut Plan) {
    let mut unavailable = 0;
    let (mut useless, mut candidates) = (Vec::new(), Vec::new());
    for place in input.places.iter().filter(|place| !place.pods.is_empty()) {
        match pair(input, place) {
            Some((Some(old), None)) => {
                if available(input, old) {
                    candidates.push(old);
                } else {
                    unavailable += 1;
                    useless.push(old);
                }
            }
            Some((None, Some(new))) if available(input, new) => {}
            _ => unavailable += 1,
        }
    }
    let allowed = usize::try_from(limits.unavailable - unavailable).unwrap_or(0);
    plan.delete.extend(useless.into_iter().cloned());
    plan.delete.extend(candidates.into_iter().take(allowed).cloned());
}

/// Makes new pods beside old ones, and deletes an old one when its new one is available. Where no pod should run any
/// more the old one goes as soon as enough others are available.
fn replace_beside(input: &Input, limits: &Limits, desired: i32, plan: &mut Plan) {
    let (mut surging, mut all_available) = (0, 0);
    let (mut broken, mut candidates, mut misplaced) = (Vec::new(), Vec::new(), Vec::new());
    for place in input.places.iter().filter(|place| !place.pods.is_empty()) {
        let Some((old, new)) = pair(input, place) else {
            surging += 1;
            continue;
        };
        let works = old.or(new).is_some_and(|pod| available(input, pod));
        all_available += i32::from(works);
        let Some(old) = old else { continue };
        let runs = place.runs();
        match new {
            None if runs && works => candidates.push(place.node.to_owned()),
            None if runs => broken.push(place.node.to_owned()),
            None if works => misplaced.push(old),
            None => plan.delete.push(old.clone()),
            Some(new) if available(input, new) => plan.delete.push(old.clone()),
            Some(_) => surging += 1,
        }
    }
    let allowed = |number: i32| usize::try_from(number).unwrap_or(0);
    plan.delete.extend(misplaced.into_iter().take(allowed(all_available - desired)).cloned());
    plan.create.extend(broken);
    plan.create.extend(candidates.into_iter().take(allowed(limits.surge - surging)));
}

/// The status, and after how many seconds it may change by itself.
pub(super) fn status(input: &Input) -> (DaemonSetStatus, Option<u64>) {
    let mut status = DaemonSetStatus {
        observed_generation: input.set.metadata.generation,
        collision_count: input.set.status.collision_count,
        conditions: input.set.status.conditions.clone(),
        ..Default::default()
    };
    let wait = i64::from(input.set.spec.min_ready_seconds);
    let mut again: Option<i64> = None;
    for place in input.places.iter().filter(|place| place.fit.is_some()) {
        if !place.runs() {
            status.number_misscheduled += i32::from(!place.pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = place.pods.iter().min_by(|left, right| by_age(left, right)) else { continue };
        status.current_number_scheduled += 1;
        if let Some(since) = pod.ready_since() {
            let left = since.as_second() + wait - input.now.as_second();
            if wait > 0 && left > 0 {
                again = Some(again.map_or(left, |known| known.min(left)));
            }
        }
        status.number_ready += i32::from(pod.is_ready());
        status.number_available += i32::from(available(input, pod));
        status.updated_number_scheduled += i32::from(is_new(input, pod));
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    (status, again.and_then(|left| u64::try_from(left).ok()))
}
