//! An informer's objects, indexes and handlers.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::{Key, ResourceRef};

type Handler<V> = Box<dyn Fn(&Key, &Event<V>) + Send + Sync>;
type IndexKeys<V> = Box<dyn Fn(&V) -> Vec<String> + Send + Sync>;

pub(super) struct Shared<V> {
    pub resource: ResourceRef,
    pub store: RwLock<Store<V>>,
    pub synced: watch::Sender<bool>,
    pub resource_version: Mutex<String>,
    pub cancel: CancellationToken,
    /// Held while a change is made and told, so that a new handler's replay falls between two changes.
    handlers: Mutex<Vec<Handler<V>>>,
}

pub(super) struct Store<V> {
    objects: FxHashMap<Key, Entry<V>>,
    indexes: Vec<Index<V>>,
}

struct Entry<V> {
    object: Arc<V>,
    uid: Box<str>,
    resource_version: Box<str>,
}

struct Index<V> {
    name: &'static str,
    keys: IndexKeys<V>,
    entries: FxHashMap<String, FxHashSet<Key>>,
}

/// What identifies a state of an object.
pub(super) struct Identity<'a> {
    pub key: Key,
    pub uid: &'a str,
    pub resource_version: &'a str,
}

impl<V> Shared<V> {
    pub fn new(resource: ResourceRef, cancel: CancellationToken) -> Shared<V> {
        Shared {
            resource,
            store: RwLock::new(Store { objects: FxHashMap::default(), indexes: Vec::new() }),
            synced: watch::Sender::new(false),
            resource_version: Mutex::default(),
            cancel,
            handlers: Mutex::default(),
        }
    }

    pub fn subscribe(&self, handler: Handler<V>) {
        let mut handlers = self.handlers.lock();
        for (key, object) in self.store.read().list_keyed() {
            handler(&key, &Event::Added(object));
        }
        handlers.push(handler);
    }

    /// Whether exactly this state is cached, so that it need not be decoded.
    pub fn has(&self, identity: &Identity<'_>) -> bool {
        self.store.read().objects.get(&identity.key).is_some_and(|entry| {
            *entry.resource_version == *identity.resource_version && *entry.uid == *identity.uid
        })
    }

    pub fn put(&self, identity: Identity<'_>, object: V) {
        let handlers = self.handlers.lock();
        let object = Arc::new(object);
        let Identity { key, uid, resource_version } = identity;
        let entry =
            Entry { object: object.clone(), uid: uid.into(), resource_version: resource_version.into() };
        let old = self.store.write().insert(key.clone(), entry);
        match old {
            None => tell(&handlers, &key, &Event::Added(object)),
            Some(old) if *old.uid == *uid => {
                tell(&handlers, &key, &Event::Modified { old: old.object, new: object });
            }
            Some(old) => {
                tell(&handlers, &key, &Event::Deleted(old.object));
                tell(&handlers, &key, &Event::Added(object));
            }
        }
    }

    /// Removes an object; `last` is its state at deletion, where known.
    pub fn remove(&self, key: &Key, last: Option<V>) {
        let handlers = self.handlers.lock();
        let removed = self.store.write().remove(key);
        if let Some(entry) = removed {
            let object = last.map(Arc::new).unwrap_or(entry.object);
            tell(&handlers, key, &Event::Deleted(object));
        }
    }

    /// Removes what a list did not hold.
    pub fn retain(&self, listed: &FxHashSet<Key>) {
        let gone: Vec<Key> = {
            let store = self.store.read();
            store.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect()
        };
        for key in gone {
            self.remove(&key, None);
        }
    }
}

fn tell<V>(handlers: &[Handler<V>], key: &Key, event: &Event<V>) {
    for handler in handlers {
        handler(key, event);
    }
}

impl<V> Store<V> {
    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.objects.get(key).map(|entry| entry.object.clone())
    }

    pub fn list(&self) -> Vec<Arc<V>> {
        self.objects.values().map(|entry| entry.object.clone()).collect()
    }

    pub fn list_keyed(&self) -> Vec<(Key, Arc<V>)> {
        self.objects.iter().map(|(key, entry)| (key.clone(), entry.object.clone())).collect()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<V>> {
        let own = self.objects.iter().filter(|(key, _)| *key.namespace == *namespace);
        own.map(|(_, entry)| entry.object.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<V>> {
        let index = self.indexes.iter().find(|other| other.name == index);
        let keys = index.and_then(|index| index.entries.get(key));
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    pub fn add_index(&mut self, name: &'static str, keys: IndexKeys<V>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, keys, entries: FxHashMap::default() };
        for (key, entry) in &self.objects {
            index.insert(key, &entry.object);
        }
        self.indexes.push(index);
    }

    fn insert(&mut self, key: Key, entry: Entry<V>) -> Option<Entry<V>> {
        let object = entry.object.clone();
        let old = self.objects.insert(key.clone(), entry);
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(&key, &old.object);
            }
            index.insert(&key, &object);
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Entry<V>> {
        let old = self.objects.remove(key)?;
        for index in &mut self.indexes {
            index.remove(key, &old.object);
        }
        Some(old)
    }
}

impl<V> Index<V> {
    fn insert(&mut self, key: &Key, object: &V) {
        for entry in (self.keys)(object) {
            self.entries.entry(entry).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &V) {
        for entry in (self.keys)(object) {
            if let Some(keys) = self.entries.get_mut(&entry) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(&entry);
                }
            }
        }
    }
}
