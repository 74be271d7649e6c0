//! Events of both groups, which are one and the same object.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::strategy::Context;
use crate::tree::{get, has, number, same, text};

/// An event that came in by the core group: little is asked of it.
pub(super) fn check(_: &Context<'_>, event: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    namespace(event, "involvedObject", errors);
}

/// Cluster-scoped objects have their events in `default`.
fn namespace(event: &Tree, object: &str, errors: &mut Vec<Cause>) {
    let own = text(event, "metadata.namespace");
    let about = text(get(event, object), "namespace");
    let fits = about == own || (about.is_empty() && own == "default");
    if !fits {
        let path = Path::new("involvedObject.namespace");
        errors.push(path.invalid(about, "does not match event.namespace"));
    }
}

/// Its name is an object's name and a time, which upper case may stand in.
pub(super) fn name(name: &str) -> Vec<String> {
    names::dns1123_subdomain(name)
}

/// An event of `events.k8s.io`, which must be complete.
pub(super) fn check_new(_: &Context<'_>, event: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if text(event, "regarding.namespace").is_empty() {
        namespace(event, "regarding", errors);
    }
    if let Some(old) = old {
        for field in [
            "regarding",
            "reason",
            "action",
            "eventTime",
            "type",
            "note",
            "reportingController",
            "reportingInstance",
        ] {
            let (now, before) = (get(event, field), get(old, field));
            if !same(now, before) {
                let shown = match field {
                    "regarding" => "involvedObject",
                    "note" => "message",
                    other => other,
                };
                errors.push(Path::new(shown).invalid(now, "field is immutable"));
            }
        }
        return;
    }
    let kind = || {
        let value = text(event, "type");
        let detail = format!("has invalid value: {value}");
        (!matches!(value, "Normal" | "Warning")).then(|| Path::new("type").invalid("", &detail))
    };
    if !has(event, "eventTime") {
        errors.push(Path::new("eventTime").required(""));
        errors.extend(kind());
        return;
    }
    let controller = text(event, "reportingController");
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.push(path.required(""));
    }
    errors.extend(names::qualified_name(controller).iter().map(|problem| path.invalid(controller, problem)));
    for field in ["reportingInstance", "action", "reason"] {
        if text(event, field).is_empty() {
            errors.push(Path::new(field).required(""));
        }
    }
    for field in ["reportingInstance", "action", "reason"] {
        if text(event, field).len() > 128 {
            errors.push(Path::new(field).invalid("", "can have at most 128 characters"));
        }
    }
    errors.extend(kind());
    if has(event, "series") {
        if number(event, "series.count") < 2 {
            errors.push(Path::new("series.count").invalid("", "should be at least 2"));
        }
        if !has(event, "series.lastObservedTime") {
            errors.push(Path::new("series.lastObservedTime").required(""));
        }
    }
    if text(event, "note").len() > 1024 {
        errors.push(Path::new("message").invalid("", "can have at most 1024 characters"));
    }
}
