//! What single controllers count, under upstream's names; the work queues' figures are the client's.

use std::sync::LazyLock;
use std::time::Duration;

use daemon::metrics::{CounterVec, HistogramVec, registry};

use controllers::views::{Condition, JobStatus};

static JOB_SYNCS: LazyLock<CounterVec> = LazyLock::new(|| {
    let labels = &["action", "completion_mode", "result"];
    registry().counter_vec("job_controller_job_syncs_total", "The number of job syncs", labels)
});

static JOB_SYNC_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let buckets: Vec<f64> = (0..15).map(|power| 0.004 * f64::from(1 << power)).collect();
    registry().histogram_vec(
        "job_controller_job_sync_duration_seconds",
        "The time it took to sync a job",
        &["action", "completion_mode", "result"],
        &buckets,
    )
});

static JOBS_FINISHED: LazyLock<CounterVec> = LazyLock::new(|| {
    let labels = &["completion_mode", "reason", "result"];
    registry().counter_vec("job_controller_jobs_finished_total", "The number of finished jobs", labels)
});

static JOB_PODS_FINISHED: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "job_controller_job_pods_finished_total",
        "The number of finished Pods that are fully tracked",
        &["completion_mode", "result"],
    )
});

static EVICTIONS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "node_collector_evictions_total",
        "Number of Node evictions that happened since current instance of NodeController started.",
        &["zone"],
    )
});

/// A round for a job.
pub(crate) fn job_synced(action: &str, completion_mode: &str, failed: bool, duration: Duration) {
    let labels = [action, completion_mode, if failed { "error" } else { "success" }];
    JOB_SYNCS.with(&labels).inc();
    JOB_SYNC_DURATION.with(&labels).observe(duration.as_secs_f64());
}

/// A job's status has been written: what ended with it.
pub(crate) fn job_status_written(completion_mode: &str, old: &JobStatus, new: &JobStatus) {
    for (result, old, new) in
        [("succeeded", old.succeeded, new.succeeded), ("failed", old.failed, new.failed)]
    {
        if new > old {
            JOB_PODS_FINISHED.with(&[completion_mode, result]).add(f64::from(new - old));
        }
    }
    let holds = |status: &JobStatus, kind: &str| {
        Condition::find(&status.conditions, kind)
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.reason.to_string())
    };
    for (kind, result) in [("Complete", "succeeded"), ("Failed", "failed")] {
        if let Some(reason) = holds(new, kind).filter(|_| holds(old, kind).is_none()) {
            JOBS_FINISHED.with(&[completion_mode, &reason, result]).inc();
        }
    }
}

/// A node was marked, so that its pods are driven away.
pub(crate) fn node_evicted(zone: &str) {
    EVICTIONS.with(&[zone]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_counted_as_finished_once() {
        let running = JobStatus { succeeded: 1, ..JobStatus::default() };
        let condition = |kind: &str, reason: &str| Condition {
            type_: kind.into(),
            status: "True".into(),
            reason: reason.into(),
            ..Condition::default()
        };
        let complete = JobStatus {
            succeeded: 3,
            conditions: vec![condition("Complete", "CompletionsReached")],
            ..JobStatus::default()
        };
        job_status_written("Test", &running, &complete);
        job_status_written("Test", &complete, &complete);
        let text = registry().text();
        for line in [
            "job_controller_jobs_finished_total{completion_mode=\"Test\",reason=\"CompletionsReached\",result=\"succeeded\"} 1\n",
            "job_controller_job_pods_finished_total{completion_mode=\"Test\",result=\"succeeded\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
