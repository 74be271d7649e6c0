//! How fast the core is. Not a test: `cargo test -p scheduler --release -- --ignored --nocapture bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler::cluster::Pod;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Result, cpu, node, on, pod};

const HOST: &str = "kubernetes.io/hostname";

fn cluster(nodes: usize, placed: usize) -> Fixture {
    let zone = |n: usize| json!({"metadata": {"labels": {"zone": format!("z{}", n % 3)}}, "status": {"allocatable": {"pods": "1100", "memory": "999Gi"}}});
    let mut fixture = Fixture::new((0..nodes).map(|n| node(&format!("node-{n}"), "320", zone(n))));
    for n in 0..placed {
        // A third prefer to keep away from their like.
        let app = format!("app-{}", n % 300);
        let term = json!({"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": app}}});
        let spec = if n % 3 == 0 {
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}}})
        } else {
            json!({})
        };
        let mut value = json!({"metadata": {"labels": {"app": app}}, "spec": spec});
        value["spec"]["nodeName"] = format!("node-{}", n % nodes).into();
        value["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "10m"}}}]);
        fixture.add(&pod(&format!("placed-{n}"), value));
    }
    fixture
}

fn kinds() -> Vec<(&'static str, Value)> {
    let selector = json!({"matchLabels": {"app": "bench"}});
    let spread = |key: &str| json!({"maxSkew": 5, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector});
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": selector});
    vec![
        ("plain", json!({})),
        ("zone and host spread", json!({"topologySpreadConstraints": [spread("zone"), spread(HOST)]})),
        (
            "host anti-affinity",
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(HOST)]}}}),
        ),
        (
            "preferred affinity",
            json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "podAffinityTerm": term("zone")}]}}}),
        ),
    ]
}

fn made(name: &str, spec: &Value, count: usize) -> Vec<Arc<Pod>> {
    let pods = (0..count).map(|n| {
        let mut value = json!({"metadata": {"labels": {"app": "bench"}}, "spec": spec});
        value["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]);
        pod(&format!("{name}-{n}"), value)
    });
    pods.collect()
}

#[test]
#[ignore = "a bench"]
fn bench_placements() {
    for (nodes, placed) in [(1000, 0), (1000, 10_000), (5000, 0), (5000, 30_000)] {
        for (name, spec) in kinds() {
            let mut fixture = cluster(nodes, placed);
            let pods = made("bench", &spec, nodes.min(1000));
            let start = Instant::now();
            for pod in &pods {
                assert!(matches!(fixture.schedule(pod), Result::Node(_)));
            }
            let each = start.elapsed() / pods.len() as u32;
            println!("{nodes} nodes, {placed} placed, {name}: {each:?} a pod");
        }
    }
}

#[test]
#[ignore = "a bench"]
fn bench_events() {
    for nodes in [100, 1000, 5000] {
        let mut fixture = cluster(nodes, nodes * 6);
        // Unschedulable pods of fifty templates.
        for n in 0..5000 {
            let asks = format!("{}", 1000 + n % 50);
            fixture.add(&cpu(&format!("large-{n}"), &asks, json!({})));
            fixture.next();
        }
        fixture.now += Duration::from_secs(20);
        let pods: Vec<Arc<Pod>> = (0..2000)
            .map(|n| on(&cpu(&format!("event-{n}"), "10m", json!({})), &format!("node-{}", n % nodes)))
            .collect();
        let start = Instant::now();
        pods.iter().for_each(|pod| fixture.add(pod));
        let placed = start.elapsed() / pods.len() as u32;
        let start = Instant::now();
        pods.iter().for_each(|pod| fixture.core.remove_pod(pod, fixture.now));
        let removed = start.elapsed() / pods.len() as u32;
        println!("{nodes} nodes, 5000 unschedulable: {placed:?} a placed pod, {removed:?} a removed one");
    }
}
