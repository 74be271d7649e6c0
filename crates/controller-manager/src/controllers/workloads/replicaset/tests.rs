use std::sync::Arc;

use super::plan::{Step, again, sort_out, status, step};
use controllers::views::{Pod, ReplicaSet};
use serde_json::{Value, json};

fn now() -> jiff::Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(spec: Value) -> ReplicaSet {
    serde_json::from_value(json!({"metadata": {"name": "r", "generation": 2}, "spec": spec})).unwrap()
}

fn pod(name: &str, ready: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {"a": "b"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:59:50Z"}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn nobody() -> impl Fn(&Pod) -> usize {
    |_| 0
}

#[test]
fn steps() {
    let check = |replicas: i32, pods: &[Arc<Pod>], expect: Step| {
        assert_eq!(step(&set(json!({"replicas": replicas})), pods, nobody, now()), expect, "{replicas}");
    };
    let (a, b) = (pod("a", true), pod("b", false));
    check(0, &[], Step::Rest);
    check(3, std::slice::from_ref(&a), Step::Create(2));
    check(9000, &[], Step::Create(500));
    check(2, &[a.clone(), b.clone()], Step::Rest);
    check(1, &[a.clone(), b.clone()], Step::Delete(vec![b]));
}

#[test]
fn statuses() {
    let set =
        set(json!({"replicas": 2, "minReadySeconds": 30, "template": {"metadata": {"labels": {"a": "b"}}}}));
    let pods = [pod("a", true), pod("b", false)];
    let found = status(&set, &pods, 1, Some(("FailedCreate", "no".into())), now());
    assert_eq!((found.replicas, found.fully_labeled_replicas, found.ready_replicas), (2, 2, 1));
    assert_eq!((found.available_replicas, found.terminating_replicas), (0, Some(1)));
    assert_eq!((found.observed_generation, found.conditions[0].reason.as_str()), (2, "FailedCreate"));
    assert_eq!(again(&set, &pods, now()), Some(20));
}

#[test]
fn ended_and_ending_pods_do_not_count() {
    let change = |name: &str, change: fn(&mut Pod)| {
        let mut pod = (*pod(name, true)).clone();
        change(&mut pod);
        Arc::new(pod)
    };
    let pods = vec![
        pod("a", true),
        change("b", |pod| pod.status.phase = "Failed".into()),
        change("c", |pod| {
            pod.metadata.deletion_timestamp = pod.status.conditions[0].last_transition_time.clone()
        }),
    ];
    let (active, terminating) = sort_out(pods);
    assert_eq!((active.len(), terminating), (1, 1));
}
