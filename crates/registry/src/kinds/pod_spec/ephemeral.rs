//! Ephemeral containers: what such a container may not have, and whom it may join.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;

use crate::kinds::container::{self, Place};
use crate::tree::{list, text, unset};

/// They come and go with nobody waiting for them: nothing is promised of them, and nothing is run for them.
const NOT_THEIRS: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";

pub(super) fn check(spec: &Tree, path: &Path<'_>, place: &Place<'_>, errors: &mut Vec<Cause>) {
    let others: Seen<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| list(spec, field))
        .map(|container| text(container, "name"))
        .collect();
    let all = path.field("ephemeralContainers");
    let containers = list(spec, "ephemeralContainers");
    let mut seen = Seen::new();
    for (index, container) in containers.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        container::check_common(container, &at, place, errors);
        let name = text(container, "name");
        let before = seen.repeats(name);
        if !name.is_empty() && (before || others.contains(name)) {
            errors.push(at.field("name").duplicate(name));
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(at.field("targetContainerName").not_found(target));
        }
        for field in NOT_THEIRS {
            let pointer = matches!(field, "restartPolicy" | "lifecycle") || field.ends_with("Probe");
            let given = |value: &Tree| if pointer { !value.is_null() } else { !unset(value) };
            if container.get(field).is_some_and(given) {
                errors.push(at.field(field).forbidden(FORBIDDEN));
            }
        }
        let mounts = at.field("volumeMounts");
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            if is_full(errors) {
                break;
            }
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    errors.push(mounts.index(index).field(field).forbidden(FORBIDDEN));
                }
            }
        }
    }
}
