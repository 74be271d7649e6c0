//! Brings a tree into the shape in which the API writes its message: fields in the model's order, zero values left
//! out or written as the model says, quantities in canonical form.
//!
//! Unknown fields are dropped (the strict decoder complains of them before). Values of the wrong type stay as they
//! are, for whoever looks at them next.

use api::Tree;
use api::model::{Field, Leaf, MessageRef, Model, Shape, Type};
use api::tree::Object;

/// Called for every object of the tree that is a message, and for the messages inlined into it, before it is brought into
/// shape, outermost first.
pub trait Visit {
    fn message(&mut self, message: MessageRef<'_>, object: &mut Object);
}

impl Visit for () {
    fn message(&mut self, _: MessageRef<'_>, _: &mut Object) {}
}

pub fn normalize(tree: &mut Tree, message: MessageRef<'_>) {
    normalize_with(tree, message, &mut ());
}

/// An object that has its fields in order keeps them where they are: most were read through the model, and nothing is
/// missing when they come here for the second time.
pub fn normalize_with(tree: &mut Tree, message: MessageRef<'_>, visit: &mut impl Visit) {
    let Tree::Object(object) = tree else { return };
    announce(message, object, visit);
    if message.custom {
        // Read through its schema it is in shape, but for what was just put into it.
        return;
    }
    if !is_in_order(object, message) {
        put_in_order(object, message);
    }
    let mut fields = message.json_fields();
    object.retain(|key, value| {
        fields
            .find(|field| field.json == *key)
            .is_some_and(|field| shape(message.model(), field, value, visit))
    });
}

fn announce(message: MessageRef<'_>, object: &mut Object, visit: &mut impl Visit) {
    visit.message(message, object);
    for field in message.fields().iter().filter(|field| field.is_inline()) {
        if let Type::Message(inlined) = field.ty {
            announce(message.at(inlined), object, visit);
        }
    }
}

/// Whether the object has fields of the message alone, in its order, and all that are always written.
fn is_in_order(object: &Object, message: MessageRef<'_>) -> bool {
    let mut keys = object.keys().peekable();
    for field in message.json_fields() {
        if keys.next_if(|key| field.json == **key).is_none() && !field.omit_empty {
            return false;
        }
    }
    keys.next().is_none()
}

fn put_in_order(object: &mut Object, message: MessageRef<'_>) {
    let mut old = std::mem::take(object);
    let mut new = Object::with_capacity(old.len() + 2);
    for field in message.json_fields() {
        match old.swap_remove(&field.json) {
            Some(value) => new.insert(api::tree::key(&field.json), value),
            None if !field.omit_empty => new.insert(api::tree::key(&field.json), Tree::Null),
            None => None,
        };
    }
    *object = new;
}

/// Makes the field's value what is written; false where it is left out.
fn shape(model: &Model, field: &Field, value: &mut Tree, visit: &mut impl Visit) -> bool {
    let inner = match field.ty {
        Type::Message(index) => Some(model.at(index)),
        _ => None,
    };
    match (field.shape, &mut *value) {
        (Shape::List, Tree::Array(items)) => {
            match inner {
                Some(inner) => items.iter_mut().for_each(|item| element(item, inner, visit)),
                None => fill_nulls(model, items.iter_mut(), &field.ty),
            }
            return !field.omit_empty || !items.is_empty();
        }
        (Shape::Map, Tree::Object(entries)) => {
            match inner {
                Some(inner) => entries.iter_mut().for_each(|(_, item)| element(item, inner, visit)),
                None => fill_nulls(model, entries.values_mut(), &field.ty),
            }
            return !field.omit_empty || !entries.is_empty();
        }
        (Shape::List | Shape::Map, Tree::Null) => return !field.omit_empty,
        _ => {}
    }
    if value.is_null() {
        if field.omit_empty || field.optional {
            return !field.omit_empty;
        }
        *value = zero(model, &field.ty);
    }
    if let Some(inner) = inner {
        element(value, inner, visit);
    }
    field.optional || !field.omit_empty || !is_zero(value)
}

/// A null in a list or map is its type's zero value; bytes are empty.
fn fill_nulls<'t>(model: &Model, items: impl Iterator<Item = &'t mut Tree>, ty: &Type) {
    items.filter(|item| item.is_null()).for_each(|item| {
        *item = match ty {
            Type::Bytes => "".into(),
            ty => zero(model, ty),
        };
    });
}

fn element(value: &mut Tree, message: MessageRef<'_>, visit: &mut impl Visit) {
    match message.leaf {
        None => {
            if value.is_null() {
                *value = Tree::Object(Object::new());
            }
            normalize_with(value, message, visit);
        }
        Some(Leaf::Quantity) => {
            let canonical = match value {
                Tree::String(text) => api::quantity::canonical(api::quantity::trimmed(text)),
                Tree::Number(number) => api::quantity::canonical(&number.to_string()),
                Tree::Null => Ok("0".to_owned()),
                _ => return,
            };
            if let Ok(canonical) = canonical {
                *value = Tree::from(canonical);
            }
        }
        _ => {}
    }
}

fn zero(model: &Model, ty: &Type) -> Tree {
    match ty {
        Type::Message(index) => match model.at(*index).leaf {
            None => Tree::Object(Object::new()),
            Some(Leaf::Quantity) => "0".into(),
            Some(Leaf::IntOrString) => 0.into(),
            Some(Leaf::Duration) => "0s".into(),
            Some(_) => Tree::Null,
        },
        Type::Bool => false.into(),
        Type::String => "".into(),
        Type::Bytes => Tree::Null,
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
    use api::json;

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
            "k8s.io.api.core.v1.PodSpec",
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "nodeName": ""}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": null}),
        );
        check(
            "k8s.io.api.core.v1.Pod",
            json!({"metadata": {"creationTimestamp": null, "name": "a"}, "kind": "Pod", "spec": {"containers": null, "volumes": [{"emptyDir": {}, "name": "v"}]}}),
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": null}, "status": {}}),
        );
    }
}
