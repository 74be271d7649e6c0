//! A controller sees its own last write before it acts again.
//!
//! Between creating a pod and seeing it in the cache a controller would count one too few, and between writing a status and
//! seeing it, it would act on the one before. Each write has a revision, and the stream that fills a cache brings every
//! change of a resource up to it: so the key that wrote is kept back in its queue until the cache of what was
//! written has reached that revision. A deletion whose answer names no revision is waited for by the object's uid.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Informer, Journal, Key, Progress, ResourceRef, Text, WorkQueue};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

pub(crate) struct OwnWrites {
    queue: WorkQueue<Key>,
    caches: RwLock<Vec<Arc<dyn Cache>>>,
}

/// A cache that writes are waited for in.
trait Cache: Send + Sync {
    fn resource(&self) -> &ResourceRef;
    fn wrote(&self, key: &Key, revision: u64);
    fn deleted(&self, key: &Key, object: &Key, uid: &str);
}

impl OwnWrites {
    pub fn new(queue: WorkQueue<Key>) -> OwnWrites {
        OwnWrites { queue, caches: RwLock::default() }
    }

    /// Has writes of the cache's resource waited for.
    pub fn follow<V: Send + Sync + 'static>(&self, cache: &Informer<V>) {
        let mut caches = self.caches.write();
        if caches.iter().any(|known| known.resource() == cache.resource()) {
            return;
        }
        let waiting = Arc::new(Waiting { queue: self.queue.clone(), state: Mutex::default() });
        cache.follow(waiting.clone());
        caches.push(Arc::new(Followed { cache: cache.clone(), waiting }));
    }

    /// The journal of a reconciliation of `key`.
    pub fn of(writes: &Arc<OwnWrites>, key: Key) -> Arc<dyn Journal> {
        Arc::new(Reconciliation { writes: writes.clone(), key })
    }

    fn with(&self, resource: &ResourceRef, act: impl FnOnce(&dyn Cache)) {
        if let Some(cache) = self.caches.read().iter().find(|cache| cache.resource() == resource) {
            act(&**cache);
        }
    }
}

struct Reconciliation {
    writes: Arc<OwnWrites>,
    key: Key,
}

impl Journal for Reconciliation {
    fn wrote(&self, resource: &ResourceRef, revision: u64) {
        self.writes.with(resource, |cache| cache.wrote(&self.key, revision));
    }

    fn deleted(&self, resource: &ResourceRef, key: &Key, uid: &str) {
        self.writes.with(resource, |cache| cache.deleted(&self.key, key, uid));
    }
}

struct Followed<V> {
    cache: Informer<V>,
    waiting: Arc<Waiting>,
}

/// Keys that wait for a cache.
struct Waiting {
    queue: WorkQueue<Key>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the revision that each waits for, and a number that distinguishes equal ones.
    revisions: BTreeMap<(u64, u64), Key>,
    /// By the uid of the object that has to go.
    deletions: FxHashMap<Text, Vec<Key>>,
    sequence: u64,
}

impl<V: Send + Sync + 'static> Cache for Followed<V> {
    fn resource(&self) -> &ResourceRef {
        self.cache.resource()
    }

    fn wrote(&self, key: &Key, revision: u64) {
        // Locked before the cache is asked: what it reaches meanwhile is reported after this.
        let mut state = self.waiting.state.lock();
        if self.cache.revision() >= revision {
            return;
        }
        state.sequence += 1;
        let place = (revision, state.sequence);
        state.revisions.insert(place, key.clone());
        self.waiting.queue.hold(key);
    }

    fn deleted(&self, key: &Key, object: &Key, uid: &str) {
        let mut state = self.waiting.state.lock();
        if self.cache.holds(object, uid) {
            state.deletions.entry(uid.into()).or_default().push(key.clone());
            self.waiting.queue.hold(key);
        }
    }
}

impl Progress for Waiting {
    fn reached(&self, revision: u64) {
        let mut state = self.state.lock();
        while let Some(first) = state.revisions.first_entry().filter(|first| first.key().0 <= revision) {
            self.queue.release(&first.remove());
        }
        if revision == u64::MAX {
            let deletions = std::mem::take(&mut state.deletions);
            deletions.values().flatten().for_each(|key| self.queue.release(key));
        }
    }

    fn removed(&self, uid: &str) {
        if let Some(keys) = self.state.lock().deletions.remove(uid) {
            keys.iter().for_each(|key| self.queue.release(key));
        }
    }
}
