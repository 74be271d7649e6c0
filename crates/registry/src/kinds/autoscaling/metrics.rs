//! What an autoscaler measures.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::{Quantity, names};

use crate::kinds::resources;
use crate::rules;
use crate::tree::{get, has, int, list, text};

/// A kind and a name, as parts of a path.
pub(super) fn reference(reference: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in ["kind", "name"] {
        match text(reference, field) {
            "" => errors.push(path.field(field).required("")),
            value => rules::format(value, names::path_segment(value), &path.field(field), errors),
        }
    }
}

const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

pub(super) fn check(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("metrics");
    for (index, metric) in list(spec, "metrics").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        one(metric, &all.index(index), errors);
    }
    let scalable =
        list(spec, "metrics").iter().any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if int(spec, "minReplicas") == Some(0) && !scalable {
        errors.push(all.forbidden(
            "must specify at least one Object or External metric to support scaling to zero replicas",
        ));
    }
}

fn one(metric: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        errors.push(path.field("type").required("must specify a metric source type"));
    }
    let known = SOURCES.iter().find(|(name, _)| *name == kind);
    if known.is_none() {
        errors.push(path.field("type").not_supported(kind, &SOURCES.map(|(name, _)| name)));
    }
    if let Some((_, field)) = known
        && !has(metric, field)
    {
        errors.push(path.field(field).required("must populate information for the given metric source"));
    }
    for (_, field) in [SOURCES[2], SOURCES[1], SOURCES[3], SOURCES[4], SOURCES[0]] {
        if !has(metric, field) {
            continue;
        }
        if known.is_some_and(|(_, own)| *own != field) {
            errors.push(path.field(field).forbidden("must populate the given metric source only"));
        }
        source(get(metric, field), field, &path.field(field), errors);
    }
}

fn source(source: &Tree, kind: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let target = get(source, "target");
    match kind {
        "resource" | "containerResource" => {
            let name = text(source, "name");
            if name.is_empty() {
                errors.push(path.field("name").required("must specify a resource name"));
            }
            if kind == "containerResource" {
                if !name.is_empty() {
                    let at = path.field("name");
                    let before = errors.len();
                    resources::container_name(name, &at, errors);
                    if errors.len() > before && name.contains('/') {
                        errors.push(at.invalid(name, "doesn't follow extended resource name standard"));
                    } else if errors.len() > before {
                        errors.push(at.invalid(name, "must be a standard resource for containers"));
                    }
                }
                match text(source, "container") {
                    "" => errors.push(path.field("container").required("must specify a container")),
                    name => rules::format(name, names::dns1123_label(name), &path.field("container"), errors),
                }
            }
        }
        _ => {
            if kind == "object" {
                reference(get(source, "describedObject"), &path.field("describedObject"), errors);
            }
            let (metric, at) = (get(source, "metric"), path.field("metric"));
            match text(metric, "name") {
                "" => errors.push(at.field("name").required("must specify a metric name")),
                name => rules::format(name, names::path_segment(name), &at.field("name"), errors),
            }
        }
    }
    let at = path.field("target");
    values(target, &at, errors);
    let set = |field: &str| has(target, field);
    if kind.to_ascii_lowercase().ends_with("resource") && set("averageUtilization") && set("averageValue") {
        let detail = "may not set both a target raw value and a target utilization";
        errors.push(at.field("averageValue").forbidden(detail));
    }
    let (field, detail) = match kind {
        "pods" if !set("averageValue") => ("averageValue", "must specify a positive target averageValue"),
        "object" if !set("value") && !set("averageValue") => {
            ("averageValue", "must set either a target value or averageValue")
        }
        "external" if !set("value") && !set("averageValue") => {
            ("averageValue", "must set either a target value for metric or a per-pod target")
        }
        "resource" | "containerResource" if !set("averageUtilization") && !set("averageValue") => {
            ("averageUtilization", "must set either a target raw value or a target utilization")
        }
        _ => return,
    };
    errors.push(at.field(field).required(detail));
}

fn values(target: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.push(path.field("type").required("must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(path.field("type").invalid(kind, detail));
    }
    if let Some(percent) = int(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.push(path.field("averageUtilization").invalid(percent, "must be greater than 0"));
    }
    for field in ["value", "averageValue"] {
        let amount = target.get(field).and_then(|value| Quantity::from_tree(value).ok());
        if let Some(amount) = amount.filter(|amount| amount.nanos() <= 0) {
            errors.push(path.field(field).invalid(&*amount.to_string(), "must be positive"));
        }
    }
}
