mod rollout;

use std::sync::Arc;

use serde_json::{Value, json};

use client::{Event, Key};
use controllers::views::{DaemonSet, Node, Pod};

use super::fits::{AllFits, Fits};
use super::places::places;
use super::plan::{Backoff, Input, Plan, plan, status};

fn fits(set: &DaemonSet, nodes: &[Arc<Node>]) -> Arc<Fits> {
    AllFits::default().of(&Key::new("x", "d"), &Arc::new(set.clone()), || nodes.to_vec())
}

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
    let fits = fits(set, nodes);
    let input = Input { set, places: &places(&fits, pods), revision: "new", now: jiff::Timestamp::now() };
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
fn updates_leave_nodes_that_no_longer_fit() {
    let set = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    let tainted = |name: &str| -> Arc<Node> {
        let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
        let node = json!({"metadata": {"name": name}, "spec": {"taints": taints}});
        Arc::new(serde_json::from_value(node).unwrap())
    };
    let all = [nodes(&["a"]), vec![tainted("b")]].concat();
    let check = |pods: &[Arc<Pod>], create: &[&str], delete: &[&str]| {
        let plan = planned(&set, &all, pods);
        assert_eq!(plan.create, create);
        assert_eq!(plan.delete.iter().map(|pod| pod.metadata.name.as_str()).collect::<Vec<_>>(), delete);
    };
    let (old_a, old_b) = (pod("a", "old", "Running", true), pod("b", "old", "Running", true));
    let starting = pod("a", "new", "Running", false);
    // One available pod is wanted, and there are two.
    check(&[old_a.clone(), old_b.clone()], &["a"], &["b-old-Running"]);
    check(&[pod("a", "new", "Running", true), old_b.clone()], &[], &["b-old-Running"]);
    // It goes only when another one is available in its place.
    check(&[starting.clone(), old_b], &[], &[]);
    check(&[starting, pod("b", "old", "Running", false)], &[], &["b-old-Running"]);
    // Nothing new is made there, and what is up to date stays.
    check(&[pod("a", "new", "Running", true), pod("b", "new", "Running", true)], &[], &[]);
}

#[test]
fn a_pod_that_goes_is_replaced_when_it_has_ended_or_updates_surge() {
    let changed = |phase: &str| {
        let mut pod = (*pod("a", "new", phase, true)).clone();
        pod.metadata.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH.into());
        [Arc::new(pod)]
    };
    let plain = set(json!({"maxUnavailable": 1}));
    let surging = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    check(&plain, &["a"], &changed("Running"), &[], &[]);
    check(&plain, &["a"], &changed("Failed"), &["a"], &[]);
    check(&surging, &["a"], &changed("Running"), &["a"], &[]);
}

#[test]
fn pods_of_the_same_template_generation_are_up_to_date() {
    let mut set = set(json!({"maxUnavailable": 1}));
    set.metadata.annotations.insert("deprecated.daemonset.template.generation".into(), "3".into());
    let mut adopted = (*pod("a", "old", "Running", true)).clone();
    adopted.metadata.labels.insert("pod-template-generation", "3");
    check(&set, &["a"], &[Arc::new(adopted)], &[], &[]);
    check(&set, &["a"], &[pod("a", "old", "Running", true)], &[], &["a-old-Running"]);
}

#[test]
fn statuses() {
    let set = set(json!({"maxUnavailable": 1}));
    let nodes = nodes(&["a", "b", "c"]);
    let pods = [pod("a", "new", "Running", true), pod("b", "old", "Running", false)];
    let fits = fits(&set, &nodes);
    let places = places(&fits, &pods);
    let input = Input { set: &set, places: &places, revision: "new", now: jiff::Timestamp::now() };
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
    let fits = fits(&set, &nodes);
    let places = places(&fits, &pods);
    let input = Input { set: &set, places: &places, revision: "new", now: jiff::Timestamp::now() };
    let mut backoff = Backoff::default();
    assert_eq!(plan(&input, &mut backoff).delete.len(), 1);
    let second = plan(&input, &mut backoff);
    assert!(second.delete.is_empty() && second.again.is_some());
}

#[test]
fn a_change_of_a_node_costs_that_node_and_a_reconciliation_none() {
    let names: Vec<String> = (0..5000).map(|number| format!("n{number}")).collect();
    let nodes = nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let sets: Vec<Arc<DaemonSet>> = (0..3).map(|_| Arc::new(set(json!({})))).collect();
    let key = |number: usize| Key::new("x", &format!("d{number}"));
    let mut all = AllFits::default();
    for (number, set) in sets.iter().enumerate() {
        all.of(&key(number), set, || nodes.clone());
    }
    assert_eq!(all.comparisons, 3 * 5000);
    for (number, set) in sets.iter().enumerate() {
        // A pod came, a status was written.
        let fits = all.of(&key(number), set, || unreachable!());
        assert_eq!(fits.len(), 5000);
        let written = DaemonSet { status: Default::default(), ..(**set).clone() };
        all.of(&key(number), &Arc::new(written), || unreachable!());
    }
    assert_eq!(all.comparisons, 3 * 5000);

    let changed = |all: &mut AllFits, event: Event<Node>| {
        let mut changed = Vec::new();
        all.apply(&event, |key| changed.push(key.name.to_string()));
        changed.sort();
        changed
    };
    let old = nodes[7].clone();
    let mut tainted = (*old).clone();
    tainted.spec.taints = serde_json::from_value(json!([{"key": "k", "effect": "NoSchedule"}])).unwrap();
    let new = Arc::new(tainted);
    assert_eq!(changed(&mut all, Event::Modified { old, new: new.clone() }), ["d0", "d1", "d2"]);
    assert_eq!(all.comparisons, 3 * 5001);
    assert!(!all.of(&key(0), &sets[0], || unreachable!())["n7"].runs);
    assert!(changed(&mut all, Event::Modified { old: new.clone(), new: new.clone() }).is_empty());
    assert!(changed(&mut all, Event::Deleted(new)).is_empty(), "no pod runs there");
    assert_eq!(changed(&mut all, Event::Deleted(nodes[8].clone())).len(), 3);
    assert_eq!(all.of(&key(0), &sets[0], || unreachable!()).len(), 4998);
    // Another template is compared with all.
    let mut other = (*sets[1]).clone();
    other.spec.template = json!({"spec": {"nodeName": "n1"}});
    let fits = all.of(&key(1), &Arc::new(other), || nodes.clone());
    assert_eq!(fits.values().filter(|fit| fit.runs).count(), 1);
}
