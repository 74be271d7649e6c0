//! The columns of tables, from the registry.

use api::Tree;
use api::model::Resource;
use serde_json::json;

/// Column definitions as a table shows them.
pub fn definitions(_resource: &Resource) -> Tree {
    json!([
        {"name": "Name", "type": "string", "format": "name", "description": "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names", "priority": 0},
        {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
    ])
}

pub fn cells(_resource: &Resource, object: &Tree, _now: jiff::Timestamp) -> Vec<Tree> {
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
    vec![at("/metadata/name"), at("/metadata/creationTimestamp")]
}
