//! Pods through the whole kubelet, on a runtime in memory.
#![allow(clippy::unwrap_used)]

use cri::fake::FakeRuntime;
use k8s_openapi::api::core::v1::Pod;
use kubelet::config::KubeletConfiguration;
use kubelet::events::Events;
use kubelet::objects::Fake;
use kubelet::paths::Paths;
use kubelet::run::{Kubelet, Parts, serve};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Node {
    folder: tempfile::TempDir,
    runtime: Arc<FakeRuntime>,
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
        Self { folder, runtime: Arc::new(FakeRuntime::new()) }
    }

    fn start(&self) -> Running {
        let config = KubeletConfiguration {
            static_pod_path: self.folder.path().join("manifests").display().to_string(),
            enable_server: false,
            healthz_port: 0,
            eviction_hard: Default::default(),
            image_gc_high_threshold_percent: 100,
            ..Default::default()
        };
        let parts = Parts {
            runtime: self.runtime.clone(),
            images: self.runtime.clone(),
            runtime_name: "fake".into(),
            client: None,
            objects: Arc::new(Fake::default()),
            events: Arc::new(Events::new(None)),
            paths: Paths::below(self.folder.path()),
            node_name: "node".into(),
            node_ips: vec!["192.168.0.1".parse().unwrap()],
            labels: Default::default(),
            cgroup_mount: self.folder.path().join("cgroup"),
        };
        let kubelet = Kubelet::new(config, parts);
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
async fn a_lost_sandbox_is_made_anew_and_orphans_are_ended() {
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
