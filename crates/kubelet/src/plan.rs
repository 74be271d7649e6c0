//! What to do next for one pod: a pure function of its spec, what the runtime holds, probe results and the
//! clock. The order of rules is upstream's: the sandbox first, then init containers one by one (sidecars stay),
//! then the containers side by side.

pub mod backoff;
pub mod resize;

use crate::allocation::resources::PodResources;
use crate::pods;
use crate::qos::is_sidecar;
use crate::runtime::{Container as Instance, RuntimePod, State};
use backoff::Backoffs;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};
use resize::Resize;
use std::collections::HashSet;
use std::time::Duration;

/// What probes say of container instances, by id.
#[derive(Clone, Debug, Default)]
pub struct ProbeResults {
    pub liveness_failed: HashSet<String>,
    pub startup_failed: HashSet<String>,
    pub started: HashSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    /// The text of the Killing event.
    pub message: String,
    /// The grace of the probe that failed, where it has one of its own.
    pub grace: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub name: String,
    pub kind: Kind,
    pub restart_count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

impl Kind {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Init => "init_container",
            Kind::Regular => "container",
            Kind::Ephemeral => "ephemeral_container",
        }
    }
}

/// A container that must wait before its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    pub name: String,
    /// The whole length of this back-off, as the message gives it.
    pub delay: Duration,
    pub remaining: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stop everything, sandboxes included.
    pub kill_pod: bool,
    /// Make a sandbox of this attempt, after `kill_pod`.
    pub create_sandbox: Option<u32>,
    pub sandbox: Option<String>,
    pub kill: Vec<Kill>,
    pub start: Vec<Start>,
    pub waits: Vec<Waits>,
    pub resize: Resize,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        !self.kill_pod
            && self.create_sandbox.is_none()
            && self.kill.is_empty()
            && self.start.is_empty()
            && self.resize.is_empty()
    }
}

pub struct Context<'a> {
    pub probes: &'a ProbeResults,
    pub backoffs: &'a Backoffs,
    /// What containers that run were last made with or changed to.
    pub actuated: Option<&'a PodResources>,
    /// Nanoseconds since the epoch.
    pub now: i64,
}

/// The plan for a pod that should run.
pub fn plan(pod: &Pod, runtime: &RuntimePod, context: &Context) -> Plan {
    let Some(spec) = &pod.spec else { return Plan::default() };
    let mut plan = Plan::default();
    let init = spec.init_containers.as_deref().unwrap_or_default();

    if let Some(attempt) = sandbox_needed(pod, runtime) {
        plan.kill_pod = !runtime.sandboxes.is_empty() || runtime.is_running();
        let due: Vec<&Container> = spec
            .containers
            .iter()
            .filter(|it| match runtime.container(&it.name) {
                Some(last) if last.state == State::Exited => restarts_after(pod, it, last.exit_code),
                _ => true,
            })
            .collect();
        // When the sandbox of such a pod is lost, containers that have not run will not, unless one has a restart policy of its own.
        let comes_back = due.iter().any(|it| it.restart_policy.is_some());
        if pods::restart_policy(pod) == "Never"
            && attempt != 0
            && !runtime.containers.is_empty()
            && !comes_back
        {
            return Plan { kill_pod: runtime.is_running(), ..plan };
        }
        let init_done = init.iter().all(|it| is_sidecar(it) || succeeded(runtime, &it.name));
        if due.is_empty() && init_done {
            return Plan { kill_pod: runtime.is_running(), ..plan };
        }
        plan.create_sandbox = Some(attempt);
        match init.first() {
            Some(first) => start(&mut plan, runtime, first, Kind::Init, context),
            None => due.iter().for_each(|it| start(&mut plan, runtime, it, Kind::Regular, context)),
        }
        return plan;
    }

    plan.sandbox = runtime.sandboxes.first().map(|sandbox| sandbox.id.clone());
    for container in spec.ephemeral_containers.iter().flatten() {
        if runtime.container(&container.name).is_none() {
            plan.start.push(Start { name: container.name.clone(), kind: Kind::Ephemeral, restart_count: 0 });
        }
    }

    let sandbox = plan.sandbox.clone().unwrap_or_default();
    let outcome = plan_init(pod, init, runtime, context, &sandbox, &mut plan);
    match outcome {
        InitOutcome::Failed => {
            return Plan { kill_pod: true, create_sandbox: None, sandbox: plan.sandbox, ..Plan::default() };
        }
        InitOutcome::Waiting => {
            resize::plan_pod(&mut plan, pod, context);
            return plan;
        }
        InitOutcome::Done => {}
    }

    let mut kept = 0;
    let mut to_come = 0;
    for container in &spec.containers {
        let current = runtime
            .container(&container.name)
            .filter(|it| it.sandbox_id == sandbox || it.state == State::Exited);
        let Some(current) = current.filter(|it| it.state == State::Running) else {
            if should_restart(pod, container, runtime) {
                if let Some(unknown) = current.filter(|it| it.state == State::Unknown) {
                    plan.kill.push(Kill {
                        id: unknown.id.clone(),
                        name: container.name.clone(),
                        message: "Container is in \"unknown\" state, try killing it before restart".into(),
                        grace: None,
                    });
                }
                to_come += 1;
                start(&mut plan, runtime, container, Kind::Regular, context);
            }
            continue;
        };
        match verdict(container, current, context, "Container") {
            None => {
                let current = (current, Kind::Regular);
                let keep = resize::plan_container(&mut plan, pod, container, current, runtime, context);
                let count = if keep { &mut kept } else { &mut to_come };
                *count += 1;
            }
            Some((message, grace, always)) => {
                let restart = always || restarts_after(pod, container, 137);
                let message = if restart { format!("{message}, will be restarted") } else { message };
                let (id, name) = (current.id.clone(), container.name.clone());
                plan.kill.push(Kill { id, name, message, grace });
                if restart {
                    to_come += 1;
                    start(&mut plan, runtime, container, Kind::Regular, context);
                }
            }
        }
    }
    if kept == 0 && to_come == 0 {
        // Nothing is left to run: sidecars and the sandbox go too.
        return Plan { kill_pod: true, sandbox: plan.sandbox, ..Plan::default() };
    }
    resize::plan_pod(&mut plan, pod, context);
    plan
}

/// The attempt number of the sandbox to make, where the present one does not serve.
fn sandbox_needed(pod: &Pod, runtime: &RuntimePod) -> Option<u32> {
    let Some(newest) = runtime.sandboxes.first() else { return Some(0) };
    let ready = runtime.sandboxes.iter().filter(|sandbox| sandbox.ready).count();
    let host_network = pods::is_host_network(pod);
    let serves = ready == 1
        && newest.ready
        && newest.host_network == host_network
        && (host_network || !newest.ips.is_empty());
    (!serves).then_some(newest.attempt + 1)
}

enum InitOutcome {
    /// The regular containers may run.
    Done,
    /// One init container runs or will start; nothing else yet.
    Waiting,
    /// An init container failed for good.
    Failed,
}

fn plan_init(
    pod: &Pod,
    init: &[Container],
    runtime: &RuntimePod,
    context: &Context,
    sandbox: &str,
    plan: &mut Plan,
) -> InitOutcome {
    let initialized = runtime.is_initialized(pod);
    for container in init {
        let current = runtime.container(&container.name).filter(|it| it.sandbox_id == sandbox);
        if is_sidecar(container) {
            match current.filter(|it| it.state == State::Running) {
                None => {
                    start(plan, runtime, container, Kind::Init, context);
                    if !initialized {
                        return InitOutcome::Waiting;
                    }
                }
                Some(running) => {
                    if let Some((message, grace, _)) = verdict(container, running, context, "Init container")
                    {
                        let (id, name) = (running.id.clone(), container.name.clone());
                        plan.kill.push(Kill { id, name, message, grace });
                        start(plan, runtime, container, Kind::Init, context);
                        if !initialized {
                            return InitOutcome::Waiting;
                        }
                    } else if !initialized
                        && container.startup_probe.is_some()
                        && !context.probes.started.contains(&running.id)
                    {
                        return InitOutcome::Waiting;
                    } else {
                        resize::plan_container(plan, pod, container, (running, Kind::Init), runtime, context);
                    }
                }
            }
            continue;
        }
        if initialized {
            continue;
        }
        match current {
            None => {
                start(plan, runtime, container, Kind::Init, context);
                return InitOutcome::Waiting;
            }
            Some(found) => match found.state {
                State::Running => {
                    resize::plan_container(plan, pod, container, (found, Kind::Init), runtime, context);
                    return InitOutcome::Waiting;
                }
                State::Exited if found.exit_code == 0 => {}
                State::Exited if !restarts_after(pod, container, found.exit_code) => {
                    return InitOutcome::Failed;
                }
                State::Exited | State::Created => {
                    start(plan, runtime, container, Kind::Init, context);
                    return InitOutcome::Waiting;
                }
                State::Unknown => {
                    plan.kill.push(Kill {
                        id: found.id.clone(),
                        name: container.name.clone(),
                        message: "Init container is in \"unknown\" state, try killing it before restart"
                            .into(),
                        grace: None,
                    });
                    start(plan, runtime, container, Kind::Init, context);
                    return InitOutcome::Waiting;
                }
            },
        }
    }
    InitOutcome::Done
}

/// Why a running container must go: (message, grace of its own, restart whatever the policy says).
fn verdict(
    container: &Container,
    current: &Instance,
    context: &Context,
    what: &str,
) -> Option<(String, Option<i64>, bool)> {
    let name = &container.name;
    let grace = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds)
    };
    if !current.hash.is_empty() && current.hash != crate::container_config::hash(container) {
        Some((format!("{what} {name} definition changed"), None, true))
    } else if context.probes.liveness_failed.contains(&current.id) {
        Some((format!("{what} {name} failed liveness probe"), grace(&container.liveness_probe), false))
    } else if context.probes.startup_failed.contains(&current.id) {
        Some((format!("{what} {name} failed startup probe"), grace(&container.startup_probe), false))
    } else {
        None
    }
}

fn succeeded(runtime: &RuntimePod, name: &str) -> bool {
    runtime.container(name).is_some_and(|it| it.state == State::Exited && it.exit_code == 0)
}

/// Whether a container that does not run should be started (again).
pub fn should_restart(pod: &Pod, container: &Container, runtime: &RuntimePod) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(current) = runtime.container(&container.name) else { return true };
    match current.state {
        State::Running => false,
        State::Created | State::Unknown => true,
        State::Exited => restarts_after(pod, container, current.exit_code),
    }
}

/// Whether a container that ended so starts again: its own rules, then its policy, then the pod's.
pub fn restarts_after(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    let matches = |rule: &ContainerRestartRule| {
        let codes = rule.exit_codes.as_ref();
        rule.action == "Restart"
            && codes.is_some_and(|codes| {
                let named = codes.values.iter().flatten().any(|code| *code == exit_code);
                named == (codes.operator == "In")
            })
    };
    if container.restart_policy_rules.iter().flatten().any(matches) {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or(pods::restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// What backs off: a container with another image or other resources may do better, and starts at once.
pub fn backoff_key(container: &Container) -> String {
    let resources = serde_json::to_string(&container.resources).unwrap_or_default();
    format!("{}/{}/{resources}", container.name, container.image.as_deref().unwrap_or_default())
}

/// Plans a start, or a wait where the container is backing off.
fn start(plan: &mut Plan, runtime: &RuntimePod, container: &Container, kind: Kind, context: &Context) {
    let last = runtime.container(&container.name);
    // An instance that never ran, because the kubelet or the runtime ended first, does not count as a restart.
    let restart_count = last.map_or(0, |last| last.restart_count + u32::from(!last.never_ran()));
    let finished = runtime.instances(&container.name).find(|it| it.state == State::Exited);
    if let Some(finished) = finished
        && let Some((delay, remaining)) = context.backoffs.remaining(
            &runtime.uid,
            &backoff_key(container),
            finished.finished_at,
            context.now,
        )
    {
        plan.waits.push(Waits { name: container.name.clone(), delay, remaining });
        return;
    }
    plan.start.push(Start { name: container.name.clone(), kind, restart_count });
}

#[cfg(test)]
mod tests;
