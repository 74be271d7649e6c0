//! Horizontal pod autoscalers.

mod behavior;
mod metrics;

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{Object, as_object, fill_pointer, get, int, list, number, text, unset};

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.autoscaling.v1.HorizontalPodAutoscalerSpec",
        &[
            Rule::Default("minReplicas", Literal::Number(1)),
            Rule::Default("targetCPUUtilizationPercentage", Literal::Number(80)),
            Rule::Check(common),
            Rule::Check(utilization),
        ],
    ),
    (
        "k8s.io.api.autoscaling.v2.HorizontalPodAutoscalerSpec",
        &[
            Rule::Default("minReplicas", Literal::Number(1)),
            Rule::DefaultFn(default_metrics),
            Rule::DefaultFn(default_behavior),
            Rule::Check(common),
            Rule::Check(metrics::check),
            Rule::Check(behavior::check),
        ],
    ),
];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    check_status: Some(check_status),
    full: true,
    ..Profile::new("autoscaling", "horizontalpodautoscalers")
}];

fn default_metrics(spec: &mut Object) {
    if spec.get("metrics").is_none_or(unset) {
        let cpu = api::json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics", cpu);
    }
}

fn default_behavior(spec: &mut Object) {
    let Some(behavior) = spec.get_mut("behavior").and_then(Tree::as_object_mut) else { return };
    let percent = api::json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = api::json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", vec![pods, percent.clone()]), ("scaleDown", vec![percent])] {
        let rules = as_object(behavior.entry(direction).or_insert(Tree::Null));
        if direction == "scaleUp" {
            fill_pointer(rules, "stabilizationWindowSeconds", 0);
        }
        fill_pointer(rules, "selectPolicy", "Max");
        if rules.get("policies").is_none_or(Tree::is_null) {
            rules.insert("policies", Tree::Array(policies));
        }
    }
}

fn check_status(_: &Context<'_>, scaler: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("status");
    let all = path.field("conditions");
    for (index, condition) in list(scaler, "status.conditions").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (generation, at) = (number(condition, "observedGeneration"), all.index(index));
        rules::not_negative(generation, &at.field("observedGeneration"), errors);
    }
    for field in ["currentReplicas", "desiredReplicas"] {
        rules::not_negative(number(get(scaler, "status"), field), &path.field(field), errors);
    }
}

fn common(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let least = int(spec, "minReplicas").unwrap_or(1);
    let most = number(spec, "maxReplicas");
    if most < least {
        let at = path.field("maxReplicas");
        errors.push(at.invalid(most, "must be greater than or equal to `minReplicas`"));
    }
    metrics::reference(get(spec, "scaleTargetRef"), &path.field("scaleTargetRef"), errors);
    let version = text(spec, "scaleTargetRef.apiVersion");
    let kind = text(spec, "scaleTargetRef.kind");
    let grouped = version.find('/').is_some_and(|place| place > 0);
    if !grouped && !matches!(kind, "ReplicationController" | "Pod") {
        let detail = "apiVersion must specify API group";
        errors.push(path.field("scaleTargetRef.apiVersion").invalid(version, detail));
    }
}

/// Checks the one metric of `autoscaling/v1`. Errors name its path in `autoscaling/v2`.
fn utilization(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(percent) = int(spec, "targetCPUUtilizationPercentage").filter(|percent| *percent < 1) {
        let at = path.field("metrics[0].resource.target.averageUtilization");
        errors.push(at.invalid(percent, "must be greater than 0"));
    }
    if int(spec, "minReplicas") == Some(0) {
        errors.push(path.field("metrics").forbidden(
            "must specify at least one Object or External metric to support scaling to zero replicas",
        ));
    }
}
