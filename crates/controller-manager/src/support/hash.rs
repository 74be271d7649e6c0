//! Short names for templates, and equality of templates.
//!
//! A template's hash only names things: whether two templates are the same is decided by comparing
//! them, so objects made by another implementation, with other hashes, are taken over as they are.

use serde_json::Value;

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The label that tells the pods of a deployment's replica sets apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// FNV-1a over the canonical form of a tree and a collision count, written in letters and digits that
/// cannot form words.
pub fn hash(tree: &Value, collisions: Option<i32>) -> String {
    let mut state = 0x811c_9dc5_u32;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            state = (state ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    write_canonical(tree, &mut feed);
    if let Some(count) = collisions {
        feed(&i64::from(count).to_le_bytes());
    }
    safe_encode(&state.to_string())
}

/// Letters and digits that are safe in names, from any text of digits.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// Whether two pod templates ask for the same pods. The hash label is left out of account, and an
/// absent field is the same as `null`, an empty list, or an empty map of labels or annotations.
pub fn same_template(left: &Value, right: &Value) -> bool {
    same(left, right, Place::Template)
}

/// Whether two trees are the same but for absent fields standing for empty ones.
pub fn same_tree(left: &Value, right: &Value) -> bool {
    same(left, right, Place::Other)
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Template,
    Metadata,
    Labels,
    Other,
}

impl Place {
    fn child(self, key: &str) -> Place {
        match (self, key) {
            (Place::Template, "metadata") => Place::Metadata,
            (Place::Metadata, "labels") => Place::Labels,
            _ => Place::Other,
        }
    }
}

fn counts(place: Place, key: &str, value: &Value) -> bool {
    if place == Place::Labels && key == POD_TEMPLATE_HASH {
        return false;
    }
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => {
            let labels_or_metadata =
                place == Place::Metadata || (place == Place::Template && key == "metadata");
            !labels_or_metadata || fields.iter().any(|(name, value)| counts(place.child(key), name, value))
        }
        _ => true,
    }
}

fn same(left: &Value, right: &Value, place: Place) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let significant = |fields: &serde_json::Map<String, Value>| {
                fields.iter().filter(|(key, value)| counts(place, key, value)).count()
            };
            significant(left) == significant(right)
                && left.iter().filter(|(key, value)| counts(place, key, value)).all(|(key, value)| {
                    right.get(key).is_some_and(|other| same(value, other, place.child(key)))
                })
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right, Place::Other))
        }
        _ => left == right,
    }
}

fn write_canonical(tree: &Value, feed: &mut impl FnMut(&[u8])) {
    write_at(tree, Place::Template, feed);
}

fn write_at(tree: &Value, place: Place, feed: &mut impl FnMut(&[u8])) {
    match tree {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(key, value)| counts(place, key, value)).collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            feed(b"{");
            for (key, value) in fields {
                feed(key.as_bytes());
                feed(b":");
                write_at(value, place.child(key), feed);
                feed(b",");
            }
            feed(b"}");
        }
        Value::Array(items) => {
            feed(b"[");
            for item in items {
                write_at(item, Place::Other, feed);
                feed(b",");
            }
            feed(b"]");
        }
        other => feed(other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_compared_by_meaning() {
        let check = |left: Value, right: Value, expect: bool| {
            assert_eq!(same_template(&left, &right), expect, "{left} {right}");
            if expect {
                assert_eq!(hash(&left, None), hash(&right, None), "{left} {right}");
            }
        };
        let spec = json!({"containers": [{"name": "a", "image": "b", "resources": {}}]});
        check(
            json!({"metadata": {"labels": {"a": "b", "pod-template-hash": "x"}}, "spec": spec}),
            json!({"spec": spec, "metadata": {"labels": {"a": "b"}, "creationTimestamp": null}}),
            true,
        );
        check(json!({"metadata": {"labels": {}}, "spec": spec}), json!({"spec": spec}), true);
        check(json!({"spec": {"volumes": [], "x": 1}}), json!({"spec": {"x": 1}}), true);
        check(json!({"spec": {"emptyDir": {}}}), json!({"spec": {}}), false);
        check(json!({"spec": {"x": 1}}), json!({"spec": {"x": 2}}), false);
        check(
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"labels": {"a": "c"}}}),
            false,
        );
    }

    #[test]
    fn collisions_change_the_hash() {
        let template = json!({"spec": {"x": 1}});
        assert_ne!(hash(&template, None), hash(&template, Some(1)));
        assert_ne!(hash(&template, Some(2)), hash(&template, Some(1)));
        assert!(hash(&template, None).bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
