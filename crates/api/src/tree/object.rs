//! The members of an object, in order: one vector, and beyond a few members a table of where each key is.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use compact_str::CompactString;
use hashbrown::HashTable;

use super::{NULL, Tree};

/// Up to this many members, looking at each key is quicker than hashing one.
const FEW: usize = 16;

/// Keys come from clients: what they hash to must not be theirs to choose.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash(key: &str) -> u64 {
    HASHER.hash_one(key)
}

/// Members by key, in the order in which they were put in.
#[derive(Clone, Default)]
pub struct Object {
    members: Vec<(CompactString, Tree)>,
    /// Positions in `members`, once there are many.
    places: Option<Box<HashTable<usize>>>,
}

impl Object {
    pub const fn new() -> Self {
        Self { members: Vec::new(), places: None }
    }

    pub fn with_capacity(members: usize) -> Self {
        Self { members: Vec::with_capacity(members), places: None }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    fn place(&self, key: &str) -> Option<usize> {
        match &self.places {
            None => self.members.iter().position(|(known, _)| known == key),
            Some(places) => places.find(hash(key), |place| self.members[*place].0 == key).copied(),
        }
    }

    /// Looks first where the key is if two objects have the same order.
    fn near(&self, key: &str, place: usize) -> Option<&Tree> {
        match self.members.get(place) {
            Some((known, value)) if known == key => Some(value),
            _ => self.get(key),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.place(key).map(|place| &self.members[place].1)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Tree> {
        self.place(key).map(|place| &mut self.members[place].1)
    }

    pub fn get_key_value(&self, key: &str) -> Option<(&CompactString, &Tree)> {
        self.place(key).map(|place| (&self.members[place].0, &self.members[place].1))
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.place(key).is_some()
    }

    /// Puts a value where the key is, or at the end. Answers what was there.
    pub fn insert(&mut self, key: impl Into<CompactString>, value: Tree) -> Option<Tree> {
        let key = key.into();
        match self.place(&key) {
            Some(place) => Some(std::mem::replace(&mut self.members[place].1, value)),
            None => {
                self.push(key, value);
                None
            }
        }
    }

    /// A new member at the end.
    fn push(&mut self, key: CompactString, value: Tree) {
        let place = self.members.len();
        self.members.push((key, value));
        match &mut self.places {
            None if place < FEW => {}
            None => self.index(),
            Some(places) => {
                let members = &self.members;
                places.insert_unique(hash(&members[place].0), place, |place| hash(&members[*place].0));
            }
        }
    }

    /// Puts a new member before the one that stands there.
    pub fn insert_at(&mut self, place: usize, key: impl Into<CompactString>, value: Tree) {
        let key = key.into();
        self.remove(&key);
        self.members.insert(place, (key, value));
        self.index();
    }

    /// Makes the table of places, or drops it where the members are few.
    fn index(&mut self) {
        self.places = None;
        if self.members.len() <= FEW {
            return;
        }
        let members = &self.members;
        let mut places = HashTable::with_capacity(members.capacity());
        for (place, (key, _)) in members.iter().enumerate() {
            places.insert_unique(hash(key), place, |place: &usize| hash(&members[*place].0));
        }
        self.places = Some(Box::new(places));
    }

    /// Takes a member out; those after it move up. For many at once see [`Object::retain`].
    pub fn remove(&mut self, key: &str) -> Option<Tree> {
        let place = self.place(key)?;
        let (_, value) = self.members.remove(place);
        if place == self.members.len() {
            // The last one: no other place changes.
            if let Some(places) = &mut self.places
                && let Ok(entry) = places.find_entry(hash(key), |known| *known == place)
            {
                entry.remove();
            }
        } else if self.places.is_some() {
            self.index();
        }
        Some(value)
    }

    /// Takes a member out and puts the last one in its place.
    pub fn swap_remove(&mut self, key: &str) -> Option<Tree> {
        let place = self.place(key)?;
        let last = self.members.len() - 1;
        if let Some(places) = &mut self.places {
            let moved = hash(&self.members[last].0);
            if let Ok(entry) = places.find_entry(hash(key), |known| *known == place) {
                entry.remove();
            }
            if let Some(known) = places.find_mut(moved, |known| *known == last) {
                *known = place;
            }
        }
        Some(self.members.swap_remove(place).1)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&CompactString, &mut Tree) -> bool) {
        let before = self.members.len();
        self.members.retain_mut(|(key, value)| keep(key, value));
        if self.members.len() != before && self.places.is_some() {
            self.index();
        }
    }

    pub fn entry(&mut self, key: impl Into<CompactString>) -> Entry<'_> {
        let key = key.into();
        let place = self.place(&key);
        Entry { object: self, key, place }
    }

    pub fn sort_keys(&mut self) {
        self.members.sort_by(|(one, _), (other, _)| one.cmp(other));
        if self.places.is_some() {
            self.index();
        }
    }

    /// Moves all of another's members here.
    pub fn append(&mut self, other: &mut Object) {
        self.extend(std::mem::take(other));
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&CompactString, &Tree)> + DoubleEndedIterator {
        self.members.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(
        &mut self,
    ) -> impl ExactSizeIterator<Item = (&CompactString, &mut Tree)> + DoubleEndedIterator {
        self.members.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &CompactString> + DoubleEndedIterator {
        self.members.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &Tree> + DoubleEndedIterator {
        self.members.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Tree> + DoubleEndedIterator {
        self.members.iter_mut().map(|(_, value)| value)
    }
}

/// See [`Object::entry`].
pub struct Entry<'o> {
    object: &'o mut Object,
    key: CompactString,
    place: Option<usize>,
}

impl<'o> Entry<'o> {
    pub fn or_insert(self, value: Tree) -> &'o mut Tree {
        self.or_insert_with(|| value)
    }

    pub fn or_insert_with(self, value: impl FnOnce() -> Tree) -> &'o mut Tree {
        let place = self.place.unwrap_or(self.object.members.len());
        if self.place.is_none() {
            self.object.push(self.key, value());
        }
        &mut self.object.members[place].1
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .members
                .iter()
                .enumerate()
                .all(|(place, (key, value))| other.near(key, place).is_some_and(|other| value == other))
    }
}

impl Eq for Object {}

impl Hash for Object {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        members.hash(state);
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Null where nothing is there.
impl std::ops::Index<&str> for Object {
    type Output = Tree;

    fn index(&self, key: &str) -> &Tree {
        self.get(key).unwrap_or(&NULL)
    }
}

impl std::ops::IndexMut<&str> for Object {
    fn index_mut(&mut self, key: &str) -> &mut Tree {
        self.entry(key).or_insert(Tree::Null)
    }
}

impl<K: Into<CompactString>, V: Into<Tree>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, members: I) {
        for (key, value) in members {
            self.insert(key, value.into());
        }
    }
}

impl<K: Into<CompactString>, V: Into<Tree>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let members = members.into_iter();
        let mut object = Self::with_capacity(members.size_hint().0);
        object.extend(members);
        object
    }
}

impl IntoIterator for Object {
    type Item = (CompactString, Tree);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

type Pair<'o> = fn(&'o (CompactString, Tree)) -> (&'o CompactString, &'o Tree);
type PairMut<'o> = fn(&'o mut (CompactString, Tree)) -> (&'o CompactString, &'o mut Tree);

impl<'o> IntoIterator for &'o Object {
    type Item = (&'o CompactString, &'o Tree);
    type IntoIter = std::iter::Map<std::slice::Iter<'o, (CompactString, Tree)>, Pair<'o>>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.iter().map(|(key, value)| (key, value))
    }
}

impl<'o> IntoIterator for &'o mut Object {
    type Item = (&'o CompactString, &'o mut Tree);
    type IntoIter = std::iter::Map<std::slice::IterMut<'o, (CompactString, Tree)>, PairMut<'o>>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.iter_mut().map(|(key, value)| (&*key, value))
    }
}
