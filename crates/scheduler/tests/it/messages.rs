//! The message of a pod that fits nowhere. The texts were taken from upstream's scheduler on the same cluster.

use serde_json::{Value, json};

use crate::fixture::{Fixture, cpu, no, node, pod};

fn cluster() -> Fixture {
    let taint = json!({"spec": {"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}});
    Fixture::new([
        node("n1", "1", json!({})),
        node("n2", "2", taint),
        node("n3", "1", json!({"spec": {"unschedulable": true}})),
    ])
}

fn check(spec: Value, message: &str) {
    assert_eq!(cluster().schedule(&pod("p", json!({"spec": spec}))), no(message));
}

fn by_name(names: &[&str]) -> Value {
    let fields: Vec<Value> = names
        .iter()
        .map(|name| json!({"key": "metadata.name", "operator": "In", "values": [name]}))
        .collect();
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchFields": fields}]}}}})
}

#[test]
fn resources() {
    let requests = json!({"cpu": "5", "memory": "5Gi", "example.com/foo": "1"});
    check(
        json!({"containers": [{"name": "c", "image": "x", "resources": {"requests": requests}}]}),
        "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/foo, 1 Insufficient memory, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn node_affinity() {
    check(
        json!({"nodeSelector": {"x": "y"}}),
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
    check(
        by_name(&["n3"]),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
    check(
        by_name(&["nope"]),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
    check(by_name(&["a", "b"]), "0/3 nodes are available: pod affinity terms conflict. not found");
}

#[test]
fn between_pods() {
    let term = |app: &str| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]})
    };
    check(
        json!({"affinity": {"podAffinity": term("none")}}),
        "0/3 nodes are available: 1 node(s) didn't match pod affinity rules, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
    let mut fixture = cluster();
    fixture.schedule(&pod("other", json!({})));
    assert_eq!(
        fixture.schedule(&pod("p", json!({"spec": {"affinity": {"podAntiAffinity": term("other")}}}))),
        no(
            "0/3 nodes are available: 1 node(s) didn't match pod anti-affinity rules, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        )
    );
    check(
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "nokey", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]}),
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn ports_pods_and_policies() {
    let port = json!({"spec": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 8080}]}]}});
    let mut fixture = cluster();
    fixture.schedule(&pod("first", port.clone()));
    assert_eq!(
        fixture.schedule(&pod("p", port)),
        no(
            "0/3 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        )
    );
    let mut fixture = cluster();
    fixture.schedule(&cpu("big", "800m", json!({})));
    let never = cpu("never", "700m", json!({"priority": 1000, "preemptionPolicy": "Never"}));
    assert_eq!(
        fixture.schedule(&never),
        no(
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: not eligible due to preemptionPolicy=Never."
        )
    );
    let mut full = Fixture::new([node("n1", "1", json!({"status": {"allocatable": {"pods": "0"}}}))]);
    assert_eq!(
        full.schedule(&pod("p", json!({}))),
        no(
            "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
    );
}

#[test]
fn no_nodes() {
    assert_eq!(Fixture::new([]).schedule(&pod("p", json!({}))), no("no nodes available to schedule pods"));
}

#[test]
fn a_preemptor() {
    let mut fixture = cluster();
    fixture.schedule(&cpu("victim", "800m", json!({})));
    assert_eq!(
        fixture.schedule(&cpu("p", "700m", json!({"priority": 1000}))),
        no(
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: found a potential placement for pod on node n1, preempting 1 victims"
        )
    );
}
