//! Admission policies and their bindings: what they are about, and what they do in expressions that must compile.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use super::expressions::{self, Stored};
use super::webhooks;
use crate::kinds::conditions;
use crate::rules;
use crate::strategy::Context;
use crate::tree::{get, has, list, text, texts};

static SPEC: Path<'static> = Path::new("spec");

const ANNOTATIONS: usize = 20;
const EXPRESSION_BYTES: usize = 5 * 1024;
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

pub(super) fn validating(_: &Context<'_>, policy: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(policy, "spec");
    let stored = Stored::of(old.map_or(&Tree::Null, |old| get(old, "spec")));
    let mut expressions = match list(spec, "variables").is_empty() {
        true => expressions::Checker::new(spec, stored),
        false => expressions::Checker::composing(spec, stored),
    };
    subject(spec, old, &expressions, errors);
    variables(spec, &mut expressions, errors);
    let (checks, notes) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if checks.is_empty() && notes.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.push(SPEC.field(field).required(detail));
        }
    } else {
        let all = SPEC.field("validations");
        for (index, check) in checks.iter().enumerate() {
            if is_full(errors) {
                return;
            }
            validation(check, &expressions, &all.index(index), errors);
        }
        annotations(text(policy, "metadata.name"), spec, &expressions, errors);
    }
    reserved(policy, errors);
}

/// What a policy is about, by what it depends on, and when it is asked.
fn subject(spec: &Tree, old: Option<&Tree>, expressions: &expressions::Checker<'_>, errors: &mut Vec<Cause>) {
    rules::one_of(spec, "failurePolicy", &["Fail", "Ignore"], &SPEC, errors);
    if has(spec, "paramKind") {
        kind_of_parameters(get(spec, "paramKind"), &SPEC.field("paramKind"), errors);
    }
    let (constraints, path) = (get(spec, "matchConstraints"), SPEC.field("matchConstraints"));
    if constraints.is_null() {
        errors.push(path.required(""));
    } else {
        resources(constraints, &path, errors);
        if list(constraints, "resourceRules").is_empty() {
            errors.push(path.field("resourceRules").required(""));
        }
    }
    // conditions that were taken once stay so
    let same = |field: &str| old.is_some_and(|old| get(get(old, "spec"), field) == get(spec, field));
    if !(same("paramKind") && same("matchConditions")) {
        webhooks::conditions(spec, expressions, &SPEC.field("matchConditions"), errors);
    }
}

fn kind_of_parameters(kind: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (version, at) = (text(kind, "apiVersion"), path.field("apiVersion"));
    let joined = |problems: Vec<String>| (!problems.is_empty()).then(|| problems.join(","));
    match version.split('/').collect::<Vec<_>>()[..] {
        _ if version.is_empty() => errors.push(at.required("")),
        [_, _, _, ..] => {
            errors.push(at.invalid(version, &format!("unexpected GroupVersion string: {version}")));
        }
        [one] => errors.extend(joined(names::dns1035_label(one)).map(|problem| at.invalid(one, &problem))),
        [group, own] => {
            if !group.is_empty() {
                errors.extend(
                    joined(names::dns1123_subdomain(group)).map(|problem| at.invalid(group, &problem)),
                );
            }
            if own.is_empty() {
                errors.push(at.invalid(version, "version must be specified"));
            } else {
                errors.extend(joined(names::dns1035_label(own)).map(|problem| at.invalid(own, &problem)));
            }
        }
        [] => {}
    }
    let (name, at) = (text(kind, "kind"), path.field("kind"));
    if name.is_empty() {
        errors.push(at.required(""));
    } else if let Some(problem) = joined(names::dns1035_label(&name.to_lowercase())) {
        let detail = format!("may have mixed case, but should otherwise match: {problem}");
        errors.push(at.invalid(name, &detail));
    }
}

/// Which objects are meant.
fn resources(matched: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    match rules::given(matched, "matchPolicy") {
        None => errors.push(path.field("matchPolicy").required("")),
        Some(_) => rules::one_of(matched, "matchPolicy", &["Equivalent", "Exact"], path, errors),
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        labels::validate_label_selector(get(matched, selector), &path.field(selector), errors);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let all = path.field(field);
        for (index, rule) in list(matched, field).iter().enumerate() {
            if is_full(errors) {
                return;
            }
            named_rule(rule, &all.index(index), errors);
        }
    }
}

fn named_rule(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let (all, mut seen) = (path.field("resourceNames"), Seen::new());
    for (index, name) in texts(rule, "resourceNames").enumerate() {
        if is_full(errors) {
            return;
        }
        rules::format(name, names::path_segment(name), &all.index(index), errors);
        if seen.repeats(name) {
            errors.push(all.index(index).duplicate(name));
        }
    }
    webhooks::rule_with_operations(rule, path, errors);
}

fn variables(spec: &Tree, expressions: &mut expressions::Checker<'_>, errors: &mut Vec<Cause>) {
    let all = SPEC.field("variables");
    for (index, variable) in list(spec, "variables").iter().enumerate() {
        if is_full(errors) {
            return;
        }
        let (name, at) = (text(variable, "name"), all.index(index));
        if name.trim().is_empty() {
            errors.push(at.field("name").required("name is not specified"));
        } else if !is_identifier(name) {
            errors.push(at.field("name").invalid(name, "must be a valid CEL identifier"));
        }
        let expression = text(variable, "expression");
        if expression.trim().is_empty() {
            errors.push(at.field("expression").required("expression is not specified"));
        } else {
            expressions.variable(name, expression, &at.field("expression"), errors);
        }
    }
}

fn is_identifier(name: &str) -> bool {
    names::c_identifier(name).is_empty() && !cel::is_reserved(name)
}

fn validation(
    check: &Tree,
    expressions: &expressions::Checker<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    let (expression, at) = (text(check, "expression"), path.field("expression"));
    match expression.trim() {
        "" => errors.push(at.required("expression is not specified")),
        _ => expressions.validation(expression, &at, errors),
    }
    for field in ["messageExpression", "message"] {
        let value = text(check, field);
        if !value.is_empty() && value.trim().is_empty() {
            errors.push(path.field(field).invalid(value, "must be non-empty if specified"));
        } else if field == "messageExpression" && !value.is_empty() {
            expressions.message(value, &path.field(field), errors);
        } else if field == "message" && value.trim().contains(['\n', '\r']) {
            errors.push(path.field(field).invalid(value, "must not contain line breaks"));
        }
    }
    rules::one_of(check, "reason", &REASONS, path, errors);
}

fn annotations(policy: &str, spec: &Tree, expressions: &expressions::Checker<'_>, errors: &mut Vec<Cause>) {
    let (notes, all) = (list(spec, "auditAnnotations"), SPEC.field("auditAnnotations"));
    if notes.len() > ANNOTATIONS {
        let form = crate::internal::form(spec, "admissionregistration.v1.ValidatingAdmissionPolicySpec");
        let shown = form.get("AuditAnnotations").cloned().unwrap_or_default();
        errors.push(all.invalid(&shown, &format!("must not have more than {ANNOTATIONS} auditAnnotations")));
    }
    let mut seen = Seen::new();
    for (index, note) in notes.iter().enumerate() {
        if is_full(errors) {
            return;
        }
        let (key, at) = (text(note, "key"), all.index(index));
        if policy.is_empty() {
            errors.push(at.field("key").invalid(key, "requires metadata.name be non-empty"));
        } else {
            let whole = format!("{policy}/{key}");
            rules::format(&whole, names::qualified_name(&whole), &at.field("key"), errors);
        }
        let (written, place) = (text(note, "valueExpression"), at.field("valueExpression"));
        let expression = written.trim();
        if expression.is_empty() {
            errors.push(place.required("valueExpression is not specified"));
        } else if expression.len() > EXPRESSION_BYTES {
            errors.push(place.required(&format!("must not exceed {EXPRESSION_BYTES} bytes in length")));
        } else {
            expressions.annotation(written, &place, errors);
        }
        if seen.repeats(key) {
            errors.push(at.field("key").duplicate(key));
        }
    }
}

/// Names of what a server reads from its own files.
pub(super) fn reserved(object: &Tree, errors: &mut Vec<Cause>) {
    let name = text(object, "metadata.name");
    if name.ends_with(".static.k8s.io") {
        let detail = "names ending with \".static.k8s.io\" are reserved for static manifest-based configurations and cannot be managed via the API";
        errors.push(Path::new("metadata.name").invalid(name, detail));
    }
}

pub(super) fn status(_: &Context<'_>, policy: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let all = Path::new("status.typeChecking.expressionWarnings");
    for (index, warning) in list(policy, "status.typeChecking.expressionWarnings").iter().enumerate() {
        if is_full(errors) {
            return;
        }
        for field in ["warning", "fieldRef"] {
            if text(warning, field).trim().is_empty() {
                errors.push(all.index(index).field(field).required(""));
            }
        }
    }
    conditions::check(list(policy, "status.conditions"), &Path::new("status.conditions"), errors);
}

/// What a mutating policy may act upon.
const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

fn operations(matched: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let at = path.field("resourceRules.operations");
    let all = list(matched, "resourceRules").iter().flat_map(|rule| texts(rule, "operations"));
    for operation in all.filter(|operation| !OPERATIONS.contains(operation)) {
        if is_full(errors) {
            return;
        }
        errors.push(at.not_supported(operation, &OPERATIONS));
    }
}

pub(super) fn mutating(_: &Context<'_>, policy: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(policy, "spec");
    let stored = Stored::of(old.map_or(&Tree::Null, |old| get(old, "spec")));
    let mut expressions = expressions::Checker::composing(spec, stored);
    let mut conditions = Vec::new();
    subject(spec, old, &expressions, &mut conditions);
    // operations are reported before conditions
    let after = conditions.iter().position(|cause| cause.field.starts_with("spec.matchConditions"));
    let after = conditions.split_off(after.unwrap_or(conditions.len()));
    errors.append(&mut conditions);
    operations(get(spec, "matchConstraints"), &SPEC.field("matchConstraints"), errors);
    errors.extend(after);
    variables(spec, &mut expressions, errors);
    let (mutations, all) = (list(spec, "mutations"), SPEC.field("mutations"));
    if mutations.is_empty() {
        errors.push(all.required("mutations must contain at least one item"));
    }
    for (index, one) in mutations.iter().enumerate() {
        if is_full(errors) {
            return;
        }
        mutation(one, &expressions, &all.index(index), errors);
    }
    let (again, at) = (text(spec, "reinvocationPolicy"), SPEC.field("reinvocationPolicy"));
    if again.is_empty() {
        errors.push(at.required(""));
    } else if !matches!(again, "Never" | "IfNeeded") {
        errors.push(at.not_supported(again, &["IfNeeded", "Never"]));
    }
    reserved(policy, errors);
}

fn mutation(
    mutation: &Tree,
    expressions: &expressions::Checker<'_>,
    path: &Path<'_>,
    errors: &mut Vec<Cause>,
) {
    const KINDS: [(&str, &str); 2] =
        [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let kind = text(mutation, "patchType");
    if kind.is_empty() {
        errors.push(path.field("patchType").required(""));
        return;
    }
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        errors.push(path.field("patchType").not_supported(kind, &["ApplyConfiguration", "JSONPatch"]));
        return;
    };
    if !has(mutation, own) {
        errors.push(path.field(own).required(&format!("must be specified when patchType is {kind}")));
    } else {
        let (expression, at) = (text(get(mutation, own), "expression"), path.field(own));
        let at = at.field("expression");
        match expression.trim() {
            "" => errors.push(at.required("")),
            _ => expressions.mutation(kind, expression, &at, errors),
        }
    }
    for (_, other) in KINDS.iter().filter(|(_, other)| other != own && has(mutation, other)) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.push(path.field(other).invalid(format!("{{{other}}}").as_str(), &detail));
    }
}

pub(super) fn validating_binding(_: &Context<'_>, binding: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(binding, "spec");
    bound(spec, errors);
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let (all, mut seen) = (SPEC.field("validationActions"), Seen::new());
    for (index, action) in texts(spec, "validationActions").enumerate() {
        if is_full(errors) {
            return;
        }
        if !ACTIONS.contains(&action) {
            errors.push(all.index(index).not_supported(action, &ACTIONS));
        }
        if seen.repeats(action) {
            errors.push(all.index(index).duplicate(action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(all.invalid(get(spec, "validationActions"), detail));
    }
    reserved(binding, errors);
}

pub(super) fn mutating_binding(_: &Context<'_>, binding: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(binding, "spec");
    if text(spec, "policyName").is_empty() {
        errors.push(SPEC.field("policyName").required(""));
    }
    bound(spec, errors);
    operations(get(spec, "matchResources"), &SPEC.field("matchResources"), errors);
    reserved(binding, errors);
}

/// To which policy, with which parameters and for which objects.
fn bound(spec: &Tree, errors: &mut Vec<Cause>) {
    let policy = text(spec, "policyName");
    if !policy.is_empty() {
        rules::format(policy, names::dns1123_subdomain(policy), &SPEC.field("policyName"), errors);
    }
    if has(spec, "paramRef") {
        parameters(get(spec, "paramRef"), &SPEC.field("paramRef"), errors);
    }
    if has(spec, "matchResources") {
        resources(get(spec, "matchResources"), &SPEC.field("matchResources"), errors);
    }
}

fn parameters(reference: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, selector) = (text(reference, "name"), get(reference, "selector"));
    if !name.is_empty() {
        rules::format(name, names::path_segment(name), &path.field("name"), errors);
        if !selector.is_null() {
            errors.push(path.field("name").forbidden(BOTH));
        }
    }
    if !selector.is_null() {
        labels::validate_label_selector(selector, &path.field("selector"), errors);
        if !name.is_empty() {
            errors.push(path.field("selector").forbidden(BOTH));
        }
    }
    if name.is_empty() && selector.is_null() {
        errors.push(path.required("one of name or selector must be specified"));
    }
    let at = path.field("parameterNotFoundAction");
    match text(reference, "parameterNotFoundAction") {
        "" => errors.push(at.required("")),
        "Deny" | "Allow" => {}
        other => errors.push(at.not_supported(other, &["Deny", "Allow"])),
    }
}
