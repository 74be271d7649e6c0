//! Short names for templates, and equality of templates.
//!
//! A template's hash only names things: whether two templates are the same is decided by comparing
//! them, so objects made by another version, with other hashes, are taken over as they are.

mod print;

use serde_json::Value;

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Label that distinguishes the pods of a deployment's replica sets.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// FNV-1a over the printed template and a collision count, written in letters and digits that cannot form
/// words: what upstream computes.
pub fn hash(template: &Value, collisions: Option<i32>) -> String {
    let mut state = Fnv(0x811c_9dc5);
    // Writing to a number cannot fail.
    let _ = print::template(template, &mut state);
    if let Some(count) = collisions {
        state.feed(&i64::from(count).to_le_bytes());
    }
    safe_encode(&state.0.to_string())
}

/// FNV-1 over bytes and a collision count: what upstream computes of a revision's data.
pub fn of_bytes(bytes: &[u8], collisions: Option<i32>) -> String {
    let count = collisions.map(|count| count.to_string()).unwrap_or_default();
    let step = |state: u32, byte: &u8| state.wrapping_mul(0x0100_0193) ^ u32::from(*byte);
    let state = bytes.iter().chain(count.as_bytes()).fold(0x811c_9dc5, step);
    safe_encode(&state.to_string())
}

struct Fnv(u32);

impl Fnv {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.feed(text.as_bytes());
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_compared_by_meaning() {
        let check = |left: Value, right: Value, expect: bool| {
            assert_eq!(same_template(&left, &right), expect, "{left} {right}");
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

    /// Templates with the labels upstream gives their pods.
    #[test]
    fn hashes_are_upstreams() {
        let recorded = [
            (
                r#"{"metadata":{"creationTimestamp":null,"labels":{"b":"x","a":"y"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"protocol":"TCP"}],"args":["a b","\"q\""],"resources":{"limits":{"memory":"128Mi","cpu":"100m"},"requests":{"cpu":"500m"}},"livenessProbe":{"httpGet":{"path":"/","port":"http","scheme":"HTTP"},"periodSeconds":10},"readinessProbe":{"tcpSocket":{"port":80}}}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}},{"name":"w","configMap":{"name":"cm","defaultMode":420,"optional":true}}],"restartPolicy":"Always","securityContext":{},"tolerations":[],"preemptionPolicy":"Never","terminationGracePeriodSeconds":30,"overhead":{"cpu":"1500m"}}}"#,
                "7b688ff4b",
            ),
            (
                r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"X","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]}]}}"#,
                "5bfb94845b",
            ),
            (
                r#"{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"X","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"0"}}}]}]}}"#,
                "5bfb94845b",
            ),
            (
                r#"{"metadata":{"labels":{"app":"a"},"annotations":{"k":"v"}},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"memory":"100Mi","cpu":"2"}},"securityContext":{"capabilities":{"drop":["ALL"]},"runAsUser":0}}],"nodeSelector":{"disk":"ssd"},"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":{"matchExpressions":[{"key":"a","operator":"In","values":["x","y"]}]}}]}},"tolerations":[{"operator":"Exists"}],"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}}}]}}"#,
                "557546d755",
            ),
        ];
        for (template, expect) in recorded {
            let template: Value = serde_json::from_str(template).unwrap();
            assert_eq!(hash(&template, None), expect, "{template}");
            let mut labelled = template;
            labelled["metadata"]["labels"][POD_TEMPLATE_HASH] = expect.into();
            assert_eq!(hash(&labelled, None), expect, "the label itself does not count");
        }
    }

    #[test]
    fn collisions_change_the_hash() {
        let template = json!({"spec": {"x": 1}});
        assert_ne!(hash(&template, None), hash(&template, Some(1)));
        assert_ne!(hash(&template, Some(2)), hash(&template, Some(1)));
        assert!(hash(&template, None).bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
