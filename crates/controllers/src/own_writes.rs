//! A controller sees its own last write before it acts again.
//!
//! Between creating a pod and seeing it in the cache a controller would count one too few, and between writing a status and
//! seeing it, it would act on the one before. Each write has a revision, and the stream that fills a cache brings every
//! change of a resource up to it: so the key that wrote is kept back in its queue until the cache of what was
//! written has reached that revision. A deletion whose answer names no revision is waited for by the object's uid.
//!
//! A write without an answer may have happened, or be under way yet. Its key is kept back for a while; then the API server
//! is asked what there is, and the cache has to come to that. One that does not say so for long is waited for no more: a
//! controller that does nothing is worse than one that may do something twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Informer, Journal, Key, ListOptions, Progress, ResourceRef, Text, WorkQueue};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::views::Partial;

/// How long a write may be under way whose request has ended.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// The longest wait between two questions.
const LONGEST: Duration = Duration::from_secs(30);
/// How long keys wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The resource and namespace of a doubtful write.
type Place = (ResourceRef, String);

pub(crate) struct OwnWrites {
    queue: WorkQueue<Key>,
    caches: RwLock<Vec<Arc<dyn Cache>>>,
    doubts: Mutex<FxHashMap<Place, Vec<Key>>>,
    doubted: Notify,
}

/// A cache that writes are waited for in.
trait Cache: Send + Sync {
    fn resource(&self) -> &ResourceRef;
    fn wrote(&self, key: &Key, revision: u64);
    fn deleted(&self, key: &Key, object: &Key, uid: &str);
}

impl OwnWrites {
    pub fn new(queue: WorkQueue<Key>) -> OwnWrites {
        OwnWrites { queue, caches: RwLock::default(), doubts: Mutex::default(), doubted: Notify::new() }
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

    /// Ends the doubts of writes, for as long as it is polled.
    pub async fn settle_doubts(&self, client: &Client) -> Infallible {
        let mut settling = FuturesUnordered::new();
        let mut under_way = FxHashSet::default();
        loop {
            tokio::select! {
                () = self.doubted.notified() => {}
                Some(place) = settling.next() => drop(under_way.take(&place)),
            }
            let mut doubts = self.doubts.lock();
            let new: Vec<Place> =
                doubts.keys().filter(|place| !under_way.contains(*place)).cloned().collect();
            for place in new {
                let keys = doubts.remove(&place).unwrap_or_default();
                under_way.insert(place.clone());
                settling.push(self.settle(client, place, keys));
            }
        }
    }

    /// Ends the doubts of one place. Later ones have to wait for a later answer.
    async fn settle(&self, client: &Client, place: Place, keys: Vec<Key>) -> Place {
        let (begun, mut wait) = (Instant::now(), UNDER_WAY);
        let (resource, namespace) = &place;
        loop {
            tokio::time::sleep(wait).await;
            match newest(client, resource, namespace).await {
                Ok(revision) => {
                    keys.iter().for_each(|key| self.with(resource, |cache| cache.wrote(key, revision)));
                    break;
                }
                Err(error) if begun.elapsed() >= PATIENCE => {
                    tracing::warn!(resource = %resource.plural, namespace, %error, "Listing what may have been written fails, going on without");
                    break;
                }
                Err(error) => {
                    tracing::debug!(resource = %resource.plural, %error, "Listing what may have been written failed, retrying");
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
        keys.iter().for_each(|key| self.queue.release(key));
        place
    }

    fn with(&self, resource: &ResourceRef, act: impl FnOnce(&dyn Cache)) {
        if let Some(cache) = self.caches.read().iter().find(|cache| cache.resource() == resource) {
            act(&**cache);
        }
    }
}

/// The revision of the newest object of a namespace.
async fn newest(client: &Client, resource: &ResourceRef, namespace: &str) -> client::Result<u64> {
    let namespace = (!namespace.is_empty()).then_some(namespace);
    let api = client.at(resource).metadata_only();
    let list = api.list::<Partial>(namespace, &ListOptions::default()).await?;
    let revision = |object: &Partial| object.metadata.resource_version.parse().unwrap_or(0);
    Ok(list.items.iter().map(revision).max().unwrap_or(0))
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

    fn doubted(&self, resource: &ResourceRef, key: &Key) {
        self.writes.with(resource, |_| {
            let place = (resource.clone(), key.namespace.to_string());
            self.writes.queue.hold(&self.key);
            self.writes.doubts.lock().entry(place).or_default().push(self.key.clone());
            self.writes.doubted.notify_one();
        });
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
