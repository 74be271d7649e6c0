//! Lists: those of objects, and those that expressions make.

use std::sync::Arc;

use api::Tree;

use super::{Outcome, Value};
use crate::decl::{DeclType, ListSemantics};
use crate::error::EvalError;

#[derive(Clone, Debug)]
pub enum List<'v> {
    /// Of an object, with the declared type of its items where there is one.
    Tree {
        items: &'v [Tree],
        element: Option<&'v DeclType>,
        semantics: &'v ListSemantics,
    },
    Values(Arc<Vec<Value<'v>>>),
    /// What has been added to a set or to an associative list, which is one still.
    Combined {
        items: Arc<Vec<Value<'v>>>,
        semantics: &'v ListSemantics,
    },
}

impl<'v> List<'v> {
    pub fn len(&self) -> usize {
        match self {
            List::Tree { items, .. } => items.len(),
            List::Values(items) | List::Combined { items, .. } => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a position.
    pub fn get(&self, at: usize) -> Outcome<Value<'v>> {
        let out_of_bounds = || EvalError::message(format!("index out of bounds: {at}"));
        match self {
            List::Tree { items, element, .. } => {
                items.get(at).ok_or_else(out_of_bounds).and_then(|item| Value::of_tree(item, *element))
            }
            List::Values(items) | List::Combined { items, .. } => {
                items.get(at).cloned().ok_or_else(out_of_bounds)
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Outcome<Value<'v>>> + '_ {
        (0..self.len()).map(|at| self.get(at))
    }

    /// All items as values.
    pub fn to_vec(&self) -> Outcome<Vec<Value<'v>>> {
        match self {
            List::Values(items) | List::Combined { items, .. } => Ok(items.as_ref().clone()),
            List::Tree { .. } => self.iter().collect(),
        }
    }

    pub(crate) fn semantics(&self) -> &'v ListSemantics {
        match self {
            List::Tree { semantics, .. } | List::Combined { semantics, .. } => semantics,
            List::Values(_) => &ListSemantics::Atomic,
        }
    }

    /// Whether an item is equal to the value.
    pub(crate) fn contains(&self, value: &Value<'v>) -> Outcome<bool> {
        let mut failed = None;
        for item in self.iter() {
            match item.and_then(|item| item.equals(value)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(false), Err)
    }

    /// The concatenation; a set keeps each item once, an associative list each key.
    pub(crate) fn concatenate(self, other: &List<'v>) -> Outcome<List<'v>> {
        let semantics = self.semantics();
        let mut items = match self {
            // The list may be no one else's, as that of a loop is: then it grows in place.
            List::Values(items) => items,
            list => Arc::new(list.to_vec()?),
        };
        let grown = Arc::make_mut(&mut items);
        for item in other.iter() {
            let item = item?;
            match semantics {
                ListSemantics::Atomic => grown.push(item),
                ListSemantics::Set if has_item(grown, &item)? => {}
                ListSemantics::Set => grown.push(item),
                ListSemantics::Map(keys) => match position_of(grown, &item, keys)? {
                    Some(at) => grown[at] = item,
                    None => grown.push(item),
                },
            }
        }
        Ok(match semantics {
            ListSemantics::Atomic => List::Values(items),
            semantics => List::Combined { items, semantics },
        })
    }
}

fn has_item<'v>(items: &[Value<'v>], item: &Value<'v>) -> Outcome<bool> {
    for known in items {
        if known.equals(item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the item with the same keys is.
pub(super) fn position_of<'v>(
    items: &[Value<'v>],
    item: &Value<'v>,
    keys: &[String],
) -> Outcome<Option<usize>> {
    for (at, other) in items.iter().enumerate() {
        if has_same_keys(other, item, keys)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn has_same_keys<'v>(one: &Value<'v>, other: &Value<'v>, keys: &[String]) -> Outcome<bool> {
    let (Value::Map(one), Value::Map(other)) = (one, other) else { return Ok(false) };
    for key in keys {
        let same = match (one.get_json(key)?, other.get_json(key)?) {
            (Some(one), Some(other)) => one.equals(&other)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
