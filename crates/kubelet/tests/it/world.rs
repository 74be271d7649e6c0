//! A node on time of its own: its kubelet can be killed and started again, its runtime is as slow as a test wants it, and
//! the test itself stands in for the API server, which takes statuses and sends the pods back with them.

use super::*;
use k8s_openapi::api::core::v1::{PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubelet::qos;
use std::collections::{BTreeMap, BTreeSet};

/// How often the world is looked at while something happens: below what most calls take.
pub const GLANCE: Duration = Duration::from_millis(10);
/// How often it is looked at while it settles.
pub const SLOW_GLANCE: Duration = Duration::from_millis(250);

pub fn on_paused_time(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
}

/// One kubelet process.
pub struct Process {
    pub kubelet: Arc<Kubelet>,
    changes: Changes,
    shutdown: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl Process {
    fn start(node: &Node, pods: &BTreeMap<String, Arc<Pod>>) -> Self {
        let (kubelet, changes, shutdown) = (node.assemble(), Changes::default(), CancellationToken::new());
        let mut tasks = tokio::task::JoinSet::new();
        let (of, stop) = (kubelet.clone(), shutdown.clone());
        tasks.spawn(async move { of.pleg.run(of.clone(), stop).await });
        let (of, stop) = (kubelet.clone(), shutdown.clone());
        tasks.spawn(async move { of.housekeeping.run(of.clone(), stop).await });
        tasks.spawn(kubelet.volumes.clone().run(kubelet.pods.clone(), shutdown.clone()));
        tasks.spawn(kubelet::sources::dispatch(kubelet.clone(), changes.clone(), shutdown.clone()));
        pods.values().for_each(|pod| changes.send(Change::Put(pod.clone())));
        changes.send(Change::ApiListed);
        changes.send(Change::ManifestsRead);
        Self { kubelet, changes, shutdown, tasks }
    }

    /// Kills the kubelet as kill -9 does: no future of it continues.
    pub async fn kill(mut self) {
        self.shutdown.cancel();
        self.kubelet.probes.stop_all();
        self.tasks.shutdown().await;
        self.kubelet.supervisor.finished().await;
    }
}

/// A node with its runtime, the kubelet on it, and an API server.
pub struct World {
    pub node: Node,
    pub process: Option<Process>,
    /// What the API server has, by uid.
    pub pods: BTreeMap<String, Arc<Pod>>,
    deleted: BTreeSet<String>,
    /// Pods that never restart and lost their sandbox: before their containers began, they wait for ever, as upstream's do.
    pub stranded: BTreeSet<String>,
}

pub fn uid(pod: usize) -> String {
    format!("uid-{pod}")
}

fn is_terminal(status: Option<&PodStatus>) -> bool {
    matches!(status.and_then(|it| it.phase.as_deref()), Some("Succeeded" | "Failed"))
}

impl World {
    /// A world with a pod of each spec, which the kubelet learns of when it starts.
    pub fn new(specs: impl IntoIterator<Item = serde_json::Value>) -> Self {
        let pod = |(number, spec): (usize, serde_json::Value)| {
            let pod = json!({
                "metadata": {"name": format!("pod-{number}"), "namespace": "n", "uid": uid(number)},
                "spec": spec, "status": {"phase": "Pending"}
            });
            (uid(number), Arc::new(serde_json::from_value(pod).unwrap()))
        };
        let node = Node::new();
        // This file marks cgroup v2.
        std::fs::write(node.folder.path().join("cgroup/cgroup.controllers"), "").unwrap();
        Self {
            node,
            process: None,
            pods: specs.into_iter().enumerate().map(pod).collect(),
            deleted: BTreeSet::new(),
            stranded: BTreeSet::new(),
        }
    }

    pub fn start(&mut self) {
        self.process = Some(Process::start(&self.node, &self.pods));
    }

    pub fn send(&self, change: Change) {
        if let Some(process) = &self.process {
            process.changes.send(change);
        }
    }

    pub fn change(&mut self, uid: &str, change: impl FnOnce(&mut Pod)) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        change(Arc::make_mut(pod));
        let pod = pod.clone();
        self.send(Change::Put(pod));
    }

    pub fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.deleted.insert(uid.to_owned());
            self.send(Change::Removed(pod));
        }
    }

    pub fn delete(&mut self, uid: &str, grace: i64) {
        let now = Time(self.node.clock().now());
        self.change(uid, |pod| {
            let before = pod.metadata.deletion_grace_period_seconds.unwrap_or(i64::MAX);
            pod.metadata.deletion_timestamp = Some(now);
            pod.metadata.deletion_grace_period_seconds = Some(before.min(grace));
        });
    }

    pub fn status(&self, uid: &str) -> PodStatus {
        self.pods.get(uid).and_then(|pod| pod.status.clone()).unwrap_or_default()
    }

    pub fn events(&self, reason: &str) -> Vec<String> {
        let events = self.process.as_ref().map(|it| it.kubelet.events.kept()).unwrap_or_default();
        events.into_iter().filter(|(it, _)| it == reason).map(|(_, message)| message).collect()
    }

    /// Lets time pass, with a look at the world now and then.
    pub async fn pass(&mut self, time: Duration, glance: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(glance).await;
            self.check();
            self.exchange();
        }
    }

    /// Lets time pass until every container that ends by itself has ended.
    pub async fn settle(&mut self) {
        for _ in 0..25 {
            self.pass(Duration::from_secs(20), SLOW_GLANCE).await;
            for uid in self.pods.keys() {
                let (running, _) = self.node.runtime.running(uid);
                running
                    .iter()
                    .filter(|(name, _)| name == "init")
                    .for_each(|(_, id)| self.node.runtime.exit(id, 0, "Completed"));
            }
        }
    }

    /// The API server takes statuses, shows them to whoever watches, and lets go of pods that are gone.
    fn exchange(&mut self) {
        let Some(process) = &self.process else { return };
        let kubelet = process.kubelet.clone();
        for (uid, pod) in self.pods.clone() {
            let Some(status) = kubelet.pods.status(&uid) else { continue };
            let before = pod.status.clone().unwrap_or_default();
            assert!(
                !is_terminal(Some(&before)) || status.phase == before.phase,
                "{uid} came back from {:?} to {:?}",
                before.phase,
                status.phase
            );
            if before != *status {
                self.change(&uid, |pod| pod.status = Some(PodStatus::clone(&status)));
            }
            let waits = pod.metadata.finalizers.as_ref().is_some_and(|it| !it.is_empty());
            if pod.metadata.deletion_timestamp.is_some() && kubelet.status.is_finished(&uid) && !waits {
                self.remove(&uid);
            }
        }
    }

    fn check(&mut self) {
        let runtime = &self.node.runtime;
        for (uid, pod) in &self.pods {
            let (containers, sandboxes) = runtime.running(uid);
            let ours = self.process.as_ref().and_then(|it| it.kubelet.pods.status(uid));
            for status in [ours.as_deref(), pod.status.as_ref()] {
                assert!(
                    !is_terminal(status) || (containers.is_empty() && sandboxes.is_empty()),
                    "{uid} is {:?} while {containers:?} and {sandboxes:?} run",
                    status.and_then(|it| it.phase.clone())
                );
            }
            let names: BTreeSet<&String> = containers.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), containers.len(), "{uid} has two of one container: {containers:?}");
            if containers.iter().any(|(name, _)| name == "init") {
                assert!(!names.contains(&"a".to_owned()), "{uid} was not initialized: {containers:?}");
            }
        }
        let ran = runtime.ran();
        let attempts: BTreeSet<_> = ran.iter().map(|it| (&it.pod_uid, &it.container, it.attempt)).collect();
        assert_eq!(attempts.len(), ran.len(), "an attempt ran twice: {ran:?}");
    }

    /// A pod's cgroup has what the pod was given, whatever it asks for by now and whoever wrote to it.
    pub async fn check_cgroups(&mut self) {
        let kubelet = self.process.as_ref().unwrap().kubelet.clone();
        let mount = self.node.folder.path().join("cgroup");
        let mut groups = Vec::new();
        for (uid, pod) in &self.pods {
            if self.node.runtime.running(uid).0.is_empty() {
                continue;
            }
            let group = mount.join(kubelet.cgroups.parent(pod).trim_start_matches('/'));
            assert!(group.is_dir(), "{uid} runs without a cgroup");
            for (file, value) in [("memory.max", "7"), ("cpu.max", "7 100000")] {
                std::fs::write(group.join(file), value).unwrap();
            }
            groups.push((uid.clone(), group));
        }
        // Two rounds of the workers.
        self.pass(Duration::from_secs(130), SLOW_GLANCE).await;
        for (uid, group) in groups {
            let take = |file: &str| {
                let text = std::fs::read_to_string(group.join(file)).unwrap();
                std::fs::remove_file(group.join(file)).unwrap();
                text
            };
            let (memory, cpu) = (take("memory.max"), take("cpu.max"));
            let status = self.status(&uid);
            let given: Vec<_> = status.container_statuses.iter().flatten().map(|it| &it.resources).collect();
            let sum = |name: &str| -> Option<i64> {
                let limit =
                    |it: &&Option<ResourceRequirements>| qos::amount(it.as_ref()?.limits.as_ref(), name);
                given.iter().map(limit).sum()
            };
            let text = |limit: Option<i64>| limit.map_or("max".to_owned(), |limit| limit.to_string());
            assert_eq!(memory, text(sum("memory")), "memory of {uid}");
            // Thousandths of a processor in a period of a tenth of a second.
            assert_eq!(cpu, format!("{} 100000", text(sum("cpu").map(|it| it * 100))), "cpu of {uid}");
        }
    }

    /// What holds when nothing happens any more.
    pub fn check_rest(&self) {
        let runtime = &self.node.runtime;
        for uid in &self.deleted {
            let left = runtime.remains(uid);
            assert!(left.is_empty(), "{uid} is deleted, and {left:?} is left");
            let folder = self.process.as_ref().unwrap().kubelet.paths.pod_dir(uid);
            assert!(!folder.exists(), "{uid} is deleted, and its folder is left");
        }
        for (uid, pod) in &self.pods {
            let status = pod.status.as_ref();
            let phase = status.and_then(|status| status.phase.as_deref());
            assert!(pod.metadata.deletion_timestamp.is_none(), "{uid} is {phase:?} and never deleted");
            let (containers, _) = runtime.running(uid);
            let spec = pod.spec.as_ref().unwrap();
            let always = spec.restart_policy.as_deref().unwrap_or("Always") == "Always";
            for container in spec.containers.iter().filter(|_| always && !is_terminal(status)) {
                let id = containers.iter().find(|(name, _)| *name == container.name).map(|(_, id)| id);
                let config = id.and_then(|id| runtime.container_config(id));
                let config =
                    config.unwrap_or_else(|| panic!("{uid} is {phase:?} without {}", container.name));
                let image = config.image.unwrap_or_default();
                assert_eq!(Some(image.image), container.image, "{uid} runs {}", container.name);
            }
            let stranded = spec.restart_policy.as_deref() == Some("Never") && self.stranded.contains(uid);
            if !is_terminal(status) && !stranded {
                assert!(!containers.is_empty(), "{uid} is {phase:?} and does not run");
            }
        }
    }
}
