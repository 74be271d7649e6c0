//! JSON that no model describes, kept as it was written.
//!
//! Upstream stores a `RawExtension` byte for byte, and compares two of them by their bytes. In a tree it is an ordinary
//! value where that value's JSON is those bytes, which is nearly always. Any other text (spaces, `1.0`, `\/`, a key given twice)
//! stands in the tree as an object with one member, whose key no client can know: so it is copied, compared and patched
//! around like any value, and the encoders write the text. Only objects are kept: nothing else passes validation.
//!
//! Sets of fields (`FieldsV1`) are always kept as text, under a key of their own: few who see an object ask who owns what.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::tree::{CompactString, Object, Tree};
use serde::de::IgnoredAny;

use crate::{decode, json};

static KEY: LazyLock<CompactString> = LazyLock::new(|| key('r'));
static FIELDS: LazyLock<CompactString> = LazyLock::new(|| key('f'));

/// A key that lies in the tree itself.
fn key(sort: char) -> CompactString {
    let [one, other] = [0u8, 1].map(|salt| RandomState::new().hash_one(salt));
    CompactString::from(format!("\0{sort}{one:016x}{:06x}", other & 0xff_ffff))
}

/// A text as it stands in a tree; `None` where it is not JSON.
pub(crate) fn value(text: &str) -> Option<Tree> {
    match serde_json::from_str::<Tree>(text) {
        Ok(value) if !value.is_object() || json::to_vec(&value) == text.as_bytes() => return Some(value),
        Ok(_) => {}
        // JSON that says more than a tree can hold: a number out of range, half a character, a hundred levels
        Err(_) if text.trim_ascii_start().starts_with('{') => {
            serde_json::from_str::<IgnoredAny>(text).ok()?;
        }
        Err(_) => return None,
    }
    let mut map = Object::with_capacity(1);
    map.insert(KEY.clone(), Tree::from(text));
    Some(Tree::Object(map))
}

/// A set of fields by its text, which is JSON.
pub fn fields(text: impl Into<CompactString>) -> Tree {
    let mut map = Object::with_capacity(1);
    map.insert(FIELDS.clone(), Tree::String(text.into()));
    Tree::Object(map)
}

/// The text that a tree's object stands for.
#[inline]
pub(crate) fn text(object: &Object) -> Option<&str> {
    if object.len() != 1 {
        return None;
    }
    object.get(KEY.as_str()).or_else(|| object.get(FIELDS.as_str()))?.as_str()
}

/// The text of an object that no model describes.
fn raw_text(object: &Object) -> Option<&str> {
    if object.len() != 1 {
        return None;
    }
    object.get(KEY.as_str())?.as_str()
}

/// The text that a value stands for; `None` for an ordinary value.
pub fn kept(value: &Tree) -> Option<&str> {
    text(value.as_object()?)
}

/// What a kept text says; `None` for an ordinary value, and for a text that no tree can hold.
pub fn opened(value: &Tree) -> Option<Tree> {
    serde_json::from_str(kept(value)?).ok()
}

/// Whether a text other than a set of fields is kept anywhere in a tree.
pub fn any(tree: &Tree) -> bool {
    match tree {
        Tree::Object(map) => raw_text(map).is_some() || map.values().any(any),
        Tree::Array(items) => items.iter().any(any),
        _ => false,
    }
}

/// How a patch sees a tree: upstream's JSON patches work on an object's JSON, which is compact.
pub fn compact(tree: &mut Tree) {
    each(tree, |text| {
        let mut compact = Vec::with_capacity(text.len());
        json::write_compact(text.as_bytes(), &mut compact).ok()?;
        value(std::str::from_utf8(&compact).ok()?)
    });
}

/// How a strategic patch sees a tree: upstream's takes texts apart and writes them anew, by key.
pub fn open(tree: &mut Tree) {
    each(tree, |text| {
        let mut value = decode::any(text.as_bytes(), decode::Format::Json).ok()?.tree;
        value.sort_all_objects();
        Some(value)
    });
}

fn each(tree: &mut Tree, change: fn(&str) -> Option<Tree>) {
    match tree {
        Tree::Object(map) => match raw_text(map) {
            Some(text) => {
                if let Some(value) = change(text) {
                    *tree = value;
                }
            }
            None => map.values_mut().for_each(|value| each(value, change)),
        },
        Tree::Array(items) => items.iter_mut().for_each(|item| each(item, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::json;

    use super::*;
    use crate::decode::{Format, Strictness};
    use crate::{Tree, tables, wire};

    const TEXT: &str = r#"{ "z" : "\u003c<&>","a":1.0,"b":1e3, "d":12345678901234567890123,"e":0.1000,"f":-0,"g":"\/é\u00e9 ","i": [ ] ,"a":2 }"#;
    const SHOWN: &str = r#"{"z":"\u003c\u003c\u0026\u003e","a":1.0,"b":1e3,"d":12345678901234567890123,"e":0.1000,"f":-0,"g":"\/é\u00e9 ","i":[],"a":2}"#;

    fn decoded(data: &str) -> Tree {
        let message = tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
        let body = format!("{{\"metadata\":{{\"name\":\"r\"}}, \"data\":\n {data} ,\"revision\":1}}");
        crate::decode::json(body.as_bytes(), message, Strictness::Strict).unwrap().tree
    }

    fn stored(tree: &Tree) -> Vec<u8> {
        let message = tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
        let mut out = Vec::new();
        wire::tree_to_proto(tree, message, &mut out).unwrap();
        out
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn a_text_is_stored_as_it_was_written_and_shown_compact() {
        let message = tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
        let tree = decoded(TEXT);
        let bytes = stored(&tree);
        assert!(holds(&bytes, TEXT), "{}", String::from_utf8_lossy(&bytes));
        let mut shown = Vec::new();
        wire::proto_to_json(&bytes, message, None, &mut shown).unwrap();
        assert!(holds(&shown, SHOWN), "{}", String::from_utf8_lossy(&shown));

        // what comes out of the store is what went in, byte for byte
        let again = wire::proto_to_tree(&bytes, message, None).unwrap();
        assert_eq!(again["data"], tree["data"]);
        assert_eq!(stored(&again), bytes);
        assert!(holds(&json::to_vec(&again), SHOWN));
        assert_ne!(decoded(SHOWN)["data"], tree["data"]);
        let checked = crate::decode::tree(&again, message, Strictness::Strict).unwrap().tree;
        assert_eq!(stored(&checked), bytes);
    }

    #[test]
    fn a_plain_text_is_a_plain_value() {
        assert_eq!(decoded(r#"{"b":1,"a":[true]}"#)["data"], json!({"b": 1, "a": [true]}));
        assert!(holds(&stored(&decoded("{ }")), "{ }"));
        assert_eq!(opened(&decoded("{ }")["data"]), Some(json!({})));
    }

    #[test]
    fn a_text_that_no_tree_can_hold_is_kept() {
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        for text in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, &deep] {
            assert!(holds(&stored(&decoded(text)), text), "{text}");
            assert!(holds(&json::to_vec(&decoded(text)), text), "{text}");
            let mut tree = decoded(text);
            compact(&mut tree);
            assert_eq!(tree, decoded(text));
            open(&mut tree);
        }
        assert_eq!(value("{\"a\":"), None);
    }

    #[test]
    fn yaml_has_no_text_to_keep() {
        let expected = crate::decode::Expected::built_in("apps", "v1", "ControllerRevision");
        let body = b"metadata: {name: r}\ndata: {z: 1.0, b: '<', a: {y1: 1, x: 1}}\nrevision: 1\n";
        let object = crate::decode::object(body, Format::Yaml, expected, Strictness::Strict).unwrap();
        assert!(holds(&stored(&object.tree), r#"{"a":{"x":1,"y1":1},"b":"\u003c","z":1}"#));
    }

    #[test]
    fn patches_see_compact_or_open_values() {
        let mut tree = json!({"list": [decoded(TEXT)["data"].clone()]});
        compact(&mut tree);
        assert_eq!(tree["list"][0], decoded(SHOWN)["data"]);
        open(&mut tree);
        let keys: Vec<_> = tree["list"][0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["a", "b", "d", "e", "f", "g", "i", "z"]);
    }
}
