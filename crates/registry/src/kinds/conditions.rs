//! The conditions that most statuses share (`metav1.Condition`).

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::rules;
use crate::tree::{number, text};

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;

/// Checks conditions, each of its type once.
pub fn check(conditions: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut seen = Seen::new();
    for (index, condition) in conditions.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let (kind, at) = (text(condition, "type"), path.index(index));
        if seen.repeats(kind) {
            errors.push(at.duplicate(kind));
        }
        one(condition, &at, errors);
    }
}

/// Whether there is a condition of that type with that status.
pub fn is(conditions: &[Tree], kind: &str, status: &str) -> bool {
    let own = conditions.iter().find(|condition| text(condition, "type") == kind);
    own.is_some_and(|condition| text(condition, "status") == status)
}

fn one(condition: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let kind = text(condition, "type");
    if kind.is_empty() {
        errors.push(path.field("type").required("is required"));
    } else {
        rules::format(kind, names::qualified_name(kind), &path.field("type"), errors);
    }
    let status = text(condition, "status");
    if status.is_empty() {
        errors.push(path.field("status").required(""));
    } else if !STATUSES.contains(&status) {
        errors.push(path.field("status").not_supported(status, &STATUSES));
    }
    let generation = number(condition, "observedGeneration");
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(path.field("observedGeneration").invalid(generation, detail));
    }
    if text(condition, "lastTransitionTime").is_empty() {
        errors.push(path.field("lastTransitionTime").required(""));
    }
    let (reason, at) = (text(condition, "reason"), path.field("reason"));
    if reason.is_empty() {
        errors.push(at.required(""));
    } else {
        rules::format(reason, reason_problems(reason), &at, errors);
        if reason.len() > REASON_MAX {
            errors.push(at.too_long(REASON_MAX));
        }
    }
    if text(condition, "message").len() > MESSAGE_MAX {
        errors.push(path.field("message").too_long(MESSAGE_MAX));
    }
}

/// What is wrong with a reason.
pub fn reason_problems(reason: &str) -> Vec<String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = reason.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
        && reason.bytes().last().is_some_and(word)
        && reason.bytes().all(|byte| word(byte) || matches!(byte, b',' | b':'));
    if good {
        return Vec::new();
    }
    vec![
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
            .to_owned(),
    ]
}
