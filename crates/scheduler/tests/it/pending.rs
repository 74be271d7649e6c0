//! What is said of a pending pod, against trying it out.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use scheduler::core::explain::Explanation;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, node, on, pod};

struct Case {
    nodes: Vec<(String, i64, Value)>,
    placed: Vec<(i64, i32, String)>,
    pod: Value,
}

fn generated(random: &mut SmallRng) -> Case {
    let names: Vec<String> = (0..random.random_range(1..5)).map(|n| format!("n{n}")).collect();
    let nodes = names.iter().map(|name| {
        let mut extra = json!({"metadata": {"labels": {"disk": (["ssd", "hdd"][random.random_range(0..2)])}}});
        if random.random_bool(0.3) {
            extra["spec"]["unschedulable"] = true.into();
        }
        if random.random_bool(0.4) {
            extra["spec"]["taints"] =
                json!([{"key": (["k", "l"][random.random_range(0..2)]), "value": "v", "effect": "NoSchedule"}]);
        }
        (name.clone(), random.random_range(1..5), extra)
    });
    let nodes: Vec<_> = nodes.collect();
    let placed = (0..random.random_range(0..6))
        .map(|_| {
            let at = names[random.random_range(0..names.len())].clone();
            (random.random_range(1..3), [0, 20][random.random_range(0..2)], at)
        })
        .collect();
    let mut spec = json!({"priority": 10, "containers": [{"name": "c", "image": "x",
        "resources": {"requests": {"cpu": random.random_range(1..6).to_string()}},
        "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    if random.random_bool(0.4) {
        spec["nodeSelector"] = json!({"disk": "ssd"});
    }
    if random.random_bool(0.4) {
        spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    }
    Case { nodes, placed, pod: json!({"spec": spec}) }
}

/// The case on some of its nodes, with some of its placed pods.
fn build(case: &Case, nodes: &dyn Fn(&str) -> bool, above: i32) -> Fixture {
    let kept = case.nodes.iter().filter(|(name, ..)| nodes(name));
    let mut fixture =
        Fixture::new(kept.map(|(name, cpu, extra)| node(name, &cpu.to_string(), extra.clone())));
    for (at, (cpu, priority, place)) in case.placed.iter().enumerate() {
        if *priority >= above && nodes(place) {
            let spec = json!({"spec": {"priority": priority, "containers": [{"name": "c",
                "resources": {"requests": {"cpu": cpu.to_string()}}, "ports": [{"containerPort": 80, "hostPort": 80 + at}]}]}});
            fixture.add(&on(&pod(&format!("placed-{at}"), spec), place));
        }
    }
    fixture
}

fn explain(case: &Case) -> Explanation {
    let mut fixture = build(case, &|_| true, i32::MIN);
    let pending = pod("p", case.pod.clone());
    fixture.add(&pending);
    fixture.core.explain(&pending).unwrap()
}

#[test]
fn verdicts_and_remedies_are_those_of_trying() {
    let mut random = SmallRng::seed_from_u64(1);
    let fits = |case: &Case, name: &str, above: i32| {
        let mut fixture = build(case, &|own| own == name, above);
        matches!(fixture.schedule(&pod("p", case.pod.clone())), Result::Node(_))
    };
    for _ in 0..200 {
        let case = generated(&mut random);
        let explanation = explain(&case);
        assert_eq!(explanation.queue, Some("active"));
        assert_eq!(explanation.nodes.len(), case.nodes.len());
        for verdict in &explanation.nodes {
            let is_fit = fits(&case, &verdict.node, i32::MIN);
            assert_eq!(verdict.objections.is_empty(), is_fit, "{verdict:?}");
            assert_eq!(verdict.fits_by_preemption, !is_fit && fits(&case, &verdict.node, 10), "{verdict:?}");
            // With all remedies applied the node does, if there is one for each objection.
            let mut mended =
                Case { nodes: case.nodes.clone(), placed: case.placed.clone(), pod: case.pod.clone() };
            let (_, cpu, extra) = mended.nodes.iter_mut().find(|(name, ..)| *name == verdict.node).unwrap();
            for remedy in verdict.objections.iter().flat_map(|objection| &objection.remedies) {
                match remedy.split_once(": ").unwrap() {
                    ("cpu", amount) => {
                        *cpu +=
                            amount.strip_prefix('+').unwrap().trim_end_matches('m').parse::<i64>().unwrap()
                                / 1000
                    }
                    ("uncordon", _) => extra["spec"]["unschedulable"] = false.into(),
                    ("remove taint", _) => extra["spec"]["taints"] = json!([]),
                    ("free port", _) => mended.placed.retain(|(_, _, at)| *at != verdict.node),
                    other => panic!("{other:?}"),
                }
            }
            if verdict.objections.iter().all(|objection| !objection.remedies.is_empty()) {
                assert!(fits(&mended, &verdict.node, i32::MIN), "{verdict:?}");
            }
        }
    }
}

#[test]
fn a_pod_that_is_kept_out_says_by_what() {
    let mut fixture = Fixture::new([node("a", "1", json!({}))]);
    let gated = pod("p", json!({"spec": {"schedulingGates": [{"name": "g"}]}}));
    fixture.add(&gated);
    let explanation = fixture.core.explain(&gated).unwrap();
    assert_eq!((explanation.queue, explanation.rejected.unwrap().plugin), (Some("gated"), "SchedulingGates"));
    let affine = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "none"}}}]}}});
    let alone = pod("q", json!({"spec": affine}));
    fixture.add(&alone);
    let explanation = fixture.core.explain(&alone).unwrap();
    assert_eq!(explanation.nodes[0].objections[0].plugin, "InterPodAffinity");
}
