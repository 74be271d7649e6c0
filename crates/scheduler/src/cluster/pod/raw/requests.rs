//! What a pod takes of its node: what it requests, and where it was resized, what its kubelet says that it has.

use std::collections::BTreeMap;

use super::{Container, Spec, Status};
use crate::cluster::pod::{DEFAULT_CPU, DEFAULT_MEMORY};
use crate::cluster::resources::Resources;

/// What the pod needs at its peak: all containers and sidecars together, or an init container with the
/// sidecars started before it, whichever is more; plus overhead. Requests of the pod as a whole stand before both.
pub(super) fn of(spec: &Spec, status: &Status) -> (Resources, (i64, i64)) {
    let empty = BTreeMap::new();
    let of = |container: &Container| {
        let list = container.resources.requests.as_ref().unwrap_or(&empty);
        let resources = Resources::parse(list);
        let scored = (
            if list.contains_key("cpu") { resources.cpu } else { DEFAULT_CPU },
            if list.contains_key("memory") { resources.memory } else { DEFAULT_MEMORY },
        );
        (resources, scored)
    };
    let (mut total, mut scored) = (Resources::default(), (0i64, 0i64));
    for container in &spec.containers {
        let (resources, score) = of(container);
        total.add(&resources);
        scored = (scored.0 + score.0, scored.1 + score.1);
    }
    let (mut sidecars, mut sidecars_scored) = (Resources::default(), (0, 0));
    let (mut peak, mut peak_scored) = (Resources::default(), (0, 0));
    for container in spec.init_containers.iter().flatten() {
        let (mut resources, score) = of(container);
        let mut at = (score.0 + sidecars_scored.0, score.1 + sidecars_scored.1);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&resources);
            scored = (scored.0 + score.0, scored.1 + score.1);
            sidecars.add(&resources);
            sidecars_scored = at;
            resources = sidecars.clone();
        } else {
            resources.add(&sidecars);
        }
        peak.raise(&resources);
        at = (at.0.max(peak_scored.0), at.1.max(peak_scored.1));
        peak_scored = at;
    }
    total.raise(&peak);
    scored = (scored.0.max(peak_scored.0), scored.1.max(peak_scored.1));
    let given = given(spec, status);
    let replaces = given.is_some() && is_infeasible(status);
    let raise = |mut own: Resources| {
        match &given {
            Some(given) if replaces => own.clone_from(given),
            Some(given) => own.raise(given),
            None => {}
        }
        own
    };
    total = raise(total);
    if let Some(given) = &given {
        let own = if replaces { (0, 0) } else { scored };
        scored = (own.0.max(given.cpu), own.1.max(given.memory));
    }
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let whole = raise(Resources::parse(list));
        if list.contains_key("cpu") {
            (total.cpu, scored.0) = (whole.cpu, whole.cpu);
        }
        if list.contains_key("memory") {
            (total.memory, scored.1) = (whole.memory, whole.memory);
        }
        for (name, amount) in whole.others {
            total.others.retain(|(other, _)| *other != name);
            total.others.push((name, amount));
        }
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = Resources::parse(overhead);
        scored = (scored.0 + overhead.cpu, scored.1 + overhead.memory);
        total.add(&overhead);
    }
    (total, scored)
}

/// What the kubelet has given the pod, or is giving it, without the overhead.
fn given(spec: &Spec, status: &Status) -> Option<Resources> {
    let actual = status.resources.as_ref()?.requests.as_ref()?;
    let mut given = Resources::parse(status.allocated_resources.as_ref()?);
    given.raise(&Resources::parse(actual));
    if let Some(overhead) = &spec.overhead {
        given.subtract(&Resources::parse(overhead));
    }
    Some(given)
}

/// A resize that will not come about.
fn is_infeasible(status: &Status) -> bool {
    let pending = status.conditions.iter().flatten().find(|condition| condition.kind == "PodResizePending");
    pending.is_some_and(|pending| pending.reason == "Infeasible")
}
