//! The pods of this node: those it should run, and those the runtime runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Body, Host, text};
use crate::pods::uid;
use crate::runtime::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};

/// The pods that the sources want on this node, with their newest status.
pub fn known(host: &Host) -> Response<Body> {
    let mut pods = host.pods.all();
    pods.sort_by(|one, other| {
        (&one.metadata.namespace, &one.metadata.name).cmp(&(&other.metadata.namespace, &other.metadata.name))
    });
    let items: Vec<Value> = pods
        .iter()
        .map(|pod| {
            let status = host.pods.status(uid(pod)).map(|status| (*status).clone());
            let pod = Pod { status: status.or_else(|| pod.status.clone()), ..(**pod).clone() };
            let mut value = serde_json::to_value(pod).unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                fields.retain(|field, _| field != "apiVersion" && field != "kind");
            }
            value
        })
        .collect();
    list(items)
}

/// The pods that run, whether or not a source wants them.
pub async fn running(host: &Arc<Host>) -> Response<Body> {
    let filter = cri::v1::ContainerFilter {
        state: Some(cri::v1::ContainerStateValue { state: cri::v1::ContainerState::ContainerRunning.into() }),
        ..Default::default()
    };
    let containers = match host.runtime.list_containers(Some(filter)).await {
        Ok(containers) => containers,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut pods: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for container in containers {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let metadata = json!({
            "name": label(POD_NAME), "namespace": label(POD_NAMESPACE), "uid": label(POD_UID), "creationTimestamp": null,
        });
        let image = container.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        let (_, containers) = pods.entry(label(POD_UID)).or_insert((metadata, Vec::new()));
        containers.push(json!({"name": label(CONTAINER_NAME), "image": image, "resources": {}}));
    }
    list(
        pods.into_values()
            .map(|(metadata, containers)| json!({"metadata": metadata, "spec": {"containers": containers}, "status": {}}))
            .collect(),
    )
}

fn list(items: Vec<Value>) -> Response<Body> {
    super::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}
