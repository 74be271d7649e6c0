//! `pods/binding`: gives a pod to a node.

use api::json;
use api::{Status, Tree};
use jiff::Timestamp;

use crate::tree::{ensure, entries, get, has, list, text};

/// Assigns `pod` to the binding's node. The caller stores the pod, and makes the error a conflict on `pods/binding`.
pub fn assign(pod: &mut Tree, binding: &Tree, now: Timestamp) -> Result<(), String> {
    let node = text(binding, "target.name");
    let name = text(pod, "metadata.name").to_owned();
    if has(pod, "metadata.deletionTimestamp") {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let current = text(pod, "spec.nodeName");
    if !current.is_empty() {
        return Err(format!("pod {name} is already assigned to node {current:?}"));
    }
    if !list(pod, "spec.schedulingGates").is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let uid = text(binding, "metadata.uid");
    if !uid.is_empty() && uid != text(pod, "metadata.uid") {
        return Err(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(pod, "metadata.uid")
        ));
    }
    ensure(pod, "spec").insert("nodeName", node.into());
    for (key, value) in entries(binding, "metadata.annotations") {
        ensure(pod, "metadata.annotations").insert(key.to_owned(), value.clone());
    }
    for (key, value) in entries(binding, "metadata.labels") {
        ensure(pod, "metadata.labels").insert(key.to_owned(), value.clone());
    }
    scheduled(pod, now);
    Ok(())
}

/// Sets the condition `PodScheduled`.
fn scheduled(pod: &mut Tree, now: Timestamp) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    if get(pod, "status.conditions").is_null() {
        ensure(pod, "status").insert("conditions", Tree::Array(Vec::new()));
    }
    let Some(conditions) = ensure(pod, "status").get_mut("conditions").and_then(Tree::as_array_mut) else {
        return;
    };
    match conditions.iter_mut().find(|condition| text(condition, "type") == "PodScheduled") {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// The conflict that an error of [`assign`] is.
pub fn conflict(name: &str, problem: &str) -> Status {
    Status::conflict("", "pods/binding", name, problem)
}
