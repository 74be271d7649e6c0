//! The form in which a template is kept as a revision.

use serde_json::{Map, Value, json};

/// A patch that would bring the template back. Its fields are sorted: another implementation compares the bytes.
pub(super) fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = "replace".into();
    sorted(&json!({"spec": {"template": template}}))
}

fn sorted(tree: &Value) -> Value {
    match tree {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort();
            let field = |key: &String| (key.clone(), sorted(&fields[key.as_str()]));
            Value::Object(keys.into_iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_fields() {
        let template = json!({"spec": {"b": [{"d": 1, "c": 2}], "a": 1}, "metadata": {}});
        let expect =
            r#"{"spec":{"template":{"$patch":"replace","metadata":{},"spec":{"a":1,"b":[{"c":2,"d":1}]}}}}"#;
        assert_eq!(data(&template).to_string(), expect);
    }
}
