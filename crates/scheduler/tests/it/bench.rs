//! How fast the core is. Not a test: `cargo test -p scheduler --release -- --ignored --nocapture bench`.

use std::time::Instant;

use serde_json::json;

use crate::fixture::{Fixture, Result, cpu, node};

#[test]
#[ignore = "a bench"]
fn bench_pods_per_second() {
    for nodes in [1000, 5000] {
        let zone = |n: usize| json!({"metadata": {"labels": {"zone": format!("z{}", n % 3)}}, "status": {"allocatable": {"pods": "110"}}});
        let mut fixture = Fixture::new((0..nodes).map(|n| node(&format!("node-{n}"), "32", zone(n))));
        for (name, spec) in [
            ("plain", json!({})),
            (
                "zone spread",
                json!({"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"none": ""}}}]}),
            ),
        ] {
            let pods: Vec<_> = (0..2000).map(|n| cpu(&format!("{name}-{n}"), "100m", spec.clone())).collect();
            let start = Instant::now();
            for pod in &pods {
                assert!(matches!(fixture.schedule(pod), Result::Node(_)));
            }
            let each = start.elapsed() / pods.len() as u32;
            println!("{nodes} nodes, {name}: {each:?} a pod, {:.0} pods/s", 1.0 / each.as_secs_f64());
        }
    }
}
