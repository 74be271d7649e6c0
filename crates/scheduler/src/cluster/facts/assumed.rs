//! Objects as they were last seen, and as they will be when writes that are under way have been seen. Several pods may
//! assume the same of an object: each takes back its own assumption alone.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// An object whose states have versions.
pub trait Versioned {
    fn resource_version(&self) -> &str;
}

#[derive(Debug)]
pub struct Assumed<K, V> {
    slots: FxHashMap<K, Slot<V>>,
}

#[derive(Debug)]
struct Slot<V> {
    seen: Arc<V>,
    assumed: Vec<Assumption<V>>,
}

#[derive(Debug)]
struct Assumption<V> {
    /// UID of the pod that it was made for.
    pod: Box<str>,
    /// Has the version of the state that it was made from.
    object: Arc<V>,
}

impl<K, V> Default for Assumed<K, V> {
    fn default() -> Self {
        Assumed { slots: FxHashMap::default() }
    }
}

impl<K: Hash + Eq, V: Versioned> Assumed<K, V> {
    pub fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.slots.get(key).map(|slot| slot.assumed.last().map_or(&slot.seen, |last| &last.object))
    }

    /// Takes down a state that was seen. What was assumed of another state has come about, or will not.
    pub fn set(&mut self, key: K, seen: Arc<V>) {
        let slot = self.slots.entry(key).or_insert_with(|| Slot { seen: seen.clone(), assumed: Vec::new() });
        slot.assumed.retain(|own| own.object.resource_version() == seen.resource_version());
        slot.seen = seen;
    }

    pub fn remove(&mut self, key: &K) {
        self.slots.remove(key);
    }

    pub fn assume(&mut self, key: &K, pod: &str, object: Arc<V>) {
        self.forget(key, pod);
        if let Some(slot) = self.slots.get_mut(key) {
            slot.assumed.push(Assumption { pod: pod.into(), object });
        }
    }

    /// Takes back what was assumed for the pod.
    pub fn forget(&mut self, key: &K, pod: &str) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.assumed.retain(|own| *own.pod != *pod);
        }
    }
}
