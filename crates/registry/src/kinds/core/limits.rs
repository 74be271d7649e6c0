//! LimitRanges and ResourceQuotas.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{Quantity, names};

use crate::kinds::resources::{COUNTED, amount, container_name, extended, resource_name};
use crate::strategy::Context;
use crate::tree::{Object, as_object, entries, get, has, list, text, texts};

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

/// Gives a new LimitRange without a name a generated one.
pub(super) fn prepare(_: &Context<'_>, range: &mut Tree, old: Option<&Tree>) {
    if old.is_none() && text(range, "metadata.name").is_empty() {
        let name = uuid::Uuid::new_v4().to_string();
        crate::tree::ensure(range, "metadata").insert("name", name.into());
    }
}

fn item(item: &Tree, again: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
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
    if again {
        errors.push(path.field("type").duplicate(kind));
    }
    names_of(item, kind, path, errors);
    for field in ["default", "defaultRequest"] {
        if kind == "Pod" && has(item, field) {
            errors.push(path.field(field).forbidden("may not be specified when `type` is 'Pod'"));
        }
    }
    let find = |field: &str, name: &str| {
        let value = get(item, field).get(name)?;
        Quantity::from_tree(value).ok()
    };
    let mut seen = Seen::new();
    let all = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].into_iter();
    let resources = all.flat_map(|field| entries(item, field)).map(|(name, _)| name);
    let resources = resources.filter(|name| !seen.repeats(*name));
    const ORDER: [(&str, &str, &str, &str); 6] = [
        ("min", "min value", "max", "max value"),
        ("min", "min value", "defaultRequest", "default request value"),
        ("defaultRequest", "default request value", "max", "max value"),
        ("defaultRequest", "default request value", "default", "default limit value"),
        ("min", "min value", "default", "default value"),
        ("default", "default value", "max", "max value"),
    ];
    for name in resources {
        if is_full(errors) {
            break;
        }
        for (low, low_name, high, high_name) in ORDER {
            let (Some(less), Some(more)) = (find(low, name), find(high, name)) else { continue };
            if less <= more {
                continue;
            }
            // The complaint is about the field that the author is to mend, and not always about its value.
            let field = if matches!(high, "defaultRequest" | "default") && low == "min" { high } else { low };
            let shown = match (low, high) {
                ("min", "defaultRequest") | ("default", "max") => more,
                _ => less,
            };
            let detail = format!("{low_name} {less} is greater than {high_name} {more}");
            let at = path.field(field);
            errors.push(at.key(name).invalid(&*shown.to_string(), &detail));
        }
        if let Some(ratio) = find("maxLimitRequestRatio", name) {
            let at = path.field("maxLimitRequestRatio");
            let one = 1_000_000_000;
            if ratio.nanos() < one {
                let detail = format!("ratio {ratio} is less than 1");
                errors.push(at.key(name).invalid(&*ratio.to_string(), &detail));
            }
            if let (Some(least), Some(most)) = (find("min", name), find("max", name))
                && least.nanos() != 0
            {
                let limit = most.nanos() as f64 / least.nanos() as f64;
                if ratio.nanos() as f64 / one as f64 > limit {
                    let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
                    errors.push(at.key(name).invalid(&*ratio.to_string(), &detail));
                }
            }
        }
    }
    if kind == "PersistentVolumeClaim" && find("min", "storage").is_none() && find("max", "storage").is_none()
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(path.field("limits").required(detail));
    }
}

/// The names of what is limited: of containers' resources, where it is containers that are limited.
fn names_of(item: &Tree, kind: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let pods = matches!(kind, "Pod" | "Container");
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if kind == "Pod" && field.starts_with("default") {
            continue;
        }
        let all = path.field(field);
        for (name, _) in entries(item, field) {
            if is_full(errors) {
                return;
            }
            match pods {
                true => container_name(name, &all.key(name), errors),
                false => resource_name(name, &all.key(name), errors),
            }
        }
    }
}

/// Each type is limited once.
pub(super) fn items(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("limits");
    let mut seen = Seen::new();
    for (index, one) in list(spec, "limits").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let again = seen.repeats(text(one, "type"));
        item(one, again, &all.index(index), errors);
    }
}

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

fn scopes_of(quota: &Tree) -> std::collections::BTreeSet<&str> {
    texts(quota, "spec.scopes").collect()
}

/// What a quota's status says of amounts.
pub(super) fn quota_status(_: &Context<'_>, quota: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    amounts(quota, "status.hard", errors);
    amounts(quota, "status.used", errors);
}

/// Amounts of what a quota can count.
fn amounts(quota: &Tree, field: &str, errors: &mut Vec<Cause>) {
    let path = Path::new(field);
    for (name, value) in entries(quota, field) {
        if is_full(errors) {
            break;
        }
        let at = path.key(name);
        let problems = names::qualified_name(name);
        errors.extend(problems.iter().map(|problem| at.invalid(name, problem)));
        if problems.is_empty() && !name.contains('/') && !is_standard(name) {
            errors.push(at.invalid(name, "must be a standard resource type or fully qualified"));
            errors.push(at.invalid(name, "must be a standard resource for quota"));
        }
        amount(name, value, &at, errors);
    }
}

fn is_standard(name: &str) -> bool {
    COUNTED.contains(&name)
        || AMOUNTS.contains(&name)
        || matches!(name, "requests.ephemeral-storage" | "limits.ephemeral-storage")
        || name.contains("hugepages-")
}

pub(super) fn quota(_: &Context<'_>, quota: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    amounts(quota, "spec.hard", errors);
    scope_selector(quota, errors);
    let path = Path::new("spec.scopes");
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
        && scopes_of(quota) != scopes_of(old)
    {
        errors.push(path.invalid(scopes, "field is immutable"));
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Whether a quota of some scope can count a resource: pods and what they ask for, mostly.
fn scope_counts(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage" | "count/persistentvolumeclaims")
        }
        _ => {
            matches!(
                resource,
                "pods"
                    | "cpu"
                    | "memory"
                    | "requests.cpu"
                    | "requests.memory"
                    | "limits.cpu"
                    | "limits.memory"
            ) || resource.contains("hugepages-")
                || extended(resource.strip_prefix("requests.").unwrap_or(resource))
        }
    }
}

fn scope_selector(quota: &Tree, errors: &mut Vec<Cause>) {
    let selector = get(quota, "spec.scopeSelector");
    let path = Path::new("spec.scopeSelector.matchExpressions");
    for requirement in list(selector, "matchExpressions") {
        if is_full(errors) {
            break;
        }
        let [scope, operator] = ["scopeName", "operator"].map(|field| text(requirement, field));
        if !SCOPES.contains(&scope) {
            errors.push(path.field("scopeName").invalid(scope, "unsupported scope"));
        } else if entries(quota, "spec.hard").any(|(name, _)| is_standard(name) && !scope_counts(scope, name))
        {
            let shown = crate::internal::shown(selector, "core.v1.ScopeSelector");
            errors.push(path.invalid(shown, "unsupported scope applied to resource"));
        }
        match (scope, operator) {
            (
                "Terminating"
                | "NotTerminating"
                | "BestEffort"
                | "NotBestEffort"
                | "CrossNamespacePodAffinity",
                operator,
            ) if operator != "Exists" => {
                let detail = "must be 'Exist' only operator when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
                errors.push(path.field("operator").invalid(operator, detail));
            }
            _ => {}
        }
        let empty = list(requirement, "values").is_empty();
        match operator {
            "In" | "NotIn" if empty => errors.push(path.field("values").required(
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !empty => errors.push(path.field("values").invalid(
                get(requirement, "values"),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(path.field("operator").invalid(other, "not a valid selector operator")),
        }
    }
}
