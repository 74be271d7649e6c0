//! Pods: what the server sets, and what may be asked of a new one.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};

use crate::generic::{Generation, Profile};
use crate::kinds::{pod_spec, pod_update, qos};
use crate::rules::{Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, ensure, get, has, int, list, member, put, text};

pub(super) const RULES: Table = &[("k8s.io.api.core.v1.Pod", &[Rule::DefaultFn(default)])];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    prepare: Some(prepare),
    check: Some(check),
    prepare_status: Some(prepare_status),
    check_status: Some(check_status),
    grace_period: Some(grace_period),
    warn: Some(crate::kinds::warnings::pod),
    full: true,
    ..Profile::new("", "pods")
}];

fn default(pod: &mut Object) {
    if let Some(spec) = pod.get_mut("spec").and_then(Tree::as_object_mut) {
        pod_spec::pod_defaults(spec);
    }
    if let Some(status) = pod.get_mut("status").and_then(Tree::as_object_mut) {
        addresses(status);
    }
}

/// A pod's address is the first of its addresses; where they differ, the one counts.
fn addresses(status: &mut Object) {
    let first = status.get("podIPs").map(|all| text(&all[0], "ip").to_owned()).unwrap_or_default();
    let own = member(status, "podIP").to_owned();
    if own.is_empty() && !first.is_empty() {
        status.insert("podIP".to_owned(), first.into());
    } else if own != first {
        status.insert("podIPs".to_owned(), serde_json::json!([{"ip": own}]));
    }
}

fn prepare(context: &Context<'_>, pod: &mut Tree, old: Option<&Tree>) {
    if let Some(old) = old {
        match context.subresource {
            Some("ephemeralcontainers") => only(pod, old, &["ephemeralContainers"]),
            Some("resize") => pod_update::only_resources(pod, old),
            _ => {}
        }
        return;
    }
    if int(pod, "spec.terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        put(ensure(pod, "spec"), "terminationGracePeriodSeconds", 1.into());
    }
    let mut status = Object::new();
    status.insert("phase".to_owned(), "Pending".into());
    status.insert("qosClass".to_owned(), qos::class(get(pod, "spec")).into());
    if !list(pod, "spec.schedulingGates").is_empty() {
        let condition = serde_json::json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        status.insert("conditions".to_owned(), Tree::Array(vec![condition]));
    }
    put(as_object(pod), "status", Tree::Object(status));
}

/// Of the new pod nothing counts but these fields of the spec.
fn only(pod: &mut Tree, old: &Tree, fields: &[&str]) {
    let mut result = old.clone();
    for field in fields {
        put(ensure(&mut result, "spec"), field, get(pod, &format!("spec.{field}")).clone());
    }
    if let Some(version) = get(pod, "metadata").get("resourceVersion") {
        ensure(&mut result, "metadata").insert("resourceVersion".to_owned(), version.clone());
    }
    *pod = result;
}

/// The class is the server's, and owners are not the kubelet's to change.
fn prepare_status(_: &Context<'_>, pod: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else { return };
    let class = get(old, "status.qosClass").clone();
    if text(pod, "status.qosClass").is_empty() && !class.is_null() {
        put(ensure(pod, "status"), "qosClass", class);
    }
    put(ensure(pod, "metadata"), "ownerReferences", get(old, "metadata.ownerReferences").clone());
}

fn check(context: &Context<'_>, pod: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    match old {
        None => {
            pod_update::annotations(pod, None, errors);
            pod_update::no_static_claims(pod, errors);
            let spec = Path::new("spec");
            if !list(pod, "spec.ephemeralContainers").is_empty() {
                errors.push(spec.field("ephemeralContainers").forbidden("cannot be set on create"));
            }
        }
        Some(old) if context.subresource == Some("ephemeralcontainers") => {
            pod_update::ephemeral(pod, old, errors)
        }
        Some(old) if context.subresource == Some("resize") => pod_update::resize(pod, old, errors),
        // What a binding may change, the binding itself has checked.
        Some(_) if context.subresource == Some("binding") => {}
        Some(old) => pod_update::check(pod, old, errors),
    }
}

fn check_status(_: &Context<'_>, pod: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    pod_update::annotations(pod, Some(old), errors);
    let nominated = text(pod, "status.nominatedNodeName");
    if !nominated.is_empty() {
        let path = Path::new("status.nominatedNodeName");
        errors.extend(
            machinery::names::dns1123_subdomain(nominated).iter().map(|p| path.invalid(nominated, p)),
        );
    }
    if get(pod, "spec.nodeName") != get(old, "spec.nodeName") {
        let path = Path::new("status.nodeName");
        errors.push(path.forbidden("may not be changed directly"));
    }
    check_addresses(get(pod, "status"), errors);
    let claims = Path::new("status.resourceClaimStatuses");
    let own: Seen<&str> = list(pod, "spec.resourceClaims").iter().map(|claim| text(claim, "name")).collect();
    for (index, status) in list(pod, "status.resourceClaimStatuses").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let name = text(status, "name");
        if !own.contains(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(claims.index(index).field("name").invalid(name, detail));
        }
    }
    let conditions = Path::new("status.conditions");
    for (index, condition) in list(pod, "status.conditions").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (kind, at) = (text(condition, "type"), conditions.index(index));
        crate::rules::format(kind, machinery::names::qualified_name(kind), &at.field("Type"), errors);
    }
    let class = get(pod, "status.qosClass");
    if has(old, "status.qosClass") && class != get(old, "status.qosClass") {
        errors.push(Path::new("status.qosClass").invalid(class, "field is immutable"));
    }
    if int(pod, "status.observedGeneration").is_some_and(|generation| generation < 0) {
        let path = Path::new("status.observedGeneration");
        errors.push(path.invalid(get(pod, "status.observedGeneration"), "must be a non-negative integer"));
    }
}

/// Addresses are good ones, of the pod at most one a family; the host's first is its own.
fn check_addresses(status: &Tree, errors: &mut Vec<Cause>) {
    let status_path = Path::new("status");
    for (field, one) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        let (all, path) = (list(status, field), status_path.field(field));
        let before = errors.len();
        for (index, address) in all.iter().enumerate() {
            if is_full(errors) {
                break;
            }
            pod_spec::ip(text(address, "ip"), &path.index(index), errors);
        }
        if errors.len() > before {
            continue;
        }
        let first = all.first().map(|address| text(address, "ip")).unwrap_or_default();
        if one == "hostIP" && !first.is_empty() && first != text(status, one) {
            errors.push(path.index(0).field("ip").invalid(first, "must be equal to `hostIP`"));
        }
        let sixth = |address: &Tree| text(address, "ip").contains(':');
        if all.len() > 2 || (all.len() == 2 && sixth(&all[0]) == sixth(&all[1])) {
            let shown: Vec<String> =
                all.iter().map(|address| format!("{{\"IP\":{}}}", get(address, "ip"))).collect();
            let shown = Shown::Plain(format!("[{}]", shown.join(",")));
            errors.push(path.invalid(shown, "may specify no more than one IP for each IP family"));
        }
    }
}

/// How long a pod may take to stop: nothing when it runs nowhere or runs no more.
fn grace_period(pod: &Tree, requested: Option<i64>) -> Option<i64> {
    let finished = matches!(text(pod, "status.phase"), "Succeeded" | "Failed");
    if text(pod, "spec.nodeName").is_empty() || finished {
        return Some(0);
    }
    let own = || int(pod, "spec.terminationGracePeriodSeconds");
    let mut period = requested.or_else(own).unwrap_or(0);
    if has(pod, "metadata.deletionTimestamp") && requested.is_none() {
        period = int(pod, "metadata.deletionGracePeriodSeconds").unwrap_or(period);
    }
    // A negative period means one second.
    Some(if period < 0 { 1 } else { period })
}
