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

/// A name of somebody's own, which cannot be overcommitted.
pub fn extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn not_negative(value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let amount = quantity(value);
    if amount.nanos() < 0 {
        errors.push(path.invalid(&*amount.to_string(), "must be greater than or equal to 0"));
    }
}

pub(super) fn container_name(name: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let problems = names::qualified_name(name);
    errors.extend(problems.iter().map(|problem| path.invalid(name, problem)));
    if problems.is_empty() && !name.contains('/') && !standard(name) {
        errors.push(path.invalid(name, "must be a standard resource type or fully qualified"));
        errors.push(path.invalid(name, "must be a standard resource for containers"));
    }
}

/// A container's (or a pod's) requests and limits.
pub fn requirements(resources: &Tree, path: &Path<'_>, claims: Option<&Claims<'_>>, errors: &mut Vec<Cause>) {
    let (limits, requests) = (path.field("limits"), path.field("requests"));
    let (mut huge_pages, mut plain) = (false, false);
    for (name, value) in entries(resources, "limits") {
        if is_full(errors) {
            break;
        }
        container_name(name, &limits.key(name), errors);
        amount(name, value, &limits.key(name), errors);
        huge_pages |= huge(name);
        plain |= matches!(name, "cpu" | "memory");
    }
    for (name, value) in entries(resources, "requests") {
        if is_full(errors) {
            break;
        }
        container_name(name, &requests.key(name), errors);
        amount(name, value, &requests.key(name), errors);
        let request = quantity(value);
        match get(resources, "limits").get(name).map(quantity) {
            Some(limit) if request > limit && !(extended(name) || huge(name)) => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(requests.invalid(&*request.to_string(), &detail));
            }
            Some(limit) if request != limit && (extended(name) || huge(name)) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(requests.invalid(&*request.to_string(), &detail));
            }
            None if extended(name) || huge(name) => {
                errors.push(limits.required("Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
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

fn amount(name: &str, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    not_negative(value, path, errors);
    let amount = quantity(value);
    if extended(name) && !amount.is_integer() {
        errors.push(path.invalid(&*amount.to_string(), "must be an integer"));
    }
}
