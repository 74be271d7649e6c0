//! What a job makes of its pods' failures and successes.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules;
use crate::tree::{get, has, int, list, number, text};

/// `["a" "b"]`, as the API lists what a missing value may be.
fn listed(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn chosen(tree: &Tree, field: &str, values: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    match text(tree, field) {
        "" => errors.push(path.field(field).required(&listed(values))),
        value if values.contains(&value) => {}
        value => errors.push(path.field(field).not_supported(value, values)),
    }
}

/// `spec.podFailurePolicy.rules`.
pub(super) fn failure(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let containers = |field: &'static str| list(spec, field).iter().map(|one| text(one, "name"));
    let known: Seen<&str> =
        containers("template.spec.containers").chain(containers("template.spec.initContainers")).collect();
    for (index, rule) in list(spec, "podFailurePolicy.rules").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        chosen(rule, "action", &["Count", "FailIndex", "FailJob", "Ignore"], &at, errors);
        if text(rule, "action") == "FailIndex" && !has(spec, "backoffLimitPerIndex") {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(at.field("action").invalid("FailIndex", detail));
        }
        if has(rule, "onExitCodes") {
            exit_codes(get(rule, "onExitCodes"), &known, &at.field("onExitCodes"), errors);
        }
        let all = at.field("onPodConditions");
        for (index, pattern) in list(rule, "onPodConditions").iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let (at, kind) = (all.index(index), text(pattern, "type"));
            rules::format(kind, names::qualified_name(kind), &at.field("type"), errors);
            chosen(pattern, "status", &["False", "True", "Unknown"], &at, errors);
        }
        one_requirement(rule, &at, errors);
    }
}

fn one_requirement(rule: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let plain = |detail: &str| Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: format!("Invalid value: {detail}"),
        field: path.to_string(),
    };
    match (has(rule, "onExitCodes"), list(rule, "onPodConditions").is_empty()) {
        (true, false) => {
            errors.push(plain("specifying both OnExitCodes and OnPodConditions is not supported"))
        }
        (false, true) => errors.push(plain("specifying one of OnExitCodes and OnPodConditions is required")),
        _ => {}
    }
}

fn exit_codes(codes: &Tree, known: &Seen<&str>, path: &Path<'_>, errors: &mut Vec<Cause>) {
    chosen(codes, "operator", &["In", "NotIn"], path, errors);
    if let Some(name) = rules::given(codes, "containerName").filter(|name| !known.contains(*name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(path.field("containerName").invalid(name, detail));
    }
    let at = path.field("values");
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Tree::as_i64).collect();
    if values.is_empty() {
        errors.push(at.invalid(get(codes, "values"), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(at.too_many(values.len(), 255));
    }
    let mut seen = Seen::new();
    for (index, value) in values.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if seen.repeats(value) {
            errors.push(at.index(index).duplicate(*value));
        } else if *value == 0 && text(codes, "operator") == "In" {
            errors.push(at.index(index).invalid(*value, "must not be 0 for the In operator"));
        }
    }
    if !values.is_sorted() {
        errors.push(at.invalid(get(codes, "values"), "must be ordered"));
    }
}

/// `spec.successPolicy.rules`.
pub(super) fn success(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let rules = list(spec, "successPolicy.rules");
    if rules.is_empty() {
        errors
            .push(path.required("at least one rules must be specified when the successPolicy is specified"));
    }
    let completions = number(spec, "completions");
    for (index, rule) in rules.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = path.index(index);
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(at.required(detail));
        }
        let mut indexes = None;
        if let Some(text) = rules::given(rule, "succeededIndexes") {
            indexes = Some(count(text, completions).unwrap_or_else(|problem| {
                let detail = format!("error parsing succeededIndexes: {problem}");
                errors.push(at.field("succeededIndexes").invalid(text, &detail));
                0
            }));
        }
        let Some(wanted) = int(rule, "succeededCount") else { continue };
        let at = at.field("succeededCount");
        rules::not_negative(wanted, &at, errors);
        if wanted > completions {
            let detail =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(at.invalid(wanted, &detail));
        }
        if let Some(indexes) = indexes.filter(|indexes| wanted > *indexes) {
            let detail = format!(
                "must be less than or equal to {indexes} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(at.invalid(wanted, &detail));
        }
    }
}

/// How many indexes `1,3-5` names, all of them below `completions` and in order.
fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut total = 0;
    let mut last: Option<i64> = None;
    for part in text.split(',') {
        let parse = |number: &str| {
            let index: i64 = number
                .parse()
                .map_err(|_| format!("cannot convert string to integer for index: {number:?}"))?;
            if index >= completions { Err(format!("too large index: {number:?}")) } else { Ok(index) }
        };
        let ends: Vec<&str> = part.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
            ));
        }
        let first = parse(ends[0])?;
        if last.is_some_and(|last| first <= last) {
            return Err(format!(
                "non-increasing order, previous: {}, current: {first}",
                last.unwrap_or_default()
            ));
        }
        let end = ends.get(1).map_or(Ok(first), |end| parse(end))?;
        if ends.len() == 2 && end <= first {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}
