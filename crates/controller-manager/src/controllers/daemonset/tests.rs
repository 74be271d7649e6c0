use std::sync::Arc;

use serde_json::{Value, json};

use super::plan::{Backoff, Input, Plan, plan, status};
use crate::views::{DaemonSet, Node, Pod};

fn set(rolling: Value) -> DaemonSet {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
    serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "x"},
        "spec": {"updateStrategy": strategy, "template": {"spec": {}}},
    }))
    .unwrap()
}

fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
    names
        .iter()
        .map(|name| Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()))
        .collect()
}

fn pod(node: &str, revision: &str, phase: &str, ready: bool) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    let name = format!("{node}-{revision}-{phase}");
    let pod = json!({
        "metadata": {"name": name, "namespace": "x", "labels": {"controller-revision-hash": revision}},
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn planned(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
    let input = Input { set, nodes, pods, revision: "new", now: jiff::Timestamp::now() };
    plan(&input, &mut Backoff::default())
}

fn check(set: &DaemonSet, names: &[&str], pods: &[Arc<Pod>], create: &[&str], delete: &[&str]) {
    let plan = planned(set, &nodes(names), pods);
    assert_eq!(plan.create, create);
    assert_eq!(plan.delete.iter().map(|pod| pod.metadata.name.as_str()).collect::<Vec<_>>(), delete);
}

#[test]
fn one_on_each_node() {
    let set = set(json!({"maxUnavailable": 1}));
    check(&set, &["a", "b"], &[], &["a", "b"], &[]);
    check(&set, &["a", "b"], &[pod("a", "new", "Running", true)], &["b"], &[]);
    check(&set, &["a"], &[pod("a", "new", "Failed", false)], &[], &["a-new-Failed"]);
    check(
        &set,
        &["a"],
        &[pod("a", "new", "Running", true), pod("a", "old", "Running", true)],
        &[],
        &["a-old-Running"],
    );
}

#[test]
fn updates_replace_within_the_limit() {
    let set = set(json!({"maxUnavailable": 1}));
    let (old_a, old_b) = (pod("a", "old", "Running", true), pod("b", "old", "Running", true));
    check(&set, &["a", "b"], &[old_a.clone(), old_b.clone()], &[], &["a-old-Running"]);
    check(&set, &["a", "b"], &[pod("a", "new", "Running", false), old_b.clone()], &[], &[]);
    check(&set, &["a", "b"], &[pod("a", "new", "Running", true), old_b.clone()], &[], &["b-old-Running"]);
    // A pod that does not work anyway costs nothing.
    check(&set, &["a", "b"], &[pod("a", "old", "Running", false), old_b], &[], &["a-old-Running"]);
}

#[test]
fn updates_surge() {
    let set = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    let (old_a, old_b) = (pod("a", "old", "Running", true), pod("b", "old", "Running", true));
    check(&set, &["a", "b"], &[old_a.clone(), old_b.clone()], &["a"], &[]);
    check(&set, &["a", "b"], &[old_a.clone(), pod("a", "new", "Running", false), old_b.clone()], &[], &[]);
    check(&set, &["a", "b"], &[old_a, pod("a", "new", "Running", true), old_b], &[], &["a-old-Running"]);
}

#[test]
fn statuses() {
    let set = set(json!({"maxUnavailable": 1}));
    let nodes = nodes(&["a", "b", "c"]);
    let pods = [pod("a", "new", "Running", true), pod("b", "old", "Running", false)];
    let input = Input { set: &set, nodes: &nodes, pods: &pods, revision: "new", now: jiff::Timestamp::now() };
    let (found, _) = status(&input);
    assert_eq!(
        (found.desired_number_scheduled, found.current_number_scheduled, found.number_ready),
        (3, 2, 1)
    );
    assert_eq!((found.updated_number_scheduled, found.number_available, found.number_unavailable), (1, 1, 2));
}

#[test]
fn failures_are_backed_off() {
    let set = set(json!({"maxUnavailable": 1}));
    let nodes = nodes(&["a"]);
    let pods = [pod("a", "new", "Failed", false)];
    let input = Input { set: &set, nodes: &nodes, pods: &pods, revision: "new", now: jiff::Timestamp::now() };
    let mut backoff = Backoff::default();
    assert_eq!(plan(&input, &mut backoff).delete.len(), 1);
    let second = plan(&input, &mut backoff);
    assert!(second.delete.is_empty() && second.again.is_some());
}
