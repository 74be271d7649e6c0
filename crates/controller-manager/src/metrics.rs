//! What single controllers count, under upstream's names; the work queues' figures are the client's.

pub(crate) mod volumes;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use std::collections::BTreeMap;

use daemon::metrics::{Counter, CounterVec, GaugeVec, Histogram, HistogramVec, registry};

use controllers::views::{Condition, Job, JobStatus};

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

static JOB_PODS_CREATED: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "job_controller_job_pods_creation_total",
        "The number of Pods created by the Job controller labelled with a reason for the Pod creation.",
        &["reason", "status"],
    )
});

static SKEW: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "cronjob_controller_job_creation_skew_duration_seconds",
        "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
        &exponential(1.0, 2.0, 10),
    )
});

static JOB_DELETION: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "ttl_after_finished_controller_job_deletion_duration_seconds",
        "The time it took to delete the job since it became eligible for deletion",
        &exponential(0.1, 2.0, 14),
    )
});

static POD_DELETIONS: LazyLock<Arc<Counter>> = LazyLock::new(|| {
    registry().counter(
        "taint_eviction_controller_pod_deletions_total",
        "Total number of Pods deleted by TaintEvictionController since its start.",
    )
});

static POD_DELETION: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "taint_eviction_controller_pod_deletion_duration_seconds",
        "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion via TaintEvictionController.",
        &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0],
    )
});

static ZONE_SIZE: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Gauge measuring number of registered Nodes per zones.";
    registry().gauge_vec("node_collector_zone_size", help, &["zone"])
});

static ZONE_HEALTH: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Gauge measuring percentage of healthy nodes per zone.";
    registry().gauge_vec("node_collector_zone_health", help, &["zone"])
});

static UNHEALTHY: LazyLock<GaugeVec> = LazyLock::new(|| {
    let help = "Gauge measuring number of not Ready Nodes per zones.";
    registry().gauge_vec("node_collector_unhealthy_nodes_in_zone", help, &["zone"])
});

static ALL_NODES: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "node_collector_update_all_nodes_health_duration_seconds",
        "Duration in seconds for NodeController to update the health of all nodes.",
        &exponential(0.01, 4.0, 8),
    )
});

static ONE_NODE: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "node_collector_update_node_health_duration_seconds",
        "Duration in seconds for NodeController to update the health of a single node.",
        &exponential(0.001, 4.0, 8),
    )
});

static CLAIMS_CREATED: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "dynamic_resource_allocation_resourceclaim_creates_total",
        "Number of ResourceClaims creation requests, categorized by creation status, admin access, and owning API group and kind (either Pod or scheduling.k8s.io/PodGroup)",
        &["admin_access", "owner_api_group", "owner_api_kind", "status"],
    )
});

fn exponential(first: f64, factor: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| first * factor.powi(power)).collect()
}

/// Has what is counted without labels there from the start.
pub(crate) fn register() {
    LazyLock::force(&SKEW);
    LazyLock::force(&JOB_DELETION);
    LazyLock::force(&POD_DELETIONS);
    LazyLock::force(&POD_DELETION);
    LazyLock::force(&ALL_NODES);
    LazyLock::force(&ONE_NODE);
}

/// Pods of a job were to be made.
pub(crate) fn job_pods_created(job: &Job, status: &JobStatus, succeeded: usize, failed: usize) {
    let reason = match job.spec.pod_replacement_policy.as_str() {
        "Failed" if status.failed > 0 => "recreate_failed",
        _ if status.failed > 0 || status.terminating.is_some_and(|count| count > 0) => {
            "recreate_terminating_or_failed"
        }
        _ => "new",
    };
    for (count, status) in [(succeeded, "succeeded"), (failed, "failed")] {
        if count > 0 {
            JOB_PODS_CREATED.with(&[reason, status]).add(count as f64);
        }
    }
}

/// A cron job's job was made so long after its time.
pub(crate) fn cron_job_started(skew: f64) {
    SKEW.observe(skew);
}

/// A finished job was deleted so long after its time.
pub(crate) fn job_deleted(late: f64) {
    JOB_DELETION.observe(late);
}

/// A pod was evicted so long after its time.
pub(crate) fn pod_evicted(late: f64) {
    POD_DELETIONS.inc();
    POD_DELETION.observe(late);
}

/// A claim of devices was to be made for a pod.
pub(crate) fn claim_created(admin_access: bool, failed: bool) {
    let (admin, status) =
        (if admin_access { "true" } else { "false" }, if failed { "failure" } else { "success" });
    CLAIMS_CREATED.with(&[admin, "", "Pod", status]).inc();
}

pub(crate) fn node_looked_at(duration: Duration) {
    ONE_NODE.observe(duration.as_secs_f64());
}

pub(crate) fn nodes_looked_at(duration: Duration) {
    ALL_NODES.observe(duration.as_secs_f64());
}

/// The zones of all nodes, and whether each node is ready. Zones that were there before are given as `known`.
pub(crate) fn zones(nodes: impl Iterator<Item = (String, bool)>, known: &mut BTreeMap<String, (u32, u32)>) {
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for (zone, ready) in nodes {
        let count = counts.entry(zone).or_default();
        count.0 += 1;
        count.1 += u32::from(!ready);
    }
    for gone in known.keys().filter(|zone| !counts.contains_key(*zone)) {
        [&*ZONE_SIZE, &*ZONE_HEALTH, &*UNHEALTHY].iter().for_each(|gauge| gauge.remove(&[gone]));
    }
    for (zone, (size, unhealthy)) in &counts {
        let (size, unhealthy) = (f64::from(*size), f64::from(*unhealthy));
        ZONE_SIZE.with(&[zone]).set(size);
        UNHEALTHY.with(&[zone]).set(unhealthy);
        ZONE_HEALTH.with(&[zone]).set(100.0 * (size - unhealthy) / size);
        // It is there before the first eviction.
        EVICTIONS.with(&[zone]);
    }
    *known = counts;
}

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
