//! Which item of an old list a new item goes on from: the one with the same keys, or the same value of a set. Items of
//! atomic lists have no counterparts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use api::Tree;
use api::model::{Field, ListType, Text};

use crate::tree::Alike;

/// An old list by what its items are found by.
pub(crate) enum Former<'t> {
    Atomic,
    Keyed { keys: &'t [Text], items: HashMap<Vec<Alike<'t>>, Option<&'t Tree>> },
    Set(HashMap<Alike<'t>, &'t Tree>),
}

impl<'t> Former<'t> {
    /// The list that the field had before.
    pub(crate) fn of(old: Option<&'t Tree>, field: &'t Field) -> Former<'t> {
        Former::by(old, field.list, &field.list_keys)
    }

    /// The list that was there before, which is of this type and has these keys.
    pub(crate) fn by(old: Option<&'t Tree>, list: ListType, keys: &'t [Text]) -> Former<'t> {
        let Some(Tree::Array(old)) = old else { return Former::Atomic };
        match list {
            ListType::Atomic => Former::Atomic,
            ListType::Set => Former::Set(old.iter().map(|item| (Alike(item), item)).collect()),
            ListType::Map => {
                let mut items = HashMap::with_capacity(old.len());
                for item in old {
                    match items.entry(values(item, keys)) {
                        // Which of several it goes on from is not known.
                        Entry::Occupied(mut taken) => _ = taken.insert(None),
                        Entry::Vacant(vacant) => _ = vacant.insert(Some(item)),
                    }
                }
                Former::Keyed { keys, items }
            }
        }
    }

    /// The old item that goes on in this one.
    pub(crate) fn counterpart(&self, item: &Tree) -> Option<&'t Tree> {
        match self {
            Former::Atomic => None,
            Former::Keyed { keys, items } => items.get(&values(item, keys)).copied().flatten(),
            Former::Set(items) => items.get(&Alike(item)).copied(),
        }
    }
}

fn values<'t>(item: &'t Tree, keys: &[Text]) -> Vec<Alike<'t>> {
    keys.iter().map(|key| Alike(&item[key.as_ref()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn items_go_on_from_those_of_their_keys() {
        let keys = [Text::from("name"), Text::from("port")];
        let old =
            json!([{"name": "a", "port": 1, "x": 1}, {"name": "a", "port": 2}, {"name": "b"}, {"name": "b"}]);
        let former = Former::by(Some(&old), ListType::Map, &keys);
        assert_eq!(former.counterpart(&json!({"port": 1, "name": "a"})), Some(&old[0]));
        assert_eq!(former.counterpart(&json!({"name": "b"})), None);
        assert_eq!(former.counterpart(&json!({"name": "c"})), None);
        let old = json!(["a", "b"]);
        assert_eq!(Former::by(Some(&old), ListType::Set, &[]).counterpart(&json!("b")), Some(&old[1]));
        assert_eq!(Former::by(Some(&old), ListType::Atomic, &[]).counterpart(&json!("b")), None);
    }
}
