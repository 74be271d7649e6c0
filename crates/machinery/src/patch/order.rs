//! Order of the elements of a list after a strategic merge: those that the patch names in the patch's order, the
//! others where they were in relation to them.

use api::Tree;

/// What identifies an element of a merged list: itself, or its merge key.
pub(super) fn identity<'t>(item: &'t Tree, merge_key: &str) -> &'t Tree {
    if merge_key.is_empty() { item } else { item.get(merge_key).unwrap_or(&Tree::Null) }
}

/// Whether two identities are one: numbers and strings of the same text are.
pub(super) fn same(a: &Tree, b: &Tree) -> bool {
    a == b || (!a.is_null() && !b.is_null() && text(a) == text(b))
}

pub(super) fn text(value: &Tree) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn position(list: &[Tree], item: &Tree, merge_key: &str) -> Option<usize> {
    let wanted = identity(item, merge_key);
    list.iter().position(|one| same(identity(one, merge_key), wanted))
}

/// Orders `merged`; `order` is the patch's list (or its declared order), `before` the list as it was.
pub(super) fn normalize(merged: Vec<Tree>, order: &[Tree], before: &[Tree], merge_key: &str) -> Vec<Tree> {
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| position(order, item, merge_key).is_some());
    named.sort_by_key(|item| position(order, item, merge_key));
    others.sort_by_key(|item| position(before, item, merge_key).unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return result,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(one)) => {
                match (position(before, other, merge_key), position(before, one, merge_key)) {
                    (Some(other), Some(one)) => other < one,
                    _ => false,
                }
            }
        };
        result.extend(if other_first { others.next() } else { named.next() });
    }
}
