//! `resourcequota-controller`: how much of each quota is used. What would be too much is refused at admission; here the
//! status is brought up to date when something goes, comes or changes.

mod scopes;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, Index, Informer, Key, ResourceRef, Text, WorkQueue};
use controllers::kinds::{Known, MetaCache};
use controllers::views::{HasMeta, PersistentVolumeClaim, Pod, QuotaStatus, ResourceQuota, Service};
use controllers::{Context, Error, Kinds, Next, Pods, Reconcile, write_status};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::Options;
use usage::Objects;

/// Changes that come together are one reason to count again.
const GATHER: Duration = Duration::from_millis(200);
/// Before a kind that is not listed yet is looked at again.
const UNLISTED: Duration = Duration::from_secs(1);

struct Controller {
    quotas: Informer<ResourceQuota>,
    by_namespace: Index<ResourceQuota, Text>,
    pods: Pods,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    kinds: Kinds,
    /// Resources of which objects are counted.
    counted: Mutex<FxHashMap<ResourceRef, Arc<dyn MetaCache>>>,
    queue: WorkQueue<Key>,
    resync: Duration,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "resourcequota-controller";
    let mut builder = context.builder("resourcequota_primary", account, account).await?;
    let quotas = builder.reads::<ResourceQuota>();
    let queue = builder.queue.clone();
    quotas.on_keyed_event(move |key, event| {
        // Statuses are written by admission all the time, for what it has counted itself.
        let changed = match event {
            Event::Modified { old, new } => old.spec != new.spec,
            Event::Added(_) => true,
            Event::Deleted(_) => false,
        };
        if changed {
            queue.add(key.clone());
        }
    });
    let controller = Controller {
        by_namespace: quotas.index(|quota| [quota.metadata.namespace.clone()]),
        quotas,
        pods: builder.pods(),
        services: builder.reads(),
        claims: builder.reads(),
        kinds: context.kinds.clone(),
        counted: Mutex::default(),
        queue: builder.queue.clone(),
        resync: *options.resource_quota_sync_period,
    };
    controller.follow(controller.pods.cache(), |old, new| {
        old.is_terminal() != new.is_terminal() || old.spec.containers != new.spec.containers
    });
    controller.follow(&controller.services, |old, new| {
        (&old.spec.type_, &old.spec.ports) != (&new.spec.type_, &new.spec.ports)
    });
    controller.follow(&controller.claims, |old, new| old.spec != new.spec);
    builder.run(options.concurrent_resource_quota_syncs, controller).await
}

impl Controller {
    /// Counts again when an object comes, goes, or changes in a way that matters.
    fn follow<V: HasMeta>(
        &self,
        cache: &Informer<V>,
        matters: impl Fn(&V, &V) -> bool + Send + Sync + 'static,
    ) {
        let (quotas, queue) = (self.by_namespace.clone(), self.queue.clone());
        cache.on_event(move |event| {
            if event.old().is_none_or(|old| matters(old, event.object())) {
                recount(&quotas, &queue, &event.object().meta().namespace);
            }
        });
    }

    /// The metadata of a resource's objects, followed from now on.
    fn counted(&self, resource: &ResourceRef) -> Arc<dyn MetaCache> {
        let mut counted = self.counted.lock();
        // Those of a kind that went are stopped, and it may have come again.
        counted.retain(|_, cache| !cache.is_stopped());
        let entry = counted.entry(resource.clone()).or_insert_with(|| {
            let cache = self.kinds.metadata(resource);
            let (quotas, queue) = (self.by_namespace.clone(), self.queue.clone());
            cache.on_change(Box::new(move |_, old, meta, _| {
                if old.is_none() {
                    recount(&quotas, &queue, &meta.namespace);
                }
            }));
            cache
        });
        entry.clone()
    }

    /// How many objects there are of what a quota counts by number, by the quota's names; and whether all could be counted.
    /// What cannot, because its kind is not listed yet, or never will be, keeps the number it has.
    fn numbers(&self, known: &Known, quota: &ResourceQuota) -> (FxHashMap<Text, i64>, bool) {
        let (mut numbers, mut whole) = (FxHashMap::default(), true);
        for name in quota.spec.hard.keys() {
            let Some((plural, group)) = usage::counted(name) else { continue };
            let Some(resource) = known.followed(group, plural) else { continue };
            let cache = self.counted(resource);
            if !cache.is_synced() {
                whole = false;
                continue;
            }
            let count = cache.count_in(&quota.metadata.namespace);
            numbers.insert(name.clone(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        (numbers, whole)
    }
}

fn recount(quotas: &Index<ResourceQuota, Text>, queue: &WorkQueue<Key>, namespace: &Text) {
    for quota in quotas.get(namespace) {
        queue.add_after(quota.metadata.cache_key(), GATHER);
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(quota) = self.quotas.get_key(key) else { return Ok(Next::Done) };
        self.kinds.known_first().await;
        let known = self.kinds.known();
        let (numbers, whole) = self.numbers(&known, &quota);
        let namespace = &*key.namespace;
        let pods: Vec<Arc<Pod>> = self.pods.cache.list_in(namespace);
        let (services, claims) = (self.services.list_in(namespace), self.claims.list_in(namespace));
        let objects = Objects { pods: &pods, services: &services, claims: &claims, numbers: &numbers };
        let hard = quota.spec.hard.clone();
        let mut used = quota.status.used.clone().unwrap_or_default();
        used.extend(usage::used(&quota, &objects, jiff::Timestamp::now()));
        used.retain(|name, _| hard.contains_key(name));
        let status = QuotaStatus { hard: Some(hard), used: Some(used) };
        write_status(client, &*quota, &quota.status, &status).await?;
        Ok(match (whole, self.resync.is_zero()) {
            (false, _) => Next::After(UNLISTED),
            (true, true) => Next::Done,
            (true, false) => Next::After(self.resync),
        })
    }
}
