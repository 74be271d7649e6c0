//! An unbound pod of ours is in exactly one queue, or on its way to a node, whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use scheduler::cluster::{Pod, Symbol};
use scheduler::config::Configuration;
use scheduler::core::inquiry::{Answer, Inquiry, Question, Verdicts};
use scheduler::core::waiting::Rejection;
use scheduler::core::{Attempt, Binding};
use scheduler::plugins::Victims;
use serde_json::json;

use crate::fixture::{Fixture, node, on, pod};

const NODES: [&str; 3] = ["a", "b", "c"];

#[derive(Default)]
struct World {
    made: usize,
    /// What the API server has, by UID.
    pods: BTreeMap<String, Arc<Pod>>,
    binding: Vec<Binding>,
    /// Extenders are being asked.
    asked: Vec<Inquiry>,
    preempting: Vec<(Arc<Pod>, Victims)>,
    nodes: BTreeMap<&'static str, Arc<scheduler::cluster::Node>>,
}

fn a_pod(random: &mut SmallRng, name: &str) -> Arc<Pod> {
    let mut spec = json!({
        "priority": random.random_range(0..3),
        "containers": [{"name": "c", "resources": {"requests": {"cpu": random.random_range(1..3).to_string()}}}],
    });
    if random.random_bool(0.1) {
        spec["schedulingGates"] = json!([{"name": "g"}]);
    }
    if random.random_bool(0.2) {
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": (NODES[random.random_range(0..3)])});
    }
    pod(name, json!({"spec": spec}))
}

fn check(fixture: &Fixture, world: &World) {
    let sizes = fixture.core.queue.sizes();
    let mut queued = 0;
    for (uid, pod) in &world.pods {
        let is_queued = fixture.core.queue.place_of(uid).is_some();
        let is_asked = fixture.core.queue.place_of(uid) == Some("asked");
        queued += usize::from(is_queued && !is_asked);
        let inquiries = world.asked.iter().filter(|inquiry| *inquiry.pod.uid == **uid).count();
        assert!(!is_asked || inquiries > 0, "{uid} waits for no answer");
        let in_binding = world.binding.iter().any(|binding| *binding.entry.pod.uid == **uid);
        let is_placed = fixture.core.table.node_of(uid).is_some();
        assert!(!(is_queued && is_placed), "{uid} is queued and placed");
        if pod.node.is_empty() && !pod.deleting {
            assert_eq!(
                usize::from(is_queued) + usize::from(in_binding && is_placed),
                1,
                "{uid}: {is_queued} {in_binding} {is_placed}"
            );
        }
    }
    assert_eq!(
        sizes.active + sizes.backoff + sizes.unschedulable + sizes.gated,
        queued,
        "only pods that exist are queued"
    );
}

fn step(fixture: &mut Fixture, world: &mut World, random: &mut SmallRng) {
    match random.random_range(0..100) {
        0..20 => {
            // A new one, or a new state of one that exists: a UID is used once.
            let old = a_pod_of(world, random).filter(|_| world.pods.len() > 10 || random.random_bool(0.3));
            world.made += 1;
            let name =
                old.as_ref().map_or_else(|| format!("p{}", world.made), |old| old.key.name.to_string());
            let new = a_pod(random, &name);
            match old {
                // A bound pod's template does not change.
                Some(old) if !old.node.is_empty() => {}
                Some(old) if old.deleting => {}
                old => {
                    fixture.core.set_pod(&new, old.as_deref(), fixture.now);
                    world.pods.insert(new.uid.to_string(), new);
                }
            }
        }
        20..28 => {
            if let Some(old) = a_pod_of(world, random) {
                let mut new = (*old).clone();
                new.deleting = true;
                let new = Arc::new(new);
                fixture.core.set_pod(&new, Some(&old), fixture.now);
                world.pods.insert(new.uid.to_string(), new);
            }
        }
        28..40 => {
            if let Some(old) = a_pod_of(world, random) {
                world.pods.remove(&*old.uid);
                fixture.core.remove_pod(&old, fixture.now);
            }
        }
        40..65 => {
            if let Some(attempt) = fixture.core.attempt(fixture.now) {
                went_on(world, attempt);
            }
        }
        65..70 if !world.asked.is_empty() => {
            let inquiry = world.asked.swap_remove(random.random_range(0..world.asked.len()));
            let answer = an_answer(&inquiry, random);
            let attempt = fixture.core.resume(inquiry, answer, fixture.now);
            went_on(world, attempt);
        }
        70..80 if !world.binding.is_empty() => {
            let binding = world.binding.swap_remove(random.random_range(0..world.binding.len()));
            let uid = binding.entry.pod.uid.clone();
            let exists = world.pods.get(&*uid).cloned().filter(|pod| pod.node.is_empty());
            match random.random_range(0..4) {
                0 => _ = fixture.core.bind_failed(binding, exists.is_none(), fixture.now),
                1 => {
                    let rejection = Rejection { plugin: "VolumeBinding", message: "no".into() };
                    fixture.core.permit_rejected(binding, &rejection, fixture.now);
                }
                _ => match exists {
                    Some(old) => {
                        fixture.core.bound(&binding);
                        let new = on(&old, binding.node.as_str());
                        fixture.core.set_pod(&new, Some(&old), fixture.now);
                        world.pods.insert(uid.to_string(), new);
                    }
                    None => _ = fixture.core.bind_failed(binding, true, fixture.now),
                },
            }
        }
        80..85 if !world.preempting.is_empty() => {
            let (pod, victims) = world.preempting.swap_remove(random.random_range(0..world.preempting.len()));
            if random.random_bool(0.5) {
                fixture.core.preempted(&pod, fixture.now);
            } else {
                fixture.core.preemption_failed(&pod, &victims, fixture.now);
            }
        }
        85..92 => {
            let name = NODES[random.random_range(0..3)];
            let new = node(name, &random.random_range(1..6).to_string(), json!({}));
            let old = world.nodes.insert(name, new.clone());
            fixture.core.set_node(&new, old.as_deref(), fixture.now);
        }
        92..95 => {
            let name = NODES[random.random_range(0..3)];
            if world.nodes.remove(name).is_some() {
                fixture.core.remove_node(&Symbol::new(name), fixture.now);
            }
        }
        _ => fixture.now += Duration::from_millis(random.random_range(0..20_000)),
    }
}

fn went_on(world: &mut World, attempt: Attempt) {
    match attempt {
        Attempt::Bind(binding) => world.binding.push(*binding),
        Attempt::Ask(inquiry) => world.asked.push(*inquiry),
        Attempt::Unschedulable { pod, victims: Some(victims), .. } => world.preempting.push((pod, victims)),
        _ => {}
    }
}

/// Each node and candidate with even odds, or an error.
fn an_answer(inquiry: &Inquiry, random: &mut SmallRng) -> Answer {
    let is_error = random.random_bool(0.1);
    let nodes = match &inquiry.question {
        Question::Promised(node) => std::slice::from_ref(node),
        Question::Nodes(nodes) => nodes.as_slice(),
        Question::Victims(candidates) => {
            let kept = candidates.iter().filter(|_| random.random_bool(0.5)).cloned().collect();
            return Answer::Victims(if is_error { Err("no".into()) } else { Ok(kept) });
        }
    };
    let mut verdicts = Verdicts::default();
    for node in nodes {
        match random.random_range(0..4) {
            0 => _ = verdicts.failed.insert(node.clone(), ("no".into(), random.random_bool(0.5))),
            1 => {}
            _ => verdicts.kept.push(node.clone()),
        }
    }
    Answer::Nodes(if is_error { Err("no".into()) } else { Ok(verdicts) })
}

fn a_pod_of(world: &World, random: &mut SmallRng) -> Option<Arc<Pod>> {
    let at = random.random_range(0..world.pods.len().max(1));
    world.pods.values().nth(at).cloned()
}

fn run(seed: u64, steps: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    // Every other world has an extender.
    let extenders = json!([{"urlPrefix": "http://x", "filterVerb": "f", "preemptVerb": "p"}]);
    let extenders = if seed.is_multiple_of(2) { extenders } else { json!([]) };
    let configuration: Configuration = serde_json::from_value(json!({ "extenders": extenders })).unwrap();
    let mut fixture = Fixture::with(&configuration, []);
    let mut world = World::default();
    for _ in 0..steps {
        step(&mut fixture, &mut world, &mut random);
        check(&fixture, &world);
    }
}

#[test]
fn an_unbound_pod_is_in_exactly_one_queue() {
    for seed in 0..20 {
        run(seed, 2_000);
    }
}

/// `cargo test -p scheduler --release -- --ignored ten_million`.
#[test]
#[ignore = "takes minutes"]
fn ten_million_events_lose_no_pod() {
    for seed in 0..100 {
        run(1000 + seed, 100_000);
    }
}
