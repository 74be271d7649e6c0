//! What a worker does to the runtime to follow its plan.

use super::{Error, RETRY, Worker, start, terminate};
use crate::allocation::resources::PodResources;
use crate::events::{Normal, Warning};
use crate::figures::FIGURES;
use crate::plan::{self, Kind, Plan};
use crate::pods::title;
use crate::runtime::{self, RuntimePod};
use crate::status;
use crate::volumes::image::Images;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

impl Worker {
    pub(super) async fn act(
        &mut self,
        pod: &Arc<Pod>,
        observed: &RuntimePod,
        plan: &Plan,
    ) -> Result<(), Error> {
        let kubelet = self.kubelet.clone();
        kubelet.allocations.save().await?;
        if plan.kill_pod {
            if plan.create_sandbox.is_some() && !observed.sandboxes.is_empty() {
                let text = "Pod sandbox changed, it will be killed and re-created.";
                kubelet.events.event(pod, Normal, "SandboxChanged", text);
            }
            terminate::kill_pod(&kubelet, pod, observed, terminate::grace(pod, None)).await?;
            if plan.create_sandbox.is_none() {
                return Ok(());
            }
        }
        let kills = plan.kill.iter().filter_map(|kill| {
            let instance = observed.containers.iter().find(|it| it.id == kill.id)?;
            let grace = kill.grace.unwrap_or_else(|| terminate::grace(pod, None));
            Some(terminate::kill_container(&kubelet, pod, instance, grace, Some(kill.message.clone())))
        });
        for result in futures::future::join_all(kills).await {
            result?;
        }

        let sandbox_failed = |error: &str| {
            FIGURES.started_pods_errors.with(&[]).inc();
            let text = format!("Failed to create pod sandbox: {error}");
            kubelet.events.event(pod, Warning, "FailedCreatePodSandBox", &text);
            Error::Retry
        };
        let attempt = plan.create_sandbox.unwrap_or_default();
        let (config, problems) = match start::sandbox_config(&kubelet, pod, attempt) {
            Ok(described) => described,
            Err(error) if plan.create_sandbox.is_some() => return Err(sandbox_failed(&error)),
            Err(message) => return Err(Error::Sandbox { message }),
        };
        let sandbox = match (plan.create_sandbox, &plan.sandbox) {
            (Some(attempt), _) => {
                let made = start::create_sandbox(&kubelet, pod, config.clone(), problems).await;
                let id = made.map_err(|error| sandbox_failed(&error))?;
                if attempt == 0 {
                    FIGURES.started_pods.with(&[]).inc();
                }
                let observed = self.observe().await?;
                self.report(pod, &observed, false);
                id
            }
            (None, Some(id)) => id.clone(),
            (None, None) => return Ok(()),
        };
        for waits in &plan.waits {
            let name = &waits.name;
            let text = format!("Back-off restarting failed container {name} in pod {}", title(pod));
            kubelet.events.container(pod, name, Warning, "BackOff", &text);
            let delay = daemon::flags::Duration(waits.delay).to_string();
            let message = format!("back-off {delay} restarting failed container={name} pod={}", title(pod));
            self.reasons.insert(name.clone(), ("CrashLoopBackOff".into(), message));
        }
        // When to try again what failed.
        let mut again: Option<Duration> = None;
        if !plan.resize.is_empty() && !self.resize(pod, &sandbox, &plan.resize).await? {
            again = Some(RETRY);
        }
        let volumes = match plan.start.is_empty() {
            true => Images::default(),
            false => Images::pull(&kubelet, pod, &config).await,
        };
        for planned in &plan.start {
            let Some(container) = find(pod, &planned.name, planned.kind) else { continue };
            if !self.clear_the_way(pod, observed, &planned.name).await {
                again = Some(again.unwrap_or(RETRY).min(RETRY));
                continue;
            }
            let finished = observed.instances(&planned.name).find(|it| it.state == runtime::State::Exited);
            if let Some(finished) = finished {
                self.backoffs.next(
                    &self.uid,
                    &plan::backoff_key(&container),
                    finished.finished_at,
                    kubelet.clock.nanoseconds(),
                );
            }
            let mut planned = planned.clone();
            if observed.container(&planned.name).is_none() {
                let logs = std::path::Path::new(&config.log_directory).join(&planned.name);
                planned.restart_count = start::restarts_by_logs(&logs);
            }
            if planned.kind != Kind::Ephemeral {
                let size = PodResources::of(pod).size(&container.name);
                kubelet.allocations.set_actuated(&self.uid, &container.name, size);
                kubelet.allocations.save().await?;
            }
            match start::start(&kubelet, pod, &container, &planned, &sandbox, &config, &volumes).await {
                Ok(()) => {
                    FIGURES.started_containers.with(&[planned.kind.name()]).inc();
                    self.reasons.remove(&planned.name);
                    if planned.kind == Kind::Init {
                        // The next one waits for this one's end or start-up.
                        kubelet.pods.wake(&self.uid);
                    }
                }
                Err(error) => {
                    let wait = error.wait.unwrap_or(RETRY);
                    again = Some(again.unwrap_or(wait).min(wait));
                    let of = [planned.kind.name(), error.reason];
                    FIGURES.started_containers_errors.with(&of).inc();
                    debug!(pod = title(pod), container = planned.name, %error, "Container did not start");
                    self.reasons.insert(planned.name.clone(), (error.reason.into(), error.message));
                }
            }
        }
        match again {
            Some(pause) => Err(Error::RetryAfter(pause)),
            None => Ok(()),
        }
    }

    /// Removes instances of a container that were created and never started: they block creating a new one with the same
    /// name. An instance that the runtime is still starting cannot be removed; what to do is decided once it runs or has ended.
    async fn clear_the_way(&self, pod: &Pod, observed: &RuntimePod, name: &str) -> bool {
        for unused in observed.instances(name).filter(|it| it.never_ran()) {
            if let Err(error) = self.kubelet.runtime.remove_container(&unused.id).await {
                warn!(pod = title(pod), container = name, id = unused.id, %error, "Cannot remove a container that has not started, will retry");
                return false;
            }
        }
        true
    }

    /// Removes all but the newest ended instance of each container, and sandboxes that were replaced.
    pub(super) async fn prune(&self, observed: &RuntimePod) {
        let runtime = &self.kubelet.runtime;
        let mut seen = std::collections::HashSet::new();
        for container in observed.containers.iter().filter(|it| it.state == runtime::State::Exited) {
            if seen.insert(&container.name) {
                continue;
            }
            if let Err(error) = runtime.remove_container(&container.id).await {
                debug!(id = container.id, %error, "Failed to remove an ended container");
            }
            crate::log_rotation::remove(std::path::Path::new(&container.log_path)).await;
            let link = self.kubelet.paths.container_link(
                &observed.namespace,
                &observed.name,
                &container.name,
                &container.id,
            );
            let _ = tokio::fs::remove_file(link).await;
        }
        for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
            let used = observed.containers.iter().any(|it| it.sandbox_id == sandbox.id);
            if !used && let Err(error) = runtime.remove_pod_sandbox(&sandbox.id).await {
                debug!(id = sandbox.id, %error, "Failed to remove a replaced sandbox");
            }
        }
    }
}

fn find(pod: &Pod, name: &str, kind: Kind) -> Option<Container> {
    let spec = pod.spec.as_ref()?;
    match kind {
        Kind::Init => spec.init_containers.iter().flatten().find(|it| it.name == name).cloned(),
        Kind::Regular => spec.containers.iter().find(|it| it.name == name).cloned(),
        Kind::Ephemeral => status::ephemeral_containers(pod).into_iter().find(|it| it.name == name),
    }
}
