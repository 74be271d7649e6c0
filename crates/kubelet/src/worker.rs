//! One task per pod. It runs the pod (sync), ends it (terminate) and cleans up after it (clean up), looking at
//! the runtime afresh every time: nothing it remembers is needed after a restart of the kubelet.

mod act;
mod obstacles;
mod orders;
mod resize;
pub mod start;
pub mod supervisor;
pub mod terminate;

pub use orders::{Failure, Orders};

use crate::allocation::resize::{Trigger, room_appeared};
use crate::allocation::{self, conditions};
use crate::events::Normal;
use crate::figures::FIGURES;
use crate::node::shares;
use crate::plan::backoff::Backoffs;
use crate::plan::{self, Context};
use crate::pods::{self, title};
use crate::run::Kubelet;
use crate::runtime::{self, RuntimePod};
use crate::status::{self, Generated, Input, Reasons};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use obstacles::Obstacles;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error, info};

pub struct Worker {
    kubelet: Arc<Kubelet>,
    orders: Arc<Orders>,
    uid: String,
    reasons: Reasons,
    backoffs: Backoffs,
    obstacles: Obstacles,
    /// Once over, a pod never runs again.
    over: bool,
    /// Nothing of it is left but what its deletion takes: its status is the last.
    cleaned: bool,
}

/// How long until the worker looks again on its own.
const RESYNC: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(10);

impl Worker {
    pub fn new(kubelet: Arc<Kubelet>, orders: Arc<Orders>) -> Self {
        let uid = pods::uid(&orders.pod()).to_owned();
        let longest = kubelet.config.crash_loop_back_off.max_container_restart_period.as_ref();
        let backoffs =
            Backoffs::new(plan::backoff::INITIAL, longest.map_or(plan::backoff::LONGEST, |it| it.0));
        Self {
            kubelet,
            orders,
            uid,
            reasons: Reasons::new(),
            backoffs,
            obstacles: Obstacles::default(),
            over: false,
            cleaned: false,
        }
    }

    /// Runs until the pod is gone from its source and from this node.
    pub async fn run(mut self) {
        let orders = self.orders.clone();
        self.over = status::manager::is_over(&orders.pod());
        loop {
            // Drops interrupts sent so far: the orders read below already include them. Later ones interrupt.
            let _ = orders.interrupt.notified().now_or_never();
            // Everything below works with what the pod was allocated.
            let pod = self.kubelet.allocations.allocated(&orders.pod());
            let state = orders.state();
            let ending = self.over
                || state.removed
                || state.failure.is_some()
                || pod.metadata.deletion_timestamp.is_some();
            let pause = if ending {
                match self.end(&pod, &state).await {
                    Ok(()) if state.removed => return self.leave(&pod),
                    Ok(()) => None,
                    Err(Error::Retry) => Some(Duration::from_millis(100)),
                    Err(error) => {
                        error!(pod = title(&pod), %error, "Error ending the pod, will retry");
                        Some(Duration::from_secs(2))
                    }
                }
            } else {
                tokio::select! {
                    result = self.timed_sync(&pod) => match result {
                        Ok(pause) => Some(pause),
                        Err(error) => {
                            error!(pod = title(&pod), %error, "Error syncing pod, skipping");
                            Some(RETRY)
                        }
                    },
                    () = orders.interrupt.notified() => continue,
                }
            };
            if !ending && self.over {
                continue;
            }
            let sleep = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = orders.wake.notified() => {}
                () = orders.interrupt.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn leave(&self, pod: &Pod) {
        info!(pod = title(pod), "Pod is gone");
        self.kubelet.allocations.forget(&self.uid);
        self.kubelet.status.forget(&self.uid);
        self.kubelet.puller.forget(&self.uid);
        self.kubelet.pods.remove(&self.uid);
        if pods::is_static(pod) {
            crate::mirror::changed(&self.kubelet, pods::namespace(pod), pods::name(pod));
        }
    }

    /// Reads the pod's state from the runtime, with termination messages, and publishes it to the rest of the kubelet.
    async fn observe(&self) -> cri::Result<Arc<RuntimePod>> {
        let mut found = runtime::read_pod(&*self.kubelet.runtime, &self.uid).await?;
        start::read_termination_messages(&mut found).await;
        let found = Arc::new(found);
        self.kubelet.pods.set_runtime(&self.uid, found.clone());
        Ok(found)
    }

    fn generate(&self, pod: &Pod, runtime: &RuntimePod, terminal: bool) -> Generated {
        let last = self.kubelet.pods.status(&self.uid);
        let reported = self.kubelet.reported(pod);
        let old = last.as_deref().or(reported.as_ref());
        let merged = status::conditions::with_foreign(old, reported.as_ref());
        let failure = self.orders.state().failure;
        let host_ips = self.kubelet.addresses.texts();
        status::generate(&Input {
            pod,
            runtime,
            reasons: &self.reasons,
            health: &self.kubelet.probes.health(&self.uid, reported.as_ref()),
            old: merged.as_ref(),
            host_ips: &host_ips,
            terminal,
            failure: failure.as_ref(),
            resize: &self.kubelet.allocations.conditions(&self.uid),
            actuated: self.kubelet.allocations.actuated(&self.uid).as_ref(),
            limits: self.kubelet.cgroups.actual(pod),
            runtime_name: &self.kubelet.runtime_name,
            now: self.kubelet.clock.now(),
        })
    }

    /// Reports the pod's status. Returns whether the pod has ended.
    fn report(&self, pod: &Arc<Pod>, observed: &RuntimePod, terminal: bool) -> bool {
        let Generated { status, over } = self.generate(pod, observed, terminal);
        self.kubelet.probes.hasten_readiness(&self.uid, &status);
        self.kubelet.status.set(pod, status);
        if over && !self.over {
            room_appeared(&self.kubelet, pod, Trigger::PodTerminated);
        }
        over
    }

    /// Keeps up with how far a resize is.
    fn follow_resize(&self, pod: &Arc<Pod>, observed: &RuntimePod) {
        let kubelet = &self.kubelet;
        if let Some(generation) = kubelet.allocations.progress(pod, observed, kubelet.clock.now()) {
            let text = conditions::event("Pod resize completed", pod, generation, "");
            kubelet.events.event(pod, Normal, "ResizeCompleted", &text);
            room_appeared(kubelet, pod, Trigger::PodResized);
        }
    }

    async fn timed_sync(&mut self, pod: &Arc<Pod>) -> Result<Duration, Error> {
        let _timer = FIGURES.pod_worker_seconds.with(&["sync"]).timer();
        self.sync(pod).await
    }

    /// One step towards what the spec asks for. Returns when to look again.
    async fn sync(&mut self, pod: &Arc<Pod>) -> Result<Duration, Error> {
        let kubelet = self.kubelet.clone();
        if !kubelet.supervisor.may_start(pod) {
            debug!(pod = title(pod), "Waiting for the pod's predecessor to end");
            return Ok(RESYNC);
        }
        let observed = self.observe().await?;
        self.follow_resize(pod, &observed);
        self.over = self.report(pod, &observed, false);
        if self.over {
            return Ok(Duration::ZERO);
        }
        let left = self.time_left(pod);
        if left == Some(Duration::ZERO) {
            let message = "Pod was active on the node longer than the specified deadline";
            kubelet.events.event(pod, Normal, "DeadlineExceeded", message);
            let (reason, message) = ("DeadlineExceeded".into(), message.into());
            self.orders.fail(Failure { reason, message, disruption: false, lasting: true }, None);
            return Ok(Duration::ZERO);
        }
        let left = left.unwrap_or(Duration::MAX);
        if let Some(problem) = kubelet.network_problem().filter(|_| !pods::is_host_network(pod)) {
            let message = format!("network is not ready: {problem}");
            return Ok(self.obstacles.met("NetworkNotReady", vec![message], &kubelet, pod).min(left));
        }
        start::make_folders(&kubelet, pod).map_err(|source| Error::Folders { source })?;
        let is_resizing = kubelet.allocations.is_resizing(pod, &observed);
        if kubelet.cgroups.ensure_pod(pod, is_resizing).map_err(|source| Error::Cgroup { source })? {
            shares::weigh_burstable(&kubelet);
        }
        kubelet.probes.ensure(&kubelet, pod);
        if let Err(errors) = kubelet.volumes.mount(pod).await {
            let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Ok(self.obstacles.met("FailedMount", messages, &kubelet, pod).min(left));
        }
        self.obstacles.clear();

        let results = kubelet.probes.results(&self.uid, kubelet.reported(pod).as_ref());
        let now = kubelet.clock.nanoseconds();
        kubelet.allocations.begin(pod);
        let actuated = kubelet.allocations.actuated(&self.uid);
        let (probes, backoffs) = (&results, &self.backoffs);
        let plan =
            plan::plan(pod, &observed, &Context { probes, backoffs, actuated: actuated.as_ref(), now });
        if plan.is_empty() && plan.waits.is_empty() {
            self.prune(&observed).await;
            return Ok(RESYNC.min(left));
        }
        debug!(pod = title(pod), ?plan, "Acting on pod");
        let outcome = self.act(pod, &observed, &plan).await;
        let observed = self.observe().await?;
        self.prune(&observed).await;
        self.over = self.report(pod, &observed, false);
        if self.over {
            return Ok(Duration::ZERO);
        }

        let mut pause = match outcome {
            Ok(()) => RESYNC,
            Err(Error::Retry) => RETRY,
            Err(Error::RetryAfter(pause)) => pause.max(Duration::from_millis(100)),
            Err(error) => return Err(error),
        };
        for waits in &plan.waits {
            pause = pause.min(waits.remaining.max(Duration::from_millis(100)));
        }
        Ok(pause.min(left))
    }

    /// The rest of `activeDeadlineSeconds`, if the pod has a limit.
    fn time_left(&self, pod: &Pod) -> Option<Duration> {
        let limit = pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.kubelet.pods.status(&self.uid)?.start_time.clone()?;
        let left = start.0.as_second().saturating_add(limit) - self.kubelet.clock.now().as_second();
        Some(Duration::from_secs(u64::try_from(left).unwrap_or_default()))
    }

    /// Ends the pod and cleans up. `Ok` when nothing of it runs any more and its volumes are gone.
    async fn end(&mut self, pod: &Arc<Pod>, state: &orders::State) -> Result<(), Error> {
        let kubelet = self.kubelet.clone();
        let observed = self.observe().await?;
        kubelet.probes.stop_for_termination(&self.uid);
        // A pod that was not admitted may run all the same, started before the kubelet restarted.
        if observed.may_run() {
            if !state.rejected {
                self.report(pod, &observed, false);
            }
            let grace = terminate::grace(pod, state.grace);
            tokio::select! {
                result = terminate::kill_pod(&kubelet, pod, &observed, grace) => result?,
                never = self.report_changes(pod), if !state.rejected => match never {},
                // The grace got shorter: start over with it.
                () = self.orders.interrupt.notified() => return Err(Error::Retry),
            }
        }
        let observed = self.observe().await?;
        if observed.may_run() {
            return Err(Error::StillRuns);
        }
        kubelet.probes.remove(&self.uid);
        match &state.failure {
            Some(failure) if state.rejected => {
                if !self.over && kubelet.pods.status(&self.uid).is_none() {
                    let now = kubelet.clock.now();
                    kubelet.status.set(pod, status::rejected(pod, &failure.reason, &failure.message, now));
                }
            }
            _ if self.cleaned => {}
            _ => drop(self.report(pod, &observed, true)),
        }
        kubelet
            .volumes
            .unmount(&self.uid)
            .await
            .map_err(|error| Error::Volumes { message: error.to_string() })?;
        kubelet.cgroups.remove_pod(pod).map_err(|source| Error::Cgroup { source })?;
        if state.removed || pod.metadata.deletion_timestamp.is_some() {
            terminate::remove_remains(&kubelet, pod, &observed).await?;
        }
        self.over = true;
        self.cleaned = true;
        kubelet.status.finish(pod);
        Ok(())
    }

    /// Keeps the status up to date while the pod ends: its readiness probes go on, and its containers end one by one.
    async fn report_changes(&self, pod: &Arc<Pod>) -> std::convert::Infallible {
        loop {
            self.orders.wake.notified().await;
            match self.observe().await {
                Ok(observed) => drop(self.report(pod, &observed, false)),
                Err(error) => debug!(uid = self.uid, %error, "Cannot look at the pod that ends"),
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Runtime(#[from] cri::Error),
    #[error("making the pod's folders: {source}")]
    Folders { source: std::io::Error },
    #[error("the pod's cgroup: {source}")]
    Cgroup { source: std::io::Error },
    #[error("failed to \"ConfigPodSandbox\": {message}")]
    Sandbox { message: String },
    #[error("tearing down volumes: {message}")]
    Volumes { message: String },
    #[error(transparent)]
    Checkpoint(#[from] allocation::checkpoint::Error),
    #[error("containers run on after the runtime said that they ended")]
    StillRuns,
    /// Already reported by events; try again later.
    #[error("not done yet")]
    Retry,
    #[error("not done yet, to be tried again in {0:?}")]
    RetryAfter(Duration),
}
