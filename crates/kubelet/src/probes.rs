//! Startup, liveness and readiness probes: one task per container and probe, results by container id.

pub mod check;
mod early;
pub mod grpc;
pub mod http;
mod worker;

use crate::plan::ProbeResults;
use crate::pods::uid;
use crate::run::Kubelet;
use crate::status::Health;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Probe};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

#[derive(Default)]
pub struct Probes {
    pods: Mutex<HashMap<String, PodProbes>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct PodProbes {
    /// Ends all probes of the pod.
    stop: CancellationToken,
    /// Ends startup and liveness probes: a pod that is ending is not killed by its probes.
    stop_killing: CancellationToken,
    /// Each with what has it probe at once.
    workers: HashMap<(String, Kind), Arc<Notify>>,
    /// Instances whose probe has taken over; until then what the API server shows holds.
    adopted: HashSet<(String, Kind)>,
    health: Health,
    failed: ProbeResults,
}

impl Probes {
    /// Starts what is missing of a pod's probes.
    pub fn ensure(&self, kubelet: &Arc<Kubelet>, pod: &Pod) {
        let Some(spec) = &pod.spec else { return };
        let mut pods = self.pods.lock();
        let entry = pods.entry(uid(pod).to_owned()).or_default();
        let init = spec.init_containers.iter().flatten().filter(|it| crate::qos::is_sidecar(it));
        for container in init.chain(&spec.containers) {
            for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
                let Some(probe) = kind.of(container) else { continue };
                let key = (container.name.clone(), kind);
                if entry.workers.contains_key(&key) {
                    continue;
                }
                let trigger: Arc<Notify> = Arc::default();
                entry.workers.insert(key, trigger.clone());
                let stop = match kind {
                    Kind::Readiness => entry.stop.child_token(),
                    _ => entry.stop_killing.child_token(),
                };
                let worker =
                    worker::Worker::new(kubelet.clone(), pod, container, kind, probe.clone(), trigger);
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = worker.run() => {}
                    }
                });
            }
        }
    }

    /// `reported` is the status the API server has: a restart of the kubelet makes no container unready.
    pub fn health(&self, uid: &str, reported: Option<&PodStatus>) -> Health {
        let pods = self.pods.lock();
        let entry = pods.get(uid);
        let mut health = entry.map(|entry| entry.health.clone()).unwrap_or_default();
        let adopted = |id: &str, kind| entry.is_some_and(|it| it.adopted.contains(&(id.to_owned(), kind)));
        let init = reported.and_then(|reported| reported.init_container_statuses.as_ref());
        let containers = reported.and_then(|reported| reported.container_statuses.as_ref());
        for status in init.into_iter().chain(containers).flatten() {
            let Some((_, id)) = status.container_id.as_deref().and_then(|id| id.split_once("://")) else {
                continue;
            };
            if status.ready && !adopted(id, Kind::Readiness) {
                health.ready.insert(id.to_owned());
            }
            if status.started == Some(true) && !adopted(id, Kind::Startup) {
                health.started.insert(id.to_owned());
            }
        }
        health
    }

    /// Containers that have started and are not ready are probed now: they need not wait for their probe's next turn.
    pub fn hasten_readiness(&self, uid: &str, status: &PodStatus) {
        let pods = self.pods.lock();
        let Some(entry) = pods.get(uid) else { return };
        let containers =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        for container in containers.filter(|it| it.started == Some(true) && !it.ready) {
            if let Some(trigger) = entry.workers.get(&(container.name.clone(), Kind::Readiness)) {
                trigger.notify_one();
            }
        }
    }

    pub fn results(&self, uid: &str, reported: Option<&PodStatus>) -> ProbeResults {
        let started = self.health(uid, reported).started;
        let pods = self.pods.lock();
        let failed = pods.get(uid).map(|entry| entry.failed.clone()).unwrap_or_default();
        ProbeResults { started, ..failed }
    }

    fn adopt(&self, uid: &str, kind: Kind, id: &str) {
        if let Some(entry) = self.pods.lock().get_mut(uid) {
            entry.adopted.insert((id.to_owned(), kind));
        }
    }

    /// Takes in a result; whether it changed anything.
    fn set(&self, uid: &str, kind: Kind, id: &str, success: bool) -> bool {
        let mut pods = self.pods.lock();
        let Some(entry) = pods.get_mut(uid) else { return false };
        let put = |set: &mut HashSet<String>, present: bool| match present {
            true => set.insert(id.to_owned()),
            false => set.remove(id),
        };
        match kind {
            Kind::Readiness => put(&mut entry.health.ready, success),
            Kind::Liveness => put(&mut entry.failed.liveness_failed, !success),
            Kind::Startup => {
                let started = put(&mut entry.health.started, success);
                put(&mut entry.failed.startup_failed, !success) || started
            }
        }
    }

    fn is_started(&self, uid: &str, id: &str) -> bool {
        self.pods.lock().get(uid).is_some_and(|entry| entry.health.started.contains(id))
    }

    pub fn stop_for_termination(&self, uid: &str) {
        if let Some(entry) = self.pods.lock().get(uid) {
            entry.stop_killing.cancel();
        }
    }

    pub fn remove(&self, uid: &str) {
        if let Some(entry) = self.pods.lock().remove(uid) {
            entry.stop_killing.cancel();
            entry.stop.cancel();
        }
    }

    pub fn stop_all(&self) {
        for (_, entry) in self.pods.lock().drain() {
            entry.stop_killing.cancel();
            entry.stop.cancel();
        }
        self.tasks.close();
    }
}
