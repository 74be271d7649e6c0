//! In-process reads of every resource, from the watch cache.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use registry::Kind;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::feed::{Feed, Storage};
use crate::filter::Filter;
use crate::{Cache, Subscription};

pub use crate::entry::Entry;
pub use crate::event::{Event, EventType};

/// The handle. Reads never go to etcd and may be a moment old; writes that follow from them are conditional and safe against that.
pub struct Resources {
    pub store: Arc<dyn Store>,
    pub feed: Arc<Feed>,
    /// Ends watches when the server stops.
    pub shutdown: CancellationToken,
}

impl Resources {
    /// Caches for every stored kind that is served by default. Nothing happens before [`Resources::run`].
    pub fn new(store: Arc<dyn Store>, shutdown: CancellationToken) -> Arc<Resources> {
        Resources::with_storage(store, shutdown, &Storage::default())
    }

    /// [`Resources::new`] for these kinds.
    pub fn with_storage(
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
        storage: &Storage,
    ) -> Arc<Resources> {
        let feed = Arc::new(Feed::new(Arc::clone(&store), storage));
        Arc::new(Resources { store, feed, shutdown })
    }

    /// Fills the caches and keeps them so, until shutdown.
    pub async fn run(&self) {
        self.feed.run(self.shutdown.clone()).await;
    }

    /// Waits until every cache holds the store's state.
    pub async fn synced(&self) {
        self.feed.reached(1, std::time::Duration::MAX).await;
    }

    /// Waits until the caches are true for now. No longer than a moment: then what they have must do.
    pub async fn catch_up(&self) {
        const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);
        let caught_up = async {
            if let Ok(revision) = self.feed.store_revision().await {
                self.feed.reached(revision, MOMENT).await;
            }
        };
        let _ = tokio::time::timeout(MOMENT, caught_up).await;
    }

    /// Whether every cache holds the store's state.
    pub fn is_synced(&self) -> bool {
        self.feed.revision() > 0
    }

    fn cache(&self, resource: &Resource) -> Option<Arc<Cache>> {
        self.feed.cache(&resource.storage_prefix)
    }

    /// The cache of the objects that a kind of a definition has, where it is of this definition.
    pub fn cache_of(&self, kind: &Kind) -> Option<Arc<Cache>> {
        let definition = |kind: &Kind| kind.custom().map(|custom| custom.definition.clone());
        let own = definition(kind);
        self.cache(kind).filter(|cache| own.is_some() && definition(&cache.kind.resource) == own)
    }

    /// From the cache. `namespace` is empty for cluster-scoped objects.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.cache(resource)?.get(namespace, name)
    }

    /// Revision of the last change to the resource that the cache has.
    pub fn changed(&self, resource: &Resource) -> i64 {
        self.cache(resource).map_or(0, |cache| cache.changed())
    }

    /// All objects in a namespace (`None`: everywhere), from the cache.
    pub fn list(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let Some(cache) = self.cache(resource) else { return Vec::new() };
        let filter = Filter::within(namespace.unwrap_or_default());
        cache.snapshot(0).select(&filter, "", cache.kind.is_namespaced()).cloned().collect()
    }

    /// [`Resources::get`], which is an error where what is stored cannot be read.
    pub fn find(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Entry>>, Status> {
        let Some(cache) = self.cache(resource) else { return Ok(None) };
        Ok(cache.find(namespace, name)?)
    }

    /// [`Resources::get`] for those who decide by it: an object that cannot be read is an error, not absent.
    pub fn read(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Option<Tree>, Status> {
        let Some(cache) = self.cache(resource) else { return Ok(None) };
        cache.find(namespace, name)?.map(|entry| entry.read()).transpose()
    }

    /// [`Resources::list`] for those who decide by it: it is an error where one of the objects cannot be read.
    pub fn read_all(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> Result<Vec<(Arc<Entry>, Tree)>, Status> {
        let entries = self.find_all(resource, namespace)?.into_iter();
        entries.map(|entry| entry.read().map(|tree| (entry, tree))).collect()
    }

    /// [`Resources::list`], which is an error where what is stored cannot be read.
    pub fn find_all(&self, resource: &Resource, namespace: Option<&str>) -> Result<Vec<Arc<Entry>>, Status> {
        let Some(cache) = self.cache(resource) else { return Ok(Vec::new()) };
        let base = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let snapshot = cache.whole(&base).map_err(|error| error.of_list(&resource.plural))?;
        let filter = Filter::within(namespace.unwrap_or_default());
        Ok(snapshot.select(&filter, "", cache.kind.is_namespaced()).cloned().collect())
    }

    /// All objects now, and every later change. `None` for kinds that are not stored. When the subscription's channel closes, the
    /// reader was too slow, and subscribes again.
    pub fn subscribe(&self, resource: &Resource) -> Option<(Vec<Arc<Entry>>, Subscription)> {
        let cache = self.cache(resource)?;
        let (snapshot, subscription) = cache.watch_from_now(Arc::new(Filter::default()), 0);
        Some((snapshot.objects.values().cloned().collect(), subscription))
    }
}
