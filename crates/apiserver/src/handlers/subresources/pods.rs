//! `pods/binding`: the scheduler's word on where a pod runs.

use api::decode::Expected;
use api::{Status, Tree};
use bytes::Bytes;
use http::Response;
use serde_json::{Map, json};

use super::super::mutate::decode;
use super::super::options::WriteOptions;
use super::super::Call;
use crate::body::Body;
use crate::negotiate::status_response;
use crate::writes::{self, Operation};

pub async fn bind(call: &Call<'_>, body: Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let expected = Expected { group: "", version: "v1", kind: "Binding" };
    let binding = decode(call, &body, expected, &options)?;
    bind_tree(call, &binding, &options).await
}

/// Assigns the pod that the binding names, or the path.
pub async fn bind_tree(call: &Call<'_>, binding: &Tree, options: &WriteOptions) -> Result<Response<Body>, Status> {
    let text = |pointer: &str| binding.pointer(pointer).and_then(Tree::as_str).unwrap_or_default();
    let name = text("/metadata/name");
    if !call.name().is_empty() && name != call.name() {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let namespace = text("/metadata/namespace");
    if !namespace.is_empty() && namespace != call.info.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let kind = text("/target/kind");
    if !matches!(kind, "" | "Node") || text("/target/name").is_empty() {
        let (field, reason, message) = if text("/target/name").is_empty() {
            ("target.name", "FieldValueRequired", "Required value".to_owned())
        } else {
            let message = format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"");
            ("target.kind", "FieldValueNotSupported", message)
        };
        let cause = api::status::Cause { reason: reason.to_owned(), message, field: field.to_owned() };
        return Err(Status::invalid("", "Binding", name, vec![cause]));
    }
    let Some(pods) = api::tables::resource("", "v1", "pods") else { return Err(Status::unknown_path()) };
    let operation = Operation {
        resource: pods,
        subresource: "binding",
        namespace: &call.info.namespace,
        name,
        ..call.operation(options.dry_run)
    };
    let change = |old: &Tree| assign(&operation, binding, old);
    writes::update(&operation, &change, None, &mut Vec::new()).await?;
    let mut done = Status::success(None);
    done.code = 201;
    Ok(status_response(call.headers, &done))
}

fn assign(operation: &Operation<'_>, binding: &Tree, old: &Tree) -> Result<Tree, Status> {
    let mut pod = old.clone();
    let text = |tree: &Tree, pointer: &str| {
        tree.pointer(pointer).and_then(Tree::as_str).unwrap_or_default().to_owned()
    };
    let uid = text(binding, "/metadata/uid");
    let own = text(old, "/metadata/uid");
    if !uid.is_empty() && uid != own {
        return Err(operation.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {own}"
        )));
    }
    let version = text(binding, "/metadata/resourceVersion");
    let current = text(old, "/metadata/resourceVersion");
    if !version.is_empty() && version != current {
        return Err(operation.conflict(&format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {current}"
        )));
    }
    if old.pointer("/metadata/deletionTimestamp").is_some_and(Tree::is_string) {
        return Err(operation.conflict(&format!("pod {} is being deleted, cannot be assigned to a host", operation.name)));
    }
    let node = text(old, "/spec/nodeName");
    if !node.is_empty() {
        return Err(operation.conflict(&format!("pod {} is already assigned to node {node:?}", operation.name)));
    }
    if old.pointer("/spec/schedulingGates").and_then(Tree::as_array).is_some_and(|gates| !gates.is_empty()) {
        return Err(operation.conflict(&format!("pod {} has non-empty .spec.schedulingGates", operation.name)));
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Tree::as_object_mut) {
        spec.insert("nodeName".to_owned(), text(binding, "/target/name").into());
    }
    for field in ["annotations", "labels"] {
        let added = binding.pointer(&format!("/metadata/{field}")).and_then(Tree::as_object);
        let metadata = pod.get_mut("metadata").and_then(Tree::as_object_mut);
        if let (Some(added), Some(metadata)) = (added.filter(|added| !added.is_empty()), metadata) {
            let own = metadata.entry(field).or_insert_with(|| Map::new().into());
            if let Some(own) = own.as_object_mut() {
                own.extend(added.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
    }
    scheduled(&mut pod);
    Ok(pod)
}

/// Sets the condition `PodScheduled`.
fn scheduled(pod: &mut Tree) {
    let Some(pod) = pod.as_object_mut() else { return };
    let generation = pod.get("metadata").and_then(|metadata| metadata.get("generation")).cloned();
    let status = pod.entry("status").or_insert_with(|| Map::new().into());
    let Some(status) = status.as_object_mut() else { return };
    let conditions = status.entry("conditions").or_insert_with(|| Vec::<Tree>::new().into());
    let Some(conditions) = conditions.as_array_mut() else { return };
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    if let Some(generation) = generation {
        condition["observedGeneration"] = generation;
    }
    match conditions.iter_mut().find(|own| own.get("type").and_then(Tree::as_str) == Some("PodScheduled")) {
        Some(own) => *own = condition,
        None => conditions.push(condition),
    }
}
