//! What a schema sets in an object: nulls that mean nothing go, and then what is absent and has a default is there.
//!
//! A default can be large and its place be there a hundred thousand times in a small body, so what is set has a bound.

use api::Tree;
use api::tree::Object;

use super::schema::{Additional, Schema};
use crate::rules::DefaultsTooLarge;

/// Fills an object.
pub fn fill(schema: &Schema, object: &mut Object) -> Result<(), DefaultsTooLarge> {
    drop_nulls_of(schema, object);
    Fill { left: DefaultsTooLarge::LIMIT }.members(schema, object)
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

/// About the bytes of a value as JSON.
fn size(value: &Tree) -> usize {
    match value {
        Tree::String(text) => text.len() + 2,
        Tree::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Tree::Object(object) => {
            2 + object.iter().map(|(name, value)| name.len() + size(value) + 4).sum::<usize>()
        }
        _ => 4,
    }
}

/// Sets values until they have so many bytes together.
struct Fill {
    left: usize,
}

impl Fill {
    fn copy(&mut self, default: &Tree) -> Result<Tree, DefaultsTooLarge> {
        self.left = self.left.checked_sub(size(default)).ok_or(DefaultsTooLarge)?;
        Ok(default.clone())
    }

    fn value(&mut self, schema: &Schema, value: &mut Tree) -> Result<(), DefaultsTooLarge> {
        match (value, &schema.items) {
            (Tree::Object(object), _) => self.members(schema, object)?,
            (Tree::Array(items), Some(below)) => {
                for item in items {
                    self.replace_null(below, item)?;
                    self.value(below, item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A null in the place of a value that has a default.
    fn replace_null(&mut self, schema: &Schema, value: &mut Tree) -> Result<(), DefaultsTooLarge> {
        if value.is_null() && !schema.nullable {
            *value = self.copy(schema.default.as_deref().unwrap_or(&Tree::Null))?;
        }
        Ok(())
    }

    fn members(&mut self, schema: &Schema, object: &mut Object) -> Result<(), DefaultsTooLarge> {
        for (name, below) in &schema.properties {
            let Some(default) = below.default.as_deref() else { continue };
            let vacant = object.get(name).is_none_or(|value| value.is_null() && !below.nullable);
            if vacant {
                self.left = self.left.checked_sub(name.len() + 4).ok_or(DefaultsTooLarge)?;
                object.insert(&**name, self.copy(default)?);
            }
        }
        for (name, value) in object.iter_mut() {
            match (schema.properties.get(name.as_str()), &schema.additional) {
                (Some(below), _) => self.value(below, value)?,
                (None, Some(Additional::Schema(below))) => {
                    self.replace_null(below, value)?;
                    self.value(below, value)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
