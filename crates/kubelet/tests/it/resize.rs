//! Pods that are resized while they run.

use super::*;
use crate::world::{SLOW_GLANCE, World, on_paused_time, uid};
use serde_json::Value;
use std::path::PathBuf;

async fn seconds(world: &mut World, count: u64) {
    world.pass(Duration::from_secs(count), SLOW_GLANCE).await;
}

fn container(name: &str, requests: Value, limits: Value) -> Value {
    json!({"name": name, "image": "i:1", "resources": {"requests": requests, "limits": limits}})
}

fn resize(world: &mut World, pod: usize, container: &str, requests: Value, limits: Value) {
    let resources = serde_json::from_value(json!({"requests": requests, "limits": limits})).unwrap();
    world.change(&uid(pod), |pod| {
        let generation = pod.metadata.generation.unwrap_or(1);
        pod.metadata.generation = Some(generation + 1);
        let spec = pod.spec.as_mut().unwrap();
        let mut all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        all.find(|it| it.name == container).unwrap().resources = Some(resources);
    });
}

/// (allocated CPU, CPU that it has) of a pod's first container.
fn cpu(world: &World, pod: usize) -> (String, String) {
    let status = world.status(&uid(pod));
    let container = status.container_statuses.as_ref().unwrap()[0].clone();
    let requests = container.resources.clone().unwrap().requests.unwrap();
    (container.allocated_resources.unwrap()["cpu"].0.clone(), requests["cpu"].0.clone())
}

/// `Type: Reason message`.
fn conditions(world: &World, pod: usize) -> Vec<String> {
    let status = world.status(&uid(pod));
    let all = status.conditions.iter().flatten().filter(|it| it.type_.starts_with("PodResize"));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let show = |it: &k8s_openapi::api::core::v1::PodCondition| {
        format!("{}: {} {}", it.type_, text(&it.reason), text(&it.message)).trim().to_owned()
    };
    all.map(show).collect()
}

fn ids(world: &World, pod: usize) -> Vec<String> {
    world.node.runtime.running(&uid(pod)).0.into_iter().map(|(_, id)| id).collect()
}

fn runtime_resources(world: &World, id: &str) -> (i64, i64, i64) {
    let runtime = world.node.runtime.clone();
    let all = ["a", "b", "side"].iter().flat_map(|name| runtime.containers_named(name));
    let status = all.into_iter().find(|it| it.id == id).unwrap();
    let linux = status.resources.unwrap().linux.unwrap();
    (linux.cpu_shares, linux.cpu_quota, linux.memory_limit_in_bytes >> 20)
}

fn group(world: &World, pod: usize) -> PathBuf {
    let kubelet = world.process.as_ref().unwrap().kubelet.clone();
    let parent = kubelet.cgroups.parent(&world.pods[&uid(pod)]);
    world.node.folder.path().join("cgroup").join(parent.trim_start_matches('/'))
}

/// Makes the files that the kernel would have made with the pod's group.
fn make_group(world: &World, pod: usize, memory: &str, used: &str) {
    for (file, value) in
        [("cpu.weight", "100"), ("cpu.max", "max 100000"), ("memory.max", memory), ("memory.current", used)]
    {
        std::fs::write(group(world, pod).join(file), value).unwrap();
    }
}

fn read(world: &World, pod: usize, file: &str) -> String {
    std::fs::read_to_string(group(world, pod).join(file)).unwrap()
}

#[test]
fn a_running_container_gets_what_it_asks_for() {
    on_paused_time(async {
        let spec = container(
            "a",
            json!({"cpu": "100m", "memory": "64Mi"}),
            json!({"cpu": "200m", "memory": "64Mi"}),
        );
        let mut world = World::new([json!({"containers": [spec]})]);
        world.start();
        seconds(&mut world, 5).await;
        make_group(&world, 0, "67108864", "1000000");
        let before = ids(&world, 0);
        resize(
            &mut world,
            0,
            "a",
            json!({"cpu": "200m", "memory": "64Mi"}),
            json!({"cpu": "400m", "memory": "128Mi"}),
        );
        seconds(&mut world, 3).await;
        assert_eq!(ids(&world, 0), before, "it runs on");
        assert_eq!(runtime_resources(&world, &before[0]), (204, 40_000, 128));
        assert_eq!(cpu(&world, 0), ("200m".into(), "200m".into()));
        assert_eq!(conditions(&world, 0), [""; 0]);
        assert_eq!(
            (read(&world, 0, "memory.max"), read(&world, 0, "cpu.max")),
            ("134217728".into(), "40000 100000".into())
        );
        let asked = r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"400m","memory":"128Mi"},"requests":{"cpu":"200m","memory":"64Mi"}}}],"generation":2}"#;
        assert_eq!(world.events("ResizeStarted"), [format!("Pod resize started: {asked}")]);
        assert_eq!(world.events("ResizeCompleted"), [format!("Pod resize completed: {asked}")]);

        // Less memory than it uses is not set, and is tried again.
        world.node.runtime.use_memory(&before[0], 100 << 20);
        std::fs::write(group(&world, 0).join("memory.current"), "1000").unwrap();
        resize(
            &mut world,
            0,
            "a",
            json!({"cpu": "200m", "memory": "64Mi"}),
            json!({"cpu": "400m", "memory": "96Mi"}),
        );
        seconds(&mut world, 30).await;
        let problem = "cannot decrease memory limits: attempting to set container \"a\" memory limit (100663296) below current usage (104857600)";
        assert_eq!(conditions(&world, 0), [format!("PodResizeInProgress: Error {problem}")]);
        assert_eq!(world.events("ResizeError").len(), 1);
        assert_eq!(
            (runtime_resources(&world, &before[0]).2, read(&world, 0, "memory.max")),
            (128, "134217728".into())
        );
        world.node.runtime.use_memory(&before[0], 10 << 20);
        seconds(&mut world, 12).await;
        assert_eq!(conditions(&world, 0), [""; 0]);
        assert_eq!(
            (runtime_resources(&world, &before[0]).2, read(&world, 0, "memory.max")),
            (96, "100663296".into())
        );
    });
}

#[test]
fn a_container_restarts_where_its_policy_says_so() {
    on_paused_time(async {
        let mut main = container("a", json!({"cpu": "100m", "memory": "64Mi"}), json!({}));
        main["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let mut side = container("side", json!({"cpu": "100m"}), json!({}));
        side["restartPolicy"] = json!("Always");
        let mut world = World::new([json!({"initContainers": [side], "containers": [main]})]);
        world.start();
        seconds(&mut world, 5).await;
        make_group(&world, 0, "max", "1000");
        let before = ids(&world, 0);
        resize(&mut world, 0, "a", json!({"cpu": "200m", "memory": "64Mi"}), json!({}));
        resize(&mut world, 0, "side", json!({"cpu": "300m"}), json!({}));
        seconds(&mut world, 5).await;
        assert_eq!(ids(&world, 0), before, "not for CPU");
        let shares: Vec<i64> = before.iter().map(|id| runtime_resources(&world, id).0).collect();
        assert_eq!(shares.iter().sum::<i64>(), 204 + 307, "{shares:?}");
        resize(&mut world, 0, "a", json!({"cpu": "200m", "memory": "96Mi"}), json!({}));
        seconds(&mut world, 10).await;
        let after = ids(&world, 0);
        assert_eq!(after.iter().filter(|id| !before.contains(id)).count(), 1);
        assert_eq!(world.status(&uid(0)).container_statuses.unwrap()[0].restart_count, 1);
        assert_eq!(world.events("Killing"), ["Container a resize requires restart"]);
        assert_eq!(conditions(&world, 0), [""; 0]);
    });
}

#[test]
fn a_resize_waits_until_there_is_room() {
    on_paused_time(async {
        let cpus = kubelet::node::machine::Machine::read().cpus * 1000;
        let of = |part: i64| json!({"cpu": format!("{}m", cpus * part / 100)});
        let spec =
            |priority: i32| json!({"priority": priority, "containers": [container("a", of(30), json!({}))]});
        let mut world = World::new([spec(0), spec(5), spec(0)]);
        world.start();
        seconds(&mut world, 5).await;
        let milli = |part: i64| format!("{}m", cpus * part / 100);
        for pod in [0, 1] {
            resize(&mut world, pod, "a", of(50), json!({}));
            seconds(&mut world, 2).await;
        }
        let pending = format!(
            "PodResizePending: Deferred Node didn't have enough resource: cpu, requested: {}, used: {}, capacity: {cpus}",
            cpus / 2,
            2 * (cpus * 30 / 100)
        );
        assert_eq!([conditions(&world, 0), conditions(&world, 1)].concat(), [pending.clone(), pending]);
        assert_eq!(cpu(&world, 0).0, milli(30));
        assert_eq!((world.events("ResizeDeferred").len(), world.events("ResizeStarted").len()), (2, 0));

        // A kubelet that starts again gives nobody more either; a new pod finds room beside what was allocated.
        world.process.take().unwrap().kill().await;
        world.start();
        seconds(&mut world, 5).await;
        assert_eq!((cpu(&world, 0).0, conditions(&world, 0).len()), (milli(30), 1));
        assert!(world.events("ResizeDeferred").is_empty(), "it was said before");

        // Room for one: the more important one has it, though it asked later.
        resize(&mut world, 2, "a", of(10), json!({}));
        seconds(&mut world, 5).await;
        assert_eq!((cpu(&world, 0).0, cpu(&world, 1).0, cpu(&world, 2).0), (milli(30), milli(50), milli(10)));
        world.delete(&uid(2), 0);
        seconds(&mut world, 5).await;
        assert_eq!((cpu(&world, 0).0, conditions(&world, 0).len()), (milli(50), 0));
    });
}

#[test]
fn a_resize_that_is_taken_back_leaves_nothing() {
    on_paused_time(async {
        let mut world =
            World::new([json!({"containers": [container("a", json!({"cpu": "100m"}), json!({}))]})]);
        world.start();
        seconds(&mut world, 5).await;
        resize(&mut world, 0, "a", json!({"cpu": "100000"}), json!({}));
        seconds(&mut world, 5).await;
        assert_eq!((cpu(&world, 0).0, conditions(&world, 0).len()), ("100m".into(), 1));
        let (id, runtime) = (ids(&world, 0).remove(0), world.node.runtime.clone());
        runtime.exit(&id, 1, "Error");
        seconds(&mut world, 30).await;
        assert_eq!(runtime_resources(&world, &ids(&world, 0)[0]).0, 102, "a restart does not give it more");
        resize(&mut world, 0, "a", json!({"cpu": "100m"}), json!({}));
        seconds(&mut world, 5).await;
        assert_eq!((cpu(&world, 0).0, conditions(&world, 0).len()), ("100m".into(), 0));
    });
}

#[test]
fn a_killed_kubelet_finishes_what_it_began() {
    on_paused_time(async {
        let mut main = container("a", json!({"cpu": "100m"}), json!({}));
        main["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        let other = container("b", json!({"cpu": "100m"}), json!({}));
        let mut world = World::new([json!({"containers": [main, other]})]);
        world.start();
        seconds(&mut world, 5).await;
        make_group(&world, 0, "max", "1000");
        let runtime = world.node.runtime.clone();
        runtime.fail("UpdateContainerResources", stuck());
        resize(&mut world, 0, "a", json!({"cpu": "200m"}), json!({}));
        resize(&mut world, 0, "b", json!({"cpu": "300m"}), json!({}));
        seconds(&mut world, 5).await;
        let restarts = |world: &World| world.status(&uid(0)).container_statuses.unwrap()[0].restart_count;
        assert!(
            conditions(&world, 0)[0].starts_with("PodResizeInProgress: Error "),
            "{:?}",
            conditions(&world, 0)
        );
        assert_eq!(restarts(&world), 1);
        world.process.take().unwrap().kill().await;
        runtime.fail("UpdateContainerResources", None);
        world.start();
        seconds(&mut world, 15).await;
        assert_eq!((conditions(&world, 0).len(), restarts(&world)), (0, 1), "it restarts once");
        assert_eq!(world.events("ResizeCompleted").len(), 1);
        let shares: Vec<i64> = ids(&world, 0).iter().map(|id| runtime_resources(&world, id).0).collect();
        assert_eq!(shares.iter().sum::<i64>(), 204 + 307, "{shares:?}");
    });
}
