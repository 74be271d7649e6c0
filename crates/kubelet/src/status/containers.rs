//! The status of one container.

use super::Input;
use crate::qos::is_sidecar;
use crate::runtime::{Container as Instance, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::HashSet;

fn time(nanoseconds: i64) -> Option<Time> {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).ok().filter(|_| nanoseconds > 0).map(Time)
}

pub(super) fn status(
    input: &Input,
    container: &Container,
    old: Option<&ContainerStatus>,
    has_init: bool,
    is_init: bool,
) -> ContainerStatus {
    let name = &container.name;
    let mut instances = input.runtime.instances(name);
    let current = instances.next();
    let previous = instances.find(|it| it.state == State::Exited);
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..Default::default()
    };
    let initial = || waiting(if has_init { "PodInitializing" } else { "ContainerCreating" }, None);

    let mut status = match current {
        Some(current) => ContainerStatus {
            name: name.clone(),
            container_id: Some(format!("{}://{}", input.runtime_name, current.id)),
            image: current.image.clone(),
            image_id: current.image_ref.clone(),
            restart_count: i32::try_from(current.restart_count)
                .unwrap_or(i32::MAX)
                .max(old.map_or(0, |old| old.restart_count)),
            state: Some(instance_state(input, current)),
            last_state: Some(match previous {
                Some(previous) => instance_state(input, previous),
                None => last_end(input, current, old),
            }),
            ..Default::default()
        },
        None => missing(input, container, old, initial()),
    };
    let is_waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    if current.is_none()
        && is_init
        && is_waiting
        && !is_sidecar(container)
        && input.runtime.is_initialized(input.pod)
    {
        let message = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some("Completed".into()),
                message: Some(message.into()),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
    let restarts = !input.terminal && crate::plan::should_restart(input.pod, container, input.runtime);
    if restarts && let Some((reason, message)) = input.reasons.get(name) {
        let state = status.state.take().unwrap_or_default();
        if state.terminated.is_some() {
            status.last_state = Some(state);
        }
        status.state = Some(waiting(reason, Some(message.clone())));
    }

    let running = current.filter(|it| {
        it.state == State::Running && status.state.as_ref().is_some_and(|s| s.running.is_some())
    });
    let probed =
        |probe: bool, passed: &HashSet<String>| running.is_some_and(|it| !probe || passed.contains(&it.id));
    let started = probed(container.startup_probe.is_some(), &input.health.started);
    status.started = Some(started);
    status.ready = if is_init && !is_sidecar(container) {
        status.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|it| it.exit_code == 0)
    } else {
        started && probed(container.readiness_probe.is_some(), &input.health.ready)
    };
    if let Some(current) = current {
        status.allocated_resources =
            container.resources.as_ref().and_then(|it| it.requests.clone()).filter(|it| !it.is_empty());
        let id = status.container_id.as_ref();
        status.resources = Some(super::resources::of_container(input, container, current, id, old));
    }
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: mount.read_only.filter(|it| *it).map(|_| {
                let made = current.iter().flat_map(|it| &it.mounts);
                let made = made.into_iter().find(|it| it.container_path == mount.mount_path);
                if made.is_some_and(|it| it.recursive_read_only) { "Enabled" } else { "Disabled" }.into()
            }),
            ..Default::default()
        })
        .collect();
    status.volume_mounts = (!mounts.is_empty()).then_some(mounts);
    status.user =
        current.and_then(|it| it.user.as_ref()).map(|user| k8s_openapi::api::core::v1::ContainerUser {
            linux: Some(k8s_openapi::api::core::v1::LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()),
            }),
        });
    status
}

/// How the instance before this one ended, which the runtime no longer has: what was reported of it stands.
fn last_end(input: &Input, current: &Instance, old: Option<&ContainerStatus>) -> ContainerState {
    let Some(old) = old else { return ContainerState::default() };
    let id = format!("{}://{}", input.runtime_name, current.id);
    let ended = old.state.clone().filter(|state| state.terminated.is_some());
    match ended.filter(|_| old.container_id.as_ref() != Some(&id)) {
        Some(ended) => ended,
        None => old.last_state.clone().unwrap_or_default(),
    }
}

/// The end of a container that nobody saw.
fn lost(message: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".into()),
        message: Some(message.into()),
        exit_code: 137,
        ..Default::default()
    }
}

/// The status of a container the runtime has no instance of.
fn missing(
    input: &Input,
    container: &Container,
    old: Option<&ContainerStatus>,
    initial: ContainerState,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(initial),
        last_state: Some(ContainerState::default()),
        ..Default::default()
    };
    let Some(old) = old else { return status };
    let state = old.state.clone().unwrap_or_default();
    if state.terminated.is_some() {
        return old.clone();
    }
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone().or(status.last_state);
    if state.running.is_some() {
        let last = status.last_state.get_or_insert_default();
        if last.terminated.is_none() {
            let used_to_run = "The container could not be located when the pod was deleted.  The container used to be Running";
            last.terminated = Some(lost(used_to_run));
            status.restart_count += i32::from(input.pod.metadata.deletion_timestamp.is_none());
        }
    }
    status
}

/// Once a pod is over, what is not known to have ended has failed. What it never came to keeps waiting.
pub(super) fn settle(pod: &Pod, status: &mut PodStatus) {
    let ended = || ContainerState {
        terminated: Some(lost("The container could not be located when the pod was terminated")),
        ..Default::default()
    };
    let began = |status: &ContainerStatus| {
        let waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        !waiting || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    };
    let init = status.init_container_statuses.get_or_insert_default();
    let last_done = init.last().is_none_or(|last| {
        let sidecar = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let sidecar = sidecar.into_iter().any(|it| it.name == last.name && is_sidecar(it));
        if sidecar { last.started == Some(true) } else { last.ready }
    });
    let initialized = last_done || status.container_statuses.iter().flatten().any(began);
    let reached = init.iter().rposition(began).map_or(1, |last| last + 1);
    let reached = init.iter_mut().take(reached);
    let regular = status.container_statuses.iter_mut().flatten().filter(|_| initialized);
    for container in reached.chain(regular) {
        if container.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            container.state = Some(ended());
        }
    }
    status.init_container_statuses.take_if(|init| init.is_empty());
}

fn instance_state(input: &Input, instance: &Instance) -> ContainerState {
    match instance.state {
        State::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(instance.started_at) }),
            ..Default::default()
        },
        State::Exited => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: instance.exit_code,
                reason: Some(instance.reason.clone()).filter(|text| !text.is_empty()),
                message: Some(instance.message.clone()).filter(|text| !text.is_empty()),
                started_at: Some(time(instance.started_at).unwrap_or(Time(Timestamp::UNIX_EPOCH))),
                finished_at: Some(time(instance.finished_at).unwrap_or(Time(Timestamp::UNIX_EPOCH))),
                container_id: Some(format!("{}://{}", input.runtime_name, instance.id)),
                ..Default::default()
            }),
            ..Default::default()
        },
        State::Created | State::Unknown => {
            ContainerState { waiting: Some(ContainerStateWaiting::default()), ..Default::default() }
        }
    }
}
