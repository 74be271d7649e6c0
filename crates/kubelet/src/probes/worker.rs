//! The loop of one probe of one container.

use super::Kind;
use super::check::{self, Outcome};
use crate::events::Warning;
use crate::plan::restarts_after;
use crate::pods::uid;
use crate::run::Kubelet;
use crate::runtime::{Container as Instance, State};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::debug;

pub(super) struct Worker {
    kubelet: Arc<Kubelet>,
    uid: String,
    container: Container,
    kind: Kind,
    probe: Probe,
    /// Has it probe before its next turn.
    trigger: Arc<Notify>,
    /// The instance the counts are of.
    id: String,
    last: Option<bool>,
    run: i32,
    /// It failed and is going to be restarted: nothing to probe until the next instance.
    on_hold: bool,
}

impl Worker {
    pub(super) fn new(
        kubelet: Arc<Kubelet>,
        pod: &Pod,
        container: &Container,
        kind: Kind,
        probe: Probe,
        trigger: Arc<Notify>,
    ) -> Self {
        Self {
            kubelet,
            uid: uid(pod).to_owned(),
            container: container.clone(),
            kind,
            probe,
            trigger,
            id: String::new(),
            last: None,
            run: 0,
            on_hold: false,
        }
    }

    fn seconds(value: Option<i32>, default: u64) -> Duration {
        Duration::from_secs(value.and_then(|it| u64::try_from(it).ok()).unwrap_or(default))
    }

    pub(super) async fn run(mut self) {
        let period = Self::seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        // After a restart of the kubelet not all probes of the node should fire at once.
        if self.kubelet.started.elapsed() < period {
            let spread = rand::random::<f64>();
            tokio::select! {
                () = tokio::time::sleep(period.mul_f64(spread)) => {}
                // Somebody waits for this one.
                () = self.trigger.notified() => {}
            }
        }
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.trigger.notified() => ticks.reset(),
            }
            // A container that just came up is looked at sooner than a whole period later.
            self.wait_for_container().await;
            if !self.step().await {
                return;
            }
        }
    }

    fn instance(&self) -> Option<Instance> {
        self.kubelet.pods.runtime_pod(&self.uid)?.container(&self.container.name).cloned()
    }

    /// Waits until the first instance runs, or the pod is gone.
    async fn wait_for_container(&self) {
        while self.id.is_empty()
            && let Some(looks) = self.kubelet.pods.looks(&self.uid)
        {
            let mut next_look = std::pin::pin!(looks.notified());
            next_look.as_mut().enable();
            if self.instance().is_some_and(|it| it.state == State::Running) {
                return;
            }
            next_look.await;
        }
    }

    /// One round; false when there will be nothing to probe any more.
    async fn step(&mut self) -> bool {
        let Some(pod) = self.kubelet.pods.by_uid(&self.uid) else { return false };
        let Some(instance) = self.instance() else { return true };
        if instance.id != self.id {
            self.adopt(&pod, &instance);
        }
        if self.on_hold {
            return true;
        }
        if instance.state != State::Running {
            self.report(false);
            return instance.state != State::Exited
                || restarts_after(&pod, &self.container, instance.exit_code);
        }
        let age = self.kubelet.clock.nanoseconds() - instance.started_at;
        if age < i64::from(self.probe.initial_delay_seconds.unwrap_or_default()) * 1_000_000_000 {
            return true;
        }
        let started =
            self.container.startup_probe.is_none() || self.kubelet.probes.is_started(&self.uid, &self.id);
        if started == (self.kind == Kind::Startup) {
            return true;
        }
        let outcome = self.probe_with_retries(&pod, &instance).await;
        // The container may have been replaced while the probe ran.
        if self.instance().is_none_or(|now| now.id != self.id) {
            return true;
        }
        let Some(success) = outcome else { return true };
        if self.last == Some(success) {
            self.run += 1;
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let needed = match success {
            true => self.probe.success_threshold.unwrap_or(1),
            false => self.probe.failure_threshold.unwrap_or(3),
        };
        if self.run < needed {
            return true;
        }
        self.report(success);
        if !success && self.kind != Kind::Readiness {
            self.on_hold = true;
            self.run = 0;
        }
        true
    }

    /// Begins with a new instance. One that ran before the kubelet did keeps what the API server shows of it.
    fn adopt(&mut self, pod: &Pod, instance: &Instance) {
        let reported = self.kubelet.reported(pod);
        let reported = reported.as_ref().and_then(|status| {
            let all = status
                .init_container_statuses
                .iter()
                .flatten()
                .chain(status.container_statuses.iter().flatten());
            let id = format!("{}://{}", self.kubelet.runtime_name, instance.id);
            all.into_iter()
                .find(|it| it.name == self.container.name && it.container_id.as_deref() == Some(&id))
                .cloned()
        });
        self.id.clone_from(&instance.id);
        self.on_hold = false;
        self.last = None;
        self.run = 0;
        match (self.kind, reported) {
            (Kind::Readiness, reported) => self.report(reported.is_some_and(|it| it.ready)),
            (Kind::Startup, Some(reported)) if reported.started == Some(true) => self.report(true),
            (Kind::Liveness, _) => self.report(true),
            (Kind::Startup, _) => {}
        }
        self.kubelet.probes.adopt(&self.uid, self.kind, &self.id);
    }

    fn report(&self, success: bool) {
        if self.kubelet.probes.set(&self.uid, self.kind, &self.id, success) {
            debug!(uid = self.uid, container = self.container.name, kind = ?self.kind, success, "Probe result changed");
            self.kubelet.pods.wake(&self.uid);
        }
    }

    async fn probe_with_retries(&self, pod: &Pod, instance: &Instance) -> Option<bool> {
        const ATTEMPTS: u32 = 3;
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            let timeout = Self::seconds(self.probe.timeout_seconds, 1).max(Duration::from_secs(1));
            let event = |reason, text: &str| {
                self.kubelet.events.container(pod, &self.container.name, Warning, reason, text);
            };
            let kind = self.kind.name();
            match check::run(&self.kubelet, pod, &self.container, instance, &self.probe, timeout).await {
                Outcome::Success => return Some(true),
                Outcome::Warning(text) => {
                    event("ProbeWarning", &format!("{kind} probe warning: {text}"));
                    return Some(true);
                }
                Outcome::Failure(text) => {
                    event("Unhealthy", &format!("{kind} probe failed: {text}"));
                    return Some(false);
                }
                Outcome::Error(text) => problem = text,
            }
        }
        let kind = self.kind.name();
        let text = format!("{kind} probe errored and resulted in unknown state: {problem}");
        self.kubelet.events.container(pod, &self.container.name, Warning, "Unhealthy", &text);
        None
    }
}
