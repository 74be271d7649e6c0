//! HorizontalPodAutoscalers: `v2`, in which they are stored, and `v1`, which knows one CPU target and keeps the
//! rest in annotations.

use crate::json;
use crate::tree::{Object, Tree};

use super::move_to;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

pub(super) fn v2_to_v1(scaler: &mut Object) {
    let mut annotations = Object::new();
    if let Some(Tree::Object(spec)) = scaler.get_mut("spec") {
        let metrics = take_list(spec, "metrics");
        let mut others = Vec::new();
        for metric in metrics {
            let target =
                metric.pointer("/resource/target/averageUtilization").filter(|value| !value.is_null());
            if let (true, Some(target)) = (is_cpu(&metric), target) {
                spec.insert("targetCPUUtilizationPercentage", target.clone());
            } else {
                others.push(metric_to_v1(metric, "target"));
            }
        }
        annotate(&mut annotations, METRICS, others);
        if let Some(behavior) = spec.remove("behavior").filter(|behavior| !behavior.is_null()) {
            annotations.insert(BEHAVIOR.to_owned(), text(&behavior_to_annotation(&behavior)));
        }
    }
    if let Some(Tree::Object(status)) = scaler.get_mut("status") {
        let current = take_list(status, "currentMetrics");
        let cpu = current.iter().find(|metric| is_cpu(metric));
        if let Some(percentage) =
            cpu.and_then(|metric| metric.pointer("/resource/current/averageUtilization"))
        {
            status.insert("currentCPUUtilizationPercentage", percentage.clone());
        }
        annotate(
            &mut annotations,
            CURRENT,
            current.into_iter().map(|metric| metric_to_v1(metric, "current")).collect(),
        );
        let conditions = take_list(status, "conditions");
        annotate(&mut annotations, CONDITIONS, conditions);
    }
    if annotations.is_empty() {
        return;
    }
    let metadata = scaler.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        let own = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            own.extend(annotations);
        }
    }
}

pub(super) fn v1_to_v2(scaler: &mut Object) {
    let mut kept = Object::new();
    if let Some(Tree::Object(metadata)) = scaler.get_mut("metadata")
        && let Some(Tree::Object(annotations)) = metadata.get_mut("annotations")
    {
        for name in [METRICS, CURRENT, CONDITIONS, BEHAVIOR] {
            if let Some(value) = annotations.remove(name)
                && let Some(value) = value.as_str().and_then(|text| serde_json::from_str::<Tree>(text).ok())
            {
                kept.insert(name.to_owned(), value);
            }
        }
    }
    if let Some(Tree::Object(spec)) = scaler.get_mut("spec") {
        let others = take_list(&mut kept, METRICS);
        let mut metrics: Vec<Tree> =
            others.into_iter().map(|metric| metric_to_v2(metric, "target")).collect();
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null())
        {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}));
        }
        if !metrics.is_empty() {
            spec.insert("metrics", Tree::from(metrics));
        }
        if let Some(behavior) = kept.remove(BEHAVIOR) {
            spec.insert("behavior", behavior_from_annotation(&behavior));
        }
    }
    let current = take_list(&mut kept, CURRENT);
    let conditions = take_list(&mut kept, CONDITIONS);
    let status = scaler.entry("status").or_insert_with(|| json!({}));
    if let Tree::Object(status) = status {
        let percentage = status.remove("currentCPUUtilizationPercentage").filter(|value| !value.is_null());
        if !current.is_empty() {
            let current = current.into_iter().map(|metric| metric_to_v2(metric, "current"));
            status.insert("currentMetrics", current.collect());
        } else if let Some(percentage) = percentage {
            let metric = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percentage}}});
            status.insert("currentMetrics", Tree::from(vec![metric]));
        }
        if !conditions.is_empty() {
            status.insert("conditions", Tree::from(conditions));
        }
    }
}

fn is_cpu(metric: &Tree) -> bool {
    metric["type"] == "Resource" && metric.pointer("/resource/name").is_some_and(|name| name == "cpu")
}

fn take_list(object: &mut Object, name: &str) -> Vec<Tree> {
    match object.remove(name) {
        Some(Tree::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn annotate(annotations: &mut Object, name: &str, items: Vec<Tree>) {
    if !items.is_empty() {
        annotations.insert(name.to_owned(), text(&Tree::from(items)));
    }
}

fn text(value: &Tree) -> Tree {
    Tree::from(String::from_utf8_lossy(&json::to_vec(value)).into_owned())
}

/// The field that holds a metric's source.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// `targetValue`, `currentAverageValue`, …: the names that `v1` makes of `target` or `current` and a value's name.
fn joined(side: &str, name: &str) -> String {
    let mut characters = name.chars();
    characters
        .next()
        .map(|first| format!("{side}{}{}", first.to_uppercase(), characters.as_str()))
        .unwrap_or_default()
}

/// A metric (`side` is `target`) or its status (`current`) as `v1` writes it into an annotation.
fn metric_to_v1(metric: Tree, side: &str) -> Tree {
    let Tree::Object(mut metric) = metric else { return metric };
    let mut out = Object::new();
    move_to(&mut metric, "type", &mut out, "type");
    for (kind, field) in SOURCES {
        let Some(Tree::Object(mut source)) = metric.remove(field) else { continue };
        let mut values = match source.remove(side) {
            Some(Tree::Object(values)) => values,
            _ => Object::new(),
        };
        let mut identifier = match source.remove("metric") {
            Some(Tree::Object(identifier)) => identifier,
            _ => Object::new(),
        };
        let mut flat = Object::new();
        move_to(&mut source, "describedObject", &mut flat, "target");
        move_to(&mut source, "name", &mut flat, "name");
        move_to(&mut identifier, "name", &mut flat, "metricName");
        let external = kind == "External";
        if external {
            move_to(&mut identifier, "selector", &mut flat, "metricSelector");
        }
        match kind {
            "Object" => {
                let value = values.remove("value").unwrap_or_else(|| Tree::from("0"));
                flat.insert(joined(side, "value"), value);
            }
            "Resource" | "ContainerResource" => {
                move_to(&mut values, "averageUtilization", &mut flat, &joined(side, "averageUtilization"));
                move_to(&mut values, "averageValue", &mut flat, &joined(side, "averageValue"));
            }
            _ => {
                move_to(&mut values, "value", &mut flat, &joined(side, "value"));
                move_to(&mut values, "averageValue", &mut flat, &joined(side, "averageValue"));
            }
        }
        move_to(&mut identifier, "selector", &mut flat, "selector");
        move_to(&mut values, "averageValue", &mut flat, "averageValue");
        move_to(&mut source, "container", &mut flat, "container");
        out.insert(field.to_owned(), Tree::Object(flat));
    }
    Tree::Object(out)
}

/// The other way.
fn metric_to_v2(metric: Tree, side: &str) -> Tree {
    let Tree::Object(mut metric) = metric else { return metric };
    let mut out = Object::new();
    move_to(&mut metric, "type", &mut out, "type");
    for (kind, field) in SOURCES {
        let Some(Tree::Object(mut flat)) = metric.remove(field) else { continue };
        let mut source = Object::new();
        let mut identifier = Object::new();
        let mut values = Object::new();
        move_to(&mut flat, "metricName", &mut identifier, "name");
        move_to(&mut flat, "metricSelector", &mut identifier, "selector");
        move_to(&mut flat, "selector", &mut identifier, "selector");
        for name in ["value", "averageValue", "averageUtilization"] {
            move_to(&mut flat, &joined(side, name), &mut values, name);
        }
        if flat.get("averageValue").is_some_and(|value| !value.is_null()) {
            values.remove("value");
            move_to(&mut flat, "averageValue", &mut values, "averageValue");
        }
        if side == "target" {
            let ty = if values.contains_key("averageUtilization") {
                "Utilization"
            } else if values.contains_key("averageValue") {
                "AverageValue"
            } else {
                "Value"
            };
            values.insert("type", Tree::from(ty));
        }
        move_to(&mut flat, "target", &mut source, "describedObject");
        move_to(&mut flat, "name", &mut source, "name");
        move_to(&mut flat, "container", &mut source, "container");
        source.insert(side.to_owned(), Tree::Object(values));
        if !matches!(kind, "Resource" | "ContainerResource") {
            source.insert("metric", Tree::Object(identifier));
        }
        out.insert(field.to_owned(), Tree::Object(source));
    }
    Tree::Object(out)
}

const RULES: [&str; 4] = ["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"];
const POLICY: [&str; 3] = ["type", "value", "periodSeconds"];

/// The annotation spells the fields in capitals and leaves none out.
fn behavior_to_annotation(behavior: &Tree) -> Tree {
    let rules = |rules: &Tree| -> Tree {
        if rules.is_null() {
            return Tree::Null;
        }
        let field = |name: &str| match (name, &rules[name]) {
            ("policies", Tree::Array(policies)) => {
                let policy = |policy: &Tree| -> Tree {
                    POLICY.iter().map(|name| (joined("", name), policy[*name].clone())).collect()
                };
                policies.iter().map(policy).collect()
            }
            (_, value) => value.clone(),
        };
        RULES.iter().map(|name| (joined("", name), field(name))).collect()
    };
    json!({"ScaleUp": rules(&behavior["scaleUp"]), "ScaleDown": rules(&behavior["scaleDown"])})
}

fn behavior_from_annotation(behavior: &Tree) -> Tree {
    let rules = |rules: &Tree| -> Tree {
        if rules.is_null() {
            return Tree::Null;
        }
        let field = |name: &str| match (name, &rules[&joined("", name)]) {
            ("policies", Tree::Array(policies)) => {
                let policy = |policy: &Tree| -> Tree {
                    POLICY
                        .iter()
                        .map(|name| ((*name).to_owned(), policy[&joined("", name)].clone()))
                        .collect()
                };
                policies.iter().map(policy).collect()
            }
            (_, value) => value.clone(),
        };
        RULES.iter().map(|name| ((*name).to_owned(), field(name))).collect()
    };
    json!({"scaleUp": rules(&behavior["ScaleUp"]), "scaleDown": rules(&behavior["ScaleDown"])})
}
