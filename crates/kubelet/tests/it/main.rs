//! Pods through the whole kubelet, on a runtime in memory.
#![allow(clippy::unwrap_used)]

mod histories;
mod lifecycle;
mod resize;
mod world;

use cri::RuntimeService;
use cri::fake::{Conduct, FakeRuntime};
use k8s_openapi::api::core::v1::Pod;
use kubelet::allocation::Allocations;
use kubelet::clock::Clock;
use kubelet::config::KubeletConfiguration;
use kubelet::events::Events;
use kubelet::eviction::{Crossed, Evictor, Resource};
use kubelet::node::addresses::Addresses;
use kubelet::objects::Fake;
use kubelet::paths::Paths;
use kubelet::run::{Kubelet, Parts, serve};
use kubelet::sources::{Change, Changes};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Node {
    folder: tempfile::TempDir,
    runtime: Arc<FakeRuntime>,
    objects: Arc<Fake>,
}

struct Running {
    kubelet: Arc<Kubelet>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("manifests")).unwrap();
        std::fs::create_dir_all(folder.path().join("cgroup")).unwrap();
        Self { folder, runtime: Arc::new(FakeRuntime::new()), objects: Arc::default() }
    }

    /// The runtime's.
    fn clock(&self) -> Clock {
        let runtime = self.runtime.clone();
        Clock::new(move || runtime.now())
    }

    fn assemble(&self) -> Arc<Kubelet> {
        let config = KubeletConfiguration {
            static_pod_path: self.folder.path().join("manifests").display().to_string(),
            enable_server: false,
            healthz_port: 0,
            eviction_hard: Default::default(),
            image_gc_high_threshold_percent: 100,
            image_minimum_gc_age: daemon::flags::Duration(Duration::ZERO),
            ..Default::default()
        };
        let parts = Parts {
            runtime: self.runtime.clone(),
            images: self.runtime.clone(),
            runtime_name: "fake".into(),
            client: None,
            objects: self.objects.clone(),
            events: Arc::new(Events::new(None)),
            paths: Paths::below(self.folder.path()),
            node_name: "node".into(),
            addresses: Arc::new(Addresses::new("192.168.0.1", "node").unwrap()),
            labels: Default::default(),
            cloud: Default::default(),
            allocations: Allocations::open(self.folder.path()).unwrap(),
            cgroup_mount: self.folder.path().join("cgroup"),
            clock: self.clock(),
        };
        Kubelet::new(config, parts)
    }

    fn start(&self) -> Running {
        let kubelet = self.assemble();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(kubelet.clone(), None, shutdown.clone()));
        Running { kubelet, shutdown, task }
    }

    fn manifest(&self, name: &str, spec: serde_json::Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        std::fs::write(self.folder.path().join("manifests").join(name), pod.to_string()).unwrap();
    }
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.kubelet.pods.get("default", &format!("{name}-node"))
    }

    fn phase(&self, name: &str) -> String {
        let status =
            self.pod(name).and_then(|pod| self.kubelet.pods.status(pod.metadata.uid.as_deref().unwrap()));
        status.and_then(|status| status.phase.clone()).unwrap_or_default()
    }

    fn has_event(&self, reason: &str, message: &str) -> bool {
        self.kubelet.events.kept().iter().any(|(r, m)| r == reason && m.contains(message))
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_survives_a_restart_of_the_kubelet_and_ends() {
    let node = Node::new();
    node.manifest(
        "web",
        json!({
            "initContainers": [{"name": "i", "image": "busybox:1"}],
            "containers": [{"name": "a", "image": "busybox:1", "command": ["sh"]}]
        }),
    );
    let running = node.start();
    until("init container", || !node.runtime.containers_named("i").is_empty()).await;
    assert!(node.runtime.containers_named("a").is_empty(), "not before the init container is done");
    node.runtime.exit(&node.runtime.containers_named("i")[0].id, 0, "Completed");
    until("running", || running.phase("web") == "Running").await;
    assert!(running.has_event("Pulled", "Successfully pulled image \"busybox:1\""));
    assert!(running.has_event("Started", "Container started"));
    let first = node.runtime.containers_named("a")[0].clone();
    let config = node.runtime.container_config(&first.id).unwrap();
    assert_eq!(config.labels["io.kubernetes.container.name"], "a");
    assert!(config.mounts.iter().any(|mount| mount.container_path == "/etc/hosts"));
    assert!(config.mounts.iter().any(|mount| mount.container_path == "/dev/termination-log"));
    running.stop().await;

    let calls = node.runtime.calls().len();
    let running = node.start();
    until("running again", || running.phase("web") == "Running").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let since: Vec<String> = node
        .runtime
        .calls()
        .split_off(calls)
        .into_iter()
        .filter(|call| !call.starts_with("Status"))
        .collect();
    assert_eq!(since, Vec::<String>::new(), "a restart of the kubelet touches nothing");

    // The container dies: it comes back at once, then with a back-off.
    node.runtime.exit(&first.id, 1, "Error");
    until("restarted", || node.runtime.containers_named("a").len() == 2).await;
    node.runtime.exit(&node.runtime.containers_named("a")[1].id, 1, "Error");
    until("backing off", || {
        running.has_event("BackOff", "Back-off restarting failed container a in pod web-node")
    })
    .await;

    std::fs::remove_file(node.folder.path().join("manifests/web")).unwrap();
    until("gone", || running.pod("web").is_none()).await;
    assert!(node.runtime.sandbox_configs().is_empty());
    assert!(!running.kubelet.paths.pods_dir().read_dir().unwrap().any(|_| true), "no folder is left");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sandbox_is_recreated_and_orphans_are_ended() {
    let node = Node::new();
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:1"}]}));
    let running = node.start();
    until("running", || running.phase("web") == "Running").await;
    let sandbox = running.kubelet.pods.sandbox_id("default", "web-node").unwrap();
    node.runtime.lose_sandbox(&sandbox);
    until("another sandbox", || {
        running.kubelet.pods.sandbox_id("default", "web-node").is_some_and(|id| id != sandbox)
    })
    .await;
    assert!(running.has_event("SandboxChanged", "Pod sandbox changed"));
    running.stop().await;

    // Its manifest goes while no kubelet runs.
    std::fs::remove_file(node.folder.path().join("manifests/web")).unwrap();
    let running = node.start();
    until("orphan ended", || node.runtime.sandbox_configs().is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_probe_restarts_the_container() {
    let node = Node::new();
    node.runtime.answer_exec("check", 1, "not well");
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1});
    node.manifest(
        "web",
        json!({"containers": [{"name": "a", "image": "busybox:1", "livenessProbe": probe}]}),
    );
    let running = node.start();
    until("restarted", || node.runtime.containers_named("a").len() >= 2).await;
    assert!(running.has_event("Unhealthy", "Liveness probe failed: not well"));
    assert!(running.has_event("Killing", "Container a failed liveness probe, will be restarted"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_has_a_moment_when_the_grace_is_over() {
    let node = Node::new();
    node.manifest(
        "web",
        json!({
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "s", "image": "busybox:1", "restartPolicy": "Always"}],
            "containers": [{"name": "a", "image": "busybox:1"}]
        }),
    );
    let running = node.start();
    until("running", || running.phase("web") == "Running").await;
    let id = |name| node.runtime.containers_named(name)[0].id.clone();
    let (container, sidecar) = (id("a"), id("s"));
    std::fs::remove_file(node.folder.path().join("manifests/web")).unwrap();
    until("gone", || running.pod("web").is_none()).await;
    assert_eq!((node.runtime.grace(&container), node.runtime.grace(&sidecar)), (Some(1), Some(2)));
    running.stop().await;
}

/// As the API server sends it.
fn api_pod(name: &str, priority: i32, security: serde_json::Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
            "spec": {
                "priority": priority,
                "securityContext": security,
                "containers": [{"name": name, "image": "busybox:1"}],
            },
        }))
        .unwrap(),
    )
}

fn state_of(node: &Node, container: &str) -> Option<i32> {
    node.runtime.containers_named(container).last().map(|status| status.state)
}

const RUNNING: i32 = cri::v1::ContainerState::ContainerRunning as i32;

fn stuck() -> Option<cri::Error> {
    Some(cri::Error::new(cri::Code::Unknown, "stuck".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_pod_that_is_not_for_this_node_does_not_run() {
    let node = Node::new();
    let containers = json!([{"name": "a", "image": "busybox:1"}]);
    node.manifest("elsewhere", json!({"nodeSelector": {"zone": "b"}, "containers": containers}));
    node.manifest("here", json!({"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": containers}));
    let running = node.start();
    until("running", || running.phase("here") == "Running").await;
    until("refused", || running.phase("elsewhere") == "Failed").await;
    let text = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert!(running.has_event("NodeAffinity", text));
    assert_eq!(node.runtime.containers_named("a").len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_static_pod_waits_for_its_old_self() {
    let node = Node::new();
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:1"}]}));
    let running = node.start();
    until("running", || running.phase("web") == "Running").await;
    let old = running.pod("web").unwrap().metadata.uid.clone();

    node.runtime.fail("StopContainer", stuck());
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:2"}]}));
    until("the new one known", || running.pod("web").is_some_and(|pod| pod.metadata.uid != old)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.runtime.sandbox_configs().len(), 1, "the old one is still there");
    // Edited once more: what never ran goes at once, the newest waits.
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:3"}]}));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.runtime.sandbox_configs().len(), 1, "the old one is still there");

    node.runtime.fail("StopContainer", None);
    until("the newest running", || running.phase("web") == "Running").await;
    let calls = node.runtime.calls();
    let ran = calls.iter().filter(|call| call.starts_with("RunPodSandbox")).count();
    assert_eq!(ran, 2, "one sandbox each for the first and the last");
    let stopped = calls.iter().position(|call| call.starts_with("StopPodSandbox")).unwrap();
    let second = calls.iter().rposition(|call| call.starts_with("RunPodSandbox")).unwrap();
    assert!(stopped < second);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_go_on_as_soon_as_the_runtime_is_back() {
    let node = Node::new();
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    let (listed, until_then) = (kubelet.clone(), shutdown.clone());
    let lists = tokio::spawn(async move { listed.pleg.run(listed.clone(), until_then).await });
    until("listed", || kubelet.pleg.problem().is_none()).await;
    node.runtime.fail("ListPodSandbox", stuck());
    kubelet.supervisor.update(&kubelet, api_pod("web", 0, json!({})), &shutdown);
    tokio::time::sleep(Duration::from_secs(2)).await;

    node.runtime.fail("ListPodSandbox", None);
    let back = std::time::Instant::now();
    until("running", || state_of(&node, "web") == Some(RUNNING)).await;
    assert!(back.elapsed() < Duration::from_secs(4), "not when its worker would have looked again by itself");
    shutdown.cancel();
    lists.await.unwrap();
    kubelet.supervisor.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_the_last_kubelet_was_starting_is_not_started_twice() {
    let node = Node::new();
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:1"}]}));
    node.runtime.fail("StartContainer", stuck());
    let running = node.start();
    until("made, not started", || running.has_event("Failed", "stuck")).await;
    running.stop().await;
    let first = node.runtime.containers_named("a").remove(0).id;

    // The runtime is at it still: it refuses to remove the container, and has it running in the end.
    node.runtime.fail("StartContainer", None);
    node.runtime.fail("RemoveContainer", stuck());
    let running = node.start();
    until("removal refused", || node.runtime.calls().contains(&format!("RemoveContainer {first}"))).await;
    node.runtime.start_container(&first).await.unwrap();
    until("running", || running.phase("web") == "Running").await;
    let ids: Vec<_> = node.runtime.containers_named("a").into_iter().map(|it| it.id).collect();
    assert_eq!(ids, [first]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_an_orphan_before_all_sources_have_listed_their_pods() {
    let node = Node::new();
    node.manifest("web", json!({"containers": [{"name": "a", "image": "busybox:1"}]}));
    let running = node.start();
    until("running", || running.phase("web") == "Running").await;
    running.stop().await;

    // Both sources are slow.
    let (kubelet, changes, shutdown) = (node.assemble(), Changes::default(), CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    let (of, stop) = (kubelet.clone(), shutdown.clone());
    tasks.spawn(async move { of.pleg.run(of.clone(), stop).await });
    let (of, stop) = (kubelet.clone(), shutdown.clone());
    tasks.spawn(async move { of.housekeeping.run(of.clone(), stop).await });
    tasks.spawn(kubelet::sources::dispatch(kubelet.clone(), changes.clone(), shutdown.clone()));
    for known in [Change::ApiListed, Change::ManifestsRead] {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(state_of(&node, "a"), Some(RUNNING), "before {known:?}");
        changes.send(known);
    }
    until("ended as an orphan", || node.runtime.sandbox_configs().is_empty()).await;
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn running_containers_of_a_rejected_pod_are_stopped() {
    let node = Node::new();
    let shutdown = CancellationToken::new();
    let before = node.assemble();
    before.supervisor.update(&before, api_pod("web", 0, json!({})), &shutdown);
    until("running", || state_of(&node, "web") == Some(RUNNING)).await;
    shutdown.cancel();
    before.supervisor.finished().await;

    // Another kubelet, which would not have let it in, and an API server that never heard of its start.
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    let security = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    kubelet.supervisor.update(&kubelet, api_pod("web", 0, security), &shutdown);
    until("ended", || state_of(&node, "web") != Some(RUNNING)).await;
    until("said so", || kubelet.pods.status("uid-web").is_some()).await;
    let status = kubelet.pods.status("uid-web").unwrap();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("SysctlForbidden"))
    );
    shutdown.cancel();
    kubelet.supervisor.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_force_makes_room_at_once() {
    let node = Node::new();
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    let with_port = |name: &str| {
        let mut pod = Pod::clone(&api_pod(name, 0, json!({})));
        let ports = json!([{"containerPort": 80, "hostPort": 80}]);
        pod.spec.as_mut().unwrap().containers[0].ports = serde_json::from_value(ports).unwrap();
        Arc::new(pod)
    };
    kubelet.supervisor.update(&kubelet, with_port("first"), &shutdown);
    until("running", || state_of(&node, "first") == Some(RUNNING)).await;
    node.runtime.fail("StopContainer", stuck());
    kubelet.supervisor.remove(&kubelet, "uid-first");
    kubelet.supervisor.update(&kubelet, with_port("second"), &shutdown);
    until("running beside it", || state_of(&node, "second") == Some(RUNNING)).await;
    node.runtime.fail("StopContainer", None);
    shutdown.cancel();
    kubelet.supervisor.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_pod_is_evicted_when_the_last_is_gone() {
    let node = Node::new();
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    for (name, priority) in [("second", 5), ("first", 1), ("never", 2_000_000_000)] {
        kubelet.supervisor.update(&kubelet, api_pod(name, priority, json!({})), &shutdown);
    }
    let running = |name| state_of(&node, name) == Some(RUNNING);
    until("running", || ["second", "first", "never"].into_iter().all(running)).await;

    let mut evictor = Evictor::default();
    let low = Crossed { resource: Resource::Memory, threshold: 100 << 20, available: 50 << 20 };
    node.runtime.fail("StopContainer", stuck());
    assert_eq!(evictor.evict(&kubelet, low).await.as_deref(), Some("uid-first"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(evictor.evict(&kubelet, low).await, None, "the first still ends");
    node.runtime.fail("StopContainer", None);
    let gone = || kubelet.pods.runtime_pod("uid-first").is_none_or(|found| !found.is_running());
    until("the first gone", gone).await;
    until("the first failed", || {
        kubelet.pods.status("uid-first").is_some_and(|status| status.phase.as_deref() == Some("Failed"))
    })
    .await;
    let status = kubelet.pods.status("uid-first").unwrap();
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ";
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Evicted"), Some(message)));
    let disruption = status.conditions.iter().flatten().find(|it| it.type_ == "DisruptionTarget").unwrap();
    assert_eq!(
        (disruption.status.as_str(), disruption.reason.as_deref()),
        ("True", Some("TerminationByKubelet"))
    );
    assert_eq!(evictor.evict(&kubelet, low).await.as_deref(), Some("uid-second"));
    shutdown.cancel();
    kubelet.supervisor.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_over_or_refused_take_no_room() {
    let node = Node::new();
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    let with_port = |name: &str, port: i32, sysctl: Option<&str>, phase: &str| {
        let sysctls: Vec<_> = sysctl.into_iter().map(|name| json!({"name": name, "value": "1"})).collect();
        let mut pod = Pod::clone(&api_pod(name, 0, json!({"sysctls": sysctls})));
        let ports = json!([{"containerPort": 80, "hostPort": port}]);
        pod.spec.as_mut().unwrap().containers[0].ports = serde_json::from_value(ports).unwrap();
        let status = json!({"phase": phase, "startTime": "2026-01-01T00:00:00Z"});
        pod.status = (phase != "Pending").then(|| serde_json::from_value(status).unwrap());
        Arc::new(pod)
    };
    // After a restart nothing is known of it but what the API server says.
    kubelet.supervisor.update(&kubelet, with_port("done", 80, None, "Succeeded"), &shutdown);
    kubelet.supervisor.update(&kubelet, with_port("next", 80, None, "Pending"), &shutdown);
    // In a burst its worker has not said yet that it was refused.
    kubelet.supervisor.update(
        &kubelet,
        with_port("refused", 81, Some("kernel.msgmax"), "Pending"),
        &shutdown,
    );
    kubelet.supervisor.update(&kubelet, with_port("after", 81, None, "Pending"), &shutdown);
    until("running", || ["next", "after"].into_iter().all(|name| state_of(&node, name) == Some(RUNNING)))
        .await;
    assert_eq!(state_of(&node, "refused"), None);
    shutdown.cancel();
    kubelet.supervisor.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_end_side_by_side() {
    const ORPHANS: usize = 6;
    let node = Node::new();
    let (before, shutdown) = (node.assemble(), CancellationToken::new());
    for number in 0..ORPHANS {
        let mut pod = Pod::clone(&api_pod(&format!("web{number}"), 0, json!({})));
        let hook = json!({"preStop": {"sleep": {"seconds": 3}}});
        pod.spec.as_mut().unwrap().containers[0].lifecycle = serde_json::from_value(hook).unwrap();
        before.supervisor.update(&before, Arc::new(pod), &shutdown);
    }
    let up = |number| state_of(&node, &format!("web{number}")) == Some(RUNNING);
    until("running", || (0..ORPHANS).all(up)).await;
    shutdown.cancel();
    before.supervisor.finished().await;

    let running = node.start();
    let ending = || running.kubelet.events.kept().iter().filter(|(reason, _)| reason == "Killing").count();
    until("all are ending", || ending() == ORPHANS).await;
    assert!((0..ORPHANS).all(up), "none has waited for another's end");
    until("all gone", || node.runtime.sandbox_configs().is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_full_name_is_too_long_does_not_start() {
    let node = Node::new();
    let (kubelet, shutdown) = (node.assemble(), CancellationToken::new());
    let mut pod = Pod::clone(&api_pod("web", 0, json!({})));
    let spec = pod.spec.as_mut().unwrap();
    (spec.set_hostname_as_fqdn, spec.subdomain) = (Some(true), Some("s".repeat(63)));
    kubelet.supervisor.update(&kubelet, Arc::new(pod), &shutdown);
    until("refused", || {
        let text =
            "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain";
        kubelet
            .events
            .kept()
            .iter()
            .any(|(reason, message)| reason == "FailedCreatePodSandBox" && message.starts_with(text))
    })
    .await;
    assert!(node.runtime.sandbox_configs().is_empty());
    shutdown.cancel();
    kubelet.supervisor.finished().await;
}
