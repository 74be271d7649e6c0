//! Request bodies from anyone: an object or a status, never a panic, and an accepted object is canonical.
//!
//! The first byte chooses the kind, the second the format.

#![no_main]

use api::decode::{self, Expected, Format, Strictness};
use api::tables;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, format, body @ ..] = data else { return };
    let resources = tables::resources();
    let resource = &resources[usize::from(*choice) % resources.len()];
    let format = [Format::Json, Format::Yaml, Format::Protobuf][usize::from(*format) % 3];
    let expected = Expected::built_in(&resource.group, &resource.version, &resource.kind);
    let _ = decode::any(body, format);
    let Ok(object) = decode::object(body, format, expected, Strictness::Warn) else { return };
    if format == Format::Protobuf {
        return;
    }
    let json = api::json::to_vec(&object.tree);
    let again = decode::object(&json, Format::Json, expected, Strictness::Strict).expect("what was accepted is accepted again");
    assert_eq!(String::from_utf8_lossy(&json), String::from_utf8_lossy(&api::json::to_vec(&again.tree)));
});
