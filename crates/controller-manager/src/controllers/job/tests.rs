use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Input, Plan, plan};
use crate::views::annotation::{INDEX, INDEX_FAILURES};
use crate::views::{Condition, Job, Pod};

fn now() -> jiff::Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(spec: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "j", "namespace": "d", "uid": "j"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {"spec": {"restartPolicy": "Never"}}},
    });
    json_patch::merge(&mut job["spec"], &spec);
    serde_json::from_value(job).unwrap()
}

fn pod(name: &str, phase: &str, index: Option<i32>) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "finalizers": [super::FINALIZER],
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n"},
        "status": {"phase": phase},
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"] = json!({(INDEX): index.to_string()});
    }
    serde_json::from_value(pod).unwrap()
}

fn planned(job: &Job, pods: &[Pod]) -> Plan {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    plan(&Input { job, pods: &pods, settled: true, now: now() })
}

/// Carries plans out on job and pods until nothing changes any more.
fn settle(job: &mut Job, pods: &mut Vec<Pod>) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..10 {
        let plan = planned(job, pods);
        events.extend(plan.events.iter().map(|(_, reason, _)| reason.clone()));
        let idle = plan.status == job.status && plan.counted.is_empty() && plan.delete.is_empty();
        job.status = plan.status;
        for pod in pods
            .iter_mut()
            .filter(|pod| plan.counted.iter().any(|other| other.metadata.uid == pod.metadata.uid))
        {
            pod.metadata.finalizers.clear();
        }
        pods.retain(|pod| !plan.delete.iter().any(|other| other.metadata.uid == pod.metadata.uid));
        if idle || job.is_finished() {
            break;
        }
    }
    events
}

#[test]
fn a_job_succeeds() {
    let mut job = job(json!({"completions": 2, "parallelism": 2}));
    assert_eq!(planned(&job, &[]).create.len(), 2);
    assert_eq!(planned(&job, &[pod("a", "Running", None)]).create.len(), 1);
    let mut pods = vec![pod("a", "Succeeded", None), pod("b", "Succeeded", None)];
    assert_eq!(settle(&mut job, &mut pods), ["Completed"]);
    assert!(Condition::is_true(&job.status.conditions, "SuccessCriteriaMet"));
    assert_eq!((job.status.succeeded, job.status.active, job.status.failed), (2, 0, 0));
    assert!(job.status.completion_time.is_some());
}

#[test]
fn a_job_fails() {
    let mut job = job(json!({"backoffLimit": 0, "parallelism": 2, "completions": 5}));
    let mut pods = vec![pod("a", "Failed", None), pod("b", "Running", None)];
    assert_eq!(settle(&mut job, &mut pods), ["BackoffLimitExceeded"]);
    assert_eq!((job.status.failed, job.status.active), (2, 0));
    assert!(Condition::is_true(&job.status.conditions, "Failed") && pods.len() == 1);
}

#[test]
fn failures_are_counted_once_and_backed_off() {
    let mut job = job(json!({}));
    let mut failed = pod("a", "Failed", None);
    failed.metadata.creation_timestamp = Some(now().into());
    let mut pods = vec![failed];
    settle(&mut job, &mut pods);
    assert_eq!(job.status.failed, 1);
    let plan = planned(&job, &pods);
    assert!(plan.create.is_empty());
    assert_eq!(plan.again, Some(std::time::Duration::from_secs(10)));
}

#[test]
fn indexes() {
    let spec = json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"});
    let mut job = job(spec);
    let mut pods = vec![pod("a", "Succeeded", Some(0)), pod("b", "Running", Some(1))];
    let found = planned(&job, &pods);
    assert_eq!(found.create.iter().map(|create| create.index.unwrap()).collect::<Vec<_>>(), [2]);
    settle(&mut job, &mut pods);
    assert_eq!((job.status.completed_indexes.as_str(), job.status.succeeded), ("0", 1));
    // Two pods of one index: one has to go.
    let twice = [pod("b", "Running", Some(1)), pod("c", "Running", Some(1))];
    assert_eq!(planned(&job, &twice).delete.len(), 1);
}

#[test]
fn limits_per_index() {
    let spec = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 2147483647});
    let mut job = job(spec);
    let mut first = pod("a", "Failed", Some(0));
    let kept = planned(&job, std::slice::from_ref(&first));
    assert!(kept.counted.is_empty());
    assert_eq!(kept.create[0].failures, Some(1));
    first.metadata.annotations.insert(INDEX_FAILURES.into(), "1".into());
    let mut pods = vec![first, pod("b", "Succeeded", Some(1))];
    assert_eq!(settle(&mut job, &mut pods), ["FailedIndexes"]);
    assert_eq!(job.status.failed_indexes.as_deref(), Some("0"));
}

#[test]
fn suspending_and_resuming() {
    let mut job = job(json!({"suspend": true}));
    let mut pods = vec![pod("a", "Running", None)];
    assert_eq!(settle(&mut job, &mut pods), ["Suspended"]);
    assert!(pods.is_empty() && job.status.start_time.is_none() && job.status.failed == 0);
    job.spec.suspend = false;
    let plan = planned(&job, &pods);
    assert_eq!(plan.create.len(), 1);
    assert_eq!(plan.events[0].1, "Resumed");
    assert!(plan.status.start_time.is_some());
}

#[test]
fn deadlines() {
    let mut job = job(json!({"activeDeadlineSeconds": 60}));
    job.status.start_time = Some("2026-01-01T00:59:30Z".parse::<jiff::Timestamp>().unwrap().into());
    assert_eq!(planned(&job, &[pod("a", "Running", None)]).again, Some(std::time::Duration::from_secs(30)));
    job.status.start_time = Some("2026-01-01T00:58:00Z".parse::<jiff::Timestamp>().unwrap().into());
    let mut pods = vec![pod("a", "Running", None)];
    assert_eq!(settle(&mut job, &mut pods), ["DeadlineExceeded"]);
}
