//! A pod's status out of what the runtime holds of it: a pure function. [`manager`] tells the API server.

pub mod conditions;
mod containers;
pub mod manager;

use crate::pods;
use crate::qos::{self, is_sidecar};
use crate::runtime::RuntimePod;
use crate::worker::Failure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::quantity::{Format, Quantity};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Why containers do not start, by name: (reason, message).
pub type Reasons = HashMap<String, (String, String)>;

/// What probes say of container instances, by id.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pub ready: HashSet<String>,
    pub started: HashSet<String>,
}

pub struct Input<'a> {
    pub pod: &'a Pod,
    pub runtime: &'a RuntimePod,
    pub reasons: &'a Reasons,
    pub health: &'a Health,
    /// The status before this one.
    pub old: Option<&'a PodStatus>,
    pub host_ips: &'a [String],
    /// All work on the pod is over: nothing will start again.
    pub terminal: bool,
    /// (reason, message) of a pod that was ended from without: evicted, past its deadline.
    pub failure: Option<&'a Failure>,
    pub runtime_name: &'a str,
    pub now: Timestamp,
}

pub fn generate(input: &Input) -> PodStatus {
    let spec = input.pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let old = input.old.cloned().unwrap_or_default();
    let has_init = !init.is_empty();
    let of = |containers: &[Container], old: &Option<Vec<ContainerStatus>>, is_init: bool| {
        let find = |name: &str| old.iter().flatten().find(|status| status.name == name);
        let statuses: Vec<ContainerStatus> = containers
            .iter()
            .map(|container| containers::status(input, container, find(&container.name), has_init, is_init))
            .collect();
        (!statuses.is_empty()).then_some(statuses)
    };
    let mut containers = of(&spec.containers, &old.container_statuses, false);
    if let Some(containers) = &mut containers {
        containers.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let init_statuses = of(&init, &old.init_container_statuses, true);
    let ephemeral: Vec<Container> =
        spec.ephemeral_containers.iter().flatten().filter_map(as_container).collect();
    let mut ephemeral_statuses = of(&ephemeral, &old.ephemeral_container_statuses, false);
    for status in ephemeral_statuses.iter_mut().flatten() {
        // They are not part of what the pod serves.
        status.ready = false;
        status.started = None;
    }

    let mut status = PodStatus {
        phase: None,
        container_statuses: containers,
        init_container_statuses: init_statuses,
        ephemeral_container_statuses: ephemeral_statuses,
        qos_class: Some(qos::class(input.pod).name().into()),
        observed_generation: input.pod.metadata.generation,
        start_time: old.start_time.clone().or(Some(Time(input.now))),
        host_ip: input.host_ips.first().cloned(),
        host_ips: Some(input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        allocated_resources: Some(quantities(input.pod, |it| it.requests.as_ref()))
            .filter(|it| !it.is_empty()),
        resources: Some(pod_resources(input)),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..Default::default()
    };
    let mut ips: Vec<String> = input.runtime.ips().to_vec();
    if pods::is_host_network(input.pod) {
        ips = input.host_ips.to_vec();
    } else if ips.is_empty() {
        // A pod that is over keeps telling the address it had.
        ips = old.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());

    let phase = match old.phase.as_deref() {
        Some(phase) if pods::phase_is_terminal(Some(phase)) => phase.to_owned(),
        _ => phase(input, &status).to_owned(),
    };
    if let Some(failure) = input.failure {
        status.phase = Some("Failed".into());
        status.reason = Some(failure.reason.clone());
        status.message = Some(failure.message.clone());
    } else {
        if pods::phase_is_terminal(old.phase.as_deref()) {
            status.reason = old.reason.clone();
            status.message = old.message.clone();
        }
        status.phase = Some(phase);
    }
    status.conditions = Some(conditions::generate(input, &status, &old));
    shorten(input.pod, &mut status);
    status
}

/// What all containers of a pod may say together of their ends, in bytes.
const LAST_WORDS: usize = 12 << 10;

/// Cuts termination messages to each container's share.
fn shorten(pod: &Pod, status: &mut PodStatus) {
    let count = pod
        .spec
        .as_ref()
        .map_or(0, |spec| spec.containers.len() + spec.init_containers.iter().flatten().count());
    let share = LAST_WORDS / count.max(1);
    let all = [
        &mut status.container_statuses,
        &mut status.init_container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    let containers = all.into_iter().flatten().flatten();
    let states = containers.flat_map(|it| [&mut it.state, &mut it.last_state]).flatten();
    for message in states.filter_map(|state| state.terminated.as_mut()?.message.as_mut()) {
        let mut end = message.len().min(share);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
}

type Quantities = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// Resources of the whole pod.
fn quantities(pod: &Pod, of: fn(&ResourceRequirements) -> Option<&Quantities>) -> Quantities {
    let total = qos::pod_total(pod, of);
    let counted = total.into_iter().filter(|(_, value)| *value > 0);
    counted
        .map(|(name, value)| {
            let bytes =
                matches!(name.as_str(), "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            let format = if bytes { Format::BinarySi } else { Format::DecimalSi };
            let text = Quantity::from_milli(value, format).to_string();
            (name, k8s_openapi::apimachinery::pkg::api::resource::Quantity(text))
        })
        .collect()
}

fn pod_resources(input: &Input) -> ResourceRequirements {
    let some = |found: Quantities| (!found.is_empty()).then_some(found);
    ResourceRequirements {
        requests: some(quantities(input.pod, |it| it.requests.as_ref())),
        limits: some(quantities(input.pod, |it| it.limits.as_ref())),
        ..Default::default()
    }
}

/// The status of a pod that was never let in: nothing of it is made here.
pub fn rejected(pod: &Pod, reason: &str, message: &str) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos::class(pod).name().into()),
        start_time: Some(Time(Timestamp::now())),
        conditions: conditions::foreign(pod.status.as_ref()),
        ..Default::default()
    }
}

fn as_container(ephemeral: &k8s_openapi::api::core::v1::EphemeralContainer) -> Option<Container> {
    serde_json::from_value(serde_json::to_value(ephemeral).ok()?).ok()
}

/// The ephemeral containers of a pod as ordinary ones.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.ephemeral_containers.iter().flatten())
        .filter_map(as_container)
        .collect()
}

/// The phase, by the container statuses.
fn phase(input: &Input, status: &PodStatus) -> &'static str {
    let policy = pods::restart_policy(input.pod);
    let spec = input.pod.spec.clone().unwrap_or_default();
    let init = spec.init_containers.unwrap_or_default();
    let find = |all: &Option<Vec<ContainerStatus>>, name: &str| {
        all.iter().flatten().find(|status| status.name == name).cloned()
    };
    // By its own policy and rules, or else by the pod's.
    let comes_back = |container: &Container, found: &ContainerStatus| {
        let last = found.last_state.as_ref().and_then(|it| it.terminated.as_ref());
        let ended = found.state.as_ref().and_then(|it| it.terminated.as_ref()).or(last);
        !input.terminal
            && ended.is_some_and(|it| crate::plan::restarts_after(input.pod, container, it.exit_code))
    };
    let mut pending_init = 0;
    let mut failed_init = 0;
    let mut sidecars_stopped = true;
    for container in &init {
        let found = find(&status.init_container_statuses, &container.name).unwrap_or_default();
        let state = found.state.clone().unwrap_or_default();
        let last = found.last_state.clone().unwrap_or_default();
        if is_sidecar(container) {
            if state.running.is_some() {
                sidecars_stopped = false;
                if found.started != Some(true) {
                    pending_init += 1;
                }
            } else if state.terminated.is_none() && last.terminated.is_none() {
                pending_init += 1;
            }
            continue;
        }
        if container.restart_policy.is_some() && comes_back(container, &found) && !found.ready {
            pending_init += 1;
            continue;
        }
        match (&state.running, &state.terminated, &state.waiting) {
            (Some(_), _, _) => pending_init += 1,
            (_, Some(terminated), _) if terminated.exit_code != 0 => failed_init += 1,
            (_, Some(_), _) => {}
            (_, _, Some(_)) => match last.terminated {
                Some(terminated) if terminated.exit_code != 0 => failed_init += 1,
                Some(_) => {}
                None => pending_init += 1,
            },
            _ => pending_init += 1,
        }
    }
    let (mut unknown, mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0, 0);
    let mut returning = false;
    for container in &spec.containers {
        let Some(found) = find(&status.container_statuses, &container.name) else {
            unknown += 1;
            continue;
        };
        returning |= comes_back(container, &found);
        let state = found.state.unwrap_or_default();
        let last = found.last_state.unwrap_or_default();
        if state.running.is_some() {
            running += 1;
        } else if let Some(terminated) = state.terminated {
            stopped += 1;
            succeeded += i32::from(terminated.exit_code == 0);
        } else if state.waiting.is_some() {
            if last.terminated.is_some() { stopped += 1 } else { waiting += 1 }
        } else {
            unknown += 1;
        }
    }
    if failed_init > 0 && policy == "Never" {
        return "Failed";
    }
    if input.terminal
        && !pods::is_static(input.pod)
        && running == 0
        && stopped == 0
        && failed_init + pending_init + waiting > 0
    {
        return "Failed";
    }
    if pending_init > 0 && running + stopped == 0 {
        return "Pending";
    }
    if waiting > 0 {
        return if input.terminal && !pods::is_static(input.pod) { "Failed" } else { "Pending" };
    }
    if running > 0 && unknown == 0 {
        return "Running";
    }
    if running == 0 && stopped > 0 && unknown == 0 {
        let all_succeeded = stopped == succeeded && sidecars_stopped;
        if input.terminal && !pods::is_static(input.pod) {
            return if all_succeeded { "Succeeded" } else { "Failed" };
        }
        return match stopped == succeeded {
            _ if returning => "Running",
            true => "Succeeded",
            false => "Failed",
        };
    }
    "Pending"
}

#[cfg(test)]
mod tests;
