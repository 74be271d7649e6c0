//! Bounds that keep the work on one object linear: duplicates are found by hashing, and a walk ends after enough errors.
//! Upstream lists every field error that fits into a body of 3 MiB; we stop where no reader goes on.

use std::hash::Hash;

use api::Tree;
use api::status::{Cause, MAX_CAUSES};

/// A message of this many bytes shows a whole list or object: a second such message says no more than the first.
const LARGE_MESSAGE: usize = 64 << 10;

/// Whether enough is wrong with an object: loops over what a client sent end here.
pub fn is_full(errors: &[Cause]) -> bool {
    errors.len() >= MAX_CAUSES || errors.last().is_some_and(|last| last.message.len() > LARGE_MESSAGE)
}

/// Values that came before, in a list that must not repeat them. The hash is keyed, since clients choose the values.
pub struct Seen<T>(std::collections::HashSet<T>);

impl<T: Hash + Eq> Seen<T> {
    pub fn new() -> Self {
        Self(Default::default())
    }

    /// Whether the value came before. It has from now on.
    pub fn repeats(&mut self, value: T) -> bool {
        !self.0.insert(value)
    }

    pub fn contains<Q: Hash + Eq + ?Sized>(&self, value: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.0.contains(value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Hash + Eq> Default for Seen<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Hash + Eq> FromIterator<T> for Seen<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Items of a list by the text of one of their fields; of several with one text, the first.
pub fn by_text<'t>(items: &'t [Tree], field: &str) -> std::collections::HashMap<&'t str, &'t Tree> {
    let text = |item: &'t Tree| item.get(field).and_then(Tree::as_str).unwrap_or_default();
    // Collecting keeps the last of equal keys.
    items.iter().rev().map(|item| (text(item), item)).collect()
}
