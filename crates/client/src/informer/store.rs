//! An informer's objects, indexes and handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::index::Indexed;
use super::{Event, Progress};
use crate::{Key, ResourceRef, Text};

pub(super) type Handler<V> = Box<dyn Fn(&Key, &Event<V>) + Send + Sync>;

/// How many objects a new handler gets before others have their turn on the runtime's thread.
const CHUNK: usize = 512;

/// What an informer's task has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct State {
    /// The first list is in the cache.
    pub listed: bool,
    /// Handlers that have yet to get what is cached.
    pub new_handlers: usize,
}

impl State {
    pub fn is_synced(self) -> bool {
        self.listed && self.new_handlers == 0
    }
}

pub(super) struct Shared<V> {
    pub resource: ResourceRef,
    pub store: RwLock<Store<V>>,
    pub state: watch::Sender<State>,
    pub cancel: CancellationToken,
    resource_version: Mutex<String>,
    /// The same as a number; 0 where it is none.
    revision: AtomicU64,
    new_handlers: mpsc::UnboundedSender<Handler<V>>,
    handlers: Mutex<Vec<Handler<V>>>,
    followers: Mutex<Vec<Arc<dyn Progress>>>,
}

pub(super) struct Store<V> {
    /// By namespace, then by name.
    places: FxHashMap<Arc<str>, FxHashMap<Arc<str>, Place>>,
    /// By place; none where an object was removed.
    entries: Vec<Option<Entry<V>>>,
    free: Vec<Place>,
    indexes: Vec<Box<dyn Indexed<V>>>,
}

/// Index of an object's entry, valid as long as the object is cached. Secondary indexes store these, which are small.
pub(super) type Place = u32;

struct Entry<V> {
    object: Arc<V>,
    uid: Text,
    resource_version: Box<str>,
}

/// Identity of one state of an object.
pub(super) struct Identity<'a> {
    pub key: Key,
    pub uid: &'a str,
    pub resource_version: &'a str,
}

impl<V> Shared<V> {
    /// With the handlers that are to be added, for [`Shared::replay`].
    pub fn new(
        resource: ResourceRef,
        cancel: CancellationToken,
    ) -> (Shared<V>, mpsc::UnboundedReceiver<Handler<V>>) {
        let (new_handlers, received) = mpsc::unbounded_channel();
        let shared = Shared {
            resource,
            store: RwLock::new(Store::new()),
            state: watch::Sender::default(),
            cancel,
            resource_version: Mutex::default(),
            revision: AtomicU64::new(0),
            new_handlers,
            handlers: Mutex::default(),
            followers: Mutex::default(),
        };
        (shared, received)
    }

    pub fn subscribe(&self, handler: Handler<V>) {
        self.state.send_modify(|state| state.new_handlers += 1);
        // It fails only when the informer has been stopped.
        let _ = self.new_handlers.send(handler);
    }

    /// Gives a new handler what is cached, and from then on all changes. On the informer's own task, so that it falls
    /// between two changes.
    pub async fn replay(&self, handler: Handler<V>) {
        let objects = self.store.read().list_keyed();
        for chunk in objects.chunks(CHUNK) {
            for (key, object) in chunk {
                handler(key, &Event::Added(object.clone()));
            }
            tokio::task::yield_now().await;
        }
        self.handlers.lock().push(handler);
        self.state.send_modify(|state| state.new_handlers -= 1);
    }

    pub fn follow(&self, follower: Arc<dyn Progress>) {
        self.followers.lock().push(follower);
    }

    pub fn resource_version(&self) -> String {
        self.resource_version.lock().clone()
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    /// The cache has come to a resource version.
    pub fn reach(&self, version: &str) {
        version.clone_into(&mut self.resource_version.lock());
        let revision = version.parse().unwrap_or(0);
        self.revision.store(revision, Ordering::SeqCst);
        self.followers.lock().iter().for_each(|follower| follower.reached(revision));
    }

    /// The server is at an earlier state, which is to be cached next.
    pub fn note_restored(&self) {
        self.followers.lock().iter().for_each(|follower| follower.restored());
    }

    /// What was written before will not be seen any more: the server is at an earlier state.
    pub fn restart(&self) {
        self.followers.lock().iter().for_each(|follower| follower.reached(u64::MAX));
    }

    fn removed(&self, uid: &str) {
        self.followers.lock().iter().for_each(|follower| follower.removed(uid));
    }

    pub fn holds(&self, key: &Key, uid: &str) -> bool {
        self.store.read().entry(key).is_some_and(|entry| entry.uid == *uid)
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
                self.removed(&old.uid);
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
            self.removed(&entry.uid);
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

    pub fn count_in(&self, namespace: &str) -> usize {
        self.places.get(namespace).map_or(0, FxHashMap::len)
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn objects_at<'a>(
        &'a self,
        places: impl Iterator<Item = Place> + 'a,
    ) -> impl Iterator<Item = &'a Arc<V>> {
        places.filter_map(|place| Some(&self.at(place)?.object))
    }

    /// The place of the index among the store's.
    pub fn add_index(&mut self, mut index: Box<dyn Indexed<V>>) -> usize {
        for (place, entry) in (0..).zip(&self.entries) {
            if let Some(entry) = entry {
                index.insert(place, &entry.object);
            }
        }
        self.indexes.push(index);
        self.indexes.len() - 1
    }

    pub fn index(&self, at: usize) -> Option<&dyn Indexed<V>> {
        self.indexes.get(at).map(|index| &**index)
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
            match &old {
                Some(old) => index.replace(place, &old.object, &object),
                None => index.insert(place, &object),
            }
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
