//! Informers: a cache of a resource's objects kept up to date by list and watch, with secondary
//! indexes and handlers that hear of every change.
//!
//! What a handler may rely on: it gets every object as `Added` before anything else of it, each
//! later `Modified` carries the state of the event before as `old`, and an object that vanished while
//! the watch was interrupted is reported as `Deleted` with its last known state. An object deleted and
//! recreated under its name in such a gap is reported as `Deleted`, then `Added`.

mod index;
mod reflector;
mod store;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Client, Key, ResourceRef, View, WorkQueue};
pub use index::Index;
use store::Shared;

/// A change to an object.
#[derive(Debug)]
pub enum Event<V> {
    Added(Arc<V>),
    Modified {
        old: Arc<V>,
        new: Arc<V>,
    },
    /// With the last known state.
    Deleted(Arc<V>),
}

impl<V> Clone for Event<V> {
    fn clone(&self) -> Self {
        match self {
            Event::Added(object) => Event::Added(object.clone()),
            Event::Modified { old, new } => Event::Modified { old: old.clone(), new: new.clone() },
            Event::Deleted(object) => Event::Deleted(object.clone()),
        }
    }
}

impl<V> Event<V> {
    /// The newest state.
    pub fn object(&self) -> &Arc<V> {
        match self {
            Event::Added(object) | Event::Deleted(object) | Event::Modified { new: object, .. } => object,
        }
    }

    /// The state before, where the change was a modification.
    pub fn old(&self) -> Option<&Arc<V>> {
        match self {
            Event::Modified { old, .. } => Some(old),
            _ => None,
        }
    }
}

/// Which namespaces to cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Namespace(String),
}

/// Which objects to cache, in the API's selector syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selectors {
    pub labels: Option<String>,
    pub fields: Option<String>,
}

impl Selectors {
    pub fn none() -> Selectors {
        Selectors::default()
    }

    pub fn labels(selector: impl Into<String>) -> Selectors {
        Selectors { labels: Some(selector.into()), fields: None }
    }

    pub fn fields(selector: impl Into<String>) -> Selectors {
        Selectors { labels: None, fields: Some(selector.into()) }
    }
}

/// The informers of a daemon: one per view, resource, scope and selectors, however often asked for.
/// Their tasks end when the last clone is dropped, or at [`Informers::shutdown`].
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Running>,
}

struct Running {
    client: Client,
    informers: Mutex<HashMap<Identity, Box<dyn Any + Send>>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    _guard: DropGuard,
}

type Identity = (TypeId, ResourceRef, Scope, Selectors);

impl Informers {
    pub fn new(client: Client) -> Informers {
        let cancel = CancellationToken::new();
        let running = Running {
            client,
            informers: Mutex::default(),
            tasks: TaskTracker::new(),
            _guard: cancel.clone().drop_guard(),
            cancel,
        };
        Informers { inner: Arc::new(running) }
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The informer of a view. Starts at once; see [`Informer::synced`].
    pub fn watch<V: View>(&self, scope: Scope, selectors: Selectors) -> Informer<V> {
        self.start(ResourceRef::of::<V>(), scope, selectors, V::METADATA_ONLY)
    }

    /// The informer of every object of a view's resource.
    pub fn all<V: View>(&self) -> Informer<V> {
        self.watch(Scope::All, Selectors::none())
    }

    /// The informer of a resource known at run time only; `metadata_only` asks the server for
    /// `PartialObjectMetadata`.
    pub fn watch_at<V>(
        &self,
        resource: ResourceRef,
        scope: Scope,
        selectors: Selectors,
        metadata_only: bool,
    ) -> Informer<V>
    where
        V: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        self.start(resource, scope, selectors, metadata_only)
    }

    fn start<V>(
        &self,
        resource: ResourceRef,
        scope: Scope,
        selectors: Selectors,
        metadata_only: bool,
    ) -> Informer<V>
    where
        V: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let identity = (TypeId::of::<V>(), resource.clone(), scope.clone(), selectors.clone());
        let mut informers = self.inner.informers.lock();
        if let Some(informer) = informers.get(&identity).and_then(|any| any.downcast_ref::<Informer<V>>()) {
            return informer.clone();
        }
        let cancel = self.inner.cancel.child_token();
        let (shared, new_handlers) = Shared::new(resource, cancel.clone());
        let shared = Arc::new(shared);
        let reflector = reflector::Reflector {
            client: self.inner.client.clone(),
            shared: shared.clone(),
            scope,
            selectors,
            metadata_only,
        };
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = reflector.run(new_handlers) => {}
            }
        });
        let informer = Informer { shared };
        informers.insert(identity, Box::new(informer.clone()));
        informer
    }

    /// Stops one informer, e.g. because its resource is gone, and forgets it: the next `watch` starts a
    /// new one. Its cache stays readable.
    pub fn stop<V>(&self, informer: &Informer<V>)
    where
        V: Send + Sync + 'static,
    {
        informer.shared.cancel.cancel();
        self.inner.informers.lock().retain(|_, any| {
            !any.downcast_ref::<Informer<V>>()
                .is_some_and(|other| Arc::ptr_eq(&other.shared, &informer.shared))
        });
    }

    /// Stops every informer and waits for their tasks.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// A cache of objects. Clones share it.
pub struct Informer<V> {
    shared: Arc<Shared<V>>,
}

impl<V> Clone for Informer<V> {
    fn clone(&self) -> Self {
        Informer { shared: self.shared.clone() }
    }
}

impl<V: Send + Sync + 'static> Informer<V> {
    pub fn resource(&self) -> &ResourceRef {
        &self.shared.resource
    }

    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<V>> {
        self.get_key(&Key::new(namespace.unwrap_or_default(), name))
    }

    pub fn get_key(&self, key: &Key) -> Option<Arc<V>> {
        self.shared.store.read().get(key)
    }

    /// A snapshot, in no order.
    pub fn list(&self) -> Vec<Arc<V>> {
        self.shared.store.read().list()
    }

    pub fn list_keyed(&self) -> Vec<(Key, Arc<V>)> {
        self.shared.store.read().list_keyed()
    }

    /// The objects of a namespace. Walks the cache: an index is better where this is hot.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<V>> {
        self.shared.store.read().list_in(namespace)
    }

    pub fn count_in(&self, namespace: &str) -> usize {
        self.shared.store.read().count_in(namespace)
    }

    pub fn len(&self) -> usize {
        self.shared.store.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index of the objects by keys made of them. Each call adds one: who shares an index shares the answer.
    pub fn index<K, Keys>(&self, keys: impl Fn(&V) -> Keys + Send + Sync + 'static) -> Index<V, K>
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        Keys: IntoIterator<Item = K>,
    {
        Index::new(&self.shared, keys)
    }

    /// Adds a handler. It gets every cached object as `Added`, then every change, in order, on the informer's task:
    /// it must be quick and must not block, typically it adds a key to a queue. It may read this and other caches,
    /// which hold the change already.
    pub fn on_event(&self, handler: impl Fn(&Event<V>) + Send + Sync + 'static) {
        self.on_keyed_event(move |_, event| handler(event));
    }

    /// As [`Informer::on_event`], with the object's key.
    pub fn on_keyed_event(&self, handler: impl Fn(&Key, &Event<V>) + Send + Sync + 'static) {
        self.shared.subscribe(Box::new(handler));
    }

    /// Queues the key of every object that changes.
    pub fn enqueue_to(&self, queue: WorkQueue<Key>) {
        self.on_keyed_event(move |key, _| queue.add(key.clone()));
    }

    /// Waits until the first list is in the cache and every handler has got it. Returns also when the informer is
    /// stopped before; see [`Informer::has_synced`].
    pub async fn synced(&self) {
        let mut state = self.shared.state.subscribe();
        tokio::select! {
            _ = state.wait_for(|state| state.is_synced()) => {}
            () = self.shared.cancel.cancelled() => {}
        }
    }

    /// Whether it changes no more.
    pub fn is_stopped(&self) -> bool {
        self.shared.cancel.is_cancelled()
    }

    pub fn has_synced(&self) -> bool {
        self.shared.state.borrow().is_synced()
    }

    /// The resource version the cache has reached; empty before the first list.
    pub fn resource_version(&self) -> String {
        self.shared.resource_version()
    }

    /// The same as a number; 0 where it is none.
    pub fn revision(&self) -> u64 {
        self.shared.revision()
    }

    /// Whether the object of this name is in the cache, with this uid.
    pub fn holds(&self, key: &Key, uid: &str) -> bool {
        self.shared.holds(key, uid)
    }

    /// Has `follower` informed of what the cache has reached, after the handlers.
    pub fn follow(&self, follower: Arc<dyn Progress>) {
        self.shared.follow(follower);
    }
}

/// Is informed, on the informer's task, of how far a cache is.
pub trait Progress: Send + Sync {
    /// Every change up to this revision is in the cache; `u64::MAX` where the server was put back to an earlier state, and
    /// what was written before may never be seen.
    fn reached(&self, _revision: u64) {}

    /// The object with this uid is no longer in the cache.
    fn removed(&self, _uid: &str) {}

    /// The server was put back to an earlier state. The cache is not yet: what is known of objects that are gone is to be
    /// forgotten before they are seen again.
    fn restored(&self) {}
}
