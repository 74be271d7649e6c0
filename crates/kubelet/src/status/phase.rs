//! The phase of a pod, by the statuses of its containers.

use super::Input;
use crate::plan::restarts_after;
use crate::pods;
use crate::qos::is_sidecar;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodStatus};

/// How many of a pod's containers are where, as far as the phase asks.
#[derive(Default)]
struct Tally {
    /// Init containers that still have to run to their end.
    initializing: usize,
    /// Sidecars that have not started up.
    sidecars_starting: usize,
    /// Init containers that failed for good.
    init_failed: usize,
    running: usize,
    /// Not started yet.
    waiting: usize,
    unknown: usize,
    /// Regular containers that ended, of these the ones that will start again, and the ones that ended well.
    stopped: usize,
    returning: usize,
    succeeded: usize,
}

/// The last end of a container that does not run now.
fn last_exit(state: &ContainerState, status: &ContainerStatus) -> Option<i32> {
    let last = || status.last_state.as_ref()?.terminated.as_ref();
    state.terminated.as_ref().or_else(|| state.waiting.as_ref().and_then(|_| last())).map(|it| it.exit_code)
}

impl Tally {
    fn of(pod: &Pod, status: &PodStatus) -> Tally {
        let mut tally = Tally::default();
        let Some(spec) = &pod.spec else { return tally };
        let find = |all: &Option<Vec<ContainerStatus>>, container: &Container| {
            all.iter().flatten().find(|status| status.name == container.name).cloned().unwrap_or_default()
        };
        for container in spec.init_containers.iter().flatten() {
            let found = find(&status.init_container_statuses, container);
            match is_sidecar(container) {
                true => tally.sidecar(&found),
                false => tally.init(pod, container, &found),
            }
        }
        for container in &spec.containers {
            tally.regular(pod, container, &find(&status.container_statuses, container));
        }
        tally
    }

    fn init(&mut self, pod: &Pod, container: &Container, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        match last_exit(&state, status) {
            _ if state.running.is_some() => self.initializing += 1,
            None => self.initializing += 1,
            Some(0) => {}
            Some(code) => self.init_failed += usize::from(!restarts_after(pod, container, code)),
        }
    }

    /// Counts a sidecar, unless it has ended: it restarts, or the pod ends without it.
    fn sidecar(&mut self, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            self.running += 1;
            self.sidecars_starting += usize::from(status.started != Some(true));
        } else if last_exit(&state, status).is_none() {
            self.sidecars_starting += 1;
            match state.waiting {
                Some(_) => self.waiting += 1,
                None => self.unknown += 1,
            }
        }
    }

    fn regular(&mut self, pod: &Pod, container: &Container, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        match last_exit(&state, status) {
            _ if state.running.is_some() => self.running += 1,
            Some(code) => {
                self.stopped += 1;
                self.returning += usize::from(restarts_after(pod, container, code));
                // A container that waits for a restart has not succeeded.
                self.succeeded += usize::from(code == 0 && state.terminated.is_some());
            }
            None if state.waiting.is_some() => self.waiting += 1,
            None => self.unknown += 1,
        }
    }
}

/// The phase that follows from the containers' states. The caller decides whether it may be reported yet: a pod may have failed
/// while some of its containers run, and one that ended before any container started is Pending.
pub(super) fn of(input: &Input, status: &PodStatus) -> &'static str {
    let tally = Tally::of(input.pod, status);
    // A sidecar that is being restarted does not undo initialization.
    let initialized = input.runtime.is_initialized(input.pod);
    match tally {
        Tally { init_failed: 1.., .. } => "Failed",
        Tally { initializing: 1.., .. } | Tally { waiting: 1.., .. } => "Pending",
        Tally { sidecars_starting: 1.., .. } if !initialized => "Pending",
        Tally { unknown: 1.., .. } => "Pending",
        Tally { running: 1.., .. } => "Running",
        Tally { stopped: 0, .. } => "Pending",
        // The phase of a static pod is the API server's business only while it is there.
        Tally { returning: 1.., .. } if !input.terminal || pods::is_static(input.pod) => "Running",
        Tally { .. } if tally.stopped == tally.succeeded => "Succeeded",
        Tally { .. } => "Failed",
    }
}
