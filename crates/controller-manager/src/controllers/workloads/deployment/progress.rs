//! Conditions: is the rollout under way, done or stuck.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use controllers::views::{Condition, Deployment, DeploymentStatus};

const PROGRESSING: &str = "Progressing";
const AVAILABLE_REASON: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

pub(super) fn stamped(now: jiff::Timestamp) -> Condition {
    Condition {
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        ..Default::default()
    }
}

/// Sets a condition; the same status for the same reason is left as it is, and the same status keeps
/// its transition time.
pub(super) fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) {
    if let Some(current) = Condition::find(conditions, &condition.type_) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time.clone_from(&current.last_transition_time);
        }
    }
    Condition::remove(conditions, &condition.type_);
    conditions.push(condition);
}

pub(super) fn set_progressing(
    status: &mut DeploymentStatus,
    now: jiff::Timestamp,
    deployment: &Deployment,
    state: &str,
    reason: &str,
    message: impl FnOnce() -> String,
) {
    if deadline(deployment).is_some() {
        set_condition(&mut status.conditions, progressing(state, reason, message(), now));
    }
}

fn progressing(state: &str, reason: &str, message: String, now: jiff::Timestamp) -> Condition {
    Condition {
        type_: PROGRESSING.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message,
        ..stamped(now)
    }
}

fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// Starts the clock of a deployment that has none yet.
pub(super) fn note_set(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    now: jiff::Timestamp,
    reason: &str,
    message: impl FnOnce() -> String,
) {
    if Condition::find(&status.conditions, PROGRESSING).is_none() {
        set_progressing(status, now, deployment, "True", reason, message);
    }
}

/// Stops and restarts the clock as the deployment is paused and resumed.
pub(super) fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: jiff::Timestamp) {
    let reason = Condition::find(&status.conditions, PROGRESSING).map(|condition| condition.reason.as_str());
    if reason == Some(TIMED_OUT) {
        return;
    }
    let was_paused = reason == Some(PAUSED);
    if deployment.spec.paused && !was_paused {
        set_progressing(status, now, deployment, "Unknown", PAUSED, || "Deployment is paused".to_owned());
    } else if !deployment.spec.paused && was_paused {
        set_progressing(status, now, deployment, "Unknown", RESUMED, || "Deployment is resumed".to_owned());
    }
}

/// Everything wanted is new and available.
pub(super) fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas;
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}

fn progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| status.replicas - status.updated_replicas;
    after.updated_replicas > before.updated_replicas
        || old(after) < old(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
}

fn timed_out(deployment: &Deployment, status: &DeploymentStatus, now: jiff::Timestamp) -> bool {
    let (Some(deadline), Some(condition)) =
        (deadline(deployment), Condition::find(&status.conditions, PROGRESSING))
    else {
        return false;
    };
    match condition.reason.as_str() {
        AVAILABLE_REASON => false,
        TIMED_OUT => true,
        _ => {
            let from = condition.last_update_time.as_ref().map_or(now, |time| time.0);
            from.as_second() + i64::from(deadline) < now.as_second()
        }
    }
}

/// Sets the conditions that depend on how `status` differs from `before`.
pub(super) fn judge(
    deployment: &Deployment,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new_set: Option<&str>,
    failure: Option<Condition>,
    now: jiff::Timestamp,
) {
    if deadline(deployment).is_none() {
        Condition::remove(&mut status.conditions, PROGRESSING);
    }
    let current = Condition::find(&status.conditions, PROGRESSING).cloned();
    let done = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|condition| condition.reason == AVAILABLE_REASON);
    if deadline(deployment).is_some() && !done {
        let subject = match new_set {
            Some(name) => format!("ReplicaSet {name:?}"),
            None => format!("Deployment {:?}", deployment.metadata.name),
        };
        if complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(&mut status.conditions, progressing("True", AVAILABLE_REASON, message, now));
        } else if progressed(before, status) {
            let mut condition =
                progressing("True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
            if let Some(current) = current {
                if current.status == "True" {
                    condition.last_transition_time = current.last_transition_time;
                }
                Condition::remove(&mut status.conditions, PROGRESSING);
            }
            status.conditions.push(condition);
        } else if timed_out(deployment, status, now) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(&mut status.conditions, progressing("False", TIMED_OUT, message, now));
        }
    }
    match failure {
        Some(failure) => set_condition(&mut status.conditions, failure),
        None => Condition::remove(&mut status.conditions, "ReplicaFailure"),
    }
}

/// Seconds until a rollout that makes no progress is to be looked at again.
pub(super) fn again(deployment: &Deployment, status: &DeploymentStatus, now: jiff::Timestamp) -> Option<u64> {
    let deadline = deadline(deployment)?;
    let condition = Condition::find(&status.conditions, PROGRESSING)?;
    if complete(deployment, status) || condition.reason == TIMED_OUT || deployment.spec.paused {
        return None;
    }
    let from = condition.last_update_time.as_ref().map_or(now, |time| time.0);
    let left = from.as_second() + i64::from(deadline) - now.as_second();
    Some(u64::try_from(left).unwrap_or(0) + 1)
}
