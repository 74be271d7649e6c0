//! One task per pod. It runs the pod (sync), ends it (terminate) and cleans up after it (clean up), looking at
//! the runtime afresh every time: nothing it remembers is needed after a restart of the kubelet.

mod act;
mod orders;
pub mod start;
pub mod supervisor;
pub mod terminate;

pub use orders::{Failure, Orders};

use crate::events::{Normal, Warning};
use crate::figures::FIGURES;
use crate::node::shares;
use crate::plan::backoff::Backoffs;
use crate::plan::{self, Context};
use crate::pods::{self, title};
use crate::run::Kubelet;
use crate::runtime::{self, RuntimePod};
use crate::status::{self, Input, Reasons};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, error, info};

pub struct Worker {
    kubelet: Arc<Kubelet>,
    orders: Arc<Orders>,
    uid: String,
    reasons: Reasons,
    backoffs: Backoffs,
    /// Once over, a pod never runs again.
    over: bool,
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
        Self { kubelet, orders, uid, reasons: Reasons::new(), backoffs, over: false }
    }

    /// Runs until the pod is gone from its source and from this node.
    pub async fn run(mut self) {
        let orders = self.orders.clone();
        self.over = status::manager::is_over(&orders.pod());
        loop {
            // What was asked for until here is read below; what comes later interrupts.
            let _ = orders.interrupt.notified().now_or_never();
            let pod = orders.pod();
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
        self.kubelet.status.forget(&self.uid);
        self.kubelet.puller.forget(&self.uid);
        self.kubelet.pods.remove(&self.uid);
        if pods::is_static(pod) {
            crate::mirror::changed(&self.kubelet, pods::namespace(pod), pods::name(pod));
        }
    }

    /// What the runtime holds, with termination messages, made known to the rest of the kubelet.
    async fn observe(&self) -> cri::Result<Arc<RuntimePod>> {
        let mut found = runtime::read_pod(&*self.kubelet.runtime, &self.uid).await?;
        start::read_termination_messages(&mut found).await;
        let found = Arc::new(found);
        self.kubelet.pods.set_runtime(&self.uid, found.clone());
        Ok(found)
    }

    fn generate(&self, pod: &Pod, runtime: &RuntimePod, terminal: bool) -> PodStatus {
        let last = self.kubelet.pods.status(&self.uid);
        let told = self.kubelet.told(pod);
        let old = last.as_deref().or(told.as_ref());
        let merged = status::conditions::with_foreign(old, told.as_ref());
        let failure = self.orders.state().failure;
        let host_ips = self.kubelet.addresses.texts();
        status::generate(&Input {
            pod,
            runtime,
            reasons: &self.reasons,
            health: &self.kubelet.probes.health(&self.uid, told.as_ref()),
            old: merged.as_ref(),
            host_ips: &host_ips,
            terminal,
            failure: failure.as_ref(),
            runtime_name: &self.kubelet.runtime_name,
            now: jiff::Timestamp::now(),
        })
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
        let status = self.generate(pod, &observed, false);
        self.over = pods::phase_is_terminal(status.phase.as_deref());
        let started = status.start_time.clone();
        kubelet.status.set(pod, status);
        if self.over {
            return Ok(Duration::ZERO);
        }
        if let Some(limit) = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds)
            && let Some(started) = started
        {
            let age = jiff::Timestamp::now().duration_since(started.0).as_secs();
            if age >= limit {
                let message = "Pod was active on the node longer than the specified deadline";
                kubelet.events.event(pod, Normal, "DeadlineExceeded", message);
                let (reason, message) = ("DeadlineExceeded".into(), message.into());
                self.orders.fail(Failure { reason, message, disruption: false }, None);
                return Ok(Duration::ZERO);
            }
        }
        if let Some(problem) = kubelet.network_problem().filter(|_| !pods::is_host_network(pod)) {
            let message = format!("network is not ready: {problem}");
            kubelet.events.event(pod, Warning, "NetworkNotReady", &message);
            return Ok(Duration::from_secs(1));
        }
        start::make_folders(&kubelet, pod).map_err(|source| Error::Folders { source })?;
        if kubelet.cgroups.ensure_pod(pod).map_err(|source| Error::Cgroup { source })? {
            shares::weigh_burstable(&kubelet);
        }
        kubelet.probes.ensure(&kubelet, pod);
        if let Err(error) = kubelet.volumes.mount(pod).await {
            kubelet.events.event(pod, Warning, "FailedMount", &error.to_string());
            return Ok(Duration::from_secs(2));
        }

        let results = kubelet.probes.results(&self.uid, kubelet.told(pod).as_ref());
        let now = crate::images::now();
        let plan = plan::plan(pod, &observed, &Context { probes: &results, backoffs: &self.backoffs, now });
        if !plan.is_empty() {
            debug!(pod = title(pod), ?plan, "Acting on pod");
        }
        let outcome = self.act(pod, &observed, &plan).await;
        let observed = self.observe().await?;
        self.prune(&observed).await;
        let status = self.generate(pod, &observed, false);
        self.over = pods::phase_is_terminal(status.phase.as_deref());
        kubelet.status.set(pod, status);

        let mut pause = match outcome {
            Ok(()) => RESYNC,
            Err(Error::Retry) => RETRY,
            Err(error) => return Err(error),
        };
        for waits in &plan.waits {
            pause = pause.min(waits.remaining.max(Duration::from_millis(100)));
        }
        if let Some(limit) = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds)
            && let Some(start) = kubelet.pods.status(&self.uid).and_then(|status| status.start_time.clone())
        {
            let age = jiff::Timestamp::now().duration_since(start.0).as_secs();
            pause = pause.min(Duration::from_secs(
                u64::try_from(limit.saturating_sub(age)).unwrap_or_default().max(1),
            ));
        }
        if self.over { Ok(Duration::ZERO) } else { Ok(pause) }
    }

    /// Ends the pod and cleans up. `Ok` when nothing of it runs any more and its volumes are gone.
    async fn end(&mut self, pod: &Arc<Pod>, state: &orders::State) -> Result<(), Error> {
        let kubelet = self.kubelet.clone();
        if state.rejected
            && let Some(failure) = &state.failure
            && !self.over
            && kubelet.pods.status(&self.uid).is_none()
        {
            kubelet.status.set(pod, status::rejected(pod, &failure.reason, &failure.message));
        }
        let observed = self.observe().await?;
        kubelet.probes.stop_for_termination(&self.uid);
        // One that was not let in may run all the same, since before this kubelet: it ends, but says no more.
        if observed.is_running() {
            if !state.rejected {
                kubelet.status.set(pod, self.generate(pod, &observed, false));
            }
            let grace = terminate::grace(pod, state.grace);
            tokio::select! {
                result = terminate::kill_pod(&kubelet, pod, &observed, grace) => result?,
                // The grace got shorter: start over with it.
                () = self.orders.interrupt.notified() => return Err(Error::Retry),
            }
        }
        kubelet.probes.remove(&self.uid);
        let observed = self.observe().await?;
        if observed.is_running() {
            return Err(Error::Retry);
        }
        if !state.rejected {
            kubelet.status.set(pod, self.generate(pod, &observed, true));
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
        kubelet.status.finish(pod);
        Ok(())
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
    /// Already told by events; try again later.
    #[error("not done yet")]
    Retry,
}
