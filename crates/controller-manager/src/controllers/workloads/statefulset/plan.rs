//! What to do next for one stateful set, pod by pod.

use std::sync::Arc;

use controllers::scaled::{Round, resolve};
use controllers::views::{PersistentVolumeClaim, Pod, StatefulSet, StatefulSetStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::claims::{self, Claims};
use super::{POD_NAME, REVISION};

/// A revision of the template.
#[derive(Clone, Debug, Default)]
pub(super) struct Revision {
    pub(super) name: String,
    pub(super) template: Value,
}

pub(super) struct Input<'a> {
    pub(super) set: &'a StatefulSet,
    /// The revision that the set had before the update that is under way.
    pub(super) current: Revision,
    pub(super) update: Revision,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) claims: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    /// `maxUnavailable` counts.
    pub(super) several_unavailable: bool,
    pub(super) now: jiff::Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Create {
        ordinal: i32,
        updated: bool,
    },
    /// Makes the claims that a waiting pod lacks.
    CreateClaims(Arc<Pod>, i32),
    /// Gives a pod its identity and claims back.
    Repair(Arc<Pod>, i32),
    /// Makes the owners of the pod's claims right.
    Retain(Arc<Pod>, i32),
    Delete(Arc<Pod>),
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each after the one before; a failure in one ends the round.
    pub(super) stages: Vec<Vec<Step>>,
    /// The steps of a stage are taken one by one.
    pub(super) in_order: bool,
    pub(super) status: StatefulSetStatus,
    pub(super) current: Revision,
    pub(super) update: Revision,
    /// Seconds until a pod may become available.
    pub(super) again: Option<u64>,
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name)
}

/// The ordinal of a pod of the set.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, number) = pod.metadata.name.rsplit_once('-')?;
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    (parent == set.metadata.name && digits).then(|| number.parse().ok())?
}

pub(super) fn in_range(set: &StatefulSet, ordinal: i32) -> bool {
    (0..set.spec.replicas).contains(&(ordinal - set.spec.ordinals.start))
}

/// Whether the pod uses the claims of its ordinal.
pub(super) fn has_storage(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    let names = claims::names(set, ordinal);
    set.spec.volume_claim_templates.iter().zip(names).all(|(template, name)| {
        let volume = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        pod.spec.volumes.iter().any(|own| {
            own.name == *volume
                && own.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == *name)
        })
    })
}

/// A place in the range: the pod that has it, or which one is to be made.
enum Replica {
    There(Arc<Pod>),
    /// By revision: the update's or the one before.
    Missing {
        updated: bool,
    },
}

struct Draft<'a> {
    input: &'a Input<'a>,
    set: &'a StatefulSet,
    replicas: Vec<(i32, Replica)>,
    /// Pods beyond the range, from the highest ordinal.
    condemned: Vec<(i32, Arc<Pod>)>,
    in_order: bool,
}

pub(super) fn plan(input: &Input) -> Plan {
    let set = input.set;
    let (kept, mut condemned): (Vec<_>, Vec<_>) = input
        .pods
        .iter()
        .filter_map(|pod| Some((ordinal(set, pod)?, pod.clone())))
        .partition(|(ordinal, _)| in_range(set, *ordinal));
    condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    let start = set.spec.ordinals.start;
    let replica = |ordinal: i32| {
        let found = kept.iter().find(|(own, _)| *own == ordinal);
        let replica = found.map(|(_, pod)| Replica::There(pod.clone()));
        (ordinal, replica.unwrap_or_else(|| Replica::Missing { updated: makes_updated(set, ordinal) }))
    };
    let round = Draft {
        input,
        set,
        replicas: (start..start.saturating_add(set.spec.replicas)).map(replica).collect(),
        condemned,
        in_order: set.spec.pod_management_policy != "Parallel",
    };
    let mut plan = Plan {
        in_order: round.in_order,
        current: input.current.clone(),
        update: input.update.clone(),
        status: round.status(),
        again: again(input),
        ..Plan::default()
    };
    if !set.metadata.is_deleting() {
        round.steps(&mut plan);
    }
    complete(set, &mut plan.status);
    plan
}

/// Whether a new pod of this ordinal is of the revision that is rolled out.
fn makes_updated(set: &StatefulSet, ordinal: i32) -> bool {
    let start = set.spec.ordinals.start;
    let rolling = set.spec.update_strategy.rolling_update.as_ref();
    let before = match rolling {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None if set.spec.update_strategy.type_ == "RollingUpdate" => set.status.current_replicas,
        None => 0,
    };
    ordinal >= start.saturating_add(before)
}

impl Draft<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, self.input.now)
    }

    fn runs(&self, pod: &Pod) -> bool {
        pod.status.phase == "Running" && pod.is_ready()
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || pod.metadata.is_deleting()
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.metadata.labels.get(REVISION) == Some(self.input.update.name.as_str())
    }

    fn steps(&self, plan: &mut Plan) {
        let (first, blocked) = self.tend();
        plan.stages.push(first);
        if blocked {
            return;
        }
        let retained = |(ordinal, pod): &&(i32, Arc<Pod>)| !self.retains(pod, *ordinal);
        let retain = self.condemned.iter().filter(retained);
        plan.stages.push(retain.map(|(ordinal, pod)| Step::Retain(pod.clone(), *ordinal)).collect());
        let (condemned, blocked) = self.scale_down();
        plan.stages.push(condemned);
        if blocked || self.set.spec.update_strategy.type_ == "OnDelete" {
            return;
        }
        let outdated = self.outdated();
        plan.status.current_replicas -= i32::try_from(outdated.len()).unwrap_or(0);
        plan.stages.push(outdated.into_iter().map(Step::Delete).collect());
    }

    /// Makes missing pods and mends the others, in order up to the first pod that has to be waited for.
    fn tend(&self) -> (Vec<Step>, bool) {
        let mut steps = Vec::new();
        for (ordinal, replica) in &self.replicas {
            let pod = match replica {
                Replica::Missing { .. } if self.waits_for_claims(*ordinal) => {
                    if self.in_order {
                        return (steps, true);
                    }
                    continue;
                }
                Replica::Missing { updated } => {
                    steps.push(Step::Create { ordinal: *ordinal, updated: *updated });
                    if self.in_order {
                        return (steps, true);
                    }
                    continue;
                }
                Replica::There(pod) => pod,
            };
            if pod.is_terminal() {
                // The next one is made when it is gone.
                if !pod.metadata.is_deleting() {
                    steps.push(Step::Delete(pod.clone()));
                }
                if self.in_order {
                    return (steps, true);
                }
                continue;
            }
            if pod.status.phase == "Pending" {
                steps.push(Step::CreateClaims(pod.clone(), *ordinal));
            }
            let waits = pod.metadata.is_deleting() || !self.runs(pod) || !self.is_available(pod);
            if waits && self.in_order {
                return (steps, true);
            }
            let named = pod.metadata.labels.get(POD_NAME) == Some(pod.metadata.name.as_str());
            if !(named && has_storage(self.set, pod, *ordinal) && self.retains(pod, *ordinal)) {
                steps.push(Step::Repair(pod.clone(), *ordinal));
            }
        }
        (steps, false)
    }

    fn waits_for_claims(&self, ordinal: i32) -> bool {
        claims::names(self.set, ordinal)
            .filter_map(|name| (self.input.claims)(&name))
            .any(|claim| claims::goes_with_an_earlier_pod(self.set, ordinal, &claim.metadata))
    }

    /// Whether the owners of the pod's claims are right.
    fn retains(&self, pod: &Pod, ordinal: i32) -> bool {
        let owners = Claims::of(self.set, ordinal, &pod.metadata);
        let found = claims::names(self.set, ordinal).filter_map(|name| (self.input.claims)(&name));
        found.into_iter().all(|claim| owners.is_right(&claim.metadata))
    }

    /// Deletes pods beyond the range, in order one after the other.
    fn scale_down(&self) -> (Vec<Step>, bool) {
        let there = self.replicas.iter().filter_map(|(_, replica)| match replica {
            Replica::There(pod) => Some(pod),
            Replica::Missing { .. } => None,
        });
        let lowest = self.condemned.iter().rev().map(|(_, pod)| pod);
        let first = there.chain(lowest).find(|pod| self.is_unavailable(pod));
        let mut steps = Vec::new();
        for (_, pod) in &self.condemned {
            let deleting = pod.metadata.is_deleting();
            if self.in_order {
                let is_first = first.is_some_and(|first| Arc::ptr_eq(first, pod));
                let may_go = is_first || (self.runs(pod) && self.is_available(pod));
                if may_go && !deleting {
                    steps.push(Step::Delete(pod.clone()));
                }
                return (steps, true);
            }
            if !deleting {
                steps.push(Step::Delete(pod.clone()));
            }
        }
        (steps, false)
    }

    /// Pods of an earlier revision that make room for updated ones now, from the highest ordinal.
    fn outdated(&self) -> Vec<Arc<Pod>> {
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let partition = usize::try_from(rolling.and_then(|one| one.partition).unwrap_or(0)).unwrap_or(0);
        let one = IntOrString::Int(1);
        let allowed = match rolling.and_then(|one| one.max_unavailable.as_ref()) {
            Some(allowed) if self.input.several_unavailable => allowed,
            _ => &one,
        };
        let allowed = resolve(Some(allowed), self.set.spec.replicas, Round::Down).max(1);
        let allowed = usize::try_from(allowed).unwrap_or(1);
        let there: Vec<Option<&Arc<Pod>>> = self
            .replicas
            .iter()
            .map(|(_, replica)| match replica {
                Replica::There(pod) => Some(pod),
                Replica::Missing { .. } => None,
            })
            .collect();
        let unavailable = there.iter().filter(|pod| pod.is_none_or(|pod| self.is_unavailable(pod))).count();
        let outdated = |pod: &&Arc<Pod>| !self.is_updated(pod) && !pod.metadata.is_deleting();
        let candidates: Vec<&Arc<Pod>> =
            there.iter().skip(partition).rev().flatten().copied().filter(outdated).collect();
        if !self.in_order && self.input.several_unavailable {
            // Those that are of no use anyway are no loss.
            let (useless, useful): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|pod| !self.is_available(pod));
            let room = allowed.saturating_sub(unavailable);
            return useless.into_iter().chain(useful.into_iter().take(room)).cloned().collect();
        }
        if self.input.several_unavailable {
            return candidates.into_iter().take(allowed.saturating_sub(unavailable)).cloned().collect();
        }
        // One after the other: an updated pod that is not well is waited for.
        for pod in there.iter().skip(partition).rev() {
            match pod {
                Some(pod) if outdated(pod) => return vec![(*pod).clone()],
                Some(pod) if !self.is_unavailable(pod) => {}
                _ => break,
            }
        }
        Vec::new()
    }

    fn status(&self) -> StatefulSetStatus {
        let set = self.set;
        let mut status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            current_revision: self.input.current.name.clone(),
            update_revision: self.input.update.name.clone(),
            collision_count: Some(set.status.collision_count.unwrap_or(0)),
            conditions: set.status.conditions.clone(),
            ..StatefulSetStatus::default()
        };
        for pod in self.input.pods.iter().filter(|pod| !pod.status.phase.is_empty()) {
            status.replicas += 1;
            if self.runs(pod) {
                status.ready_replicas += 1;
                status.available_replicas += i32::from(self.is_available(pod));
            }
            if !pod.metadata.is_deleting() {
                let revision = pod.metadata.labels.get(REVISION);
                status.current_replicas += i32::from(revision == Some(self.input.current.name.as_str()));
                status.updated_replicas += i32::from(self.is_updated(pod));
            }
        }
        status
    }
}

/// When every pod is updated and ready, the update is the current revision.
fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let all = set.spec.replicas;
    if (status.updated_replicas, status.ready_replicas, status.replicas) == (all, all, all) {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}

/// Whether a status is to be written.
pub(super) fn differs(old: &StatefulSetStatus, new: &StatefulSetStatus) -> bool {
    let comparable =
        |status: &StatefulSetStatus| StatefulSetStatus { collision_count: None, ..status.clone() };
    comparable(old) != comparable(new)
}

fn again(input: &Input) -> Option<u64> {
    let wait = i64::from(input.set.spec.min_ready_seconds);
    let since = input.pods.iter().filter_map(|pod| pod.ready_since());
    let left = since.map(|since| since.as_second() + wait - input.now.as_second());
    left.filter(|left| wait > 0 && *left > 0).min().and_then(|left| u64::try_from(left).ok())
}
