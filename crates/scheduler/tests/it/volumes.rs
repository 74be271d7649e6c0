//! Volumes: where a pod can reach or get them, and what is said when it cannot.

use std::sync::Arc;

use scheduler::cluster::Pod;
use scheduler::cluster::facts::storage::{Attachment, Capacity, Claim, Class, CsiDriver, CsiNode, Volume};
use scheduler::config::Configuration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, no, node, on, pod};

fn object<T: for<'de> Deserialize<'de>>(value: Value) -> Arc<T> {
    Arc::new(T::deserialize(value).unwrap())
}

fn claim(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["resources"] = json!({"requests": {"storage": "1Gi"}});
    if spec["accessModes"].is_null() {
        spec["accessModes"] = json!(["ReadWriteOnce"]);
    }
    json!({"metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"}, "spec": spec})
}

fn bound(name: &str, volume: &str) -> Value {
    let mut claim = claim(name, json!({"volumeName": volume}));
    claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
    claim
}

fn on_host(hosts: &[&str]) -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": hosts}]}]}})
}

fn volume(name: &str, size: &str, affinity: Value) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": "1"},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late", "nodeAffinity": affinity},
        "status": {"phase": "Available"},
    })
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

/// Nodes `a` and `b`, the first emptier; a class that waits for consumers and one that does not.
fn cluster(provisioner: &str) -> Fixture {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "2", json!({}))]);
    fixture.core.set_class(&object::<Class>(class("late", provisioner, "WaitForFirstConsumer")), fixture.now);
    fixture.core.set_class(&object::<Class>(class("now", provisioner, "Immediate")), fixture.now);
    fixture
}

fn using(name: &str, claims: &[&str]) -> Arc<Pod> {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    pod(name, json!({"spec": {"volumes": volumes}}))
}

impl Fixture {
    fn claim(&mut self, value: Value) {
        self.core.set_claim(&object::<Claim>(value), self.now);
    }

    fn volume(&mut self, value: Value) {
        self.core.set_volume(&object::<Volume>(value), self.now);
    }
}

#[test]
fn bound_volumes_draw_their_pods() {
    let mut fixture = cluster("x");
    fixture.volume(volume("v", "1Gi", on_host(&["b"])));
    fixture.claim(bound("c", "v"));
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("b"));
    fixture.volume(volume("v", "1Gi", on_host(&["none"])));
    assert_eq!(
        fixture.schedule(&using("q", &["c"])),
        no(
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
    );
}

#[test]
fn claims_that_cannot_be_used() {
    let check = |claims: Vec<Value>, message: &str| {
        let mut fixture = cluster("x");
        claims.into_iter().for_each(|claim| fixture.claim(claim));
        let expected = format!("0/2 nodes are available: {message}. not found");
        assert_eq!(fixture.schedule(&using("p", &["c"])), no(&expected));
    };
    check(vec![], "persistentvolumeclaim \"c\" not found");
    check(
        vec![claim("c", json!({"storageClassName": "now"}))],
        "pod has unbound immediate PersistentVolumeClaims",
    );
    let mut deleting = bound("c", "v");
    deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    check(vec![deleting], "persistentvolumeclaim \"c\" is being deleted");
    let mut lost = bound("c", "v");
    lost["status"] = json!({"phase": "Lost"});
    check(vec![lost], "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"");
}

#[test]
fn a_claim_that_comes_wakes_its_pods() {
    let mut fixture = cluster("x");
    assert!(matches!(fixture.schedule(&using("p", &["c"])), Result::Message(_)));
    fixture.wait(20_000);
    fixture.claim(claim("other", json!({"storageClassName": "late"})));
    assert_eq!(fixture.next(), Result::Nothing);
    fixture.claim(claim("c", json!({"storageClassName": "late"})));
    assert!(matches!(fixture.next(), Result::Node(_)));
}

#[test]
fn a_waiting_claim_takes_the_smallest_volume_that_fits_once() {
    let mut fixture = cluster("kubernetes.io/no-provisioner");
    for (name, size, host) in [("small", "500Mi", "a"), ("right", "1Gi", "b"), ("large", "2Gi", "b")] {
        fixture.volume(volume(name, size, on_host(&[host])));
    }
    for name in ["c1", "c2", "c3"] {
        fixture.claim(claim(name, json!({"storageClassName": "late"})));
    }
    assert_eq!(fixture.schedule(&using("p1", &["c1"])), Result::Node("b"));
    assert_eq!(fixture.schedule(&using("p2", &["c2"])), Result::Node("b"));
    let message = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(fixture.schedule(&using("p3", &["c3"])), no(message));
    // What was assumed is free again when the binding fails.
    assert!(fixture.bind_fails(true) || fixture.core.table.pods() == 1);
    fixture.core.set_node(&node("c", "1", json!({})), None, fixture.now);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Node("b"));
}

#[test]
fn volumes_are_provisioned_where_the_class_allows_it_and_there_is_room() {
    let mut fixture = cluster("csi");
    let mut topology = class("late", "csi", "WaitForFirstConsumer");
    topology["allowedTopologies"] =
        json!([{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["b"]}]}]);
    fixture.core.set_class(&object::<Class>(topology), fixture.now);
    fixture.claim(claim("c", json!({"storageClassName": "late"})));
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("b"));
    // The claim is for this node from now on, for whoever else uses it.
    assert_eq!(fixture.schedule(&using("q", &["c"])), Result::Node("b"));
    let driver = json!({"metadata": {"name": "csi"}, "spec": {"storageCapacity": true}});
    fixture.core.set_csi_driver(&object::<CsiDriver>(driver), fixture.now);
    fixture.claim(claim("d", json!({"storageClassName": "late"})));
    let message = "0/2 nodes are available: 1 node(s) did not have enough free storage, 1 node(s) didn't find available persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(fixture.schedule(&using("r", &["d"])), no(message));
    fixture.wait(20_000);
    let capacity = json!({"metadata": {"namespace": "x", "name": "x"}, "storageClassName": "late", "capacity": "2Gi", "nodeTopology": {}});
    fixture.core.set_capacity(&object::<Capacity>(capacity), fixture.now);
    assert_eq!(fixture.next(), Result::Node("b"));
}

#[test]
fn a_failed_binding_takes_back_what_its_own_pod_assumed() {
    let mut fixture = cluster("kubernetes.io/no-provisioner");
    fixture.volume(volume("v", "1Gi", on_host(&["b"])));
    for name in ["c", "d"] {
        fixture.claim(claim(name, json!({"storageClassName": "late"})));
    }
    for name in ["p1", "p2"] {
        assert_eq!(fixture.schedule(&using(name, &["c"])), Result::Node("b"));
    }
    let second = fixture.assumed.pop().unwrap();
    fixture.bind_fails(true);
    assert!(
        matches!(fixture.schedule(&using("p3", &["d"])), Result::Message(_)),
        "p2 has the volume reserved"
    );
    fixture.assumed.push(second);
    fixture.bind_fails(true);
    assert_eq!(fixture.schedule(&using("p4", &["d"])), Result::Node("b"));
}

#[test]
fn an_assumption_lasts_until_a_newer_state_is_seen() {
    let mut fixture = cluster("csi");
    fixture.claim(claim("c", json!({"storageClassName": "late"})));
    assert!(matches!(fixture.schedule(&using("p", &["c"])), Result::Node(_)));
    let selects = |fixture: &Fixture| {
        let claim = fixture.core.table.facts.claims.get(&client::Key::new("ns", "c"));
        claim.is_some_and(|claim| claim.selected_node.is_some())
    };
    fixture.claim(claim("c", json!({"storageClassName": "late"})));
    assert!(selects(&fixture), "a list brings the state from before the write again");
    let mut newer = claim("c", json!({"storageClassName": "late"}));
    newer["metadata"]["resourceVersion"] = "2".into();
    fixture.claim(newer);
    assert!(!selects(&fixture));
}

#[test]
fn zones_of_bound_volumes() {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let mut fixture = Fixture::new([node("a", "4", zone("1")), node("b", "2", zone("2"))]);
    let mut zoned = volume("v", "1Gi", Value::Null);
    zoned["metadata"]["labels"] = json!({"failure-domain.beta.kubernetes.io/zone": "2__3"});
    fixture.volume(zoned);
    fixture.claim(bound("c", "v"));
    assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node("b"));
}

#[test]
fn a_claim_for_one_pod_and_a_disk_for_one_pod_of_a_node() {
    let mut fixture = cluster("x");
    fixture.volume(volume("v", "1Gi", Value::Null));
    let mut exclusive = bound("c", "v");
    exclusive["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    fixture.claim(exclusive);
    let first = on(&using("first", &["c"]), "a");
    fixture.add(&first);
    let message = "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(fixture.schedule(&using("second", &["c"])), no(message));
    fixture.wait(20_000);
    fixture.core.remove_pod(&first, fixture.now);
    assert!(matches!(fixture.next(), Result::Node(_)));
    let disk = |name: &str| {
        pod(name, json!({"spec": {"volumes": [{"name": "d", "awsElasticBlockStore": {"volumeID": "vol"}}]}}))
    };
    fixture.add(&on(&disk("d1"), "a"));
    assert_eq!(fixture.schedule(&disk("d2")), Result::Node("b"));
    assert!(
        matches!(fixture.schedule(&disk("d3")), Result::Message(message) if message.contains("2 node(s) had no available disk"))
    );
}

#[test]
fn a_node_takes_so_many_volumes_of_a_driver() {
    let mut fixture = cluster("x");
    for name in ["a", "b"] {
        let limits = json!({"metadata": {"name": name}, "spec": {"drivers": [{"name": "csi", "allocatable": {"count": 1}}]}});
        fixture.core.set_csi_node(&object::<CsiNode>(limits), fixture.now);
    }
    for name in ["1", "2", "3"] {
        let mut csi = volume(name, "1Gi", Value::Null);
        csi["spec"]["csi"] = json!({"driver": "csi", "volumeHandle": name});
        fixture.volume(csi);
        fixture.claim(bound(&format!("c{name}"), name));
    }
    fixture.add(&on(&using("p1", &["c1"]), "a"));
    // The same volume again is no other.
    let volumes = json!([{"name": "c1", "persistentVolumeClaim": {"claimName": "c1"}}]);
    let same = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "a"}, "volumes": volumes}});
    assert_eq!(fixture.schedule(&pod("q1", same)), Result::Node("a"));
    assert_eq!(fixture.schedule(&using("p2", &["c2"])), Result::Node("b"));
    let message = "0/2 nodes are available: 2 node(s) exceed max volume count. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(fixture.schedule(&using("p3", &["c3"])), no(message));
}

fn limit(name: &str, driver: &str, count: i64) -> Arc<CsiNode> {
    object(
        json!({"metadata": {"name": name}, "spec": {"drivers": [{"name": driver, "allocatable": {"count": count}}]}}),
    )
}

#[test]
fn attached_volumes_count_where_no_pod_uses_them() {
    let mut fixture = Fixture::new([node("a", "4", json!({}))]);
    fixture.core.set_csi_node(&limit("a", "csi", 2), fixture.now);
    for name in ["1", "2"] {
        let mut csi = volume(name, "1Gi", Value::Null);
        csi["spec"]["csi"] = json!({"driver": "csi", "volumeHandle": name});
        fixture.volume(csi);
        fixture.claim(bound(&format!("c{name}"), name));
    }
    let attachment = |name: &str, driver: &str, volume: &str| {
        object::<Attachment>(json!({"metadata": {"name": name}, "spec": {"attacher": driver, "nodeName": "a",
            "source": {"persistentVolumeName": volume}}}))
    };
    // One that a pod uses as well counts once; one of another driver, or of no volume, not at all.
    fixture.add(&on(&using("p1", &["c1"]), "a"));
    for (name, driver, volume) in [("x1", "csi", "1"), ("x2", "other", "2"), ("x3", "csi", "gone")] {
        fixture.core.table.facts.set_attachment(&attachment(name, driver, volume));
    }
    assert_eq!(fixture.schedule(&using("p2", &["c2"])), Result::Node("a"));
    fixture.bind_fails(false);

    let mut left = volume("3", "1Gi", Value::Null);
    left["spec"]["csi"] = json!({"driver": "csi", "volumeHandle": "3"});
    fixture.volume(left);
    let attached = attachment("x4", "csi", "3");
    fixture.core.table.facts.set_attachment(&attached);
    fixture.wait(20_000);
    assert!(
        matches!(fixture.next(), Result::Message(message) if message.contains("exceed max volume count"))
    );
    fixture.wait(20_000);
    fixture.core.remove_attachment(&attached, fixture.now);
    assert_eq!(fixture.next(), Result::Node("a"));
}

#[test]
fn a_driver_may_ask_for_nodes_that_have_it() {
    let mut fixture = Fixture::new([node("a", "4", json!({})), node("b", "2", json!({}))]);
    fixture.core.set_class(&object::<Class>(class("late", "csi", "WaitForFirstConsumer")), fixture.now);
    let driver = json!({"metadata": {"name": "csi"}, "spec": {"preventPodSchedulingIfMissing": true}});
    fixture.core.set_csi_driver(&object::<CsiDriver>(driver), fixture.now);
    fixture.claim(claim("c", json!({"storageClassName": "late"})));
    fixture.core.set_csi_node(&limit("a", "other", 1), fixture.now);
    let message = "0/2 nodes are available: 2 csi CSI driver is not installed on the node. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert_eq!(fixture.schedule(&using("p", &["c"])), no(message));
    fixture.wait(20_000);
    fixture.core.set_csi_node(&limit("b", "csi", 1), fixture.now);
    assert_eq!(fixture.next(), Result::Node("b"));
}

#[test]
fn nodes_with_more_storage_left_are_better_unless_it_is_to_be_filled_up() {
    let filling = json!({"profiles": [{"pluginConfig": [{"name": "VolumeBinding", "args": {
        "shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}]}]});
    for (configuration, expect) in [(json!({}), "b"), (filling, "a")] {
        let configuration: Configuration = serde_json::from_value(configuration).unwrap();
        let nodes = ["a", "b", "c"].map(|name| node(name, "4", json!({})));
        let mut fixture = Fixture::with(&configuration, nodes);
        fixture.core.set_class(&object::<Class>(class("late", "csi", "WaitForFirstConsumer")), fixture.now);
        let driver = json!({"metadata": {"name": "csi"}, "spec": {"storageCapacity": true}});
        fixture.core.set_csi_driver(&object::<CsiDriver>(driver), fixture.now);
        for (name, size) in [("a", "2Gi"), ("b", "10Gi"), ("c", "4Gi")] {
            let capacity = json!({"metadata": {"namespace": "x", "name": name}, "storageClassName": "late",
                "capacity": size, "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": name}}});
            fixture.core.set_capacity(&object::<Capacity>(capacity), fixture.now);
        }
        fixture.claim(claim("c", json!({"storageClassName": "late"})));
        assert_eq!(fixture.schedule(&using("p", &["c"])), Result::Node(expect));
    }
}
