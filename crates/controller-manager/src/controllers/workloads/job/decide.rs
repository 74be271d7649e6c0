//! Whether a job has succeeded or failed, from its counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;

use super::indexes;
use controllers::views::{Condition, Job, Pod};

pub(super) const DEADLINE: &str = "DeadlineExceeded";

/// Why a job ends: condition type, reason, message.
pub(super) struct End {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl End {
    fn new(success: bool, reason: &str, message: &str) -> End {
        End { success, reason: reason.to_owned(), message: message.to_owned() }
    }
}

pub(super) struct Counts<'a> {
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) fail_job: Option<String>,
    pub(super) completed: &'a BTreeSet<i32>,
    pub(super) failed_indexes: &'a BTreeSet<i32>,
}

/// The end decided earlier, which is never reconsidered.
pub(super) fn earlier(job: &Job) -> Option<End> {
    let find = |type_: &str, success| {
        let condition =
            Condition::find(&job.status.conditions, type_).filter(|condition| condition.status == "True")?;
        Some(End::new(success, &condition.reason, &condition.message))
    };
    find("FailureTarget", false).or_else(|| find("SuccessCriteriaMet", true))
}

pub(super) fn end(job: &Job, counts: &Counts, now: jiff::Timestamp) -> Option<End> {
    let spec = &job.spec;
    if let Some(message) = &counts.fail_job {
        return Some(End::new(false, "PodFailurePolicy", message));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if counts.failed > limit || restarts_exceed(job, counts.pods, limit) {
        return Some(End::new(false, "BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    if deadline_left(job, now).is_some_and(|left| left <= SignedDuration::ZERO) {
        return Some(End::new(false, DEADLINE, "Job was active longer than specified deadline"));
    }
    if let (true, Some(completions)) = (spec.backoff_limit_per_index.is_some(), spec.completions) {
        let failed = i32::try_from(counts.failed_indexes.len()).unwrap_or(i32::MAX);
        if spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(End::new(false, "MaxFailedIndexesExceeded", message));
        }
        if failed > 0 && failed + counts.succeeded >= completions {
            return Some(End::new(false, "FailedIndexes", "Job has failed indexes"));
        }
    }
    success_policy(job, counts.completed)
}

fn success_policy(job: &Job, completed: &BTreeSet<i32>) -> Option<End> {
    let rules = &job.spec.success_policy.as_ref()?.rules;
    let met = rules.iter().position(|rule| {
        let listed = rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, i32::MAX));
        let counted = match &listed {
            Some(listed) => completed.intersection(listed).count(),
            None => completed.len(),
        };
        match rule.succeeded_count {
            Some(count) => i32::try_from(counted).is_ok_and(|counted| counted >= count),
            None => listed.is_some_and(|listed| listed.is_subset(completed)),
        }
    })?;
    Some(End::new(true, "SuccessPolicy", &format!("Matched rules at index {met}")))
}

/// All that was wanted has succeeded, and nothing runs any more.
pub(super) fn complete(job: &Job, succeeded: i32, active: i32) -> Option<End> {
    let enough = match job.spec.completions {
        None => succeeded > 0,
        Some(completions) => succeeded >= completions,
    };
    (enough && active == 0)
        .then(|| End::new(true, "CompletionsReached", "Reached expected number of succeeded pods"))
}

/// Time until the deadline; none where there is none, or the clock stands still.
pub(super) fn deadline_left(job: &Job, now: jiff::Timestamp) -> Option<SignedDuration> {
    let limit = SignedDuration::from_secs(job.spec.active_deadline_seconds?);
    let start = job.status.start_time.as_ref()?;
    (!job.spec.suspend).then(|| limit.saturating_sub(now.duration_since(start.0)))
}

/// Where containers are restarted in place, their restarts are the failures.
fn restarts_exceed(job: &Job, pods: &[Arc<Pod>], limit: i32) -> bool {
    if job.spec.template.pointer("/spec/restartPolicy").and_then(serde_json::Value::as_str)
        != Some("OnFailure")
    {
        return false;
    }
    let init =
        |pod: &Pod| pod.status.init_container_statuses.iter().map(|status| status.restart_count).sum::<i32>();
    let runs = |pod: &&Arc<Pod>| matches!(pod.status.phase.as_str(), "Pending" | "Running");
    let restarts: i32 = pods.iter().filter(runs).map(|pod| pod.restarts() + init(pod)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}
