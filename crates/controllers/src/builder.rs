//! How a controller is put together: what it watches, what it owns, and how many workers reconcile.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, Informer, Key, Scope, Selectors, View, WorkQueue};
use futures::future::{BoxFuture, join_all};

use crate::own_writes::OwnWrites;
use crate::owned::{Adopters, Owned, Route, Selects};
use crate::pods::Pods;
use crate::reconcile::{Next, Reconcile};
use crate::views::{Object, Pod};
use crate::{Context, Error};

/// A controller before it runs. Handlers may be added in any order: nothing is reconciled before every cache it reads
/// is filled, and each object that it reconciles brings its own key then.
pub struct Builder {
    pub context: Context,
    /// For what is written outside of reconciliations.
    pub client: Client,
    pub events: EventRecorder,
    pub queue: WorkQueue<Key>,
    writes: Arc<OwnWrites>,
    synced: Vec<BoxFuture<'static, ()>>,
}

impl Builder {
    pub(crate) fn new(context: Context, queue: WorkQueue<Key>, client: Client, component: &str) -> Builder {
        Builder {
            events: EventRecorder::new(client.clone(), component, ""),
            writes: Arc::new(OwnWrites::new(queue.clone())),
            synced: Vec::new(),
            context,
            client,
            queue,
        }
    }

    /// A cache that reconciliations read.
    pub fn reads<V: View>(&mut self) -> Informer<V> {
        let cache = self.context.informers.all();
        self.follow(&cache);
        cache
    }

    /// A cache of some of the objects. Writes of these are not waited for, as it is not known which ones it will show.
    pub fn reads_some<V: View>(&mut self, scope: Scope, selectors: Selectors) -> Informer<V> {
        let cache: Informer<V> = self.context.informers.watch(scope, selectors);
        self.wait_for(&cache);
        cache
    }

    /// The cache of the objects to reconcile: each change of one brings its key.
    pub fn reconciles<V: View>(&mut self) -> Informer<V> {
        let cache = self.reads();
        cache.enqueue_to(self.queue.clone());
        cache
    }

    pub fn pods(&mut self) -> Pods {
        let pods = self.context.pods();
        self.follow(&pods.cache);
        pods
    }

    /// Objects that `owners` have as their own: a change of one brings the key of its owner, or of those that would
    /// adopt it.
    pub fn owns<V: View + Object, O: View + Selects>(&mut self) -> Owned<V> {
        self.owns_after::<V, O>(|_| Duration::ZERO)
    }

    /// As [`Builder::owns`], for pods.
    pub fn owns_pods<O: View + Selects>(&mut self) -> Pods {
        self.owns::<Pod, O>();
        self.context.pods()
    }

    /// As [`Builder::owns`], each change only after a time of its own.
    pub fn owns_after<V: View + Object, O: View + Selects>(
        &mut self,
        wait: impl Fn(&Event<V>) -> Duration + Send + Sync + 'static,
    ) -> Owned<V> {
        let owned = self.context.owned::<V>();
        self.follow(&owned.cache);
        let adopters = self.context.adopters::<O>();
        self.follow(adopters.cache());
        let queue = self.queue.clone();
        let bring = move |key: Key, event: &Event<V>| match wait(event) {
            Duration::ZERO => queue.add(key),
            wait => queue.add_after(key, wait),
        };
        owned.route(Route::new::<O>(adopters, bring));
        owned
    }

    pub fn adopters<O: View + Selects>(&mut self) -> Adopters<O> {
        let adopters = self.context.adopters();
        self.follow(adopters.cache());
        adopters
    }

    /// Waits for the cache before anything is reconciled, and for own writes to be in it.
    pub fn follow<V: Send + Sync + 'static>(&mut self, cache: &Informer<V>) {
        self.writes.follow(cache);
        self.wait_for(cache);
    }

    fn wait_for<V: Send + Sync + 'static>(&mut self, cache: &Informer<V>) {
        let cache = cache.clone();
        self.synced.push(Box::pin(async move { cache.synced().await }));
    }

    /// Waits until every cache is filled; false at the shutdown.
    pub async fn synced(&mut self) -> bool {
        let synced = join_all(self.synced.drain(..));
        self.context.shutdown.run_until_cancelled(synced).await.is_some()
    }

    /// Reconciles until the shutdown.
    pub async fn run(mut self, workers: usize, reconciler: impl Reconcile) -> Result<(), Error> {
        if !self.synced().await {
            return Ok(());
        }
        let Builder { context, client, queue, writes, .. } = self;
        let (reconciler, again) = (Arc::new(reconciler), queue.clone());
        let settling = writes.clone();
        let reconcile = move |key: Key| {
            let (reconciler, again) = (reconciler.clone(), again.clone());
            let client = client.with_journal(OwnWrites::of(&writes, key.clone()));
            async move {
                if let Next::After(wait) = reconciler.reconcile(&key, &client).await? {
                    again.add_after(key, wait);
                }
                Ok::<(), Error>(())
            }
        };
        tokio::select! {
            () = client::run_workers(queue, workers, context.shutdown.clone(), reconcile) => Ok(()),
            // The daemon's own identity fills the caches, and so may list what they have.
            never = settling.settle_doubts(context.informers.client()) => match never {},
        }
    }
}
