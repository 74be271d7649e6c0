//! Who has to go.

use std::sync::Arc;
use std::time::Duration;

use scheduler::cluster::Pod;
use scheduler::core::Attempt;
use scheduler::plugins::Victims;
use serde_json::json;

use crate::fixture::{Fixture, Result, cpu, node, on, pod};

fn placed(name: &str, amount: &str, priority: i32, at: &str) -> Arc<Pod> {
    on(&cpu(name, amount, json!({"priority": priority})), at)
}

/// The attempt that comes next: whom the pod takes the place of. Their deletion is still to come.
fn decides(fixture: &mut Fixture) -> Option<Victims> {
    match fixture.core.attempt(fixture.now) {
        Some(Attempt::Unschedulable { victims, .. }) => victims,
        _ => None,
    }
}

/// Schedules the pod, and has its victims deleted.
fn victims(fixture: &mut Fixture, pod: &Arc<Pod>) -> Option<(&'static str, Vec<String>)> {
    fixture.add(pod);
    match decides(fixture) {
        Some(victims) => {
            fixture.core.preempted(pod, fixture.now);
            let mut names: Vec<String> = victims.pods.iter().map(|pod| pod.key.name.to_string()).collect();
            names.sort();
            Some((victims.node.to_string().leak(), names))
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
    fixture.add(&high);
    let victims = decides(&mut fixture).unwrap();
    assert_eq!(fixture.core.queue.sizes().unschedulable, 1);
    fixture.core.preemption_failed(&high, &victims, fixture.now);
    assert!(fixture.core.table.nominated(0).is_empty());
    assert_eq!((fixture.core.queue.sizes().backoff, fixture.core.queue.sizes().unschedulable), (1, 0));
    assert_eq!(fixture.next(), Result::Nothing, "not at once");
    fixture.wait(1000);
    assert!(matches!(fixture.next(), Result::Message(_)), "without anything having changed");
}

#[test]
fn a_nomination_ends_when_it_is_cleared() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let pod = cpu("p", "1", json!({}));
    let nominated = nominated_to(&pod, "a");
    fixture.core.set_pod(&nominated, None, fixture.now);
    assert_eq!(fixture.core.table.nominated(0).len(), 1);
    fixture.core.set_pod(&pod, Some(&nominated), fixture.now);
    assert!(fixture.core.table.nominated(0).is_empty());
}

/// Two nodes of 2 CPUs, full of unimportant pods of one.
fn full() -> Fixture {
    let mut fixture = Fixture::new([node("a", "2", json!({})), node("b", "2", json!({}))]);
    for (name, at) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")] {
        fixture.add(&placed(name, "1", -5, at));
    }
    fixture
}

#[test]
fn equals_do_not_take_the_same_place() {
    let mut fixture = full();
    let (first, one) = victims(&mut fixture, &cpu("h1", "1", json!({"priority": 1000}))).unwrap();
    assert_eq!(one.len(), 1);
    let (second, two) = victims(&mut fixture, &cpu("h2", "2", json!({"priority": 1000}))).unwrap();
    assert_ne!(first, second, "what is left of the first node is too small");
    assert_eq!(two.len(), 2);
    for victim in one.iter().chain(&two) {
        let at = if one.contains(victim) { first } else { second };
        fixture.core.remove_pod(&placed(victim, "1", -5, at), fixture.now);
    }
    fixture.wait(2000);
    assert!(matches!(fixture.next(), Result::Node(_)));
    assert!(matches!(fixture.next(), Result::Node(_)));
    let node_of = |uid| fixture.core.table.node_of(uid).unwrap().as_str();
    assert_eq!((node_of("uid-h1"), node_of("uid-h2")), (first, second));
}

/// The attempt that comes next fails: whose nominations it has ended.
fn ended_nominations(fixture: &mut Fixture) -> Vec<String> {
    match fixture.core.attempt(fixture.now) {
        Some(Attempt::Unschedulable { ended_nominations, .. }) => {
            ended_nominations.iter().map(|pod| pod.key.name.to_string()).collect()
        }
        _ => panic!("the pod fits"),
    }
}

#[test]
fn a_more_important_preemptor_takes_over_a_promised_node() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    fixture.add(&placed("victim", "1", 0, "a"));
    assert!(victims(&mut fixture, &cpu("middle", "1", json!({"priority": 5}))).is_some());
    fixture.add(&cpu("high", "1", json!({"priority": 10})));
    assert_eq!(ended_nominations(&mut fixture), ["middle"]);
    let names: Vec<_> = fixture.core.table.nominated(0).iter().map(|pod| &*pod.key.name).collect();
    assert_eq!(names, ["high"]);
    // It is tried again without anything having changed, and leaves the other's place alone.
    fixture.wait(1000);
    assert!(
        matches!(fixture.next(), Result::Message(message) if message.ends_with("preemption: 0/1 nodes are available: 1 Insufficient cpu."))
    );
    assert_eq!(fixture.core.table.nominated(0).len(), 1);
}

#[test]
fn a_nomination_ends_when_the_node_will_not_do_any_more() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let victim = placed("victim", "1", 0, "a");
    fixture.add(&victim);
    assert!(victims(&mut fixture, &cpu("middle", "1", json!({"priority": 5}))).is_some());
    assert!(matches!(fixture.schedule(&cpu("low", "1", json!({}))), Result::Message(_)));
    fixture.add(&placed("other", "1", 10, "a"));
    fixture.core.remove_pod(&victim, fixture.now);
    fixture.wait(2000);
    assert_eq!(ended_nominations(&mut fixture), ["middle"]);
    assert!(fixture.core.table.nominated(0).is_empty());
    assert!(fixture.core.attempt(fixture.now).is_none(), "nothing has changed that helps");
}

#[test]
fn the_place_kept_for_a_preemptor_that_goes_away_is_given_to_others() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let victim = placed("victim", "1", 0, "a");
    fixture.add(&victim);
    let high = cpu("high", "1", json!({"priority": 10}));
    assert!(victims(&mut fixture, &high).is_some());
    fixture.core.remove_pod(&victim, fixture.now);
    assert!(matches!(fixture.next(), Result::Node("a")));
    assert!(fixture.bind_fails(false));
    fixture.core.set_pod(&nominated_to(&high, "a"), Some(&high), fixture.now);
    assert!(matches!(fixture.schedule(&cpu("low", "1", json!({}))), Result::Message(_)));
    fixture.core.remove_pod(&high, fixture.now);
    assert_eq!(fixture.core.queue.sizes().unschedulable, 0, "nothing stands in its way");
    assert_eq!(fixture.next(), Result::Node("a"));
}

fn nominated_to(pod: &Pod, node: &str) -> Arc<Pod> {
    let mut pod = pod.clone();
    pod.nominated = scheduler::cluster::Symbol::new(node);
    Arc::new(pod)
}

#[test]
fn no_others_go_while_the_first_victims_end() {
    let mut fixture = Fixture::new([node("a", "1", json!({})), node("b", "1", json!({}))]);
    let placed = [placed("a1", "1", 0, "a"), placed("b1", "1", 0, "b")];
    placed.iter().for_each(|pod| fixture.add(pod));
    let elsewhere = on(&cpu("elsewhere", "0", json!({})), "b");
    fixture.add(&elsewhere);
    let high = cpu("high", "1", json!({"priority": 10}));
    fixture.add(&high);
    let first = decides(&mut fixture).unwrap();
    // The end of another pod would have it tried again. Its victim's deletion is on its way.
    fixture.core.remove_pod(&elsewhere, fixture.now);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Nothing);
    fixture.core.preempted(&high, fixture.now);
    // Now it is tried, though nothing shows yet that the victim ends.
    assert!(
        matches!(fixture.next(), Result::Message(message) if message.contains("terminating pod on the nominated node"))
    );
    let victim = placed.iter().find(|pod| pod.uid == first.pods[0].uid).unwrap();
    fixture.core.remove_pod(victim, fixture.now);
    fixture.wait(20_000);
    assert_eq!(fixture.next(), Result::Node(first.node.to_string().leak()));
}

#[test]
fn a_preemptor_that_goes_leaves_nothing_behind() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let victim = placed("victim", "1", 0, "a");
    fixture.add(&victim);
    let high = cpu("high", "1", json!({"priority": 10}));
    fixture.add(&high);
    decides(&mut fixture).unwrap();
    fixture.core.remove_pod(&high, fixture.now);
    fixture.core.preempted(&high, fixture.now);
    fixture.core.remove_pod(&victim, fixture.now);
    assert!(!fixture.core.table.is_leaving(&victim.uid));
    assert_eq!(fixture.core.queue.sizes(), Default::default());
}

#[test]
fn fewer_victims_cost_less_below_zero_too() {
    let mut fixture = Fixture::new([node("a", "2", json!({})), node("b", "2", json!({}))]);
    for pod in [placed("a1", "1", -10, "a"), placed("a2", "1", -10, "a"), placed("b1", "2", -10, "b")] {
        fixture.add(&pod);
    }
    let chosen = victims(&mut fixture, &cpu("p", "2", json!({"priority": 10})));
    assert_eq!(chosen, Some(("b", vec!["b1".into()])));
}

#[test]
fn only_a_victim_of_preemption_is_waited_for() {
    let check = |reason: &str, waits: bool| {
        let mut fixture = Fixture::new([node("a", "2", json!({}))]);
        let ending = pod(
            "ending",
            json!({
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "a"},
                "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]},
            }),
        );
        fixture.add(&ending);
        fixture.add(&placed("low", "2", 0, "a"));
        let high = nominated_to(&cpu("high", "2", json!({"priority": 10})), "a");
        assert_eq!(victims(&mut fixture, &high).is_none(), waits, "{reason}");
    };
    check("PreemptionByScheduler", true);
    check("EvictionByEvictionAPI", false);
}

#[test]
fn constraints_between_pods_are_judged_without_the_victims() {
    let check = |spec: serde_json::Value| {
        let mut fixture = Fixture::new([node("a", "4", json!({}))]);
        let mut low =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"priority": 0, "nodeName": "a"}});
        fixture.add(&pod("low", low.clone()));
        low["spec"] = spec;
        low["spec"]["priority"] = 10.into();
        let chosen = victims(&mut fixture, &pod("high", low));
        assert_eq!(chosen, Some(("a", vec!["low".into()])));
    };
    let selector = json!({"matchLabels": {"app": "web"}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
    check(
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
    );
    check(
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "minDomains": 2, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]}),
    );
}

#[test]
fn the_end_of_an_equal_wakes_a_pod_that_can_preempt_the_rest() {
    let mut fixture = Fixture::new([node("a", "2", json!({}))]);
    let equal = placed("equal", "1", 10, "a");
    fixture.add(&equal);
    fixture.add(&placed("low", "1", 0, "a"));
    fixture.add(&cpu("high", "2", json!({"priority": 10})));
    assert!(decides(&mut fixture).is_none());
    fixture.wait(20_000);
    fixture.core.remove_pod(&equal, fixture.now);
    let victims = decides(&mut fixture).unwrap();
    assert_eq!(&*victims.pods[0].key.name, "low");
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let mut fixture = Fixture::new([node("a", "2", json!({})), node("b", "2", json!({}))]);
    let budget = json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": {"selector": {"matchLabels": {"app": "a1"}}}, "status": {"disruptionsAllowed": 0}});
    fixture.core.table.facts.set_budget(&Arc::new(serde_json::from_value(budget).unwrap()));
    // Of the two on `a` the less important one is protected, and all of `b` is more important.
    for pod in [placed("a1", "1", 0, "a"), placed("a2", "1", 1, "a"), placed("b1", "2", 5, "b")] {
        fixture.add(&pod);
    }
    let chosen = victims(&mut fixture, &cpu("p", "1", json!({"priority": 10})));
    assert_eq!(chosen, Some(("a", vec!["a2".into()])));
    // Two have to go, and one may not: the other node's is taken instead.
    let mut fixture = Fixture::new([node("a", "2", json!({})), node("b", "2", json!({}))]);
    let budget = json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": {"selector": {"matchLabels": {"app": "a1"}}}, "status": {"disruptionsAllowed": 0}});
    fixture.core.table.facts.set_budget(&Arc::new(serde_json::from_value(budget).unwrap()));
    for pod in [placed("a1", "1", 0, "a"), placed("a2", "1", 1, "a"), placed("b1", "2", 5, "b")] {
        fixture.add(&pod);
    }
    let chosen = victims(&mut fixture, &cpu("p", "2", json!({"priority": 10})));
    assert_eq!(chosen, Some(("b", vec!["b1".into()])));
}
