//! What a pod was given, as against what it asks for by now. A running container keeps what it was made with: resizing in
//! place is absent, so a resize is reported as infeasible, and the pod goes on with what it has, restarts included.
//!
//! Allocated amounts are stored in the pod's status, which outlives the kubelet.

use crate::qos;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Reason and message of the condition `PodResizePending`.
pub const INFEASIBLE: (&str, &str) = ("Infeasible", "In-place pod resize is not supported on this node");

/// The text of the event: every container with what it asks for.
pub fn infeasible(pod: &Pod) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let list = |containers: Vec<Container>| -> Option<Vec<Value>> {
        let one = |it: Container| json!({"name": it.name, "resources": it.resources.unwrap_or_default()});
        (!containers.is_empty()).then(|| containers.into_iter().map(one).collect())
    };
    let summary = Summary {
        init_containers: list(spec.init_containers.unwrap_or_default()),
        containers: list(spec.containers),
        generation: pod.metadata.generation.unwrap_or_default(),
        error: INFEASIBLE.1,
    };
    let summary = serde_json::to_string(&summary).unwrap_or_default();
    format!("Pod resize {}: {summary}", INFEASIBLE.0)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    #[serde(skip_serializing_if = "Option::is_none")]
    init_containers: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<Value>>,
    generation: i64,
    error: &'static str,
}

/// Only these can be resized.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

type Quantities = Option<BTreeMap<String, Quantity>>;

/// Whether the pod asks for something else than it was given.
pub fn resize_is_pending(pod: &Pod, status: Option<&PodStatus>) -> bool {
    matches!(allocated(pod, status), Cow::Owned(_))
}

/// The pod with what it was given, which is what it asks for where nothing of it was made yet.
pub fn allocated<'a>(pod: &'a Pod, status: Option<&PodStatus>) -> Cow<'a, Pod> {
    let mut pod = Cow::Borrowed(pod);
    let Some(status) = status else { return pod };
    let spec = pod.spec.as_ref();
    let count = |is_init: bool| {
        spec.map_or(0, |it| {
            if is_init { it.init_containers.iter().flatten().count() } else { it.containers.len() }
        })
    };
    let places = (0..count(true)).map(|at| (true, at)).chain((0..count(false)).map(|at| (false, at)));
    let places: Vec<(bool, usize)> = places.collect();
    for (is_init, at) in places {
        let Some(spec) = pod.spec.as_ref() else { break };
        let (container, statuses) = match is_init {
            true => (spec.init_containers.as_ref().map(|all| &all[at]), &status.init_container_statuses),
            false => (Some(&spec.containers[at]), &status.container_statuses),
        };
        let Some(container) = container else { continue };
        let given = statuses.iter().flatten().find(|it| it.name == container.name).and_then(given);
        let asked = container.resources.clone().unwrap_or_default();
        let Some(resources) = given.and_then(|given| replaced(&asked, &given)) else { continue };
        let Some(spec) = pod.to_mut().spec.as_mut() else { break };
        match (is_init, &mut spec.init_containers) {
            (true, Some(init)) => init[at].resources = Some(resources),
            _ => spec.containers[at].resources = Some(resources),
        }
    }
    pod
}

/// What a container that was made was given.
fn given(status: &ContainerStatus) -> Option<ResourceRequirements> {
    status.container_id.as_ref()?;
    let limits = status.resources.as_ref()?.limits.clone();
    Some(ResourceRequirements { requests: status.allocated_resources.clone(), limits, ..Default::default() })
}

/// `asked` with the resizable resources of `given`; `None` where they are the same.
fn replaced(asked: &ResourceRequirements, given: &ResourceRequirements) -> Option<ResourceRequirements> {
    let same = |a: &Quantities, b: &Quantities| {
        RESIZABLE.iter().all(|name| qos::amount(a.as_ref(), name) == qos::amount(b.as_ref(), name))
    };
    if same(&asked.requests, &given.requests) && same(&asked.limits, &given.limits) {
        return None;
    }
    let replace = |asked: &Quantities, given: &Quantities| {
        let mut all = asked.clone().unwrap_or_default();
        all.retain(|name, _| !RESIZABLE.contains(&name.as_str()));
        let given = given.iter().flatten().filter(|(name, _)| RESIZABLE.contains(&name.as_str()));
        all.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        (!all.is_empty()).then_some(all)
    };
    let requests = replace(&asked.requests, &given.requests);
    let limits = replace(&asked.limits, &given.limits);
    Some(ResourceRequirements { requests, limits, claims: asked.claims.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_amounts_stay() {
        let pod = |requests, limits| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "a", "resources": {"requests": requests, "limits": limits}}, {"name": "b"}]}}))
            .unwrap()
        };
        let status = |id: Option<&str>| -> PodStatus {
            let a = json!({"name": "a", "containerID": id, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "100m", "example.com/gpu": "1"},
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}});
            serde_json::from_value(json!({"containerStatuses": [a]})).unwrap()
        };
        let gpu = json!({"cpu": "100m", "example.com/gpu": "1"});
        let same = pod(gpu.clone(), json!({"memory": "1024Mi"}));
        assert!(!resize_is_pending(&same, Some(&status(Some("fake://a")))));
        let more =
            pod(json!({"cpu": "2", "memory": "1Gi", "example.com/gpu": "1"}), json!({"memory": "2Gi"}));
        assert!(!resize_is_pending(&more, None), "a new pod");
        assert!(!resize_is_pending(&more, Some(&status(None))), "nothing was made of it");
        let given = allocated(&more, Some(&status(Some("fake://a")))).into_owned();
        assert_eq!(given, pod(gpu, json!({"memory": "1Gi"})));
    }
}
