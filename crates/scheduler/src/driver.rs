//! The I/O around [`Core`]: informers feed it, one task schedules, bindings run beside it, events and
//! conditions report what happened.

mod facts;
mod objects;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, EventStyle, Informer, Informers, Scope, Selectors};
use daemon::features::FeatureGates;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{Namespace, Pod};
use crate::core::explain::Explanation;
use crate::core::profile::{BindError, Profile};
use crate::core::queue::{Backoff, Sizes};
use crate::core::waiting::Rejection;
use crate::core::{Attempt, Binding, Core};
use crate::framework::{Changes, Handle, Remedy, Slot, Subject};
use crate::metrics;
use facts::Feed;
use objects::WholeObjects;

/// Bindings that write at once.
const BINDINGS: usize = 64;
/// Statuses, evictions of victims: on their way at once.
const WRITES: usize = 32;
/// Attempts before the task lets others run.
const BATCH: u32 = 8;

pub struct Scheduler {
    client: Client,
    core: Arc<Mutex<Core>>,
    wake: Arc<Notify>,
    started: Instant,
    bindings: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    tasks: TaskTracker,
    namespaces: Informer<Namespace>,
    handle: Handle,
    /// A pod whose binding takes a while shows the node that it is expected on.
    announces: bool,
    /// What extenders are sent, where there are any.
    objects: Option<WholeObjects>,
    /// Whether each of the caches beside these is filled.
    facts: Vec<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Scheduler {
    /// Starts to watch; nothing is scheduled before [`Scheduler::run`].
    pub fn new(
        client: Client,
        informers: &Informers,
        profiles: Vec<Profile>,
        backoff: Backoff,
        host: &str,
        gates: &FeatureGates,
    ) -> Arc<Scheduler> {
        let recorders = profiles
            .iter()
            .map(|profile| {
                let recorder = EventRecorder::with_style(
                    client.clone(),
                    profile.name.as_str(),
                    host,
                    EventStyle::Events,
                );
                (profile.name.clone(), recorder)
            })
            .collect();
        let unfinished = Selectors::fields("status.phase!=Succeeded,status.phase!=Failed");
        let handle = Handle {
            client: client.clone(),
            pods: informers.watch(Scope::All, unfinished),
            nodes: informers.all(),
            claims: informers.all(),
            volumes: informers.all(),
            device_claims: informers.all(),
            changes: Arc::new(Changes::default()),
            recorders,
        };
        let extenders = profiles.first().map(|profile| profile.extenders.clone()).unwrap_or_default();
        let core = Arc::new(Mutex::new(Core::new(profiles, backoff, rand::random())));
        let wake = Arc::new(Notify::new());
        let started = Instant::now();
        let facts =
            facts::follow(informers, &handle, &Feed { core: core.clone(), wake: wake.clone(), started });
        let objects = (!extenders.is_empty())
            .then(|| WholeObjects::new(informers, &client, extenders.clone(), core.clone()));
        let scheduler = Arc::new(Scheduler {
            objects,
            client,
            core,
            wake,
            started,
            bindings: Arc::new(Semaphore::new(BINDINGS)),
            writes: Arc::new(Semaphore::new(WRITES)),
            tasks: TaskTracker::new(),
            namespaces: informers.all(),
            handle,
            announces: gates.enabled("NominatedNodeNameForExpectation"),
            facts,
        });
        scheduler.watch();
        scheduler
    }

    fn watch(self: &Arc<Self>) {
        let own = Arc::downgrade(self);
        self.namespaces.on_event(move |event| {
            let Some(own) = own.upgrade() else { return };
            let mut core = own.core.lock();
            match event {
                Event::Added(namespace) | Event::Modified { new: namespace, .. } => {
                    core.set_namespace(namespace);
                }
                Event::Deleted(namespace) => core.table.namespaces.remove(&namespace.name),
            }
        });
        let own = Arc::downgrade(self);
        self.handle.nodes.on_event(move |event| {
            let Some(own) = own.upgrade() else { return };
            let mut core = own.core.lock();
            match event {
                Event::Added(node) => core.set_node(node, None, own.now()),
                Event::Modified { old, new } => core.set_node(new, Some(old), own.now()),
                Event::Deleted(node) => core.remove_node(&node.name, own.now()),
            }
            drop(core);
            own.handle.changes.notify(&Subject::Node(event.object().name.clone()));
            own.wake.notify_one();
        });
        let own = Arc::downgrade(self);
        self.handle.pods.on_event(move |event| {
            let Some(own) = own.upgrade() else { return };
            let mut core = own.core.lock();
            match event {
                Event::Added(pod) => core.set_pod(pod, None, own.now()),
                Event::Modified { old, new } => core.set_pod(new, Some(old), own.now()),
                Event::Deleted(pod) => core.remove_pod(pod, own.now()),
            }
            drop(core);
            own.handle.changes.notify(&Subject::Pod(event.object().key.clone()));
            own.wake.notify_one();
        });
    }

    /// Everything that placement depends on is in the cache.
    pub fn synced(&self) -> bool {
        let handle = &self.handle;
        handle.pods.has_synced()
            && handle.nodes.has_synced()
            && self.namespaces.has_synced()
            && self.objects.as_ref().is_none_or(WholeObjects::has_synced)
            && self.facts.iter().all(|has_synced| has_synced())
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn sizes(&self) -> Sizes {
        self.core.lock().queue.sizes()
    }

    /// Why a pod is pending; none for one that is not, or is not ours.
    pub fn explain(&self, namespace: &str, name: &str) -> Option<Explanation> {
        let pod = self.handle.pods.get(Some(namespace), name).filter(|pod| pod.node.is_empty())?;
        self.core.lock().explain(&pod)
    }

    /// Unbound pods of ours that are in no queue and on no node: there are none, unless something is wrong.
    pub fn lost(&self) -> usize {
        let pods = self.handle.pods.list();
        let core = self.core.lock();
        let unbound = pods.iter().filter(|pod| pod.node.is_empty() && !pod.deleting);
        let ours = unbound.filter(|pod| core.profiles.contains_key(&pod.needs.scheduler));
        ours.filter(|pod| core.queue.place_of(&pod.uid).is_none() && core.table.node_of(&pod.uid).is_none())
            .count()
    }

    /// Nodes, pods, assumed pods.
    pub fn cache_sizes(&self) -> (usize, usize, usize) {
        let core = self.core.lock();
        (core.table.nodes(), core.table.pods(), core.table.assumed())
    }

    pub(crate) fn incoming(&self) -> daemon::metrics::Samples {
        let core = self.core.lock();
        let counts = core.queue.incoming.iter();
        counts
            .map(|((queue, event), count)| (vec![event.to_string(), queue.to_string()], *count as f64))
            .collect()
    }

    pub(crate) fn rejected(&self) -> daemon::metrics::Samples {
        let core = self.core.lock();
        let mut samples = Vec::new();
        for profile in core.profiles.values() {
            let counts = core.queue.rejected(profile);
            for (plugin, count) in profile.plugins.iter().zip(counts).filter(|(_, count)| *count > 0) {
                samples.push((vec![plugin.name().into(), profile.name.to_string()], count as f64));
            }
        }
        samples
    }

    /// Schedules until `shutdown`, then lets bindings finish.
    pub async fn run(self: &Arc<Self>, shutdown: CancellationToken) {
        let synced = async {
            self.namespaces.synced().await;
            self.handle.nodes.synced().await;
            self.handle.claims.synced().await;
            self.handle.volumes.synced().await;
            self.handle.pods.synced().await;
            // The others are small: most are filled by now.
            while !self.synced() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if shutdown.run_until_cancelled(synced).await.is_none() {
            return;
        }
        tracing::info!("caches are synced, scheduling");
        let mut batch = 0;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            let (attempt, next) = {
                let mut core = self.core.lock();
                let attempt = core.attempt(self.now());
                let next = core.queue.next();
                (attempt, next)
            };
            if let Some(attempt) = attempt {
                let Some(attempt) = shutdown.run_until_cancelled(self.ask(attempt)).await else { break };
                self.handle(attempt, started, &shutdown).await;
                batch += 1;
                if batch % BATCH == 0 {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(self.started + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wake.notified() => {}
                () = sleep => {}
            }
        }
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.is_err() {
            tracing::warn!("bindings were still under way at shutdown");
        }
    }

    /// Asks extenders until they have no more say in the attempt.
    async fn ask(&self, mut attempt: Attempt) -> Attempt {
        loop {
            match (attempt, &self.objects) {
                (Attempt::Ask(inquiry), Some(objects)) => {
                    let answer = objects.ask(&inquiry).await;
                    attempt = self.core.lock().resume(*inquiry, answer, self.now());
                }
                (attempt, _) => return attempt,
            }
        }
    }

    async fn handle(self: &Arc<Self>, attempt: Attempt, started: Instant, shutdown: &CancellationToken) {
        metrics::ALGORITHM_DURATION.observe(started.elapsed().as_secs_f64());
        match attempt {
            // Those that are to be asked are asked before.
            Attempt::Skipped | Attempt::Ask(_) => {}
            Attempt::Bind(mut binding) => {
                let choice = &binding.choice;
                tracing::debug!(
                    pod = %binding.entry.pod.key, node = %binding.node, evaluatedNodes = choice.evaluated,
                    feasibleNodes = choice.feasible, "Attempting to bind pod to node"
                );
                // The queue's bound is here: while too many bindings are under way, nothing more is scheduled.
                // A waiting pod must not keep a slot: it may be waiting for pods that come after it.
                let wait = binding.wait.take();
                let mut slot = Slot::new(self.bindings.clone());
                if shutdown.run_until_cancelled(slot.acquire()).await.is_none() {
                    return;
                }
                let (own, shutdown) = (self.clone(), shutdown.clone());
                self.tasks.spawn(async move {
                    if own.announces
                        && (wait.is_some() || binding.profile.has_pre_bind(&binding.choice.cycle))
                    {
                        own.announce(&binding.entry.pod, &binding.node).await;
                    }
                    if let Some(waiting) = wait {
                        let decided = shutdown.run_until_cancelled(waiting.decided());
                        match slot.release_during(decided).await {
                            Some(Ok(())) => {}
                            Some(Err(rejection)) => {
                                return own.permit_rejected(*binding, &rejection, started).await;
                            }
                            None => return,
                        }
                    }
                    own.bind(*binding, started, slot).await;
                });
            }
            Attempt::Failed { pod, message } => {
                tracing::error!(pod = %pod.key, err = message, "Error scheduling pod; retrying");
                self.record("error", &pod, started);
                let permit = tokio::select! {
                    permit = self.writes.clone().acquire_owned() => permit.ok(),
                    () = shutdown.cancelled() => return,
                };
                let own = self.clone();
                self.tasks.spawn(async move {
                    own.unschedulable(&pod, "SchedulerError", &message, None).await;
                    drop(permit);
                });
            }
            Attempt::Unschedulable { pod, message, victims, ended_nominations, remedy } => {
                tracing::info!(pod = %pod.key, err = message, "Unable to schedule pod; no fit; waiting");
                self.record("unschedulable", &pod, started);
                let permit = tokio::select! {
                    permit = self.writes.clone().acquire_owned() => permit.ok(),
                    () = shutdown.cancelled() => return,
                };
                let own = self.clone();
                self.tasks.spawn(async move {
                    if let Some(Remedy::Deallocate(claim)) = remedy {
                        own.deallocate(&pod, &claim).await;
                    }
                    for other in &ended_nominations {
                        own.clear_nomination(other).await;
                    }
                    own.unschedulable(&pod, "Unschedulable", &message, victims).await;
                    drop(permit);
                });
            }
        }
    }

    fn record(&self, result: &str, pod: &Pod, started: Instant) {
        let labels = [result, pod.needs.scheduler.as_str()];
        metrics::ATTEMPTS.with(&labels).inc();
        metrics::ATTEMPT_DURATION.with(&labels).observe(started.elapsed().as_secs_f64());
    }

    /// Requeues a pod that a permit plugin rejected while it waited.
    async fn permit_rejected(&self, binding: Binding, rejection: &Rejection, started: Instant) {
        let (pod, node) = (binding.entry.pod.clone(), binding.node.clone());
        binding.profile.retract(&binding.choice.cycle, &pod, &self.handle).await;
        let message = self.core.lock().permit_rejected(binding, rejection, self.now());
        self.wake.notify_one();
        self.record("unschedulable", &pod, started);
        tracing::info!(pod = %pod.key, %node, err = rejection.message, "Pod rejected while waiting on permit");
        if let Some(message) = message {
            if self.announces {
                self.clear_nomination(&pod).await;
            }
            self.unschedulable(&pod, "Unschedulable", &message, None).await;
        }
    }

    async fn bind(&self, binding: Binding, started: Instant, mut slot: Slot) {
        let (pod, node) = (binding.entry.pod.clone(), binding.node.clone());
        let announced = self.announces && binding.profile.has_pre_bind(&binding.choice.cycle);
        let bound = binding.profile.bind(&self.handle, &binding.choice.cycle, &pod, &node, &mut slot).await;
        match bound {
            Ok(()) => {
                self.core.lock().bound(&binding);
                tracing::info!(pod = %pod.key, %node, "Successfully bound pod to node");
                self.record("scheduled", &pod, started);
                metrics::POD_ATTEMPTS.observe(f64::from(binding.entry.attempts));
                let attempts = binding.entry.attempts.min(15).to_string();
                metrics::SLI.with(&[&attempts]).observe((self.now() - binding.entry.first).as_secs_f64());
                self.report_scheduled(&pod, &node);
            }
            Err(error) => {
                binding.profile.retract(&binding.choice.cycle, &pod, &self.handle).await;
                let gone = matches!(&error, BindError::Api(error) if error.is_not_found());
                let again = self.core.lock().bind_failed(binding, gone, self.now());
                self.wake.notify_one();
                self.record("error", &pod, started);
                tracing::error!(pod = %pod.key, %node, %error, "Error scheduling pod; retrying");
                if again {
                    if announced {
                        self.clear_nomination(&pod).await;
                    }
                    self.unschedulable(&pod, "SchedulerError", &error.to_string(), None).await;
                }
            }
        }
    }
}
