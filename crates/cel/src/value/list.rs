//! Lists: those of objects, and those that expressions make.

use std::sync::Arc;

use api::Tree;

use super::keyed::Places;
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
        if *semantics == ListSemantics::Atomic {
            for item in other.iter() {
                grown.push(item?);
            }
            return Ok(List::Values(items));
        }
        let mut places = Places::of(grown, semantics)?;
        for item in other.iter() {
            let item = item?;
            match (places.find(grown, &item, semantics)?, semantics) {
                (Some(at), ListSemantics::Map(_)) => grown[at] = item,
                (Some(_), _) => {}
                (None, _) => {
                    places.add(&item, grown.len(), semantics)?;
                    grown.push(item);
                }
            }
        }
        Ok(List::Combined { items, semantics })
    }
}
