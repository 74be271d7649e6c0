//! Order of the elements of a list after a strategic merge: those that the patch names in the patch's order, the
//! others where they were in relation to them.

use std::borrow::Cow;
use std::collections::HashMap;

use api::Tree;

/// What identifies an element of a merged list: itself, or its merge key.
pub(super) fn identity<'t>(item: &'t Tree, merge_key: &str) -> &'t Tree {
    if merge_key.is_empty() { item } else { item.get(merge_key).unwrap_or(&Tree::Null) }
}

/// An identity to compare and look up: numbers and strings of the same text are one.
pub(super) type Key<'t> = Option<Cow<'t, str>>;

pub(super) fn key(identity: &Tree) -> Key<'_> {
    match identity {
        Tree::Null => None,
        Tree::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

pub(super) fn text(value: &Tree) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Where each identity is first in a list.
fn positions<'t>(list: &'t [Tree], merge_key: &str) -> HashMap<Key<'t>, usize> {
    let mut positions = HashMap::with_capacity(list.len());
    for (position, item) in list.iter().enumerate() {
        positions.entry(key(identity(item, merge_key))).or_insert(position);
    }
    positions
}

/// Orders `merged`; `order` is the patch's list (or its declared order), `before` the list as it was.
pub(super) fn normalize(merged: Vec<Tree>, order: &[Tree], before: &[Tree], merge_key: &str) -> Vec<Tree> {
    let (order, before) = (positions(order, merge_key), positions(before, merge_key));
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let key = key(identity(&item, merge_key));
        let (place, was) = (order.get(&key).copied(), before.get(&key).copied());
        match place {
            Some(place) => named.push((place, was, item)),
            None => others.push((was, item)),
        }
    }
    named.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(was, _)| was.unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((other, _)), Some((_, one, _))) => {
                matches!((other, one), (Some(other), Some(one)) if other < one)
            }
        };
        let next = if other_first {
            others.next().map(|(_, item)| item)
        } else {
            named.next().map(|(.., item)| item)
        };
        result.extend(next);
    }
}
