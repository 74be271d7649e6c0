//! RuntimeClasses.

use api::status::Cause;
use api::{Tree, json};
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::{labels, names};

use crate::kinds::{pod_spec, resources};
use crate::profile::Profile;
use crate::rules::{self, Table};
use crate::strategy::Context;
use crate::tree::{Alike, get, has, list, text};

pub(super) const RULES: Table = &[];

pub(super) const PROFILES: &[Profile] = &[Profile {
    create_on_update: true,
    unconditional_update: false,
    check: Some(check),
    full: true,
    warn: Some(super::warnings::runtime_class),
    ..Profile::new("node.k8s.io", "runtimeclasses")
}];

fn check(_: &Context<'_>, class: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let handler = text(class, "handler");
    if !handler.is_empty() {
        rules::format(handler, names::dns1123_label(handler), &Path::new("handler"), errors);
    }
    if has(class, "overhead") {
        let limits = json!({"limits": get(class, "overhead.podFixed").clone()});
        resources::requirements(&limits, &Path::new("overhead"), None, errors);
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
}
