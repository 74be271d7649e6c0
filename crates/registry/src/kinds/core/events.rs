//! Events of both groups, which are one and the same object; what is asked of it hangs on the group it comes in by.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::internal;
use crate::strategy::Context;
use crate::tree::{get, has, number, same, text, unset};

/// What a group calls the fields that have two names.
struct Names {
    about: &'static str,
    note: &'static str,
    controller: &'static str,
}

const CORE: Names = Names { about: "involvedObject", note: "message", controller: "reportingComponent" };
const NEW: Names = Names { about: "regarding", note: "note", controller: "reportingController" };

/// An event that came in by the core group: little is asked of it, unless it has the time that newer ones have.
pub(super) fn check(_: &Context<'_>, event: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    common(event, &CORE, errors);
}

fn common(event: &Tree, names: &Names, errors: &mut Vec<Cause>) {
    let own = text(event, "metadata.namespace");
    let about = text(get(event, names.about), "namespace");
    let timed = has(event, "eventTime");
    // cluster-scoped objects have their events in `default`
    let fits = match (about, own) {
        ("", "default") => true,
        ("", "kube-system") => timed,
        ("", _) => false,
        _ => timed || about == own,
    };
    if !fits {
        let path = Path::new("involvedObject.namespace");
        errors.push(path.invalid(about, "does not match event.namespace"));
    }
    if !timed {
        return;
    }
    let controller = text(event, names.controller);
    let path = Path::new(names.controller);
    if controller.is_empty() {
        errors.push(path.required(""));
    }
    errors.extend(names::qualified_name(controller).iter().map(|problem| path.invalid(controller, problem)));
    for field in ["reportingInstance", "action", "reason"] {
        match text(event, field).len() {
            0 => errors.push(Path::new(field).required("")),
            1..=128 => {}
            _ => errors.push(Path::new(field).invalid("", "can have at most 128 characters")),
        }
    }
    if text(event, names.note).len() > 1024 {
        errors.push(Path::new("message").invalid("", "can have at most 1024 characters"));
    }
}

/// Its name is an object's name and a time, which upper case may stand in.
pub(super) fn name(name: &str) -> Vec<String> {
    names::dns1123_subdomain(name)
}

/// An event of `events.k8s.io`, which must be complete and does not change but for its series.
pub(super) fn check_new(_: &Context<'_>, event: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if let Some(old) = old {
        if !same(get(event, "series"), get(old, "series")) {
            series(event, errors);
        }
        return unchanged(event, old, errors);
    }
    common(event, &NEW, errors);
    if has(event, "eventTime") {
        series(event, errors);
    } else {
        errors.push(Path::new("eventTime").required(""));
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(Path::new("type").invalid("", &format!("has invalid value: {kind}")));
    }
    for (field, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if !unset(get(event, field)) {
            errors.push(Path::new(shown).invalid("", "needs to be unset"));
        }
    }
}

fn series(event: &Tree, errors: &mut Vec<Cause>) {
    if !has(event, "series") {
        return;
    }
    if number(event, "series.count") < 2 {
        errors.push(Path::new("series.count").invalid("", "should be at least 2"));
    }
    if !has(event, "series.lastObservedTime") {
        errors.push(Path::new("series.lastObservedTime").required(""));
    }
}

fn unchanged(event: &Tree, old: &Tree, errors: &mut Vec<Cause>) {
    for (field, shown, message) in [
        ("regarding", "involvedObject", "core.v1.ObjectReference"),
        ("reason", "reason", ""),
        ("note", "message", ""),
        ("deprecatedSource", "source", "core.v1.EventSource"),
        ("deprecatedFirstTimestamp", "firstTimestamp", ""),
        ("deprecatedLastTimestamp", "lastTimestamp", ""),
        ("deprecatedCount", "count", ""),
        ("type", "type", ""),
        ("eventTime", "eventTime", ""),
        ("action", "action", ""),
        ("related", "related", "core.v1.ObjectReference"),
        ("reportingController", "reportingController", ""),
        ("reportingInstance", "reportingInstance", ""),
    ] {
        let (now, before) = (get(event, field), get(old, field));
        if same(now, before) || (unset(now) && unset(before)) {
            continue;
        }
        let path = Path::new(shown);
        let detail = "field is immutable";
        errors.push(match (message, now) {
            ("", now) => path.invalid(now, detail),
            (_, Tree::Null) => path.invalid(Shown::Null, detail),
            (message, now) => path.invalid(internal::shown(now, message), detail),
        });
    }
}
