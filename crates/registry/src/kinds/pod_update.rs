//! Changes that are allowed to an existing pod.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, by_text, is_full};
use machinery::fieldpath::Path;

use crate::internal;
use crate::kinds::qos;
use crate::meta::keep;
use crate::profile::ALL_METADATA;
use crate::references::{MIRROR, is_mirror};
use crate::tree::{Alike, as_object, ensure, get, has, int, list, number, object_mut, put, same, text};

mod narrowing;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

static SPEC: Path<'static> = Path::new("spec");

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Annotations that are taken for more than notes stay as they are: whose pod it is, and what confines it.
pub(super) fn annotations(pod: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("metadata.annotations");
    if let Some(old) = old {
        let (now, before) = (get(pod, "metadata.annotations"), get(old, "metadata.annotations"));
        let kept = |key: &str| match key {
            MIRROR => Some("mirror pod annotation"),
            key if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
            _ => None,
        };
        for (key, value) in before.as_object().into_iter().flatten() {
            if let Some(what) = kept(key).filter(|_| now.get(key) != Some(value)) {
                errors.push(path.key(key).forbidden(&format!("may not remove or update {what}")));
            }
        }
        for (key, _) in now.as_object().into_iter().flatten() {
            if let Some(what) = kept(key).filter(|_| before.get(key).is_none()) {
                errors.push(path.key(key).forbidden(&format!("may not add {what}")));
            }
        }
    }
}

pub(super) fn no_static_claims(pod: &Tree, errors: &mut Vec<Cause>) {
    let claims = list(pod, "spec.resourceClaims").len();
    if is_mirror(pod) && claims > 0 {
        errors.push(Path::new("[]").forbidden("static pods do not support resource claims"));
    }
}

pub(super) fn check(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    annotations(pod, Some(old), errors);
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
    let gates: Seen<Alike> = list(old, "spec.schedulingGates").iter().map(Alike).collect();
    let all = SPEC.field("schedulingGates");
    for (index, gate) in list(pod, "spec.schedulingGates").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if !gates.contains(&Alike(gate)) {
            let name = text(gate, "name");
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(all.index(index).field("name").forbidden(&detail));
        }
    }
    put(spec, "schedulingGates", get(old, "spec.schedulingGates").clone());
    if !gates.is_empty() {
        // A gated pod may be narrowed down.
        narrowing::check(pod, old, spec, errors);
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
            errors.push(path.invalid(now, "must be less than or equal to previous value"));
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
    let identity = |one| ["key", "operator", "value", "effect"].map(|field| text(one, field));
    let now: Seen<[&str; 4]> = now.iter().map(identity).collect();
    if !before.iter().all(|old| now.contains(&identity(old))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(SPEC.field("tolerations").forbidden(detail));
    }
}

/// The `ephemeralcontainers` subresource: additions only.
pub(super) fn ephemeral(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    if is_mirror(old) {
        *errors = vec![Path::new("[]").forbidden("static pods do not support ephemeral containers")];
        return;
    }
    annotations(pod, Some(old), errors);
    let path = SPEC.field("ephemeralContainers");
    let (now, before) = (list(pod, "spec.ephemeralContainers"), list(old, "spec.ephemeralContainers"));
    let now = by_text(now, "name");
    for one in before {
        if is_full(errors) {
            break;
        }
        let name = text(one, "name");
        match now.get(name).copied() {
            None => errors.push(
                path.forbidden(&format!("existing ephemeral containers {name:?} may not be removed\n")),
            ),
            Some(new) if !same(new, one) => {
                let changed = internal::difference(one, new, "core.v1.EphemeralContainer");
                errors.push(path.forbidden(&format!(
                    "existing ephemeral containers {name:?} may not be changed\n{changed}"
                )));
            }
            Some(_) => {}
        }
    }
}

fn names(containers: &[Tree]) -> impl Iterator<Item = &str> {
    containers.iter().map(|container| text(container, "name"))
}

/// Takes over resources, and of the metadata what says which object and version is meant. Containers that are not the pod's stay, to
/// be refused.
pub(super) fn only_resources(pod: &mut Tree, old: &Tree) {
    let mut result = old.clone();
    for field in ["containers", "initContainers"] {
        let wanted = list(get(pod, "spec"), field);
        let Some(spec) = object_mut(&mut result, "spec") else { return };
        if !names(wanted).eq(names(list(get(old, "spec"), field))) {
            put(spec, field, wanted.to_vec().into());
            continue;
        }
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten();
        for (container, new) in containers.zip(wanted) {
            for part in ["resources", "resizePolicy"] {
                put(as_object(container), part, get(new, part).clone());
            }
        }
    }
    put(ensure(&mut result, "spec"), "resources", get(pod, "spec.resources").clone());
    put(as_object(&mut result), "metadata", get(pod, "metadata").clone());
    keep(&mut result, old, ALL_METADATA);
    *pod = result;
}

/// A resize is of the containers that there are, in their order.
fn same_containers(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    for field in ["containers", "initContainers"] {
        let (now, before) = (list(get(pod, "spec"), field), list(get(old, "spec"), field));
        let all = SPEC.field(field);
        if now.len() != before.len() {
            errors.push(all.forbidden(&format!("{field} may not be added or removed on resize")));
            continue;
        }
        for (index, (now, before)) in names(now).zip(names(before)).enumerate() {
            if is_full(errors) {
                break;
            }
            if now != before {
                let detail = format!("{field} may not be renamed or reordered on resize");
                errors.push(all.index(index).field("name").forbidden(&detail));
            }
        }
    }
}

/// The `resize` subresource: cpu and memory only, and neither taken away.
pub(super) fn resize(pod: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    if is_mirror(old) {
        *errors = vec![Path::new("[]").forbidden("static pods cannot be resized")];
        return;
    }
    if text(old, "spec.os.name") == "windows" {
        *errors = vec![Path::new("[]").forbidden("windows pods cannot be resized")];
        return;
    }
    let class = qos::class(get(old, "spec"));
    if qos::class(get(pod, "spec")) != class {
        errors.push(SPEC.invalid(class, "Pod QOS Class may not change as a result of resizing"));
    }
    // a kubelet that can resize reports the resources of what runs
    let running = list(old, "status.containerStatuses").iter().find(|one| has(one, "state.running"));
    if running.is_some_and(|one| !has(one, "resources")) {
        errors.push(SPEC.forbidden("Pod running on node without support for resize"));
    }
    let known = errors.len();
    same_containers(pod, old, errors);
    if errors.len() > known {
        return;
    }
    let mut munged = pod.clone();
    let Some(spec) = object_mut(&mut munged, "spec") else { return };
    for field in ["containers", "initContainers"] {
        let before = list(old, &format!("spec.{field}"));
        let containers = spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten();
        let all = SPEC.field(field);
        for (index, (container, before)) in containers.zip(before).enumerate() {
            if is_full(errors) {
                break;
            }
            amounts(container, before, &all.index(index), errors);
        }
    }
    if let Some(spec) = munged.get_mut("spec") {
        amounts(spec, get(old, "spec"), &SPEC, errors);
    }
    if !same(get(&munged, "spec"), get(old, "spec")) {
        errors.push(SPEC.forbidden("only cpu and memory resources are mutable"));
    }
}

/// Resources that can be resized may change but not be removed. Sets them to their old values, so that the rest can be compared.
fn amounts(holder: &mut Tree, before: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const RESIZED: [&str; 2] = ["cpu", "memory"];
    let path = path.field("resources");
    for set in ["requests", "limits"] {
        let (now, then) = (get(get(holder, "resources"), set), get(get(before, "resources"), set));
        if RESIZED.iter().any(|name| then.get(name).is_some() && now.get(name).is_none()) {
            errors.push(path.field(set).forbidden(&format!("resource {set} cannot be removed")));
        }
        let mut amounts = now.as_object().cloned().unwrap_or_default();
        for name in RESIZED {
            put(&mut amounts, name, then.get(name).cloned().unwrap_or_default());
        }
        if !amounts.is_empty() || has(holder, "resources") {
            put(ensure(holder, "resources"), set, amounts.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn annotations_that_confine_stay_as_they_are() {
        let pod =
            |annotations: Tree| json!({"metadata": {"annotations": annotations}, "spec": {"nodeName": "n"}});
        let check = |old: Tree, new: Tree, expect: &[&str]| {
            let mut errors = Vec::new();
            annotations(&pod(new), Some(&pod(old)), &mut errors);
            let said: Vec<String> =
                errors.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(said, expect);
        };
        let mirror = json!({"kubernetes.io/config.mirror": "a"});
        let confined = json!({"container.apparmor.security.beta.kubernetes.io/c": "runtime/default"});
        check(json!({"a": "b"}), Tree::Null, &[]);
        check(mirror.clone(), mirror.clone(), &[]);
        let removed = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation";
        check(mirror.clone(), Tree::Null, &[removed]);
        check(mirror.clone(), json!({"kubernetes.io/config.mirror": "b"}), &[removed]);
        let added =
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation";
        check(Tree::Null, mirror, &[added]);
        let path = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]";
        check(
            Tree::Null,
            confined.clone(),
            &[&format!("{path}: Forbidden: may not add AppArmor annotations")],
        );
        check(
            confined,
            Tree::Null,
            &[&format!("{path}: Forbidden: may not remove or update AppArmor annotations")],
        );
    }

    #[test]
    fn a_resize_changes_resources_alone() {
        let old = json!({"metadata": {"name": "p", "resourceVersion": "2", "labels": {"app": "a"}, "finalizers": ["a/b"]},
            "spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "1"}}}]}});
        let mut new = json!({"metadata": {"name": "p", "resourceVersion": "1", "labels": {"app": "b"},
            "annotations": {"a": "b"}, "ownerReferences": [{"name": "o"}]},
            "spec": {"containers": [{"name": "c", "image": "y", "resources": {"requests": {"cpu": "2"}}}]}});
        only_resources(&mut new, &old);
        let mut expect = old;
        expect["metadata"]["resourceVersion"] = "1".into();
        expect["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
        assert!(same(&new, &expect), "{new}");

        let check = |names: &[&str], expect: &str| {
            let containers: Vec<Tree> = names.iter().map(|name| json!({"name": name})).collect();
            let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
            let (mut new, mut errors) = (json!({"spec": {"containers": containers}}), Vec::new());
            only_resources(&mut new, &pod);
            resize(&new, &pod, &mut errors);
            let said: Vec<String> =
                errors.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            assert_eq!(said.join(", "), expect);
        };
        check(&["a", "b"], "");
        let renamed = "Forbidden: containers may not be renamed or reordered on resize";
        check(&["b", "a"], &[0, 1].map(|at| format!("spec.containers[{at}].name: {renamed}")).join(", "));
        check(&["a"], "spec.containers: Forbidden: containers may not be added or removed on resize");
    }

    #[test]
    fn a_mirror_pod_has_its_node_and_stays_as_it_is() {
        let mirror =
            json!({"metadata": {"annotations": {MIRROR: "a"}}, "spec": {"resourceClaims": [{"name": "r"}]}});
        let check = |run: &dyn Fn(&mut Vec<Cause>), expect: &str| {
            let mut errors = Vec::new();
            run(&mut errors);
            assert_eq!(errors.iter().map(|cause| cause.message.as_str()).collect::<Vec<_>>(), [expect]);
        };
        check(
            &|errors| {
                let path = Path::new("metadata.annotations");
                let noted = get(&mirror, "metadata.annotations");
                crate::kinds::pod_annotations::check(noted, get(&mirror, "spec"), &path, errors);
            },
            "Invalid value: \"a\": must set spec.nodeName if mirror pod annotation is set",
        );
        check(
            &|errors| no_static_claims(&mirror, errors),
            "Forbidden: static pods do not support resource claims",
        );
        check(
            &|errors| ephemeral(&mirror, &mirror, errors),
            "Forbidden: static pods do not support ephemeral containers",
        );
        check(&|errors| resize(&mirror, &mirror, errors), "Forbidden: static pods cannot be resized");
    }
}
