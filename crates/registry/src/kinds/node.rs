//! RuntimeClasses.

use api::Tree;
use api::status::Cause;
use machinery::Quantity;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};
use machinery::{labels, names};

use crate::kinds::pod_spec;
use crate::profile::Profile;
use crate::rules::{self, Table};
use crate::strategy::Context;
use crate::tree::{Alike, entries, get, list, text};

pub(super) const RULES: Table = &[];

pub(super) const PROFILES: &[Profile] = &[Profile {
    create_on_update: true,
    unconditional_update: false,
    check: Some(check),
    full: true,
    warn: Some(super::warnings::runtime_class),
    ..Profile::new("node.k8s.io", "runtimeclasses")
}];

fn check(_: &Context<'_>, class: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let (handler, path) = (text(class, "handler"), Path::new("handler"));
    if let Some(old) = old
        && handler != text(old, "handler")
    {
        errors.push(path.invalid(Shown::Null, "field is immutable"));
        return;
    }
    if handler.is_empty() {
        errors.push(path.required(""));
    } else {
        rules::format(handler, names::short_name(handler), &path, errors);
    }
    let path = Path::new("scheduling");
    let selector = get(class, "scheduling.nodeSelector");
    labels::validate_labels(selector, &path.field("nodeSelector"), errors);
    let tolerations = list(class, "scheduling.tolerations");
    let all = path.field("tolerations");
    pod_spec::tolerations(tolerations, &all, errors);
    let mut seen = Seen::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        if seen.repeats(Alike(toleration)) {
            let shown = crate::internal::shown(toleration, "core.v1.Toleration");
            errors.push(all.index(index).duplicate(shown));
        }
    }
    let overhead = Path::new("overhead.limits");
    for (name, value) in entries(class, "overhead.podFixed") {
        if is_full(errors) {
            break;
        }
        let amount = Quantity::from_tree(value).unwrap_or(Quantity::ZERO);
        if amount.nanos() < 0 {
            errors
                .push(overhead.key(name).invalid(&*amount.to_string(), "must be greater than or equal to 0"));
        }
    }
}
