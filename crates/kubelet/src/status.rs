//! A pod's status, computed from the runtime's state of it by a pure function. [`manager`] reports it to the API server.

pub mod conditions;
mod containers;
pub mod manager;
mod phase;
mod resources;

use crate::allocation::resources::PodResources;
use crate::cgroups::limits::Limits;
use crate::pods;
use crate::qos;
use crate::runtime::RuntimePod;
use crate::worker::Failure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{HashMap, HashSet};

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
    /// Why the kubelet ended the pod itself: eviction, deadline.
    pub failure: Option<&'a Failure>,
    /// The conditions of a resize that is pending or under way.
    pub resize: &'a [PodCondition],
    /// What containers were last made with or changed to.
    pub actuated: Option<&'a PodResources>,
    /// What the pod's own group has.
    pub limits: Option<Limits>,
    pub runtime_name: &'a str,
    pub now: Timestamp,
}

/// A pod's status, and whether the pod has ended.
pub struct Generated {
    pub status: PodStatus,
    /// The pod has succeeded or failed: nothing of it starts again, and what still runs is to be stopped. Its phase says
    /// so only when nothing runs any more: until then it may use what the next pod will be given.
    pub over: bool,
}

pub fn generate(input: &Input) -> Generated {
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
    if let Some(all) = &mut ephemeral_statuses {
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
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
        allocated_resources: Some(resources::total(input.pod, |it| it.requests.as_ref()))
            .filter(|it| !it.is_empty()),
        resources: Some(resources::of_pod(input, &old)),
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..Default::default()
    };
    let mut ips: Vec<String> = input.runtime.ips().to_vec();
    if pods::is_host_network(input.pod) {
        ips = input.host_ips.to_vec();
    } else if ips.is_empty() {
        // A pod that has ended keeps its last address in its status.
        ips = old.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());

    let over_before = pods::phase_is_terminal(old.phase.as_deref());
    let cut_off = input.terminal && !pods::is_static(input.pod);
    let phase = phase::of(input, &status);
    // As upstream has it, a pod that was evicted and whose containers all ended well has succeeded.
    let failure = input.failure.filter(|it| it.lasting || !input.terminal || phase != "Succeeded");
    let (phase, reason, message) = match failure {
        Some(failure) => ("Failed", Some(failure.reason.clone()), Some(failure.message.clone())),
        None => (phase, None, None),
    };
    let over = over_before || pods::phase_is_terminal(Some(phase));
    if over_before || (over && input.runtime.may_run()) {
        status.phase = old.phase.clone().or_else(|| Some("Running".into()));
        status.reason = old.reason.clone();
        status.message = old.message.clone();
    } else {
        let reported = if cut_off && !over { "Failed" } else { phase };
        (status.phase, status.reason, status.message) = (Some(reported.into()), reason, message);
    }
    if input.terminal {
        containers::settle(input.pod, &mut status);
    }
    let phase = if over_before { old.phase.as_deref().unwrap_or(phase) } else { phase };
    status.conditions = Some(conditions::generate(input, &status, &old, phase));
    shorten(input.pod, &mut status);
    Generated { status, over: over || cut_off }
}

/// Limit of the termination messages of all containers of a pod together, in bytes.
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

/// The status of a pod that was never admitted: nothing of it runs here.
pub fn rejected(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos::class(pod).name().into()),
        start_time: Some(Time(now)),
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

#[cfg(test)]
mod tests;
