//! Items of sets and of associative lists by what identifies them, so that comparing and adding lists takes time linear to
//! their length. Their order does not count.

use std::collections::HashMap;

use super::{Key, Outcome, Value};
use crate::decl::ListSemantics;

/// What identifies an item: the item itself in a set, the values of its keys in an associative list.
type Identity = Vec<Key>;

/// Positions of items. Keys come from clients: the table's hashes must not be theirs to choose.
#[derive(Default)]
pub(super) struct Places {
    by_identity: HashMap<Identity, usize>,
    /// Items without an identity, such as lists in a set, which are compared one by one.
    others: Vec<usize>,
}

impl Places {
    pub fn of<'v>(items: &[Value<'v>], semantics: &ListSemantics) -> Outcome<Places> {
        let mut places = Places::default();
        for (at, item) in items.iter().enumerate() {
            places.add(item, at, semantics)?;
        }
        Ok(places)
    }

    pub fn add(&mut self, item: &Value<'_>, at: usize, semantics: &ListSemantics) -> Outcome<()> {
        match identity(item, semantics)? {
            Some(identity) => drop(self.by_identity.insert(identity, at)),
            None => self.others.push(at),
        }
        Ok(())
    }

    /// The position of the item with the same identity.
    pub fn find<'v>(
        &self,
        items: &[Value<'v>],
        item: &Value<'v>,
        semantics: &ListSemantics,
    ) -> Outcome<Option<usize>> {
        if let Some(identity) = identity(item, semantics)? {
            return Ok(self.by_identity.get(&identity).copied());
        }
        for at in &self.others {
            if items[*at].equals(item)? {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }
}

fn identity(item: &Value<'_>, semantics: &ListSemantics) -> Outcome<Option<Identity>> {
    match (semantics, item) {
        (ListSemantics::Map(keys), Value::Map(map)) => {
            let mut identity = Vec::with_capacity(keys.len());
            for key in keys {
                match map.get_json(key)? {
                    None => identity.push(Key::Null),
                    Some(value) => match Key::of(&value) {
                        Some(key) => identity.push(key),
                        None => return Ok(None),
                    },
                }
            }
            Ok(Some(identity))
        }
        (ListSemantics::Map(_), _) => Ok(None),
        _ => Ok(Key::of(item).map(|key| vec![key])),
    }
}
