//! An informer's objects, indexes and handlers.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::{Key, ResourceRef, Text};

type Handler<V> = Box<dyn Fn(&Key, &Event<V>) + Send + Sync>;
type IndexKeys<V> = Box<dyn Fn(&V) -> Vec<String> + Send + Sync>;

pub(super) struct Shared<V> {
    pub resource: ResourceRef,
    pub store: RwLock<Store<V>>,
    pub synced: watch::Sender<bool>,
    pub resource_version: Mutex<String>,
    pub cancel: CancellationToken,
    /// Locked while a change is applied and reported, so that a new handler's replay falls between two changes.
    handlers: Mutex<Vec<Handler<V>>>,
}

pub(super) struct Store<V> {
    /// By namespace, then by name.
    places: FxHashMap<Arc<str>, FxHashMap<Arc<str>, Place>>,
    /// By place; none where an object was removed.
    entries: Vec<Option<Entry<V>>>,
    free: Vec<Place>,
    indexes: Vec<Index<V>>,
}

/// Index of an object's entry, valid as long as the object is cached. Secondary indexes store these, which are small.
type Place = u32;

struct Entry<V> {
    object: Arc<V>,
    uid: Text,
    resource_version: Box<str>,
}

struct Index<V> {
    name: &'static str,
    keys: IndexKeys<V>,
    places: FxHashMap<String, FxHashSet<Place>>,
}

/// Identity of one state of an object.
pub(super) struct Identity<'a> {
    pub key: Key,
    pub uid: &'a str,
    pub resource_version: &'a str,
}

impl<V> Shared<V> {
    pub fn new(resource: ResourceRef, cancel: CancellationToken) -> Shared<V> {
        Shared {
            resource,
            store: RwLock::new(Store::new()),
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
        self.store.read().entry(&identity.key).is_some_and(|entry| {
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
            None => notify(&handlers, &key, &Event::Added(object)),
            Some(old) if *old.uid == *uid => {
                notify(&handlers, &key, &Event::Modified { old: old.object, new: object });
            }
            Some(old) => {
                notify(&handlers, &key, &Event::Deleted(old.object));
                notify(&handlers, &key, &Event::Added(object));
            }
        }
    }

    /// Removes an object; `last` is its state at deletion, where known.
    pub fn remove(&self, key: &Key, last: Option<V>) {
        let handlers = self.handlers.lock();
        let removed = self.store.write().remove(key);
        if let Some(entry) = removed {
            let object = last.map(Arc::new).unwrap_or(entry.object);
            notify(&handlers, key, &Event::Deleted(object));
        }
    }

    /// Removes what a list did not hold.
    pub fn retain(&self, listed: &FxHashSet<Key>) {
        let gone: Vec<Key> = {
            let store = self.store.read();
            store.keyed().map(|(key, _)| key).filter(|key| !listed.contains(key)).collect()
        };
        for key in gone {
            self.remove(&key, None);
        }
    }
}

fn notify<V>(handlers: &[Handler<V>], key: &Key, event: &Event<V>) {
    for handler in handlers {
        handler(key, event);
    }
}

impl<V> Store<V> {
    fn new() -> Store<V> {
        Store { places: FxHashMap::default(), entries: Vec::new(), free: Vec::new(), indexes: Vec::new() }
    }

    fn at(&self, place: Place) -> Option<&Entry<V>> {
        self.entries.get(place as usize)?.as_ref()
    }

    fn entry(&self, key: &Key) -> Option<&Entry<V>> {
        self.at(*self.places.get(&key.namespace)?.get(&key.name)?)
    }

    fn keyed(&self) -> impl Iterator<Item = (Key, Place)> {
        self.places.iter().flat_map(|(namespace, names)| {
            let key = |name: &Arc<str>| Key { namespace: namespace.clone(), name: name.clone() };
            names.iter().map(move |(name, place)| (key(name), *place))
        })
    }

    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.entry(key).map(|entry| entry.object.clone())
    }

    pub fn list(&self) -> Vec<Arc<V>> {
        self.entries.iter().flatten().map(|entry| entry.object.clone()).collect()
    }

    pub fn list_keyed(&self) -> Vec<(Key, Arc<V>)> {
        self.keyed().filter_map(|(key, place)| Some((key, self.at(place)?.object.clone()))).collect()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<V>> {
        let own = self.places.get(namespace).into_iter().flat_map(FxHashMap::values);
        own.filter_map(|place| Some(self.at(*place)?.object.clone())).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<V>> {
        let index = self.indexes.iter().find(|other| other.name == index);
        let places = index.and_then(|index| index.places.get(key));
        places.into_iter().flatten().filter_map(|place| Some(self.at(*place)?.object.clone())).collect()
    }

    pub fn add_index(&mut self, name: &'static str, keys: IndexKeys<V>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, keys, places: FxHashMap::default() };
        for (place, entry) in (0..).zip(&self.entries) {
            if let Some(entry) = entry {
                index.insert(place, &entry.object);
            }
        }
        self.indexes.push(index);
    }

    fn insert(&mut self, key: Key, entry: Entry<V>) -> Option<Entry<V>> {
        let object = entry.object.clone();
        let names = self.places.entry(key.namespace).or_default();
        let (place, old) = match names.get(&key.name) {
            Some(place) => (*place, self.entries[*place as usize].replace(entry)),
            None => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.entries.push(None);
                    Place::try_from(self.entries.len() - 1)
                        .expect("memory ends before four thousand million objects")
                });
                self.entries[place as usize] = Some(entry);
                names.insert(key.name, place);
                (place, None)
            }
        };
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(place, &old.object);
            }
            index.insert(place, &object);
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Entry<V>> {
        let names = self.places.get_mut(&key.namespace)?;
        let place = names.remove(&key.name)?;
        if names.is_empty() {
            self.places.remove(&key.namespace);
        }
        let old = self.entries[place as usize].take()?;
        self.free.push(place);
        for index in &mut self.indexes {
            index.remove(place, &old.object);
        }
        Some(old)
    }
}

impl<V> Index<V> {
    fn insert(&mut self, place: Place, object: &V) {
        for key in (self.keys)(object) {
            self.places.entry(key).or_default().insert(place);
        }
    }

    fn remove(&mut self, place: Place, object: &V) {
        for key in (self.keys)(object) {
            if let Some(places) = self.places.get_mut(&key) {
                places.remove(&place);
                if places.is_empty() {
                    self.places.remove(&key);
                }
            }
        }
    }
}
