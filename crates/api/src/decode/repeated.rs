//! Keys that a JSON document gives more than once: each is read into what those before it left, as upstream's decoder does.
//! Objects come together, keys of maps are added, `null` empties what can be empty, anything else takes the place of the former.

use std::borrow::Cow;

use super::check::flatten;
use super::node::Node;
use crate::model::{Field, MessageRef, Model, Shape, Type};

type Entry<'a> = (Cow<'a, str>, Node<'a>);

/// The document with each field of a structure once.
pub(super) fn joined<'a>(node: &Node<'a>, message: MessageRef<'_>) -> Node<'a> {
    let Node::Object(entries, span) = node else { return node.clone() };
    let mut fields = Vec::with_capacity(message.fields().len());
    flatten(message, &mut fields);
    let field = |key: &str| fields.iter().find(|field| field.json == *key).copied();
    let mut all: Vec<Entry<'a>> = Vec::new();
    for (key, value) in entries {
        // fields of no message were spoken of when the document was checked
        let Some(field) = field(key) else { continue };
        match all.iter_mut().find(|(other, _)| other == key) {
            Some((_, before)) => read_into(before, value, field, message.model()),
            None => all.push((key.clone(), value.clone())),
        }
    }
    for (key, value) in &mut all {
        let Some(Field { ty: Type::Message(index), shape, .. }) = field(key) else { continue };
        let inner = message.at(*index);
        if inner.leaf.is_some() {
            continue;
        }
        match (shape, value) {
            (Shape::One, value) => *value = joined(value, inner),
            (Shape::List, Node::Array(items)) => {
                items.iter_mut().for_each(|item| *item = joined(item, inner))
            }
            (Shape::Map, Node::Object(entries, _)) => {
                entries.iter_mut().for_each(|(_, item)| *item = joined(item, inner));
            }
            _ => {}
        }
    }
    Node::Object(all, *span)
}

fn read_into<'a>(before: &mut Node<'a>, value: &Node<'a>, field: &Field, model: &Model) {
    let structure = match field.ty {
        Type::Message(index) => model.at(index).leaf.is_none(),
        _ => false,
    };
    match (before, value) {
        (Node::Object(before, _), Node::Object(more, _))
            if field.shape == Shape::Map || (structure && field.shape == Shape::One) =>
        {
            before.extend(more.iter().cloned());
        }
        (_, Node::Null) if field.shape == Shape::One && !field.optional && !is_leaf(model, &field.ty) => {}
        (before, value) => *before = value.clone(),
    }
}

fn is_leaf(model: &Model, ty: &Type) -> bool {
    matches!(ty, Type::Bytes) || matches!(ty, Type::Message(index) if model.at(*index).leaf.is_some())
}

#[cfg(test)]
mod tests {
    use crate::json;

    use crate::decode::{Strictness, json as decode};

    #[test]
    fn repeated_members_are_merged() {
        let check = |kind: &str, body: &str, expect: crate::Tree| {
            let message = crate::tables::message(&format!("k8s.io.api.core.v1.{kind}")).unwrap();
            let decoded = decode(body.as_bytes(), message, Strictness::Warn).unwrap();
            assert!(decoded.warnings.iter().any(|text| text.starts_with("duplicate field")), "{body}");
            for (key, value) in expect.as_object().unwrap() {
                assert_eq!(decoded.tree.pointer(key).unwrap_or(&json!(null)), value, "{body}");
            }
        };
        check(
            "ConfigMap",
            r#"{"data":{"a":"1","c":"1"},"data":{"b":"2","c":"3"}}"#,
            json!({"/data": {"a": "1", "b": "2", "c": "3"}}),
        );
        check("ConfigMap", r#"{"data":{"a":"1"},"data":null}"#, json!({"/data": null}));
        check(
            "ConfigMap",
            r#"{"data":{"a":"1"},"data":null,"data":{"b":"2"}}"#,
            json!({"/data": {"b": "2"}}),
        );
        check("ConfigMap", r#"{"immutable":true,"immutable":null}"#, json!({"/immutable": null}));
        check("ConfigMap", r#"{"metadata":{"name":"a","name":null}}"#, json!({"/metadata/name": "a"}));
        check(
            "ConfigMap",
            r#"{"metadata":{"name":"a","labels":{"x":"1"}},"metadata":{"namespace":"n","labels":{"y":"2"}}}"#,
            json!({"/metadata/name": "a", "/metadata/namespace": "n", "/metadata/labels": {"x": "1", "y": "2"}}),
        );
        check(
            "Pod",
            r#"{"spec":{"containers":[{"name":"a"}],"hostNetwork":true},"spec":{"containers":[{"image":"i"}],"nodeName":"n"}}"#,
            json!({"/spec/containers/0/image": "i", "/spec/containers/0/name": "", "/spec/hostNetwork": true, "/spec/nodeName": "n"}),
        );
        check(
            "Pod",
            r#"{"spec":{"containers":[{"name":"a","name":"b","resources":{"limits":{"cpu":"1"}},"resources":{"limits":{"memory":"2"}}}]}}"#,
            json!({"/spec/containers/0/name": "b", "/spec/containers/0/resources/limits": {"cpu": "1", "memory": "2"}}),
        );
    }
}
