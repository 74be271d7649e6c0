//! Bindings that fail, pods and nodes that vanish at the wrong time, a restart.

use std::sync::Arc;

use scheduler::cluster::{Pod, Symbol};
use serde_json::json;

use crate::fixture::{Fixture, Result, cpu, node, on};

#[test]
fn a_failed_binding_frees_the_place_and_is_tried_again() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let first = cpu("first", "1", json!({}));
    assert_eq!(fixture.schedule(&first), Result::Node("a"));
    assert!(matches!(fixture.schedule(&cpu("second", "1", json!({}))), Result::Message(_)));
    assert!(fixture.bind_fails(false));
    assert_eq!(fixture.core.table.pods(), 0);
    fixture.wait(1000);
    assert!(matches!(fixture.next(), Result::Node("a")));
}

#[test]
fn a_pod_deleted_while_assumed_leaves_nothing() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    assert_eq!(fixture.schedule(&pod), Result::Node("a"));
    fixture.core.remove_pod(&pod, fixture.now);
    assert!(!fixture.bind_fails(true), "nothing to try again");
    assert_eq!(fixture.core.table.pods(), 0);
    assert_eq!(fixture.core.table.row(0).usage.requested.cpu, 0);
    assert_eq!(fixture.schedule(&cpu("q", "1", json!({}))), Result::Node("a"));
}

#[test]
fn a_binding_that_failed_is_made_up_for_by_the_pod_as_it_is_now() {
    let mut fixture = Fixture::new([node("a", "2", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    let changed = (*cpu("p", "2", json!({}))).clone();
    assert_eq!(fixture.schedule(&pod), Result::Node("a"));
    fixture.core.set_pod(&Arc::new(changed.clone()), Some(&pod), fixture.now);
    assert!(fixture.bind_fails(false));
    fixture.wait(1000);
    assert_eq!(fixture.next(), Result::Node("a"));
    assert_eq!(fixture.core.table.row(0).usage.requested.cpu, 2000);
    // A pod that is being deleted by now is dropped.
    let ending = Pod { deleting: true, ..changed.clone() };
    fixture.core.set_pod(&Arc::new(ending), Some(&changed), fixture.now);
    assert!(!fixture.bind_fails(false));
    assert_eq!(fixture.core.queue.sizes(), Default::default());
}

#[test]
fn a_pod_seen_bound_is_not_forgotten() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    assert_eq!(fixture.schedule(&pod), Result::Node("a"));
    assert_eq!(fixture.core.table.assumed(), 1);
    fixture.core.set_pod(&on(&pod, "a"), Some(&pod), fixture.now);
    assert_eq!(fixture.core.table.assumed(), 0);
    // The answer to the binding was lost.
    assert!(!fixture.bind_fails(false));
    assert_eq!(fixture.core.table.row(0).usage.requested.cpu, 1000);
}

#[test]
fn seen_unbound_again_while_assumed_it_is_not_queued_twice() {
    let mut fixture = Fixture::new([node("a", "2", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    assert_eq!(fixture.schedule(&pod), Result::Node("a"));
    assert_eq!(fixture.schedule(&pod), Result::Nothing);
}

#[test]
fn pods_before_their_node_and_after_it() {
    let mut fixture = Fixture::new([]);
    // After a restart pods may be seen before nodes.
    let placed = on(&cpu("placed", "1", json!({})), "a");
    fixture.add(&placed);
    fixture.core.set_node(&node("a", "1", json!({})), None, fixture.now);
    assert!(matches!(fixture.schedule(&cpu("p", "1", json!({}))), Result::Message(_)));
    // The node goes, its pods stay a while; a new node of that name is not empty.
    fixture.core.remove_node(&Symbol::new("a"), fixture.now);
    assert_eq!(fixture.core.table.nodes(), 0);
    fixture.core.set_node(&node("a", "1", json!({})), None, fixture.now);
    fixture.wait(1000);
    assert!(!matches!(fixture.next(), Result::Node(_)));
    fixture.core.remove_pod(&placed, fixture.now);
    fixture.wait(10_000);
    assert_eq!(fixture.next(), Result::Node("a"));
}

#[test]
fn rows_are_used_again() {
    let mut fixture = Fixture::new([]);
    for n in 0..100 {
        let name = format!("n{n}");
        fixture.core.set_node(&node(&name, "1", json!({})), None, fixture.now);
        fixture.core.remove_node(&Symbol::new(&name), fixture.now);
    }
    assert!(fixture.core.table.rows().len() <= 1);
}

#[test]
fn a_node_without_anything_set_takes_nothing() {
    use serde::Deserialize;
    let bare = scheduler::cluster::Node::deserialize(json!({"metadata": {"name": "bare"}})).unwrap();
    let mut fixture = Fixture::new([Arc::new(bare)]);
    let Result::Message(message) = fixture.schedule(&cpu("p", "1", json!({}))) else { panic!() };
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods."),
        "{message}"
    );
}

#[test]
fn a_finished_pod_frees_its_place() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let running = on(&cpu("job", "1", json!({})), "a");
    fixture.add(&running);
    let mut finished = (*running).clone();
    finished.finished = true;
    fixture.core.set_pod(&Arc::new(finished), Some(&running), fixture.now);
    assert_eq!(fixture.schedule(&cpu("p", "1", json!({}))), Result::Node("a"));
}
