//! Brings a tree into the shape in which the API writes its message: fields in the model's order, zero values left
//! out or written as the model says, quantities in canonical form.
//!
//! Unknown fields are dropped (the strict decoder complains of them before). Values of the wrong type stay as they
//! are, for whoever looks at them next.

use api::Tree;
use api::model::{Field, Leaf, Message, Shape, Type};
use serde_json::Map;

use crate::quantity::Quantity;

/// Called for every object of the tree that is a message, before it is brought into shape, outermost first.
pub trait Visit {
    fn message(&mut self, message: &'static Message, object: &mut Map<String, Tree>);
}

impl Visit for () {
    fn message(&mut self, _: &'static Message, _: &mut Map<String, Tree>) {}
}

pub fn normalize(tree: &mut Tree, message: &'static Message) {
    normalize_with(tree, message, &mut ());
}

pub fn normalize_with(tree: &mut Tree, message: &'static Message, visit: &mut impl Visit) {
    let Tree::Object(object) = tree else { return };
    let mut old = std::mem::take(object);
    let mut new = Map::with_capacity(old.len() + 2);
    fill(message, &mut old, &mut new, visit);
    *object = new;
}

fn fill(
    message: &'static Message,
    old: &mut Map<String, Tree>,
    new: &mut Map<String, Tree>,
    visit: &mut impl Visit,
) {
    visit.message(message, old);
    for field in message.fields.iter() {
        if field.json.is_empty() {
            if let Type::Message(index) = field.ty {
                fill(api::tables::message_at(index), old, new, visit);
            }
            continue;
        }
        let value = old.get_mut(field.json.as_ref()).map(Tree::take);
        if let Some(value) = shaped(field, value, visit) {
            new.insert(field.json.to_string(), value);
        }
    }
}

/// The field's value as it is written, `None` where it is left out.
fn shaped(field: &Field, value: Option<Tree>, visit: &mut impl Visit) -> Option<Tree> {
    let mut value = value.unwrap_or(Tree::Null);
    let inner = match field.ty {
        Type::Message(index) => Some(api::tables::message_at(index)),
        _ => None,
    };
    match (field.shape, &mut value) {
        (Shape::List, Tree::Array(items)) => {
            if let Some(inner) = inner {
                items.iter_mut().for_each(|item| element(item, inner, visit));
            }
            return (!field.omit_empty || !items.is_empty()).then_some(value);
        }
        (Shape::Map, Tree::Object(entries)) => {
            if let Some(inner) = inner {
                entries.iter_mut().for_each(|(_, item)| element(item, inner, visit));
            } else if field.ty == Type::String {
                entries.iter_mut().filter(|(_, item)| item.is_null()).for_each(|(_, item)| *item = "".into());
            }
            return (!field.omit_empty || !entries.is_empty()).then_some(value);
        }
        (Shape::List | Shape::Map, Tree::Null) => return (!field.omit_empty).then_some(Tree::Null),
        _ => {}
    }
    if value.is_null() {
        if field.omit_empty || field.optional {
            return (!field.omit_empty).then_some(Tree::Null);
        }
        value = zero(&field.ty, inner);
    }
    if let Some(inner) = inner {
        element(&mut value, inner, visit);
    }
    (field.optional || !field.omit_empty || !is_zero(&value)).then_some(value)
}

fn element(value: &mut Tree, message: &'static Message, visit: &mut impl Visit) {
    match message.leaf {
        None => {
            if value.is_null() {
                *value = Tree::Object(Map::new());
            }
            normalize_with(value, message, visit);
        }
        Some(Leaf::Quantity) => {
            if let Ok(quantity) = Quantity::from_tree(value) {
                *value = Tree::String(quantity.to_string());
            }
        }
        _ => {}
    }
}

fn zero(ty: &Type, message: Option<&Message>) -> Tree {
    match (ty, message.map(|message| message.leaf)) {
        (_, Some(None)) => Tree::Object(Map::new()),
        (_, Some(Some(Leaf::Quantity))) => "0".into(),
        (_, Some(Some(Leaf::IntOrString))) => 0.into(),
        (_, Some(Some(Leaf::Duration))) => "0s".into(),
        (Type::Bool, _) => false.into(),
        (Type::String, _) => "".into(),
        (Type::Bytes | Type::Message(_), _) => Tree::Null,
        _ => 0.into(),
    }
}

/// Go's zero values, as `omitempty` knows them.
fn is_zero(value: &Tree) -> bool {
    match value {
        Tree::Null | Tree::Bool(false) => true,
        Tree::Number(number) => number.as_f64() == Some(0.0),
        Tree::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shapes() {
        let check = |message: &str, mut input: Tree, expect: Tree| {
            normalize(&mut input, api::tables::message(message).unwrap());
            assert_eq!(input.to_string(), expect.to_string());
        };
        check(
            "k8s.io.api.core.v1.Container",
            json!({"image": "x", "name": "c", "args": [], "tty": false, "livenessProbe": {"periodSeconds": 0, "exec": {"command": ["a"]}},
                "resources": {"limits": {"memory": "1024Mi", "cpu": 0.5}}, "nonsense": 1}),
            json!({"name": "c", "image": "x", "resources": {"limits": {"memory": "1Gi", "cpu": "500m"}}, "livenessProbe": {"exec": {"command": ["a"]}}}),
        );
        check(
            "k8s.io.api.core.v1.Pod",
            json!({"metadata": {"creationTimestamp": null, "name": "a"}, "kind": "Pod", "spec": {"containers": null, "volumes": [{"emptyDir": {}, "name": "v"}]}}),
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": null}, "status": {}}),
        );
    }
}
