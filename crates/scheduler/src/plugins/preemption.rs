//! `DefaultPreemption`: a node on which taking away pods of lower priority would make place.
//!
//! Pure search; the caller deletes the victims. Place that has been promised to other pods is not taken from them.
//! Pods whose disruption a budget does not allow are taken last, and from the node where they are the fewest.

use std::sync::Arc;

use client::Key;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Facts, NodeView, Pod, Symbol, Usage};
use crate::core::profile::Trial;
use crate::framework::{Cycle, Diagnosis, Plugin, Point, PreemptionLimits, Reason, Reasons};

pub struct DefaultPreemption(PreemptionLimits);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    min_candidate_nodes_percentage: usize,
    min_candidate_nodes_absolute: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

pub fn make(arguments: &Value) -> Result<Arc<dyn Plugin>, String> {
    let arguments = if arguments.is_null() {
        Arguments::default()
    } else {
        Arguments::deserialize(arguments).map_err(|error| error.to_string())?
    };
    let (percentage, absolute) =
        (arguments.min_candidate_nodes_percentage, arguments.min_candidate_nodes_absolute);
    Ok(Arc::new(DefaultPreemption(PreemptionLimits { percentage, absolute })))
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn preemption(&self) -> Option<PreemptionLimits> {
        Some(self.0)
    }
}

/// Pods to take away from a node.
#[derive(Clone, Debug)]
pub struct Victims {
    pub node: Symbol,
    pub pods: Vec<Arc<Pod>>,
}

/// A node where preemption would make place.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub victims: Victims,
    /// How many of the victims a disruption budget does not allow.
    pub violations: usize,
}

/// Result of the search.
pub enum Preemption {
    Candidates(Vec<Candidate>),
    /// The pod may not preempt, at least not now. Contains the part of its message that says why.
    Ineligible(&'static str),
    /// No node would do.
    None(String),
}

/// Searches the nodes that the diagnosis says could be made to fit.
pub fn search(trial: &Trial<'_>, cycle: &mut Cycle, diagnosis: &Diagnosis) -> Preemption {
    let (pod, table) = (trial.pod, trial.table);
    if pod.needs.never_preempts {
        return Preemption::Ineligible("preemption: not eligible due to preemptionPolicy=Never.");
    }
    // An earlier preemption of this pod is under way while a victim on its node is being deleted.
    // The table may know its nomination before the pod's status shows it.
    let nominated = table.nomination(&pod.uid).or_else(|| table.index(&pod.nominated));
    if let Some(row) = nominated
        && diagnosis.resolvable.contains(&row)
        && table.row(row).pods.values().any(|other| {
            other.needs.priority < pod.needs.priority && (other.preempted || table.is_leaving(&other.uid))
        })
    {
        return Preemption::Ineligible(
            "preemption: not eligible due to a terminating pod on the nominated node.",
        );
    }
    let mut candidates = Vec::new();
    let mut reasons: FxHashMap<Reason, usize> = FxHashMap::default();
    let limits = trial.profile.preemption;
    let enough = limits.map_or(0, |limits| (diagnosis.nodes * limits.percentage / 100).max(limits.absolute));
    for index in &diagnosis.resolvable {
        match victims(trial, cycle, *index) {
            Ok((pods, violations)) => {
                let victims = Victims { node: table.row(*index).node.name.clone(), pods };
                candidates.push(Candidate { victims, violations });
                if candidates.len() >= enough {
                    break;
                }
            }
            Err(own) => {
                for reason in own.as_slice() {
                    *reasons.entry(reason.clone()).or_default() += 1;
                }
            }
        }
    }
    if candidates.is_empty() {
        Preemption::None(message(diagnosis, reasons))
    } else {
        Preemption::Candidates(candidates)
    }
}

/// The victims whose end harms the least.
pub fn choose(candidates: Vec<Candidate>) -> Option<Victims> {
    let cost = |candidate: &Candidate| Cost::of(&candidate.victims.pods, candidate.violations);
    candidates.into_iter().min_by_key(cost).map(|candidate| candidate.victims)
}

/// `reasons` are those of nodes where preemption was tried.
fn message(diagnosis: &Diagnosis, mut reasons: FxHashMap<Reason, usize>) -> String {
    let others = diagnosis.nodes - diagnosis.resolvable.len();
    if others > 0 {
        reasons.insert(Reason::Text("Preemption is not helpful for scheduling"), others);
    }
    let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort_unstable();
    format!("preemption: 0/{} nodes are available: {}.", diagnosis.nodes, parts.join(", "))
}

/// The fewest and least important pods to take away so that the pod fits, and how many of them a disruption budget does
/// not allow; otherwise why even all would not do.
fn victims(trial: &Trial<'_>, cycle: &mut Cycle, index: usize) -> Result<(Vec<Arc<Pod>>, usize), Reasons> {
    let row = trial.table.row(index);
    let priority = trial.pod.needs.priority;
    let lower = row.pods.values().filter(|other| other.needs.priority < priority);
    let mut lower: Vec<Arc<Pod>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(Reasons::One(Reason::Text("No preemption victims found for incoming pod")));
    }
    let promised = trial.table.promised(index, trial.pod);
    let mut usage = row.usage.clone();
    for other in &lower {
        usage.remove(other);
        trial.adjust(cycle, index, other, -1);
    }
    let fits = |usage: &Usage, cycle: &mut Cycle| {
        let view = NodeView { usage, ..trial.table.view(index) };
        trial.fits(cycle, view, &promised).map_err(|(_, reject)| reject.reasons)
    };
    let found = fits(&usage, cycle);
    let mut violations = 0;
    if found.is_ok() {
        // Give back as many as can stay, the most important first, and before all those of which a budget allows none.
        lower.sort_by(|one, two| {
            two.needs.priority.cmp(&one.needs.priority).then(one.started.cmp(&two.started))
        });
        let violating = violating(&trial.table.facts, &lower);
        lower.sort_by_key(|other| !violating.contains(&other.uid));
        lower.retain(|other| {
            usage.add(other);
            trial.adjust(cycle, index, other, 1);
            let stays = fits(&usage, cycle).is_ok();
            if !stays {
                usage.remove(other);
                trial.adjust(cycle, index, other, -1);
            }
            violations += usize::from(!stays && violating.contains(&other.uid));
            !stays
        });
    }
    // The next node is tried with these pods where they are.
    for other in &lower {
        trial.adjust(cycle, index, other, 1);
    }
    found.map(|()| (lower, violations))
}

/// Whether the pod would fit onto a row without all pods that are less important.
pub fn fits_without_lower(trial: &Trial<'_>, cycle: &mut Cycle, index: usize) -> bool {
    let row = trial.table.row(index);
    let priority = trial.pod.needs.priority;
    let lower: Vec<&Arc<Pod>> = row.pods.values().filter(|other| other.needs.priority < priority).collect();
    let mut usage = row.usage.clone();
    for other in &lower {
        usage.remove(other);
        trial.adjust(cycle, index, other, -1);
    }
    let view = NodeView { usage: &usage, ..trial.table.view(index) };
    let fits = trial.fits(cycle, view, &trial.table.promised(index, trial.pod)).is_ok();
    for other in &lower {
        trial.adjust(cycle, index, other, 1);
    }
    fits
}

/// Pods whose disruption a budget does not allow, when all of these are to go in this order.
fn violating(facts: &Facts, pods: &[Arc<Pod>]) -> FxHashSet<Box<str>> {
    let mut left: FxHashMap<&Key, i64> = FxHashMap::default();
    let mut violating = FxHashSet::default();
    for pod in pods {
        for budget in facts.budgets(&pod.namespace).filter(|budget| budget.counts(pod)) {
            let left = left.entry(&budget.key).or_insert(budget.allowed);
            *left -= 1;
            if *left < 0 {
                violating.insert(pod.uid.clone());
                break;
            }
        }
    }
    violating
}

/// In upstream's order: pods that a budget does not allow to go, the highest priority lost, the sum of priorities, the number, and how lately
/// the most important one started.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    violations: usize,
    highest: i64,
    sum: i64,
    count: usize,
    started: std::cmp::Reverse<i64>,
}

impl Cost {
    fn of(victims: &[Arc<Pod>], violations: usize) -> Cost {
        let highest = victims.iter().map(|pod| i64::from(pod.needs.priority)).max().unwrap_or(i64::MIN);
        let important = victims.iter().filter(|pod| i64::from(pod.needs.priority) == highest);
        Cost {
            violations,
            highest,
            // Counted from the lowest priority there is, so that each victim more costs more.
            sum: victims.iter().map(|pod| i64::from(pod.needs.priority) - i64::from(i32::MIN)).sum(),
            count: victims.len(),
            started: std::cmp::Reverse(important.map(|pod| pod.started).min().unwrap_or(0)),
        }
    }
}
