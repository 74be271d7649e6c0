//! A job's status: counters that only grow, times that stay, and conditions that fit each other. What is wrong already may stay
//! so while it is not touched.

use api::Tree;
use api::status::Cause;
use jiff::Timestamp;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};

use super::indexes::{self, Interval};
use crate::rules::not_negative;
use crate::strategy::Context;
use crate::tree::{flag, get, has, int, list, number, same, text};

static STATUS: Path<'static> = Path::new("status");
const CONDITIONS: Path<'static> = STATUS.field("conditions");

/// A status with its job.
struct View<'a> {
    status: &'a Tree,
    complete: bool,
    failed: bool,
    failure_target: bool,
    criteria_met: bool,
}

impl<'a> View<'a> {
    fn of(job: &'a Tree) -> View<'a> {
        let is = |kind: &str| {
            list(job, "status.conditions")
                .iter()
                .any(|one| text(one, "type") == kind && text(one, "status") == "True")
        };
        View {
            status: get(job, "status"),
            complete: is("Complete"),
            failed: is("Failed"),
            failure_target: is("FailureTarget"),
            criteria_met: is("SuccessCriteriaMet"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        text(self.status, field).parse().ok()
    }
}

pub(super) fn check(_: &Context<'_>, job: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let (new, before) = (View::of(job), View::of(old));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(number(new.status, field), &STATUS.field(field), errors);
    }
    uncounted(new.status, errors);
    let changed = |field: &str| !same(get(new.status, field), get(before.status, field));
    let finished = new.finished() != before.finished();
    conditions(&new, &before, &changed, errors);
    if new.finished() {
        while_finished(&new, finished, &changed, errors);
    }
    completions(get(job, "spec"), new.status, &changed, errors);
    if new.finished()
        && (finished || changed("terminating"))
        && let Some(count) = int(new.status, "terminating").filter(|count| *count > 0)
    {
        errors.push(STATUS.field("terminating").invalid(count, "terminating>0 is invalid for finished job"));
    }
    let ready = number(new.status, "ready");
    if (changed("ready") || changed("active")) && ready > number(new.status, "active") {
        errors.push(STATUS.field("ready").invalid(ready, "cannot set more ready pods than active"));
    }
    let criteria = new.criteria_met != before.criteria_met;
    if new.criteria_met && new.failed && (criteria || new.failed != before.failed) {
        errors.push(contradiction("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if new.criteria_met && new.failure_target && (criteria || new.failure_target != before.failure_target) {
        errors.push(contradiction("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
    since(job, &new, &before, errors);
}

/// Conditions have no value that could be shown.
fn contradiction(detail: &str) -> Cause {
    let mut cause = CONDITIONS.invalid(Shown::Null, detail);
    cause.message = format!("Invalid value: {detail}");
    cause
}

fn uncounted(status: &Tree, errors: &mut Vec<Cause>) {
    let mut seen = Seen::new();
    let path = STATUS.field("uncountedTerminatedPods");
    for field in ["succeeded", "failed"] {
        let all = path.field(field);
        for (index, uid) in list(get(status, "uncountedTerminatedPods"), field).iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(all.index(index).invalid(uid, "must not be empty"));
            } else if seen.repeats(uid) {
                errors.push(all.index(index).duplicate(uid));
            }
        }
    }
}

fn conditions(new: &View<'_>, old: &View<'_>, changed: &dyn Fn(&str) -> bool, errors: &mut Vec<Cause>) {
    let (completed, failed) = (new.complete != old.complete, new.failed != old.failed);
    let target = new.failure_target != old.failure_target;
    if new.complete && new.failed && (completed || failed) {
        errors.push(contradiction("cannot set Complete=True and Failed=true conditions"));
    }
    if new.complete && new.failure_target && (completed || target) {
        errors.push(contradiction("cannot set Complete=True and FailureTarget=true conditions"));
    }
    let path = STATUS.field("completionTime");
    let (time, ended) = (new.time("completionTime"), get(new.status, "completionTime"));
    if completed || changed("completionTime") {
        if !new.complete && time.is_some() {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(path.invalid(ended, detail));
        }
        if new.complete && time.is_none() {
            errors.push(path.required("completionTime is required for Complete jobs"));
        }
    }
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) = (new.time("startTime"), time)
        && end < start
    {
        errors.push(path.invalid(ended, "must be equal to or after `startTime`"));
    }
    if failed && new.failed && !new.failure_target {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(contradiction(detail));
    }
    if completed && new.complete && !new.criteria_met {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(contradiction(detail));
    }
}

fn while_finished(new: &View<'_>, finished: bool, changed: &dyn Fn(&str) -> bool, errors: &mut Vec<Cause>) {
    let active = number(new.status, "active");
    if (finished || changed("active")) && active > 0 {
        errors.push(STATUS.field("active").invalid(active, "active>0 is invalid for finished job"));
    }
    if (finished || changed("startTime")) && new.time("startTime").is_none() {
        errors.push(STATUS.field("startTime").required("startTime is required for finished job"));
    }
    let uncounted = get(new.status, "uncountedTerminatedPods");
    let lists = ["succeeded", "failed"].map(|field| get(uncounted, field));
    let empty = |list: &Tree| list.as_array().is_none_or(Vec::is_empty);
    if (finished || changed("uncountedTerminatedPods")) && !lists.iter().all(|list| empty(list)) {
        let shown = Shown::Plain(format!("{{\"Succeeded\":{},\"Failed\":{}}}", lists[0], lists[1]));
        let path = STATUS.field("uncountedTerminatedPods");
        errors.push(path.invalid(shown, "must be empty for finished job"));
    }
}

/// Which indexes are done, and which failed: well formed, and none both.
fn completions(spec: &Tree, status: &Tree, changed: &dyn Fn(&str) -> bool, errors: &mut Vec<Cause>) {
    let (done_path, failed_path) = (STATUS.field("completedIndexes"), STATUS.field("failedIndexes"));
    let (done, failed) = (text(status, "completedIndexes"), text(status, "failedIndexes"));
    let (done_changed, failed_changed) = (changed("completedIndexes"), changed("failedIndexes"));
    if !done_changed && !failed_changed {
        return;
    }
    let completions = number(spec, "completions");
    let limited = has(spec, "backoffLimitPerIndex");
    let (completed, problem) = indexes::parse(done, completions);
    if let (true, Some(problem)) = (done_changed, problem) {
        let detail = format!("error parsing completedIndexes: {problem}");
        errors.push(done_path.invalid(done, &detail));
    }
    let (lost, problem) = indexes::parse(failed, completions);
    if let (true, true, Some(problem)) = (failed_changed, limited, problem) {
        let detail = format!("error parsing failedIndexes: {problem}");
        errors.push(failed_path.invalid(failed, &detail));
    }
    if done_changed && !done.is_empty() && text(spec, "completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(done_path.invalid(done, detail));
    }
    if failed_changed && has(status, "failedIndexes") && !limited {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(failed_path.invalid(failed, detail));
    }
    if let Some(index) = overlap(&completed, &lost) {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(failed_path.invalid(failed, &detail));
    }
}

/// The first index that both have. Either's intervals are in order.
fn overlap(completed: &[Interval], failed: &[Interval]) -> Option<i64> {
    let common = |one: &Interval| {
        let other = completed.get(completed.partition_point(|other| other.1 < one.0))?;
        (other.0 <= one.1).then(|| one.0.max(other.0))
    };
    failed.iter().find_map(common)
}

/// Checks that nothing final is undone by the update.
fn since(job: &Tree, new: &View<'_>, old: &View<'_>, errors: &mut Vec<Cause>) {
    for (kind, was, is) in [
        ("Complete", old.complete, new.complete),
        ("Failed", old.failed, new.failed),
        ("FailureTarget", old.failure_target, new.failure_target),
    ] {
        if was && !is {
            errors.push(contradiction(&format!("cannot disable the terminal {kind}=True condition")));
        }
    }
    // an indexed job whose completions follow its parallelism can be made smaller
    let elastic = text(job, "spec.completionMode") == "Indexed"
        && get(job, "spec.completions") == get(job, "spec.parallelism");
    for (field, fixed) in [("failed", true), ("succeeded", !elastic)] {
        let count = number(new.status, field);
        if fixed && count < number(old.status, field) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(STATUS.field(field).invalid(count, &detail));
        }
    }
    let moved = |field: &str| old.time(field).is_some() && new.time(field) != old.time(field);
    if moved("completionTime") && new.time("completionTime").is_some() {
        let path = STATUS.field("completionTime");
        errors.push(path.invalid(get(new.status, "completionTime"), "field is immutable"));
    }
    if moved("startTime") && !flag(job, "spec.suspend") {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(STATUS.field("startTime").invalid(get(new.status, "startTime"), detail));
    }
    if old.criteria_met && !new.criteria_met {
        errors.push(contradiction("cannot disable the SuccessCriteriaMet=True condition"));
    }
}
