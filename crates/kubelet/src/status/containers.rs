//! The status of one container.

use super::Input;
use crate::pods;
use crate::qos::is_sidecar;
use crate::runtime::{Container as Instance, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, VolumeMountStatus,
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
            restart_count: i32::try_from(current.restart_count).unwrap_or(i32::MAX),
            state: Some(instance_state(input, current)),
            last_state: Some(previous.map(|it| instance_state(input, it)).unwrap_or_default()),
            ..Default::default()
        },
        None => missing(input, container, old, initial()),
    };
    if let Some(current) = current
        && previous.is_none()
        && let Some(old) = old.filter(|old| old.restart_count > 0 && old.container_id == status.container_id)
        && current.state != State::Exited
    {
        status.last_state = old.last_state.clone();
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
    if current.is_some() {
        status.allocated_resources =
            container.resources.as_ref().and_then(|it| it.requests.clone()).filter(|it| !it.is_empty());
        status.resources = Some(container.resources.clone().unwrap_or_default());
    }
    let mounts: Vec<VolumeMountStatus> = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: mount.read_only.filter(|it| *it).map(|_| "Disabled".into()),
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

/// The status of a container the runtime holds nothing of.
fn missing(
    input: &Input,
    container: &Container,
    old: Option<&ContainerStatus>,
    initial: ContainerState,
) -> ContainerStatus {
    let lost = |old: &ContainerStatus| ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            exit_code: 137,
            container_id: old.container_id.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(initial),
        last_state: Some(ContainerState::default()),
        ..Default::default()
    };
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone().or(status.last_state);
    let state = old.state.clone().unwrap_or_default();
    if state.terminated.is_some() {
        return old.clone();
    }
    if state.running.is_some() {
        // It ran and vanished without our seeing its end.
        status.image_id = old.image_id.clone();
        status.container_id = old.container_id.clone();
        if input.terminal
            || input.pod.metadata.deletion_timestamp.is_some()
            || pods::restart_policy(input.pod) == "Never"
        {
            status.state = Some(lost(old));
        } else {
            status.last_state = Some(lost(old));
            status.restart_count += 1;
        }
    } else if input.terminal && state.waiting.is_some() && old.restart_count > 0 {
        status.state = Some(lost(old));
    } else if state.waiting.is_some() {
        status.state = Some(state);
    }
    status
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
