//! Events: core/v1, in which all are stored, and events.k8s.io/v1.

use crate::tree::Object;

use super::rename;

/// Core's names and those of `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn from_core(event: &mut Object) {
    for (core, other) in NAMES {
        rename(event, core, other);
    }
}

pub(super) fn to_core(event: &mut Object) {
    for (core, other) in NAMES {
        rename(event, other, core);
    }
}
