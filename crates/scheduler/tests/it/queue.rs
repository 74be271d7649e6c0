//! Order, backoff, hints, gates.

use std::sync::Arc;

use scheduler::cluster::{Node, Symbol};
use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, cpu, node, on, pod};

fn small() -> Fixture {
    Fixture::new([node("a", "1", json!({}))])
}

#[test]
fn priority_then_age() {
    let mut fixture = small();
    for (name, priority) in [("low", 0), ("high", 10), ("later", 10)] {
        fixture.add(&cpu(name, "1", json!({"priority": priority, "preemptionPolicy": "Never"})));
        fixture.wait(1);
    }
    assert_eq!(fixture.next(), Result::Node("a"));
    assert!(fixture.core.table.node_of("uid-high").is_some());
}

#[test]
fn a_pod_waits_for_what_can_help_it() {
    let mut fixture = small();
    let big = cpu("big", "2", json!({}));
    assert!(matches!(fixture.schedule(&big), Result::Message(_)));
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Nothing, "time alone is no reason");
    // Neither is a node that is too small, or a label.
    let labelled = node("a", "1", json!({"metadata": {"labels": {"x": "y"}}}));
    fixture.core.set_node(&labelled, Some(&node("a", "1", json!({}))), fixture.now);
    fixture.core.set_node(&node("b", "1", json!({})), None, fixture.now);
    assert_eq!(fixture.next(), Result::Nothing);
    fixture.core.set_node(&node("c", "4", json!({})), None, fixture.now);
    assert_eq!(fixture.next(), Result::Node("c"));
}

#[test]
fn after_five_minutes_it_is_tried_anyway() {
    let mut fixture = small();
    assert!(matches!(fixture.schedule(&cpu("big", "2", json!({}))), Result::Message(_)));
    fixture.wait(299_000);
    assert_eq!(fixture.next(), Result::Nothing);
    fixture.wait(1_000);
    assert!(matches!(fixture.next(), Result::Message(_)));
}

#[test]
fn backoff_doubles_to_its_limit() {
    let mut fixture = small();
    assert_eq!(fixture.schedule(&cpu("p", "1", json!({}))), Result::Node("a"));
    for seconds in [1u64, 2, 4, 8, 10, 10] {
        assert!(fixture.bind_fails(false));
        fixture.wait(seconds * 1000 - 1);
        assert_eq!(fixture.next(), Result::Nothing, "{seconds}");
        fixture.wait(1);
        assert_eq!(fixture.next(), Result::Node("a"), "{seconds}");
    }
}

#[test]
fn a_pod_in_backoff_is_tried_when_no_other_is_ready() {
    let mut fixture = small();
    let other = on(&cpu("other", "1", json!({})), "a");
    fixture.add(&other);
    assert!(matches!(fixture.schedule(&cpu("p", "1", json!({}))), Result::Message(_)));
    fixture.core.remove_pod(&other, fixture.now);
    assert_eq!(fixture.core.queue.sizes().backoff, 1);
    // A pod that is ready goes first, whatever its age.
    assert_eq!(fixture.schedule(&cpu("q", "500m", json!({}))), Result::Node("a"));
    assert!(matches!(fixture.next(), Result::Message(_)));
}

#[test]
fn gates_and_updates() {
    let mut fixture = small();
    let gated = |gates: Value, cpu: &str| {
        pod(
            "p",
            json!({"spec": {"schedulingGates": gates, "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}]}}),
        )
    };
    assert_eq!(fixture.schedule(&gated(json!([{"name": "g"}]), "2")), Result::Nothing);
    assert_eq!(fixture.core.queue.sizes().gated, 1);
    assert!(matches!(fixture.schedule(&gated(json!([]), "2")), Result::Message(_)));
    // Its own change may help.
    assert_eq!(fixture.schedule(&gated(json!([]), "1")), Result::Node("a"));
}

#[test]
fn others_pods_are_not_ours() {
    let mut fixture = small();
    assert_eq!(fixture.schedule(&pod("p", json!({"spec": {"schedulerName": "else"}}))), Result::Nothing);
    let deleting = pod("q", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(fixture.schedule(&deleting), Result::Nothing);
    assert_eq!(fixture.schedule(&pod("r", json!({"status": {"phase": "Failed"}}))), Result::Nothing);
}

/// Three zones; hard spreading by zone has no place left but in the last, whose node is too small.
fn spread_out() -> (Fixture, Arc<Node>) {
    let zoned = |name: &str, cpu: &str| node(name, cpu, json!({"metadata": {"labels": {"zone": name}}}));
    let last = zoned("c", "0");
    let mut fixture = Fixture::new([zoned("a", "9"), zoned("b", "9"), last.clone()]);
    let spread = |name: &str| {
        pod(
            name,
            json!({
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
                    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "web"}}}],
                },
            }),
        )
    };
    for name in ["one", "two"] {
        assert!(matches!(fixture.schedule(&spread(name)), Result::Node(_)));
    }
    assert!(matches!(fixture.schedule(&spread("three")), Result::Message(_)));
    fixture.wait(10_000);
    assert_eq!(fixture.next(), Result::Nothing);
    (fixture, last)
}

#[test]
fn a_domain_that_goes_with_its_node_lets_spread_pods_through() {
    let (mut fixture, last) = spread_out();
    fixture.core.remove_node(&last.name, fixture.now);
    assert!(matches!(fixture.next(), Result::Node(_)));
}

#[test]
fn a_domain_that_goes_with_a_label_lets_spread_pods_through() {
    let (mut fixture, last) = spread_out();
    let unlabelled = node("c", "0", json!({}));
    fixture.core.set_node(&unlabelled, Some(&last), fixture.now);
    assert!(matches!(fixture.next(), Result::Node(_)));
}

#[test]
fn pods_of_a_node_that_is_gone_keep_nobody_away() {
    let zoned = |name: &str| node(name, "9", json!({"metadata": {"labels": {"zone": "z"}}}));
    let mut fixture = Fixture::new([zoned("a"), zoned("b")]);
    let alone = |name: &str| {
        pod(
            name,
            json!({
                "metadata": {"labels": {"app": "db"}},
                "spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]}}},
            }),
        )
    };
    fixture.add(&on(&alone("one"), "a"));
    assert!(matches!(fixture.schedule(&alone("two")), Result::Message(_)));
    fixture.wait(10_000);
    fixture.core.remove_node(&Symbol::new("a"), fixture.now);
    assert_eq!(fixture.next(), Result::Node("b"));
}
