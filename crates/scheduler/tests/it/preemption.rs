//! Who has to go.

use std::sync::Arc;
use std::time::Duration;

use scheduler::cluster::Pod;
use scheduler::core::Attempt;
use serde_json::json;

use crate::fixture::{Fixture, Result, cpu, node, on};

fn placed(name: &str, amount: &str, priority: i32, at: &str) -> Arc<Pod> {
    on(&cpu(name, amount, json!({"priority": priority})), at)
}

fn victims(fixture: &mut Fixture, pod: &Arc<Pod>) -> Option<(&'static str, Vec<String>)> {
    fixture.add(pod);
    match fixture.core.attempt(fixture.now) {
        Some(Attempt::Unschedulable { victims: Some(victims), .. }) => {
            let mut names: Vec<String> = victims.pods.iter().map(|pod| pod.key.name.to_string()).collect();
            names.sort();
            Some((victims.node.as_str(), names))
        }
        _ => None,
    }
}

#[test]
fn as_few_and_as_unimportant_as_possible() {
    let mut fixture = Fixture::new([node("a", "3", json!({})), node("b", "3", json!({}))]);
    for pod in [
        placed("a1", "1", 5, "a"),
        placed("a2", "2", 1, "a"),
        placed("b1", "1", 2, "b"),
        placed("b2", "1", 2, "b"),
        placed("b3", "1", 2, "b"),
    ] {
        fixture.add(&pod);
    }
    // On `a` the less important one is enough; on `b` two of higher priority would have to go.
    let chosen = victims(&mut fixture, &cpu("p", "2", json!({"priority": 10})));
    assert_eq!(chosen, Some(("a", vec!["a2".into()])));
}

#[test]
fn the_place_is_kept_for_the_preemptor() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let victim = placed("victim", "1", 0, "a");
    fixture.add(&victim);
    let high = cpu("high", "1", json!({"priority": 10}));
    assert!(victims(&mut fixture, &high).is_some());
    fixture.core.remove_pod(&victim, fixture.now);
    assert!(matches!(fixture.schedule(&cpu("low", "1", json!({"priority": 1}))), Result::Message(_)));
    fixture.now += Duration::from_secs(1);
    assert_eq!(fixture.next(), Result::Node("a"));
    assert!(fixture.core.table.node_of("uid-high").is_some());
}

#[test]
fn equals_do_not_preempt() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    fixture.add(&placed("other", "1", 10, "a"));
    assert_eq!(victims(&mut fixture, &cpu("p", "1", json!({"priority": 10}))), None);
}

#[test]
fn a_preemptor_whose_victim_stays_does_not_wait_for_its_end() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let victim = placed("victim", "1", 0, "a");
    fixture.add(&victim);
    let high = cpu("high", "1", json!({"priority": 10}));
    assert!(victims(&mut fixture, &high).is_some());
    assert_eq!(fixture.core.queue.sizes().unschedulable, 1);
    fixture.core.preemption_failed(&high, fixture.now);
    assert!(fixture.core.table.nominated(0).is_empty());
    assert_eq!((fixture.core.queue.sizes().backoff, fixture.core.queue.sizes().unschedulable), (1, 0));
    assert_eq!(fixture.next(), Result::Nothing, "not at once");
    fixture.wait(1000);
    assert!(matches!(fixture.next(), Result::Message(_)), "without anything having changed");
}

#[test]
fn a_nomination_ends_when_it_is_taken_back() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    let mut nominated = (*pod).clone();
    nominated.nominated = scheduler::cluster::Symbol::new("a");
    let nominated = Arc::new(nominated);
    fixture.core.set_pod(&nominated, None, fixture.now);
    assert_eq!(fixture.core.table.nominated(0).len(), 1);
    fixture.core.set_pod(&pod, Some(&nominated), fixture.now);
    assert!(fixture.core.table.nominated(0).is_empty());
}
