//! Placement of a pod: node selectors, affinities, spreading.

use super::*;

pub(super) fn spread(constraint: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let skew = int(constraint, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        errors.push(path.field("maxSkew").invalid(skew, "must be greater than zero"));
    }
    let key = text(constraint, "topologyKey");
    if key.is_empty() {
        errors.push(path.field("topologyKey").required("can not be empty"));
    }
    let when = text(constraint, "whenUnsatisfiable");
    if !matches!(when, "DoNotSchedule" | "ScheduleAnyway") {
        let values = ["DoNotSchedule", "ScheduleAnyway"];
        errors.push(path.field("whenUnsatisfiable").not_supported(when, &values));
    }
    if let Some(domains) = int(constraint, "minDomains") {
        if domains <= 0 {
            errors.push(path.field("minDomains").invalid(domains, "must be greater than zero"));
        }
        if when != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
            errors.push(path.field("minDomains").invalid(domains, &detail));
        }
    }
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        rules::one_of(constraint, field, &["Honor", "Ignore"], path, errors);
    }
    label_keys(constraint, path, errors);
    labels::validate_label_selector(get(constraint, "labelSelector"), &path.field("labelSelector"), errors);
}

pub(super) fn node_requirement(requirement: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let values = list(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors
                .push(path.field("values").required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(path.field("values").forbidden(detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(path.field("values").required(detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(path.field("operator").invalid(other, "not a valid selector operator")),
    }
    let key = text(requirement, "key");
    rules::format(key, names::qualified_name(key), &path.field("key"), errors);
}

/// Checks `matchFields`. The only field of a node that can be selected by is its name.
pub(super) fn node_fields(term: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let all = path.field("matchFields");
    for (index, requirement) in list(term, "matchFields").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (key, at) = (text(requirement, "key"), all.index(index));
        match text(requirement, "operator") {
            "In" | "NotIn" if list(requirement, "values").len() != 1 => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(at.field("values").required(detail));
            }
            "In" | "NotIn" => {}
            other => errors.push(at.field("operator").invalid(other, "not a valid selector operator")),
        }
        if key != "metadata.name" {
            errors.push(at.field("key").invalid(key, "not a valid field selector key"));
            continue;
        }
        let values = at.field("values");
        for (index, value) in texts(requirement, "values").enumerate() {
            if is_full(errors) {
                break;
            }
            rules::format(value, names::dns1123_subdomain(value), &values.index(index), errors);
        }
    }
}

pub(super) fn weight(term: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(path.field("weight").invalid(weight, "must be in the range 1-100"));
    }
}

pub(super) fn pod_affinity(term: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for selector in ["labelSelector", "namespaceSelector"] {
        labels::validate_label_selector(get(term, selector), &path.field(selector), errors);
    }
    for namespace in texts(term, "namespaces") {
        if is_full(errors) {
            break;
        }
        rules::format(namespace, names::dns1123_label(namespace), &path.field("namespace"), errors);
    }
    label_keys(term, path, errors);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(path.field("topologyKey").required("can not be empty"));
    }
    rules::format(key, names::qualified_name(key), &path.field("topologyKey"), errors);
}

/// Keys of the pod's own labels that a selector is narrowed by.
pub(super) fn label_keys(term: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = path.field(field);
        if !list(term, field).is_empty() && !has(term, "labelSelector") {
            errors.push(at.forbidden("must not be specified when labelSelector is not set"));
            continue;
        }
        for (index, key) in texts(term, field).enumerate() {
            if is_full(errors) {
                break;
            }
            rules::format(key, names::qualified_name(key), &at.index(index), errors);
        }
    }
}

/// Checks that values of required terms are label values; those of preferences may be anything.
pub(super) fn node_values(selector: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let terms = path.field("nodeSelectorTerms");
    for (index, term) in list(selector, "nodeSelectorTerms").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = terms.index(index);
        let all = at.field("matchExpressions");
        for (index, requirement) in list(term, "matchExpressions").iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let at = all.index(index);
            let values = at.field("values");
            for (index, value) in texts(requirement, "values").enumerate() {
                if is_full(errors) {
                    break;
                }
                rules::format(value, names::label_value(value), &values.index(index), errors);
            }
        }
    }
}
