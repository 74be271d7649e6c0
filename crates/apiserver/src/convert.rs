//! Between the versions of a kind. Most differ in nothing but their name.

use api::Tree;
use api::model::Resource;

/// Brings an object from one version to another of the same kind (or of the same kind in another group: events).
pub fn convert(tree: &mut Tree, from: &Resource, to: &Resource) {
    if same(from, to) {
        return;
    }
    if let Some(map) = tree.as_object_mut() {
        map.insert("apiVersion".to_owned(), to.api_version().into());
        if from.plural == "events" && from.group != to.group {
            event(map, to.group == "events.k8s.io");
        }
    }
}

/// `events` of the core group and of `events.k8s.io` name the same things differently.
fn event(map: &mut serde_json::Map<String, Tree>, to_new: bool) {
    const NAMES: [(&str, &str); 6] = [
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
    ];
    let mut names: Vec<(&str, &str)> = NAMES.to_vec();
    names.push(("reportingComponent", "reportingController"));
    for (old, new) in names {
        let (from, to) = if to_new { (old, new) } else { (new, old) };
        if let Some(value) = map.shift_remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// Whether both are the same version.
pub fn same(one: &Resource, other: &Resource) -> bool {
    one.version == other.version && one.group == other.group
}
