//! Secondary indexes: objects by what they have in common.

use std::any::Any;
use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::store::{Place, Shared};

/// The objects of an informer's cache by keys of their own. Clones share it.
pub struct Index<V, K> {
    shared: Arc<Shared<V>>,
    at: usize,
    key: PhantomData<fn() -> K>,
}

impl<V, K> Clone for Index<V, K> {
    fn clone(&self) -> Self {
        Index { shared: self.shared.clone(), at: self.at, key: PhantomData }
    }
}

impl<V, K> Index<V, K>
where
    V: Send + Sync + 'static,
    K: Hash + Eq + Send + Sync + 'static,
{
    pub(super) fn new<Keys>(
        shared: &Arc<Shared<V>>,
        keys: impl Fn(&V) -> Keys + Send + Sync + 'static,
    ) -> Self
    where
        Keys: IntoIterator<Item = K>,
    {
        let keys = move |object: &V, out: &mut dyn FnMut(K)| keys(object).into_iter().for_each(out);
        let table: Table<V, K> = Table { keys: Box::new(keys), places: FxHashMap::default() };
        let at = shared.store.write().add_index(Box::new(table));
        Index { shared: shared.clone(), at, key: PhantomData }
    }

    /// The objects with this key, in no order.
    pub fn get<Q>(&self, key: &Q) -> Vec<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.with(key, |objects| objects.cloned().collect())
    }

    /// How many objects have this key.
    pub fn count<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let store = self.shared.store.read();
        let table = store.index(self.at).and_then(|index| index.as_any().downcast_ref::<Table<V, K>>());
        table.and_then(|table| table.places.get(key)).map_or(0, FxHashSet::len)
    }

    /// Whether one of the objects with this key is such a one.
    pub fn any<Q>(&self, key: &Q, is: impl Fn(&V) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.with(key, |objects| {
            for object in objects {
                if is(object) {
                    return true;
                }
            }
            false
        })
    }

    fn with<Q, R>(&self, key: &Q, read: impl FnOnce(&mut dyn Iterator<Item = &Arc<V>>) -> R) -> R
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let store = self.shared.store.read();
        let table = store.index(self.at).and_then(|index| index.as_any().downcast_ref::<Table<V, K>>());
        let places = table.and_then(|table| table.places.get(key));
        let mut objects = store.objects_at(places.into_iter().flatten().copied());
        read(&mut objects)
    }
}

/// An index, whatever its keys are.
pub(super) trait Indexed<V>: Send + Sync {
    fn insert(&mut self, place: Place, object: &V);
    fn remove(&mut self, place: Place, object: &V);
    fn replace(&mut self, place: Place, old: &V, new: &V);
    fn as_any(&self) -> &dyn Any;
}

type Keys<V, K> = Box<dyn Fn(&V, &mut dyn FnMut(K)) + Send + Sync>;

struct Table<V, K> {
    keys: Keys<V, K>,
    places: FxHashMap<K, FxHashSet<Place>>,
}

impl<V, K: Hash + Eq> Table<V, K> {
    fn keys_of(&self, object: &V) -> Vec<K> {
        let mut keys = Vec::new();
        (self.keys)(object, &mut |key| keys.push(key));
        keys
    }

    fn take(&mut self, place: Place, key: &K) {
        if let Some(places) = self.places.get_mut(key) {
            places.remove(&place);
            if places.is_empty() {
                self.places.remove(key);
            }
        }
    }
}

impl<V, K> Indexed<V> for Table<V, K>
where
    V: 'static,
    K: Hash + Eq + Send + Sync + 'static,
{
    fn insert(&mut self, place: Place, object: &V) {
        let Table { keys, places } = self;
        keys(object, &mut |key| {
            places.entry(key).or_default().insert(place);
        });
    }

    fn remove(&mut self, place: Place, object: &V) {
        self.keys_of(object).iter().for_each(|key| self.take(place, key));
    }

    fn replace(&mut self, place: Place, old: &V, new: &V) {
        let (old, new) = (self.keys_of(old), self.keys_of(new));
        // Most changes are of a status, which no index shows.
        if old == new {
            return;
        }
        old.iter().filter(|key| !new.contains(key)).for_each(|key| self.take(place, key));
        for key in new {
            self.places.entry(key).or_default().insert(place);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
