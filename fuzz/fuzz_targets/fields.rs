//! `FieldsV1` from anyone: a set or an error, never a panic, and what is written is read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use machinery::ownership::Set;

fuzz_target!(|text: &str| {
    let Ok(set) = Set::parse(text) else { return };
    let written = set.to_text();
    let again = Set::parse(&written).expect("what was written is read");
    assert_eq!(again.to_text(), written);
    let within = set.within(&written).expect("what was written is read");
    assert_eq!(within.to_text(), written);
    assert!(set.difference(&again).is_empty() && set.covers(&again));
});
