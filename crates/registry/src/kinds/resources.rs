//! Amounts that containers ask for, and names of resources.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::{Quantity, names};

use crate::kinds::container::Claims;
use crate::tree::{entries, get, list, text};

fn quantity(value: &Tree) -> Quantity {
    Quantity::from_tree(value).unwrap_or(Quantity::ZERO)
}

fn huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || huge(name)
}

/// A name of Kubernetes' own.
fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A name of somebody's own, which quotas can count.
pub fn extended(name: &str) -> bool {
    !native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether limits of a resource may exceed its requests.
fn may_be_overcommitted(name: &str) -> bool {
    native(name) && !huge(name)
}

/// Objects that are counted.
pub(super) const COUNTED: [&str; 9] = [
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

pub(super) fn not_negative(value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let amount = quantity(value);
    if amount.nanos() < 0 {
        errors.push(path.invalid(&*amount.to_string(), "must be greater than or equal to 0"));
    }
}

/// What quotas and limits count, although containers cannot ask for it.
fn known(name: &str) -> bool {
    let (prefix, amount) = name.split_once('.').unwrap_or(("", name));
    match prefix {
        "" => standard(name) || name == "storage" || COUNTED.contains(&name),
        "services" => matches!(amount, "nodeports" | "loadbalancers"),
        "requests" => matches!(amount, "cpu" | "memory" | "ephemeral-storage" | "storage") || huge(amount),
        "limits" => matches!(amount, "cpu" | "memory" | "ephemeral-storage"),
        _ => false,
    }
}

/// A name of a resource, of whatever has it.
pub(super) fn resource_name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let problems = names::qualified_name(name);
    errors.extend(problems.iter().map(|problem| path.invalid(name, problem)));
    if problems.is_empty() && !name.contains('/') && !known(name) {
        errors.push(path.invalid(name, "must be a standard resource type or fully qualified"));
    }
}

pub(super) fn container_name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let problems = names::qualified_name(name);
    errors.extend(problems.iter().map(|problem| path.invalid(name, problem)));
    if name.contains('/') {
        let native = name.contains("kubernetes.io/");
        if !native && (!problems.is_empty() || name.starts_with("requests.")) {
            errors.push(path.invalid(name, "doesn't follow extended resource name standard"));
        }
    } else if !standard(name) {
        if problems.is_empty() && !known(name) {
            errors.push(path.invalid(name, "must be a standard resource type or fully qualified"));
        }
        errors.push(path.invalid(name, "must be a standard resource for containers"));
    }
}

/// A container's (or a pod's) requests and limits.
pub fn requirements(resources: &Tree, path: &Path<'_>, claims: Option<&Claims<'_>>, errors: &mut Vec<Cause>) {
    requirements_of(resources, container_name, path, claims, errors);
}

/// A complaint about the name of a resource.
pub type NameCheck = fn(&str, &Path<'_>, &mut Vec<Cause>);

/// [`requirements`], of resources with such names.
pub fn requirements_of(
    resources: &Tree,
    check_name: NameCheck,
    path: &Path<'_>,
    claims: Option<&Claims<'_>>,
    errors: &mut Vec<Cause>,
) {
    let (limits, requests) = (path.field("limits"), path.field("requests"));
    let (mut huge_pages, mut plain) = (false, false);
    for (name, value) in entries(resources, "limits") {
        if is_full(errors) {
            break;
        }
        check_name(name, &limits.key(name), errors);
        amount(name, value, &limits.key(name), errors);
        pages(name, value, &limits.key(name), errors);
        huge_pages |= huge(name);
        plain |= matches!(name, "cpu" | "memory");
    }
    for (name, value) in entries(resources, "requests") {
        if is_full(errors) {
            break;
        }
        check_name(name, &requests.key(name), errors);
        amount(name, value, &requests.key(name), errors);
        let request = quantity(value);
        match get(resources, "limits").get(name).map(quantity) {
            Some(limit) if request > limit && may_be_overcommitted(name) => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(requests.invalid(&*request.to_string(), &detail));
            }
            Some(limit) if request != limit && !may_be_overcommitted(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(requests.invalid(&*request.to_string(), &detail));
            }
            None if !may_be_overcommitted(name) => {
                errors.push(limits.required("Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
        pages(name, value, &requests.key(name), errors);
        huge_pages |= huge(name);
        plain |= matches!(name, "cpu" | "memory");
    }
    if huge_pages && !plain {
        errors.push(path.forbidden("HugePages require cpu or memory"));
    }
    let all = path.field("claims");
    for (index, claim) in list(resources, "claims").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (name, at) = (text(claim, "name"), all.index(index));
        let known = claims.map(Claims::names).unwrap_or_default();
        if name.is_empty() {
            errors.push(at.required(""));
        } else if !claims.is_some_and(|claims| claims.contains(name)) {
            let detail = if known.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", "))
            };
            let mut cause = at.not_found(name);
            cause.message = format!("{}: {detail}", cause.message);
            errors.push(cause);
        }
    }
}

/// An amount of a resource, of which some are counted.
pub(super) fn amount(name: &str, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    not_negative(value, path, errors);
    let amount = quantity(value);
    if (COUNTED.contains(&name) || extended(name)) && !amount.is_integer() {
        errors.push(path.invalid(&*amount.to_string(), "must be an integer"));
    }
}

/// A page is taken as a whole.
fn pages(name: &str, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let amount = quantity(value);
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let page = Quantity::parse(size).ok().filter(|page| page.is_integer()).map(|page| page.value());
    let whole = page.is_some_and(|page| page > 0 && amount.value() % page == 0);
    if !whole {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.push(path.invalid(&*amount.to_string(), &detail));
    }
}
