//! What a schema sets in an object: nulls that mean nothing go, and then what is absent and has a default is there.

use api::Tree;
use api::tree::Object;

use super::schema::{Additional, Schema};

/// Fills an object.
pub fn fill(schema: &Schema, object: &mut Object) {
    drop_nulls_of(schema, object);
    fill_members(schema, object);
}

fn is_idle_null(value: &Tree, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable && schema.default.is_none()
}

fn drop_nulls_of(schema: &Schema, object: &mut Object) {
    object.retain(|name, value| {
        let Some(below) = schema.member(name) else { return true };
        let kept = !is_idle_null(value, below);
        if kept {
            drop_nulls(below, value);
        }
        kept
    });
}

fn drop_nulls(schema: &Schema, value: &mut Tree) {
    match (value, &schema.items) {
        (Tree::Object(object), _) => drop_nulls_of(schema, object),
        (Tree::Array(items), Some(below)) => items.iter_mut().for_each(|item| drop_nulls(below, item)),
        _ => {}
    }
}

fn fill_value(schema: &Schema, value: &mut Tree) {
    match (value, &schema.items) {
        (Tree::Object(object), _) => fill_members(schema, object),
        (Tree::Array(items), Some(below)) => {
            for item in items {
                replace_null(below, item);
                fill_value(below, item);
            }
        }
        _ => {}
    }
}

/// A null in the place of a value that has a default.
fn replace_null(schema: &Schema, value: &mut Tree) {
    if value.is_null() && !schema.nullable {
        *value = schema.default.as_deref().cloned().unwrap_or_default();
    }
}

fn fill_members(schema: &Schema, object: &mut Object) {
    for (name, below) in &schema.properties {
        let Some(default) = below.default.as_deref() else { continue };
        let vacant = object.get(name).is_none_or(|value| value.is_null() && !below.nullable);
        if vacant {
            object.insert(&**name, default.clone());
        }
    }
    for (name, value) in object.iter_mut() {
        match (schema.properties.get(name.as_str()), &schema.additional) {
            (Some(below), _) => fill_value(below, value),
            (None, Some(Additional::Schema(below))) => {
                replace_null(below, value);
                fill_value(below, value);
            }
            _ => {}
        }
    }
}
