//! The conditions the kubelet owns; others (readiness gates) are kept as they are.

use super::Input;
use crate::allocation::conditions::{IN_PROGRESS, PENDING};
use crate::pods;
use crate::qos::is_sidecar;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const OWNED: &[&str] = &[
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    PENDING,
    IN_PROGRESS,
];

/// Also set by others who take pods away.
const DISRUPTION: &str = "DisruptionTarget";

pub(super) fn is_owned(kind: &str) -> bool {
    OWNED.contains(&kind)
}

struct Draft {
    status: bool,
    reason: String,
    message: String,
}

fn yes() -> Draft {
    Draft { status: true, reason: String::new(), message: String::new() }
}

fn no(reason: &str, message: String) -> Draft {
    Draft { status: false, reason: reason.into(), message }
}

/// `phase` follows from the containers' states. While something of the pod still runs, `status` has an earlier one.
pub(super) fn generate(input: &Input, status: &PodStatus, old: &PodStatus, phase: &str) -> Vec<PodCondition> {
    let containers_ready = containers_ready(input, status, phase);
    let ready = match containers_ready.status {
        true => gates(input, old),
        false => Draft { ..containers_ready.clone() },
    };
    let drafts = [
        ("PodReadyToStartContainers", sandbox_ready(input)),
        ("Initialized", initialized(input, status, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", yes()),
    ];
    // Said together with the end, not before.
    let ended = pods::phase_is_terminal(status.phase.as_deref());
    let disruption = input.failure.filter(|failure| ended && failure.disruption).map(|failure| {
        let (reason, message) = ("TerminationByKubelet".into(), failure.message.clone());
        (DISRUPTION, Draft { status: true, reason, message })
    });
    let resize = input.resize.iter().filter(|_| !ended);
    let others = old.conditions.iter().flatten().filter(|it| !is_owned(&it.type_));
    let others = others.filter(|it| disruption.as_ref().is_none_or(|(kind, _)| it.type_ != *kind));
    let own = disruption.clone().into_iter().chain(drafts).map(|(kind, draft)| {
        let before = old.conditions.iter().flatten().find(|it| it.type_ == kind);
        let value = if draft.status { "True" } else { "False" };
        let unchanged = before.filter(|it| it.status == value);
        PodCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(draft.reason).filter(|text| !text.is_empty()),
            message: Some(draft.message).filter(|text| !text.is_empty()),
            last_probe_time: None,
            last_transition_time: unchanged
                .and_then(|it| it.last_transition_time.clone())
                .or(Some(Time(input.now))),
            observed_generation: input.pod.metadata.generation,
        }
    });
    others.chain(resize).cloned().chain(own).collect()
}

impl Clone for Draft {
    fn clone(&self) -> Self {
        Draft { status: self.status, reason: self.reason.clone(), message: self.message.clone() }
    }
}

fn sandbox_ready(input: &Input) -> Draft {
    let sandboxes = &input.runtime.sandboxes;
    let host_network = pods::is_host_network(input.pod);
    let problem = match sandboxes.first() {
        None => "no pod sandbox exists",
        Some(_) if sandboxes.iter().filter(|it| it.ready).count() > 1 => {
            "multiple pod sandboxes are ready and need to be reconciled"
        }
        Some(newest) if !newest.ready => "pod sandbox is not ready",
        Some(newest) if newest.host_network != host_network => {
            "network namespace mode changed and sandbox needs to be recreated"
        }
        Some(newest) if !host_network && newest.ips.is_empty() => "pod sandbox has no IP address",
        Some(_) => return yes(),
    };
    no("PodSandboxNotReady", problem.into())
}

/// The conditions of a status that are not the kubelet's.
pub fn foreign(status: Option<&PodStatus>) -> Option<Vec<PodCondition>> {
    let mut conditions = status?.conditions.clone()?;
    conditions.retain(|it| !is_owned(&it.type_));
    (!conditions.is_empty()).then_some(conditions)
}

fn find<'a>(statuses: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().flatten().find(|status| status.name == name)
}

/// Our last status, with what others have since written into the API server's copy.
pub fn with_foreign(ours: Option<&PodStatus>, theirs: Option<&PodStatus>) -> Option<PodStatus> {
    let mut merged = ours?.clone();
    let gates = theirs.and_then(|status| status.conditions.as_ref());
    for condition in gates.into_iter().flatten() {
        let conditions = merged.conditions.get_or_insert_default();
        if is_owned(&condition.type_) {
            continue;
        }
        match conditions.iter_mut().find(|it| it.type_ == condition.type_) {
            Some(mine) => *mine = condition.clone(),
            None => conditions.push(condition.clone()),
        }
    }
    Some(merged)
}

/// `[a b]`, as Go prints a list.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn initialized(input: &Input, status: &PodStatus, phase: &str) -> Draft {
    let init = input.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for container in init {
        let done = find(&status.init_container_statuses, &container.name)
            .map(|found| if is_sidecar(container) { found.started == Some(true) } else { found.ready });
        match done {
            None => unknown.push(container.name.as_str()),
            Some(false) => incomplete.push(container.name.as_str()),
            Some(true) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Draft { reason: "PodCompleted".into(), ..yes() };
    }
    let containers = input.pod.spec.iter().flat_map(|spec| &spec.containers);
    // Once the containers ran, a sidecar that is being restarted does not undo initialization.
    let ran = containers.into_iter().any(|it| {
        find(&status.container_statuses, &it.name).is_some_and(|found| {
            let state = found.state.clone().unwrap_or_default();
            state.running.is_some() || state.terminated.is_some() || found.restart_count > 0
        })
    });
    if ran || (unknown.is_empty() && incomplete.is_empty()) {
        return yes();
    }
    no("ContainersNotInitialized", complaint(&unknown, "incomplete", &incomplete))
}

fn complaint(unknown: &[&str], what: &str, others: &[&str]) -> String {
    let mut texts = Vec::new();
    if !unknown.is_empty() {
        texts.push(format!("containers with unknown status: {}", list(unknown)));
    }
    if !others.is_empty() {
        texts.push(format!("containers with {what} status: {}", list(others)));
    }
    texts.join(", ")
}

fn containers_ready(input: &Input, status: &PodStatus, phase: &str) -> Draft {
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    let spec = input.pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    for container in init.iter().filter(|it| is_sidecar(it)) {
        match find(&status.init_container_statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(found) if !found.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    for container in spec.iter().flat_map(|spec| &spec.containers) {
        match find(&status.container_statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(found) if !found.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return no("PodCompleted", String::new());
    }
    if phase == "Failed" {
        return no("PodFailed", String::new());
    }
    if unknown.is_empty() && unready.is_empty() {
        return yes();
    }
    no("ContainersNotReady", complaint(&unknown, "unready", &unready))
}

fn gates(input: &Input, old: &PodStatus) -> Draft {
    let gates = input.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut texts = Vec::new();
    for gate in gates {
        let kind = &gate.condition_type;
        match old.conditions.iter().flatten().find(|it| it.type_ == *kind) {
            None => {
                texts.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist."))
            }
            Some(found) if found.status != "True" => texts.push(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                found.status
            )),
            Some(_) => {}
        }
    }
    if texts.is_empty() { yes() } else { no("ReadinessGatesNotReady", texts.join(", ")) }
}
