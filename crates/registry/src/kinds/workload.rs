//! Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers and ControllerRevisions.

mod stateful;

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};
use machinery::{intstr, labels, names};

use crate::internal;
use crate::kinds::{template, warnings};
use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table, not_negative};
use crate::strategy::Context;
use crate::tree::{
    Object, as_object, ensure, fill, fill_pointer, get, has, int, list, member, number, same, text, unset,
};

use stateful::{check_stateful_set, stateful_set, stateful_strategy, with_claims};

const REPLICAS: Rule = Rule::Default("replicas", Literal::Number(1));
const HISTORY: Rule = Rule::Default("revisionHistoryLimit", Literal::Number(10));

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.apps.v1.DeploymentSpec",
        &[
            REPLICAS,
            HISTORY,
            Rule::Default("progressDeadlineSeconds", Literal::Number(600)),
            Rule::DefaultFn(deployment_strategy),
            Rule::Check(deployment),
        ],
    ),
    ("k8s.io.api.apps.v1.ReplicaSetSpec", &[REPLICAS, Rule::Check(replica_set)]),
    ("k8s.io.api.apps.v1.DaemonSet", &[Rule::DefaultFn(template_generation)]),
    (
        "k8s.io.api.apps.v1.DaemonSetSpec",
        &[HISTORY, Rule::DefaultFn(daemon_strategy), Rule::Check(daemon_set)],
    ),
    (
        "k8s.io.api.apps.v1.StatefulSetSpec",
        &[
            REPLICAS,
            HISTORY,
            Rule::Default("podManagementPolicy", Literal::Text("OrderedReady")),
            Rule::DefaultFn(stateful_strategy),
            Rule::Before("volumeClaimTemplates"),
            Rule::Check(stateful_set),
        ],
    ),
    ("k8s.io.api.core.v1.ReplicationController", &[Rule::DefaultFn(controller_labels)]),
    ("k8s.io.api.core.v1.ReplicationControllerSpec", &[REPLICAS, Rule::Check(controller)]),
];

const SELECTOR: &[(&str, &str)] = &[("spec.selector", "field is immutable")];

const WORKLOAD: Profile = Profile {
    generation: Generation::Spec,
    status: true,
    prepare_status: None,
    check_status: Some(check_status),
    warn: Some(warnings::workload),
    full: true,
    ..Profile::new("apps", "")
};

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        plural: "deployments",
        generation: Generation::SpecAndAnnotations,
        immutable: SELECTOR,
        // its controller writes its status often, from what it saw some time ago
        status_keeps: &["labels"],
        ..WORKLOAD
    },
    Profile { plural: "replicasets", immutable: SELECTOR, ..WORKLOAD },
    Profile {
        plural: "daemonsets",
        warn: Some(warnings::daemon_set),
        immutable_first: SELECTOR,
        prepare: Some(prepare_daemon_set),
        prepare_status: Some(prepare_daemon_set_status),
        ..WORKLOAD
    },
    Profile {
        plural: "statefulsets",
        name: names::dns1123_label,
        warn: Some(warnings::stateful_set),
        view: Some(with_claims),
        check: Some(check_stateful_set),
        ..WORKLOAD
    },
    Profile {
        group: "",
        plural: "replicationcontrollers",
        name: names::long_name,
        generate_name: Some(names::path_segment_prefix),
        orphans: true,
        ..WORKLOAD
    },
    Profile {
        plural: "controllerrevisions",
        check: Some(check_revision),
        full: true,
        ..Profile::new("apps", "")
    },
];

fn deployment_strategy(spec: &mut Object) {
    let strategy = as_object(spec.entry("strategy").or_insert(Tree::Null));
    fill(strategy, "type", "RollingUpdate");
    if member(strategy, "type") == "RollingUpdate" {
        let rolling = as_object(strategy.entry("rollingUpdate").or_insert(Tree::Null));
        fill_pointer(rolling, "maxUnavailable", "25%");
        fill_pointer(rolling, "maxSurge", "25%");
    }
}

fn daemon_strategy(spec: &mut Object) {
    let strategy = as_object(spec.entry("updateStrategy").or_insert(Tree::Null));
    fill(strategy, "type", "RollingUpdate");
    if member(strategy, "type") == "RollingUpdate" {
        let rolling = as_object(strategy.entry("rollingUpdate").or_insert(Tree::Null));
        fill_pointer(rolling, "maxUnavailable", 1);
        fill_pointer(rolling, "maxSurge", 0);
    } else if let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Tree::as_object_mut) {
        // without a default, what is kept is zero
        fill_pointer(rolling, "maxUnavailable", 0);
        fill_pointer(rolling, "maxSurge", 0);
    }
}

/// A controller's labels and selector are its template's where it has none.
fn controller_labels(controller: &mut Object) {
    let Some(spec) = controller.get_mut("spec").and_then(Tree::as_object_mut) else { return };
    let labels =
        spec.get("template").map(|template| get(template, "metadata.labels").clone()).unwrap_or_default();
    if unset(&labels) {
        return;
    }
    fill(spec, "selector", labels.clone());
    fill(as_object(controller.entry("metadata").or_insert(Tree::Null)), "labels", labels);
}

fn counts(spec: &Tree, fields: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in fields {
        not_negative(number(spec, field), &path.field(field), errors);
    }
}

/// A selector that must be there, be good and select the template's pods.
fn selector(spec: &Tree, kind: &str, path: &Path<'_>, errors: &mut Vec<Cause>) -> Option<labels::Selector> {
    let (tree, at) = (get(spec, "selector"), path.field("selector"));
    if tree.is_null() {
        if kind != "daemonset" {
            errors.push(at.required(""));
        }
        return Some(labels::Selector::nothing());
    }
    let before = errors.len();
    labels::validate_label_selector(tree, &at, errors);
    if unset(get(tree, "matchLabels")) && unset(get(tree, "matchExpressions")) {
        errors.push(
            at.invalid(Shown::Plain("{}".to_owned()), &format!("empty selector is invalid for {kind}")),
        );
    } else if errors.len() > before {
        match kind {
            "daemonset" => {}
            "statefulset" => errors.push(at.invalid(tree, "")),
            _ => errors.push(at.invalid(tree, "invalid label selector")),
        }
        return None;
    }
    labels::Selector::from_label_selector(tree).ok()
}

fn deployment(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    counts(spec, &["replicas"], path, errors);
    if let Some(selector) = selector(spec, "deployment", path, errors) {
        let at = path.field("template");
        template::selected(&selector, get(spec, "template"), &at, errors);
        template::running(get(spec, "template"), "ReplicaSet", &at, errors);
    }
    let (strategy, at) = (get(spec, "strategy"), path.field("strategy"));
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(at.field("rollingUpdate").forbidden(detail));
            }
        }
        "RollingUpdate" => {
            rolling_deployment(get(strategy, "rollingUpdate"), &at.field("rollingUpdate"), errors)
        }
        _ => errors.push(at.not_supported(
            internal::shown(strategy, "apps.v1.DeploymentStrategy"),
            &["Recreate", "RollingUpdate"],
        )),
    }
    counts(spec, &["minReadySeconds", "revisionHistoryLimit"], path, errors);
    if let Some(deadline) = int(spec, "progressDeadlineSeconds") {
        let at = path.field("progressDeadlineSeconds");
        not_negative(deadline, &at, errors);
        if deadline <= number(spec, "minReadySeconds") {
            errors.push(at.invalid(deadline, "must be greater than minReadySeconds"));
        }
    }
}

/// A number not below 0, or a percentage; answers whether it was good.
pub(super) fn number_or_percent(value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) -> bool {
    match value {
        Tree::String(text) if intstr::percent(text).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(path.invalid(text, detail));
            false
        }
        Tree::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            not_negative(number.as_i64().unwrap_or(0), path, errors);
            false
        }
        _ => true,
    }
}

pub(super) fn not_above_hundred(value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(text) =
        value.as_str().filter(|text| intstr::percent(text).is_some_and(|percent| percent > 100))
    {
        errors.push(path.invalid(text, "must not be greater than 100%"));
    }
}

fn zero(value: &Tree) -> bool {
    // a text that is neither a percentage nor a number counts as 0
    let amount = |text: &str| intstr::percent(text).or_else(|| text.parse().ok()).unwrap_or(0);
    value.is_null() || value.as_i64() == Some(0) || value.as_str().map(amount) == Some(0)
}

fn rolling_deployment(rolling: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if rolling.is_null() {
        errors.push(path.required("this should be defaulted and never be nil"));
        return;
    }
    let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
    number_or_percent(unavailable, &path.field("maxUnavailable"), errors);
    number_or_percent(surge, &path.field("maxSurge"), errors);
    if zero(unavailable) && zero(surge) {
        errors.push(path.field("maxUnavailable").invalid(unavailable, "may not be 0 when `maxSurge` is 0"));
    }
    not_above_hundred(unavailable, &path.field("maxUnavailable"), errors);
}

fn replica_set(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    counts(spec, &["replicas", "minReadySeconds"], path, errors);
    if let Some(selector) = selector(spec, "deployment", path, errors) {
        let at = path.field("template");
        template::selected(&selector, get(spec, "template"), &at, errors);
        template::running(get(spec, "template"), "ReplicaSet", &at, errors);
    }
}

fn daemon_set(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(selector) = selector(spec, "daemonset", path, errors) {
        template::selected(&selector, get(spec, "template"), &path.field("template"), errors);
    }
    template::running(get(spec, "template"), "DaemonSet", &path.field("template"), errors);
    counts(spec, &["minReadySeconds"], path, errors);
    let (strategy, at) = (get(spec, "updateStrategy"), path.field("updateStrategy"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => rolling_daemon(get(strategy, "rollingUpdate"), &at.field("rollingUpdate"), errors),
        _ => errors.push(at.not_supported(
            internal::shown(strategy, "apps.v1.DaemonSetUpdateStrategy"),
            &["RollingUpdate", "OnDelete"],
        )),
    }
    counts(spec, &["revisionHistoryLimit"], path, errors);
}

fn rolling_daemon(rolling: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if rolling.is_null() {
        errors.push(path.required(""));
        return;
    }
    let (unavailable, surge) = (get(rolling, "maxUnavailable"), get(rolling, "maxSurge"));
    number_or_percent(unavailable, &path.field("maxUnavailable"), errors);
    number_or_percent(surge, &path.field("maxSurge"), errors);
    not_above_hundred(unavailable, &path.field("maxUnavailable"), errors);
    not_above_hundred(surge, &path.field("maxSurge"), errors);
    match (zero(unavailable), zero(surge)) {
        (false, false) => {
            errors.push(
                path.field("maxSurge").invalid(surge, "may not be set when maxUnavailable is non-zero"),
            );
        }
        (true, true) => errors.push(path.field("maxUnavailable").required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// A client that leaves the generation of the template out says that it is 0.
fn template_generation(object: &mut Object) {
    let metadata = object.entry("metadata").or_insert_with(|| Tree::Object(Object::new()));
    let Some(metadata) = metadata.as_object_mut() else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| Tree::Object(Object::new()));
    if let Some(annotations) = annotations.as_object_mut()
        && !annotations.contains_key(TEMPLATE_GENERATION)
    {
        annotations.insert(TEMPLATE_GENERATION, "0".into());
        annotations.sort_keys();
    }
}

/// The template's generation, which the first version of the API had in the spec, lives on as an annotation.
fn prepare_daemon_set(_: &Context<'_>, object: &mut Tree, old: Option<&Tree>) {
    let of = |object: &Tree| -> i64 {
        let annotation = get(object, "metadata.annotations").get(TEMPLATE_GENERATION).and_then(Tree::as_str);
        annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let generation = match old {
        None => of(object).max(1),
        Some(old) => of(old) + i64::from(!same(get(object, "spec.template"), get(old, "spec.template"))),
    };
    if generation > 0 {
        let annotations = ensure(object, "metadata.annotations");
        annotations.insert(TEMPLATE_GENERATION, generation.to_string().into());
        annotations.sort_keys();
    }
}

/// It is the spec's, which a status does not change.
fn prepare_daemon_set_status(_: &Context<'_>, object: &mut Tree, old: Option<&Tree>) {
    let generation = old.and_then(|old| get(old, "metadata.annotations").get(TEMPLATE_GENERATION));
    if let Some(generation) = generation {
        let annotations = ensure(object, "metadata.annotations");
        annotations.insert(TEMPLATE_GENERATION, generation.clone());
        annotations.sort_keys();
    }
}

fn controller(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    counts(spec, &["minReadySeconds"], path, errors);
    let chosen = labels::Selector::from_map(get(spec, "selector"));
    if chosen.is_everything() {
        errors.push(path.field("selector").required(""));
    }
    counts(spec, &["replicas"], path, errors);
    let at = path.field("template");
    if !has(spec, "template") {
        errors.push(at.required(""));
        return;
    }
    if !chosen.is_everything() {
        template::selected(&chosen, get(spec, "template"), &at, errors);
    }
    template::running(get(spec, "template"), "ReplicationController", &at, errors);
}

fn check_status(context: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (status, path) = (get(object, "status"), Path::new("status"));
    let total = number(status, "replicas");
    for (field, value) in status.as_object().into_iter().flatten() {
        if is_full(errors) {
            break;
        }
        if let Some(value) = value.as_i64() {
            not_negative(value, &path.field(field), errors);
        }
    }
    let collisions = |object| int(object, "status.collisionCount");
    if let Some(before) = old.and_then(collisions) {
        let count = collisions(object).unwrap_or(0);
        if count < before {
            errors.push(path.field("collisionCount").invalid(count, "cannot be decremented"));
        }
    }
    if status.get("desiredNumberScheduled").is_some() {
        return;
    }
    let rolled = matches!(&*context.resource.plural, "deployments" | "statefulsets");
    let own = if rolled { "updatedReplicas" } else { "fullyLabeledReplicas" };
    for field in [own, "readyReplicas", "availableReplicas"] {
        let count = number(status, field);
        if count > total {
            errors.push(path.field(field).invalid(count, "cannot be greater than status.replicas"));
        }
    }
    let (ready, available) = (number(status, "readyReplicas"), number(status, "availableReplicas"));
    if available > ready {
        errors
            .push(path.field("availableReplicas").invalid(available, "cannot be greater than readyReplicas"));
    }
}

fn check_revision(_: &Context<'_>, object: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    not_negative(number(object, "revision"), &Path::new("revision"), errors);
    if !has(object, "data") {
        errors.push(Path::new("data").required("data is mandatory"));
    } else if !get(object, "data").is_object() {
        errors.push(Path::new("data").required("data must be a valid JSON object"));
    }
    if let Some(old) = old
        && !same(get(object, "data"), get(old, "data"))
    {
        errors.push(Path::new("data").invalid(get(object, "data"), "field is immutable"));
    }
}
