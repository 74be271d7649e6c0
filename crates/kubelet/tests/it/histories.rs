//! Histories that nobody thought of: containers exit, pods are edited, deleted and evicted, the kubelet is killed at any
//! point of what it does and started again, and the runtime is slow and forgetful. Whatever happens, these hold:
//!
//! - *not terminal while running*: a pod whose status says Succeeded or Failed has nothing that runs;
//! - *one successor*: a container has one instance that runs, and each attempt runs once;
//! - *regular after init*: no regular container runs before the init containers have ended and the sidecars have started;
//! - *wanted runs*: once the world is quiet again, what should run does, by its newest spec;
//! - *cgroup equals allocation*: what a pod's cgroup allows is what the pod was given, not what it asks for by now;
//! - *nothing left*: of a deleted pod there is nothing in the runtime and no folder;
//! - *bounded calls*: a container that ends costs so many calls, and a pod that rests nearly none.
//!
//! The test stands in for the API server: it takes statuses from the kubelet and sends the pods back with them.

use super::world::{GLANCE, World, on_paused_time, uid};
use super::*;
use kubelet::worker::Failure;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    /// A container of the pod that runs ends by itself.
    Exit {
        pod: usize,
        container: usize,
        code: i32,
    },
    Delete {
        pod: usize,
        grace: i64,
    },
    /// Deleted from the API server without waiting for the node.
    Forget {
        pod: usize,
    },
    Evict {
        pod: usize,
    },
    Edit {
        pod: usize,
    },
    LoseSandbox {
        pod: usize,
    },
    /// The pod asks for so many processors, which it is not given.
    Resize {
        pod: usize,
        cpus: u32,
    },
    /// Kills the kubelet and starts another one after so many milliseconds.
    Kill {
        down: u64,
    },
}

fn shapes() -> Vec<serde_json::Value> {
    let probe = json!({"exec": {"command": ["probe"]}, "periodSeconds": 1});
    let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let hook = json!({"preStop": {"sleep": {"seconds": 2}}});
    vec![
        json!({"containers": [{"name": "a", "image": "i:1", "resources": limits}, {"name": "b", "image": "i:1", "resources": limits}]}),
        json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]}),
        json!({"restartPolicy": "OnFailure", "initContainers": [{"name": "init", "image": "i:1"}],
            "containers": [{"name": "a", "image": "i:1", "lifecycle": hook}]}),
        json!({"restartPolicy": "Never",
            "initContainers": [{"name": "sidecar", "image": "i:1", "restartPolicy": "Always", "startupProbe": probe},
                {"name": "init", "image": "i:1"}],
            "containers": [{"name": "a", "image": "i:1", "readinessProbe": probe, "lifecycle": hook}]}),
        json!({"activeDeadlineSeconds": 20,
            "initContainers": [{"name": "sidecar", "image": "i:1", "restartPolicy": "Always"}],
            "containers": [{"name": "a", "image": "i:1", "livenessProbe": probe}]}),
    ]
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let pod = 0..3_usize;
    let event = prop_oneof![
        6 => (pod.clone(), 0..4_usize, 0..2_i32).prop_map(|(pod, container, code)| Event::Exit { pod, container, code }),
        2 => (pod.clone(), 0..40_i64).prop_map(|(pod, grace)| Event::Delete { pod, grace }),
        1 => pod.clone().prop_map(|pod| Event::Forget { pod }),
        1 => pod.clone().prop_map(|pod| Event::Evict { pod }),
        2 => pod.clone().prop_map(|pod| Event::Edit { pod }),
        1 => pod.clone().prop_map(|pod| Event::LoseSandbox { pod }),
        1 => (pod, 1..4_u32).prop_map(|(pod, cpus)| Event::Resize { pod, cpus }),
        4 => (0..5000_u64).prop_map(|down| Event::Kill { down }),
    ];
    prop::collection::vec((0..4000_u64, event), 1..14)
}

async fn happens(world: &mut World, event: &Event) {
    let runtime = world.node.runtime.clone();
    match event {
        Event::Exit { pod, container, code } => {
            let (running, _) = runtime.running(&uid(*pod));
            if !running.is_empty() {
                runtime.exit(&running[container % running.len()].1, *code, "Error");
            }
        }
        Event::Delete { pod, grace } => world.delete(&uid(*pod), *grace),
        Event::Forget { pod } => world.remove(&uid(*pod)),
        Event::Evict { pod } => {
            if let Some(process) = &world.process {
                let (reason, message) = ("Evicted".into(), "no room".into());
                let failure = Failure { reason, message, disruption: true, lasting: false };
                process.kubelet.supervisor.fail(&uid(*pod), failure, Some(1));
            }
        }
        Event::Edit { pod } => world.change(&uid(*pod), |pod| {
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.image = Some(format!("{}0", container.image.as_deref().unwrap()));
        }),
        Event::Resize { pod, cpus } => world.change(&uid(*pod), |pod| {
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            if container.resources.is_some() {
                let asked = json!({"limits": {"cpu": cpus.to_string(), "memory": "1Gi"}});
                container.resources = Some(serde_json::from_value(asked).unwrap());
            }
        }),
        Event::LoseSandbox { pod } => {
            let (containers, sandboxes) = runtime.running(&uid(*pod));
            containers.iter().for_each(|(_, id)| runtime.exit(id, 137, "Error"));
            sandboxes.iter().for_each(|id| runtime.lose_sandbox(id));
            world.stranded.insert(uid(*pod));
        }
        Event::Kill { down } => {
            if let Some(process) = world.process.take() {
                process.kill().await;
            }
            world.pass(Duration::from_millis(*down), GLANCE).await;
            world.start();
        }
    }
}

async fn live(shapes: Vec<usize>, events: Vec<(u64, Event)>, seed: u64) {
    let all = self::shapes();
    let mut world = World::new(shapes.iter().map(|shape| all[*shape].clone()));
    let bad =
        Conduct { seed, latency: Duration::from_millis(120), failures: 30, ending: Duration::from_secs(20) };
    world.node.runtime.behave(bad);
    world.start();
    for (pause, event) in &events {
        world.pass(Duration::from_millis(*pause), GLANCE).await;
        happens(&mut world, event).await;
    }
    world.node.runtime.behave(Conduct { failures: 0, ..bad });
    world.settle().await;
    world.check_rest();
    world.check_cgroups().await;

    if let Some(process) = world.process.take() {
        process.kill().await;
    }
}

/// Calls to the runtime that ask for something of one pod only.
#[test]
fn calls_are_bounded() {
    on_paused_time(async {
        let mut world = World::new([shapes().swap_remove(0)]);
        let runtime = world.node.runtime.clone();
        runtime.behave(Conduct { latency: Duration::from_millis(50), ..Conduct::default() });
        world.start();
        let calls = async |world: &mut World, seconds| {
            let before = runtime.calls_by_pod();
            world.pass(Duration::from_secs(seconds), GLANCE).await;
            runtime.calls_by_pod() - before
        };
        let of_start = calls(&mut world, 30).await;
        let at_rest = calls(&mut world, 600).await;
        happens(&mut world, &Event::Exit { pod: 0, container: 0, code: 1 }).await;
        let of_exit = calls(&mut world, 30).await;
        happens(&mut world, &Event::Delete { pod: 0, grace: 30 }).await;
        let of_end = calls(&mut world, 30).await;
        assert!(world.pods.is_empty());
        // Two containers and a sandbox: a look at them is two lists and three statuses.
        let found = [of_start, at_rest, of_exit, of_end];
        let allowed = [34, 55, 34, 34];
        assert!(std::iter::zip(found, allowed).all(|(found, allowed)| found <= allowed), "{found:?}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        shapes in prop::collection::vec(0..5_usize, 1..4),
        events in events(),
        seed in any::<u64>(),
    ) {
        on_paused_time(live(shapes, events, seed));
    }
}
