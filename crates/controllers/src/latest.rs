//! The newest known states of objects: those in the cache, or those written since. A decision about one object must not rest
//! on the state of another one from before the last write, of which the cache may not know yet.

use std::sync::Arc;

use client::{Event, Informer, Key, Progress, View};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::views::{HasMeta, Meta};

pub struct Latest<V> {
    cache: Informer<V>,
    written: Arc<Written<V>>,
}

struct Written<V>(Mutex<FxHashMap<Key, Arc<V>>>);

impl<V: HasMeta> Progress for Written<V> {
    fn restored(&self) {
        self.0.lock().clear();
    }
}

fn revision(meta: &Meta) -> u64 {
    meta.resource_version.parse().unwrap_or(0)
}

impl<V: View + HasMeta> Latest<V> {
    pub fn new(cache: Informer<V>) -> Latest<V> {
        let written = Arc::new(Written(Mutex::default()));
        cache.follow(written.clone());
        let own = written.clone();
        cache.on_keyed_event(move |key, event| {
            let mut written = own.0.lock();
            let is_seen = |own: &V| {
                matches!(event, Event::Deleted(_)) || revision(own.meta()) <= revision(event.object().meta())
            };
            if written.get(key).is_some_and(|own| is_seen(own)) {
                written.remove(key);
            }
        });
        Latest { cache, written }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.cache.get_key(key).map(|cached| self.newest(cached))
    }

    /// The newest state of an object in the cache.
    pub fn newest(&self, cached: Arc<V>) -> Arc<V> {
        let (key, meta) = (cached.meta().cache_key(), cached.meta());
        match self.written.0.lock().get(&key) {
            Some(own) if own.meta().uid == meta.uid && revision(own.meta()) > revision(meta) => own.clone(),
            _ => cached,
        }
    }

    /// Notes a state that was written.
    pub fn note(&self, object: Arc<V>) {
        let key = object.meta().cache_key();
        self.written.0.lock().insert(key, object);
    }
}
