//! Horizontal pod autoscalers.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;

use crate::generic::{Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::tree::{Object, as_object, fill_pointer, get, has, int, list, number, text, unset};

pub(super) const RULES: Table = &[
    (
        "k8s.io.api.autoscaling.v1.HorizontalPodAutoscalerSpec",
        &[
            Rule::Default("minReplicas", Literal::Number(1)),
            Rule::Default("targetCPUUtilizationPercentage", Literal::Number(80)),
            Rule::Check(common),
        ],
    ),
    (
        "k8s.io.api.autoscaling.v2.HorizontalPodAutoscalerSpec",
        &[
            Rule::Default("minReplicas", Literal::Number(1)),
            Rule::DefaultFn(metrics),
            Rule::DefaultFn(behavior),
            Rule::Check(common),
            Rule::Check(check_metrics),
        ],
    ),
];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::Spec,
    status: true,
    full: true,
    ..Profile::new("autoscaling", "horizontalpodautoscalers")
}];

fn metrics(spec: &mut Object) {
    if spec.get("metrics").is_none_or(unset) {
        let cpu = serde_json::json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".to_owned(), cpu);
    }
}

fn behavior(spec: &mut Object) {
    let Some(behavior) = spec.get_mut("behavior").and_then(Tree::as_object_mut) else { return };
    let percent = serde_json::json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = serde_json::json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", vec![pods, percent.clone()]), ("scaleDown", vec![percent])] {
        let rules = as_object(behavior.entry(direction).or_insert(Tree::Null));
        if direction == "scaleUp" {
            fill_pointer(rules, "stabilizationWindowSeconds", 0);
        }
        fill_pointer(rules, "selectPolicy", "Max");
        if rules.get("policies").is_none_or(unset) {
            rules.insert("policies".to_owned(), Tree::Array(policies));
        }
    }
}

fn common(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let least = int(spec, "minReplicas").unwrap_or(1);
    if least < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(path.field("minReplicas").invalid(least, detail));
    }
    let most = number(spec, "maxReplicas");
    let at = path.field("maxReplicas");
    if most != 0 && most < 1 {
        errors.push(at.invalid(most, "must be greater than 0"));
    }
    if most < least {
        errors.push(at.invalid(most, "must be greater than or equal to `minReplicas`"));
    }
    if most == 0 {
        errors.push(at.required(""));
    }
    for field in ["kind", "name"] {
        if text(get(spec, "scaleTargetRef"), field).is_empty() {
            errors.push(path.field("scaleTargetRef").field(field).required(""));
        }
    }
}

fn check_metrics(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const SOURCES: [(&str, &str); 5] = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    let all = path.field("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        let at = all.index(index);
        let kind = text(metric, "type");
        let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
            errors.push(at.field("type").not_supported(kind, &SOURCES.map(|(name, _)| name)));
            continue;
        };
        if !has(metric, field) {
            errors.push(at.field(field).required("must populate information for the given metric source"));
            continue;
        }
        let target = get(metric, field).get("target").unwrap_or(&Tree::Null);
        let values = ["averageUtilization", "averageValue", "value"];
        if !values.iter().any(|value| has(target, value)) {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(at.field(field).field("target.averageUtilization").required(detail));
        }
    }
    let scalable =
        list(spec, "metrics").iter().any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if int(spec, "minReplicas") == Some(0) && !scalable {
        errors.push(all.forbidden(
            "must specify at least one Object or External metric to support scaling to zero replicas",
        ));
    }
}
