//! LimitRanges and ResourceQuotas.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::{Quantity, names};

use crate::kinds::resources::extended;
use crate::strategy::Context;
use crate::tree::{Object, as_object, entries, get, has, text, texts};

/// Defaults follow from one another for containers: a maximum is the default, that the default request.
pub(super) fn default(item: &mut Object) {
    if crate::tree::member(item, "type") != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(source) = item.get(from).and_then(Tree::as_object).cloned() else { continue };
        let target = as_object(item.entry(to).or_insert(Tree::Null));
        for (name, value) in source {
            target.entry(name).or_insert(value);
        }
    }
}

pub(super) fn item(item: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let kind = text(item, "type");
    let known = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if !known {
        let problems = names::qualified_name(kind);
        errors.extend(problems.iter().map(|problem| path.field("type").invalid(kind, problem)));
        if problems.is_empty() && !kind.contains('/') {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(path.field("type").invalid(kind, detail));
        }
    }
    for field in ["default", "defaultRequest"] {
        if kind == "Pod" && has(item, field) {
            errors.push(path.field(field).forbidden("may not be specified when `type` is 'Pod'"));
        }
    }
    let find = |field: &str, name: &str| {
        let value = get(item, field).get(name)?;
        Quantity::from_tree(value).ok()
    };
    let mut resources: Vec<&str> = Vec::new();
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, _) in entries(item, field) {
            if !resources.contains(&name) {
                resources.push(name);
            }
        }
    }
    const ORDER: [(&str, &str, &str, &str); 6] = [
        ("min", "min value", "max", "max value"),
        ("min", "min value", "default", "default value"),
        ("min", "min value", "defaultRequest", "default request value"),
        ("defaultRequest", "default request value", "max", "max value"),
        ("defaultRequest", "default request value", "default", "default limit value"),
        ("default", "default value", "max", "max value"),
    ];
    for name in resources {
        for (low, low_name, high, high_name) in ORDER {
            let (Some(less), Some(more)) = (find(low, name), find(high, name)) else { continue };
            if less <= more {
                continue;
            }
            // The complaint is about the field that the author is to mend.
            let field = if high == "defaultRequest" { high } else { low };
            let detail = format!("{low_name} {less} is greater than {high_name} {more}");
            let at = path.field(field);
            errors.push(at.key(name).invalid(&*less.to_string(), &detail));
        }
    }
}

const COUNTED: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

const AMOUNTS: [&str; 8] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
];

pub(super) fn quota(_: &Context<'_>, quota: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let hard = Path::new("spec.hard");
    for (name, value) in entries(quota, "spec.hard") {
        let at = hard.key(name);
        let problems = names::qualified_name(name);
        errors.extend(problems.iter().map(|problem| at.invalid(name, problem)));
        let standard = COUNTED.contains(&name)
            || AMOUNTS.contains(&name)
            || matches!(name, "requests.ephemeral-storage" | "limits.ephemeral-storage")
            || name.contains("hugepages-");
        if problems.is_empty() && !name.contains('/') && !standard {
            errors.push(at.invalid(name, "must be a standard resource type or fully qualified"));
            errors.push(at.invalid(name, "must be a standard resource for quota"));
        }
        let amount = Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
        if amount.nanos() < 0 {
            errors.push(at.invalid(&*amount.to_string(), "must be greater than or equal to 0"));
        }
        let whole = COUNTED.contains(&name) || name.starts_with("count/") || extended(name);
        if whole && !amount.is_integer() {
            errors.push(at.invalid(&*amount.to_string(), "must be an integer"));
        }
    }
    let path = Path::new("spec.scopes");
    const SCOPES: [&str; 7] = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    let scopes = get(quota, "spec.scopes");
    if texts(quota, "spec.scopes").any(|scope| !SCOPES.contains(&scope)) {
        errors.push(path.invalid(scopes, "unsupported scope"));
    }
    let named = |scope: &str| texts(quota, "spec.scopes").any(|one| one == scope);
    if (named("BestEffort") && named("NotBestEffort")) || (named("Terminating") && named("NotTerminating")) {
        if entries(quota, "spec.hard").any(|(name, _)| name != "pods") {
            errors.push(path.invalid(scopes, "unsupported scope applied to resource"));
        }
        errors.push(path.invalid(scopes, "conflicting scopes"));
    }
    if let Some(old) = old
        && !crate::tree::same(scopes, get(old, "spec.scopes"))
    {
        errors.push(path.invalid(scopes, "field is immutable"));
    }
}
