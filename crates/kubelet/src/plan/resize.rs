//! Which containers that run are to be changed to what they are allocated by now, and which restart for it.

use super::{Context, Kill, Kind, Plan, start};
use crate::allocation::Part;
use crate::allocation::resources::{PodResources, Size};
use crate::runtime::{Container as Instance, RuntimePod};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Changes in the order in which they are made: what gives room back comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    pub memory: Vec<Update>,
    pub cpu: Vec<Update>,
    /// The pod's own group changes, whichever containers do.
    pub pod: bool,
}

/// A container that changes while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: String,
    pub name: String,
    pub from: Size,
    pub to: Size,
}

impl Resize {
    pub fn is_empty(&self) -> bool {
        !self.pod && self.memory.is_empty() && self.cpu.is_empty()
    }

    pub fn updates(&self, part: Part) -> &[Update] {
        match part {
            Part::Memory => &self.memory,
            Part::Cpu => &self.cpu,
        }
    }

    fn sort(&mut self) {
        self.memory.sort_by_key(|it| increases(Part::Memory, it));
        self.cpu.sort_by_key(|it| increases(Part::Cpu, it));
    }
}

fn values(part: Part, size: Size) -> (i64, i64) {
    match part {
        Part::Memory => (size.memory_limit, size.memory_request),
        Part::Cpu => (size.cpu_limit, size.cpu_request),
    }
}

fn increases(part: Part, update: &Update) -> bool {
    values(part, update.to) > values(part, update.from)
}

/// The pod as a whole, once its containers have been looked at.
pub(super) fn plan_pod(plan: &mut Plan, pod: &Pod, context: &Context) {
    plan.resize.sort();
    let Some(actuated) = context.actuated else { return };
    let wanted = PodResources::of(pod);
    let starts_resized = |name: &str| wanted.size(name) != actuated.size(name);
    plan.resize.pod |= wanted.pod_size() != actuated.pod_size()
        || plan.start.iter().any(|it| it.kind != Kind::Ephemeral && starts_resized(&it.name));
}

/// Plans what a running container's resources take. Returns whether it is kept.
pub(super) fn plan_container(
    plan: &mut Plan,
    pod: &Pod,
    container: &Container,
    (current, kind): (&Instance, Kind),
    runtime: &RuntimePod,
    context: &Context,
) -> bool {
    let Some(actuated) = context.actuated else { return true };
    let pod_level = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let none = Default::default();
    let to = Size::of_container(pod_level, container.resources.as_ref().unwrap_or(&none));
    let from = actuated.size(&container.name);
    let changes = |part| values(part, from) != values(part, to);
    let restarts = |part: Part| {
        let policy = container.resize_policy.iter().flatten().find(|it| it.resource_name == part.name());
        policy.is_some_and(|it| it.restart_policy == "RestartContainer")
    };
    let changed: Vec<Part> = [Part::Memory, Part::Cpu].into_iter().filter(|part| changes(*part)).collect();
    if changed.iter().any(|part| restarts(*part)) {
        let name = container.name.clone();
        let message = format!("Container {name} resize requires restart");
        plan.kill.push(Kill { id: current.id.clone(), name, message, grace: None });
        start(plan, runtime, container, kind, context);
        plan.resize.pod = true;
        return false;
    }
    for part in changed {
        let update = Update { id: current.id.clone(), name: container.name.clone(), from, to };
        match part {
            Part::Memory => plan.resize.memory.push(update),
            Part::Cpu => plan.resize.cpu.push(update),
        }
    }
    true
}
