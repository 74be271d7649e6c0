//! What may change about a pod once it is there.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::internal;
use crate::tree::{as_object, get, has, int, list, number, object_mut, put, same, text};

static SPEC: Path<'static> = Path::new("spec");

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    for field in ["containers", "initContainers"] {
        let (now, before) = (list(pod, &format!("spec.{field}")), list(old, &format!("spec.{field}")));
        if now.len() != before.len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(SPEC.field(field).forbidden(detail));
            return;
        }
    }
    deadline(pod, old, errors);
    let mut munged = pod.clone();
    let Some(spec) = object_mut(&mut munged, "spec") else { return };
    for field in ["containers", "initContainers"] {
        let before = list(old, &format!("spec.{field}"));
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten();
        for (container, before) in containers.zip(before) {
            put(as_object(container), "image", get(before, "image").clone());
        }
    }
    put(spec, "activeDeadlineSeconds", get(old, "spec.activeDeadlineSeconds").clone());
    tolerations(pod, old, errors);
    put(spec, "tolerations", get(old, "spec.tolerations").clone());
    let grace = int(old, "spec.terminationGracePeriodSeconds").unwrap_or(0);
    if grace < 0 && number(pod, "spec.terminationGracePeriodSeconds") == 1 {
        put(spec, "terminationGracePeriodSeconds", grace.into());
    }
    let gated = !list(old, "spec.schedulingGates").is_empty();
    if gated {
        // A gated pod may lose gates, and be narrowed down.
        let gates = list(old, "spec.schedulingGates");
        if !list(pod, "spec.schedulingGates").iter().all(|gate| gates.contains(gate)) {
            let detail = "only deletion is allowed, but found new scheduling gate(s)";
            errors.push(SPEC.field("schedulingGates").forbidden(detail));
        }
        for field in ["schedulingGates", "nodeSelector", "affinity"] {
            put(spec, field, get(old, &format!("spec.{field}")).clone());
        }
    }
    if !same(get(&munged, "spec"), get(old, "spec")) {
        let changed = internal::difference(get(old, "spec"), get(&munged, "spec"), "core.v1.PodSpec");
        errors.push(SPEC.forbidden(&format!("{ALLOWED}\n{changed}")));
    }
}

fn deadline(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let path = SPEC.field("activeDeadlineSeconds");
    let (now, before) = (int(pod, "spec.activeDeadlineSeconds"), int(old, "spec.activeDeadlineSeconds"));
    match (now, before) {
        (Some(now), Some(before)) if now > before => {
            let detail = format!("must be less than or equal to previous value: {before}");
            errors.push(path.invalid(now, &detail));
        }
        (None, Some(_)) => errors.push(path.invalid(
            get(pod, "spec.activeDeadlineSeconds"),
            "must not update from a positive integer to nil value",
        )),
        _ => {}
    }
}

fn tolerations(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let (now, before) = (list(pod, "spec.tolerations"), list(old, "spec.tolerations"));
    let kept = |old: &Tree| {
        now.iter()
            .any(|new| ["key", "operator", "value", "effect"].iter().all(|f| text(new, f) == text(old, f)))
    };
    if !before.iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(SPEC.field("tolerations").forbidden(detail));
    }
}

/// The `ephemeralcontainers` subresource: additions only.
pub(super) fn ephemeral(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let path = SPEC.field("ephemeralContainers");
    let (now, before) = (list(pod, "spec.ephemeralContainers"), list(old, "spec.ephemeralContainers"));
    for one in before {
        let name = text(one, "name");
        match now.iter().find(|new| text(new, "name") == name) {
            None => errors.push(
                path.forbidden(&format!("existing ephemeral containers {name:?} may not be removed\n")),
            ),
            Some(new) if !same(new, one) => {
                errors.push(
                    path.forbidden(&format!("existing ephemeral containers {name:?} may not be changed\n")),
                );
            }
            Some(_) => {}
        }
    }
}

/// Takes over the containers' resources, and nothing else.
pub(super) fn only_resources(pod: &mut Tree, old: &Tree) {
    let mut result = old.clone();
    for field in ["containers", "initContainers"] {
        let wanted = list(pod, &format!("spec.{field}")).to_vec();
        let Some(spec) = object_mut(&mut result, "spec") else { return };
        for container in spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten() {
            let name = text(container, "name").to_owned();
            if let Some(new) = wanted.iter().find(|new| text(new, "name") == name) {
                for part in ["resources", "resizePolicy"] {
                    put(as_object(container), part, get(new, part).clone());
                }
            }
        }
    }
    if let (Some(version), Some(metadata)) =
        (get(pod, "metadata").get("resourceVersion"), object_mut(&mut result, "metadata"))
    {
        metadata.insert("resourceVersion".to_owned(), version.clone());
    }
    *pod = result;
}

/// The `resize` subresource: cpu and memory only.
pub(super) fn resize(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    let mut munged = pod.clone();
    let Some(spec) = object_mut(&mut munged, "spec") else { return };
    for field in ["containers", "initContainers"] {
        let before = list(old, &format!("spec.{field}"));
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten();
        for (container, before) in containers.zip(before) {
            put(as_object(container), "resources", get(before, "resources").clone());
        }
    }
    if !same(get(&munged, "spec"), get(old, "spec")) {
        errors.push(SPEC.forbidden("only cpu and memory resources are mutable"));
    }
    if text(pod, "status.qosClass") != super::qos::class(get(pod, "spec")) && has(pod, "status.qosClass") {
        let path = Path::new("status.qosClass");
        errors.push(path.invalid(
            super::qos::class(get(pod, "spec")),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
}
