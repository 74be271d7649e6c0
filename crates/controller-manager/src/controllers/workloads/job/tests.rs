use std::sync::Arc;

use serde_json::{Value, json};

use super::account::Failures;
use super::plan::{Input, Memories, Memory, Plan, plan};
use controllers::views::annotation::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES};
use controllers::views::{Condition, Job, Pod};

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
    // What ends a job has been known for long.
    let memory = Memory { ending: Some(jiff::Timestamp::UNIX_EPOCH), ..Memory::default() };
    plan(&Input { job, pods: &pods, memory, now: now() })
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
    assert_eq!(kept.create[0].failures, Some((1, 0)));
    first.metadata.annotations.insert(INDEX_FAILURES.into(), "1".into());
    let mut pods = vec![first, pod("b", "Succeeded", Some(1))];
    assert_eq!(settle(&mut job, &mut pods), ["FailedIndexes"]);
    assert_eq!(job.status.failed_indexes.as_deref(), Some("0"));
}

/// A pod that failed just now, of an index.
fn failed(name: &str, index: i32) -> Pod {
    let mut pod = pod(name, "Failed", Some(index));
    pod.metadata.creation_timestamp = Some(now().into());
    pod
}

#[test]
fn an_index_that_fails_delays_no_other() {
    let spec =
        json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 3});
    let job = job(spec);
    let pods = [failed("a", 0), pod("b", "Running", Some(1))];
    let plan = planned(&job, &pods);
    assert_eq!(plan.create.iter().map(|create| create.index).collect::<Vec<_>>(), [Some(2)]);
    assert_eq!(plan.again, Some(std::time::Duration::from_secs(10)));
    // Each failure of the index doubles its delay, those that are ignored, too.
    let mut later = failed("a", 0);
    later.metadata.annotations.insert(INDEX_FAILURES.into(), "1".into());
    later.metadata.annotations.insert(INDEX_IGNORED_FAILURES.into(), "1".into());
    assert_eq!(planned(&job, &[later]).again, Some(std::time::Duration::from_secs(40)));
}

#[test]
fn failures_are_remembered_when_their_pods_are_gone() {
    let job = job(json!({}));
    let memory = Memory { failures: Some(Failures { number: 2, last: Some(now()) }), ending: None };
    let planned = |pods: &[Pod]| {
        let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
        plan(&Input { job: &job, pods: &pods, memory, now: now() })
    };
    let failures = |pods: &[Pod]| planned(pods).memory.failures.unwrap();
    let plan = planned(&[]);
    assert!(plan.create.is_empty());
    assert_eq!(plan.again, Some(std::time::Duration::from_secs(20)));
    assert_eq!(failures(&[failed("a", 0)]).number, 3);
    assert_eq!(failures(&[pod("a", "Succeeded", None)]), Failures::default());
    // A deleted pod did not do its work either.
    let mut deleted = pod("a", "Running", None);
    deleted.metadata.deletion_timestamp = Some(now().into());
    assert_eq!(failures(&[deleted]).number, 3);
}

#[test]
fn a_recreated_job_remembers_nothing_of_the_one_before() {
    let (key, old, new) = (client::Key::new("x", "j"), client::Text::from("old"), client::Text::from("new"));
    let memory = Memory { failures: Some(Failures { number: 5, last: Some(now()) }), ending: Some(now()) };
    let mut memories = Memories::default();
    memories.set(&key, &old, memory);
    assert_eq!(memories.get(&key, &old), memory);
    assert_eq!(memories.get(&key, &new), Memory::default());
    memories.forget(&key);
    assert_eq!(memories.get(&key, &old), Memory::default());
}

#[test]
fn a_lowered_limit_ends_a_job_that_failed_more_often() {
    let mut job = job(json!({"backoffLimit": 1}));
    job.status.failed = 2;
    assert_eq!(settle(&mut job, &mut Vec::new()), ["BackoffLimitExceeded"]);
}

#[test]
fn pods_that_end_together_count_as_they_ended() {
    let job = job(json!({"backoffLimit": 0, "parallelism": 2, "completions": 2}));
    let pods = [pod("a", "Failed", None), pod("b", "Running", None)].map(Arc::new);
    let planned = |memory| plan(&Input { job: &job, pods: &pods, memory, now: now() });
    let first = planned(Memory::default());
    assert!(first.delete.is_empty() && first.create.is_empty() && first.status.conditions.is_empty());
    assert_eq!((first.again, first.status.active), (Some(std::time::Duration::from_secs(1)), 1));
    let second = now() - jiff::SignedDuration::from_secs(1);
    let later = planned(Memory { ending: Some(second), ..first.memory });
    assert_eq!(later.delete.len(), 1);
}

#[test]
fn large_jobs_fail_by_parts() {
    let mut job = job(json!({"backoffLimit": 0, "parallelism": 1200, "completions": 1200}));
    let mut pods: Vec<Pod> = (0..1199).map(|number| pod(&number.to_string(), "Running", None)).collect();
    pods.push(pod("failed", "Failed", None));
    let mut most = 0;
    for _ in 0..20 {
        let plan = planned(&job, &pods);
        most = most.max(plan.status.uncounted_terminated_pods.as_ref().unwrap().failed.len());
        job.status = plan.status;
        let freed: Vec<_> = plan.counted.iter().map(|pod| pod.metadata.uid.clone()).collect();
        for pod in pods.iter_mut().filter(|pod| freed.contains(&pod.metadata.uid)) {
            pod.metadata.finalizers.clear();
        }
        let deleted: Vec<_> = plan.delete.iter().map(|pod| pod.metadata.uid.clone()).collect();
        for pod in pods.iter_mut().filter(|pod| deleted.contains(&pod.metadata.uid)) {
            pod.metadata.deletion_timestamp = Some(now().into());
        }
        pods.retain(|pod| !(pod.metadata.finalizers.is_empty() && pod.metadata.deletion_timestamp.is_some()));
    }
    assert_eq!(most, 500);
    assert!(Condition::is_true(&job.status.conditions, "Failed"));
    assert_eq!((job.status.failed, job.status.active), (1200, 0));
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
