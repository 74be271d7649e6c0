//! Objects as they were last seen, and as they will be when writes that are under way have been seen.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

#[derive(Debug)]
pub struct Assumed<K, V> {
    slots: FxHashMap<K, Slot<V>>,
}

#[derive(Debug)]
struct Slot<V> {
    seen: Arc<V>,
    assumed: Option<Arc<V>>,
}

impl<K, V> Default for Assumed<K, V> {
    fn default() -> Self {
        Assumed { slots: FxHashMap::default() }
    }
}

impl<K: Hash + Eq, V> Assumed<K, V> {
    pub fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.slots.get(key).map(|slot| slot.assumed.as_ref().unwrap_or(&slot.seen))
    }

    /// A newer state was seen: what was assumed before has come about, or will not.
    pub fn set(&mut self, key: K, seen: Arc<V>) {
        self.slots.insert(key, Slot { seen, assumed: None });
    }

    pub fn remove(&mut self, key: &K) {
        self.slots.remove(key);
    }

    pub fn assume(&mut self, key: &K, assumed: Arc<V>) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.assumed = Some(assumed);
        }
    }

    /// Takes back what was assumed.
    pub fn forget(&mut self, key: &K) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.assumed = None;
        }
    }
}
