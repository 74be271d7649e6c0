//! Protobuf from anyone: no panic, JSON that is JSON, and a tree that survives the way back.
//!
//! The first byte chooses the kind, the rest is the object.

#![no_main]

use api::{tables, wire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let resources = tables::resources();
    let resource = &resources[usize::from(*choice) % resources.len()];
    let Some(message) = tables::message_of(resource) else { return };

    let mut json = Vec::new();
    let as_json = wire::proto_to_json(bytes, message, None, &mut json);
    let as_tree = wire::proto_to_tree(bytes, message, None);
    if as_json.is_ok() {
        serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("JSON");
    }
    if let Ok(tree) = as_tree {
        let mut again = Vec::new();
        if wire::tree_to_proto(&tree, message, &mut again).is_ok() {
            let back = wire::proto_to_tree(&again, message, None).expect("our own bytes");
            let mut third = Vec::new();
            wire::tree_to_proto(&back, message, &mut third).expect("a tree of our own bytes");
            assert_eq!(again, third);
        }
    }
    let _ = wire::peek::metadata(bytes);
    if let Some(path) = wire::peek::FieldPath::compile(message, "metadata.name") {
        let _ = path.read(bytes);
    }
    let mut out = Vec::new();
    if wire::meta::set_resource_version(bytes, "7", &mut out).is_ok() {
        let metadata = wire::peek::metadata(&out);
        if let Ok(metadata) = metadata {
            assert_eq!(metadata.resource_version, "7");
        }
    }
});
