//! Pods: what the server sets, and what may be asked of a new one.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use crate::kinds::{pod_annotations, pod_spec, pod_status, pod_update, qos, template, warnings};
use crate::profile::{Generation, Profile};
use crate::rules::{Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, ensure, get, has, int, list, member, put, text};

pub(super) const RULES: Table =
    &[("k8s.io.api.core.v1.Pod", &[Rule::DefaultFn(default), Rule::Check(annotations), Rule::After(tokens)])];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    prepare: Some(prepare),
    check: Some(check),
    prepare_status: Some(prepare_status),
    check_status: Some(check_status),
    grace_period: Some(grace_period),
    warn: Some(warnings::pod),
    warn_first: Some(warnings::app_armor),
    full: true,
    answers_deleted: true,
    ..Profile::new("", "pods")
}];

fn default(pod: &mut Object) {
    template::drop_old_annotations(pod);
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
        status.insert("podIP", first.into());
    } else if own != first {
        status.insert("podIPs", api::json!([{"ip": own}]));
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
    app_armor(pod);
    if int(pod, "spec.terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        put(ensure(pod, "spec"), "terminationGracePeriodSeconds", 1.into());
    }
    let mut status = Object::new();
    status.insert("phase", "Pending".into());
    status.insert("qosClass", qos::class(get(pod, "spec")).into());
    if !list(pod, "spec.schedulingGates").is_empty() {
        let condition = api::json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        status.insert("conditions", Tree::Array(vec![condition]));
    }
    put(as_object(pod), "status", Tree::Object(status));
}

fn annotations(pod: &Tree, _: &Path<'_>, errors: &mut Vec<Cause>) {
    let path = Path::new("metadata.annotations");
    pod_annotations::check(get(pod, "metadata.annotations"), get(pod, "spec"), &path, errors);
}

/// Tokens are of the pod's service account.
fn tokens(pod: &Tree, _: &Path<'_>, errors: &mut Vec<Cause>) {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        return;
    }
    let volumes = Path::new("spec.volumes");
    for (index, volume) in list(pod, "spec.volumes").iter().enumerate() {
        let at = volumes.index(index);
        let at = at.field("projected.sources");
        for (place, source) in list(volume, "projected.sources").iter().enumerate() {
            if is_full(errors) {
                break;
            }
            if has(source, "serviceAccountToken") {
                let at = at.index(place);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(at.field("serviceAccountToken").forbidden(detail));
            }
        }
    }
}

/// Annotations that stand for a field set it, where the container does not.
fn app_armor(pod: &mut Tree) {
    const KEY: &str = "container.apparmor.security.beta.kubernetes.io/";
    let annotations = get(pod, "metadata.annotations").as_object();
    let noted: std::collections::HashMap<String, Tree> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let profile = warnings::app_armor_profile(value.as_str()?)?;
            Some((key.strip_prefix(KEY)?.to_owned(), profile))
        })
        .collect();
    if noted.is_empty() || text(pod, "spec.os.name") == "windows" {
        return;
    }
    let own = get(pod, "spec.securityContext.appArmorProfile").clone();
    for field in ["initContainers", "containers"] {
        let containers = ensure(pod, "spec").get_mut(field).and_then(Tree::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, "name");
            let profile = noted.get(name).filter(|profile| **profile != own);
            if let Some(profile) = profile
                && !has(container, "securityContext.appArmorProfile")
            {
                let context = ensure(container, "securityContext");
                context.insert("appArmorProfile", profile.clone());
            }
        }
    }
}

/// Takes only these spec fields from the update; the rest stays as stored.
fn only(pod: &mut Tree, old: &Tree, fields: &[&str]) {
    let mut result = old.clone();
    for field in fields {
        put(ensure(&mut result, "spec"), field, get(pod, &format!("spec.{field}")).clone());
    }
    if let Some(version) = get(pod, "metadata").get("resourceVersion") {
        ensure(&mut result, "metadata").insert("resourceVersion", version.clone());
    }
    put(ensure(&mut result, "metadata"), "managedFields", get(pod, "metadata.managedFields").clone());
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
            pod_update::no_static_claims(pod, errors);
            let spec = Path::new("spec");
            if !list(pod, "spec.ephemeralContainers").is_empty() {
                errors.push(spec.field("ephemeralContainers").forbidden("cannot be set on create"));
            }
            if !text(pod, "spec.nodeName").is_empty() && !list(pod, "spec.schedulingGates").is_empty() {
                let detail = "cannot be set until all schedulingGates have been cleared";
                errors.push(spec.field("nodeName").forbidden(detail));
            }
            let annotations = get(pod, "metadata.annotations");
            pod_annotations::match_fields(annotations, get(pod, "spec"), &spec, errors);
        }
        Some(old) if context.subresource == Some("ephemeralcontainers") => {
            pod_update::ephemeral(pod, old, errors)
        }
        Some(old) if context.subresource == Some("resize") => pod_update::resize(pod, old, errors),
        // The binding has checked its own changes already.
        Some(_) if context.subresource == Some("binding") => {}
        Some(old) => pod_update::check(pod, old, errors),
    }
}

fn check_status(_: &Context<'_>, pod: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if let Some(old) = old {
        pod_status::check(pod, old, errors);
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
