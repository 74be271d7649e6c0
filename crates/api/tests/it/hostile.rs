//! Bytes that nobody meant well: every decoder answers, none panics.

use api::decode::{self, Expected, Format, Strictness};
use api::{tables, wire};
use proptest::prelude::*;

use crate::testdata::{message, samples};

fn decode_all(bytes: &[u8], message: api::model::MessageRef<'_>) {
    let mut out = Vec::new();
    if wire::object_to_json(bytes, message, &mut out).is_ok() {
        serde_json::from_slice::<api::Tree>(&out).unwrap();
    }
    let tree = wire::object_to_tree(bytes, message);
    if let Ok(tree) = tree {
        let _ = wire::tree_to_proto(&tree, message, &mut Vec::new());
    }
    if let Ok(envelope) = wire::envelope::unwrap(bytes) {
        let _ = wire::peek::metadata(envelope.raw);
        let _ = wire::meta::with_resource_version(bytes, "5");
    }
}

#[test]
fn truncated_and_changed_samples() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for sample in samples() {
        let message = message(&sample);
        for _ in 0..12 {
            decode_all(&sample.proto[..random() % sample.proto.len()], message);
            let mut changed = sample.proto.clone();
            for _ in 0..1 + random() % 4 {
                let at = 4 + random() % (changed.len() - 4);
                changed[at] = random() as u8;
            }
            decode_all(&changed, message);
            let mut text = sample.text.clone().into_bytes();
            let at = random() % text.len();
            text[at] = random() as u8;
            let _ = decode::json(&text, message, Strictness::Strict);
            let _ = decode::json(&text[..at], message, Strictness::Warn);
        }
    }
}

/// A message within a message, as deep as one likes.
#[test]
fn depth_is_limited() {
    let schema =
        tables::message("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let not = schema.fields.iter().find(|field| field.json == "not").unwrap().tag;
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        let mut outer = vec![(not << 3 | 2) as u8, ((not << 3 | 2) >> 7) as u8];
        if outer[1] > 0 {
            outer[0] |= 0x80;
        } else {
            outer.pop();
        }
        let mut length = bytes.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    assert_eq!(wire::proto_to_tree(&bytes, schema, None), Err(wire::Error::TooDeep));
    let text = format!("{}{}", "{\"not\":".repeat(300), "{}".to_owned() + &"}".repeat(300));
    let tree = decode::json(text.as_bytes(), schema, Strictness::Strict).unwrap().tree;
    assert_eq!(wire::tree_to_proto(&tree, schema, &mut Vec::new()), Err(wire::Error::TooDeep));
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let pod = tables::message("k8s.io.api.core.v1.Pod").unwrap();
        let _ = wire::proto_to_json(&bytes, pod, None, &mut Vec::new());
        let mut enveloped = b"k8s\0".to_vec();
        enveloped.extend_from_slice(&bytes);
        decode_all(&enveloped, pod);
        for format in [Format::Json, Format::Yaml, Format::Protobuf] {
            let expected = Expected::built_in("", "v1", "Pod");
            let _ = decode::object(&bytes, format, expected, Strictness::Strict);
        }
    }

    /// What no model describes goes through the store and back to the byte, and is accepted again as it is shown.
    #[test]
    fn kept_texts_come_back(
        text in r#"\{ ?("[abc]" ?: ?(1|1\.0|-0|1e3|1e999|"[\\/<ué8]{0,4}"|\{ ?\}|\[ ?1 ?\]|\{"a": ?[1-9]{1,25}\}|null)(,|, )?){0,3}\}"#
    ) {
        let revision = tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
        let body = format!("{{\"data\":{text},\"revision\":1}}");
        let Ok(decoded) = decode::json(body.as_bytes(), revision, Strictness::Strict) else { return Ok(()) };
        let mut stored = Vec::new();
        wire::tree_to_proto(&decoded.tree, revision, &mut stored).unwrap();
        prop_assert!(stored.windows(text.len()).any(|part| part == text.as_bytes()));
        let tree = wire::proto_to_tree(&stored, revision, None).unwrap();
        prop_assert_eq!(&tree["data"], &decoded.tree["data"]);
        let shown = api::json::to_vec(&decoded.tree);
        let again = decode::json(&shown, revision, Strictness::Strict).unwrap().tree;
        prop_assert_eq!(api::json::to_vec(&again), shown);
    }

    #[test]
    fn any_text(text in ".{0,40}") {
        let _ = api::quantity::canonical(&text);
        let _ = api::text::parse_time(&text);
        let _ = api::text::parse_duration(&text);
        let _ = api::text::from_base64(&text);
        let body = format!("{{\"metadata\":{{\"creationTimestamp\":{text:?},\"name\":{text:?}}}}}");
        let pod = tables::message("k8s.io.api.core.v1.Pod").unwrap();
        let _ = decode::json(body.as_bytes(), pod, Strictness::Strict);
    }

    #[test]
    fn quantities_stay_what_they_are(whole in 0u64..u64::MAX, fraction in 0u32..1_000_000, suffix in "(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|e-3)") {
        let canonical = api::quantity::canonical(&format!("{whole}.{fraction}{suffix}")).unwrap();
        prop_assert_eq!(api::quantity::canonical(&canonical).unwrap(), canonical);
    }

    #[test]
    fn times_come_back(seconds in -62_135_596_799i64..253_402_300_799, micros in 0i32..1_000_000) {
        let mut text = String::new();
        api::text::format_micro_time(seconds, micros * 1000, &mut text);
        prop_assert_eq!(api::text::parse_time(&text), Some((seconds, micros as u32 * 1000)));
    }

    #[test]
    fn durations_come_back(nanoseconds in i64::MIN + 1..i64::MAX) {
        prop_assert_eq!(api::text::parse_duration(&api::text::format_duration(nanoseconds)), Some(nanoseconds));
    }
}
