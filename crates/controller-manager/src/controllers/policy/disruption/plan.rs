//! The status of a disruption budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controllers::scaled::{Round, resolve};
use controllers::views::{BudgetStatus, Condition, Pod, PodDisruptionBudget};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How long a granted eviction may take until the pod is being deleted.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
const CONDITION: &str = "DisruptionAllowed";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) pods: i32,
    pub(super) healthy: i32,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: BudgetStatus,
    /// Pods whose eviction was granted and did not happen.
    pub(super) overdue: Vec<Arc<Pod>>,
    pub(super) again: Option<Duration>,
}

/// Whether what is to be healthy depends on how many pods their owners want.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget.spec.max_unavailable.is_some() || matches!(budget.spec.min_available, Some(IntOrString::String(_)))
}

/// `scale` is how many pods the owners want, or how many there are where that does not matter.
pub(super) fn expected(budget: &PodDisruptionBudget, scale: i32) -> Expected {
    let spec = &budget.spec;
    let healthy = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale - resolve(Some(most), scale, Round::Up)).max(0),
        (None, Some(least)) => resolve(Some(least), scale, Round::Up),
        (None, None) => 0,
    };
    Expected { pods: scale, healthy }
}

pub(super) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: Expected,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.metadata.is_deleting()) {
        let name = &pod.metadata.name;
        let Some(granted) = budget.status.disrupted_pods.get(name) else { continue };
        let left = TIMEOUT - now.duration_since(granted.0);
        if left.is_negative() {
            plan.overdue.push(pod.clone());
            continue;
        }
        let wait = left.unsigned_abs();
        plan.again = Some(plan.again.map_or(wait, |known| known.min(wait)));
        disrupted.insert(name.clone(), granted.clone());
    }
    let is_healthy = |pod: &&Arc<Pod>| {
        !pod.metadata.is_deleting() && !disrupted.contains_key(&pod.metadata.name) && pod.is_ready()
    };
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let mut status = BudgetStatus {
        observed_generation: budget.metadata.generation,
        disrupted_pods: disrupted,
        disruptions_allowed: allowed,
        current_healthy: healthy,
        desired_healthy: expected.healthy,
        expected_pods: expected.pods,
        conditions: budget.status.conditions.clone(),
    };
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set(&mut status.conditions, state, reason, "", budget.metadata.generation, now);
    plan.status = status;
    plan
}

/// The status when it is not known how many pods there should be.
pub(super) fn failed(budget: &PodDisruptionBudget, error: &str, now: Timestamp) -> BudgetStatus {
    let mut status = budget.status.clone();
    status.disruptions_allowed = 0;
    let generation = status.observed_generation;
    set(&mut status.conditions, "False", "SyncFailed", error, generation, now);
    status
}

fn set(
    conditions: &mut Vec<Condition>,
    state: &str,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let known = Condition::find(conditions, CONDITION);
    let since =
        known.filter(|known| known.status == state).and_then(|known| known.last_transition_time.clone());
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..Condition::default()
    };
    match conditions.iter_mut().find(|known| known.type_ == CONDITION) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
