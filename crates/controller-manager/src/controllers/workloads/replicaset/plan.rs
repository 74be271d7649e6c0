//! What to do for one replica set, and what to say of it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use controllers::pods::template_labels;
use controllers::views::{Condition, Pod, ReplicaSet, ReplicaSetStatus};
use controllers::{ranking, selector};

/// The most pods made or deleted in one go.
const BURST: usize = 500;

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Rest,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// The pods that count, and how many are on their way out.
pub(super) fn sort_out(pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, i32) {
    let terminating = pods.iter().filter(|pod| pod.metadata.is_deleting() && !pod.is_terminal()).count();
    let active = pods.into_iter().filter(|pod| pod.is_active()).collect();
    (active, count(terminating))
}

/// `crowd` is only made when there are pods to choose from.
pub(super) fn step<Crowd: Fn(&Pod) -> usize>(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    crowd: impl FnOnce() -> Crowd,
    now: jiff::Timestamp,
) -> Step {
    let wanted = usize::try_from(set.spec.replicas).unwrap_or(0);
    let there = active.len();
    if there < wanted {
        Step::Create((wanted - there).min(BURST))
    } else if there > wanted {
        let surplus = (there - wanted).min(BURST);
        Step::Delete(ranking::choose(active.to_vec(), surplus, crowd(), now))
    } else {
        Step::Rest
    }
}

/// `failure` is the reason and message of a step that failed.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    terminating: i32,
    failure: Option<(&str, String)>,
    now: jiff::Timestamp,
) -> ReplicaSetStatus {
    let labels = template_labels(&set.spec.template);
    let those = |filter: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|pod| filter(pod)).count());
    let mut conditions = set.status.conditions.clone();
    let known = Condition::find(&conditions, "ReplicaFailure").is_some();
    match failure {
        Some((reason, message)) if !known => conditions.push(Condition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: Some(Time(now)),
            ..Default::default()
        }),
        None if known => Condition::remove(&mut conditions, "ReplicaFailure"),
        _ => {}
    }
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: those(&|pod| selector::has_all(&pod.metadata.labels, &labels)),
        ready_replicas: those(&Pod::is_ready),
        available_replicas: those(&|pod| pod.is_available(set.spec.min_ready_seconds, now)),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions,
    }
}

/// Seconds until a pod that is ready now may become available.
pub(super) fn again(set: &ReplicaSet, active: &[Arc<Pod>], now: jiff::Timestamp) -> Option<u64> {
    let wait = i64::from(set.spec.min_ready_seconds);
    if wait == 0 {
        return None;
    }
    let left = active
        .iter()
        .filter_map(|pod| pod.ready_since())
        .map(|since| since.as_second() + wait - now.as_second());
    left.filter(|left| *left > 0).min().and_then(|left| u64::try_from(left).ok())
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
