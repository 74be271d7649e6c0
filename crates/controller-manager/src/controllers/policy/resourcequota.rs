//! `resourcequota-controller`: how much of each quota is used. What comes is charged, or refused, at admission; here the status is
//! brought up to date when something goes, when a quota changes, and now and then.

mod facts;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Event, Index, Informer, Key, ResourceRef, Text, WorkQueue};
use controllers::kinds::{Known, MetaCache};
use controllers::views::{
    ActualResources, ContainerStatus, DeviceClass, HasMeta, PersistentVolumeClaim, Pod, Quantities,
    QuotaStatus, ResourceClaim, ResourceQuota, Service,
};
use controllers::{Context, Error, Kinds, Next, Pods, Reconcile, write_status};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::Options;

/// After so long the objects of all that admission charged are there and known, or never will be. Changes that come together are
/// also one reason to count again.
const SETTLED: Duration = Duration::from_millis(500);
/// Before a kind that is not listed yet is looked at again.
const UNLISTED: Duration = Duration::from_secs(1);
/// Before a kind that is not served is looked for again: as often as discovery is read. A definition may be younger than that.
const UNKNOWN: Duration = Duration::from_secs(30);

struct Controller {
    quotas: Informer<ResourceQuota>,
    pods: Pods,
    services: Informer<Service>,
    volume_claims: Informer<PersistentVolumeClaim>,
    device_claims: Informer<ResourceClaim>,
    classes: Informer<DeviceClass>,
    kinds: Kinds,
    /// Resources of which objects are counted.
    counted: Mutex<FxHashMap<ResourceRef, Arc<dyn MetaCache>>>,
    recount: Recount,
    resync: Duration,
}

/// Quotas that are to be counted again, once what was charged to them so far has settled.
#[derive(Clone)]
struct Recount {
    quotas: Index<ResourceQuota, Text>,
    queue: WorkQueue<Key>,
    waiting: Arc<Mutex<FxHashMap<Key, Charged>>>,
}

/// What a quota's status said at a time.
#[derive(Clone)]
struct Charged {
    since: Instant,
    used: Quantities,
}

impl Recount {
    fn namespace(&self, namespace: &Text) {
        for quota in self.quotas.get(namespace) {
            self.quota(quota.metadata.cache_key(), quota.status.used.as_ref());
        }
    }

    fn quota(&self, key: Key, used: Option<&Quantities>) {
        let charged = || Charged { since: Instant::now(), used: used.cloned().unwrap_or_default() };
        self.waiting.lock().entry(key.clone()).or_insert_with(charged);
        self.queue.add_after(key, SETTLED);
    }

    /// What the status said a while ago; and how long until that is a while.
    fn settled(&self, key: &Key) -> (Option<Quantities>, Option<Duration>) {
        match self.waiting.lock().get(key) {
            None => (None, None),
            Some(charged) => match SETTLED.checked_sub(charged.since.elapsed()) {
                Some(wait) if !wait.is_zero() => (None, Some(wait)),
                _ => (Some(charged.used.clone()), None),
            },
        }
    }
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
    let recount = Recount {
        quotas: quotas.index(|quota| [quota.metadata.namespace.clone()]),
        queue: builder.queue.clone(),
        waiting: Arc::default(),
    };
    let controller = Controller {
        quotas,
        pods: builder.pods(),
        services: builder.reads(),
        volume_claims: builder.reads(),
        device_claims: builder.reads(),
        classes: builder.reads(),
        kinds: context.kinds.clone(),
        counted: Mutex::default(),
        recount,
        resync: *options.resource_quota_sync_period,
    };
    controller.follow(controller.pods.cache(), |old, new| {
        old.is_terminal() != new.is_terminal()
            || old.spec.containers != new.spec.containers
            || old.spec.active_deadline_seconds != new.spec.active_deadline_seconds
            || resources(old) != resources(new)
    });
    controller.follow(&controller.services, |old, new| {
        (&old.spec.type_, &old.spec.ports) != (&new.spec.type_, &new.spec.ports)
    });
    controller
        .follow(&controller.volume_claims, |old, new| facts::volume_claim(old) != facts::volume_claim(new));
    controller.follow(&controller.device_claims, |_, _| false);
    builder.run(options.concurrent_resource_quota_syncs, controller).await
}

/// What the containers of a pod were granted and run with.
fn resources(pod: &Pod) -> Vec<(&str, Option<&Quantities>, Option<&ActualResources>)> {
    let read = |status| -> (&str, Option<&Quantities>, Option<&ActualResources>) {
        let status: &ContainerStatus = status;
        (&status.name, status.allocated_resources.as_deref(), status.resources.as_deref())
    };
    pod.status.container_statuses.iter().map(read).collect()
}

impl Controller {
    /// Counts again when an object goes, or changes in a way that matters. What comes, admission has charged.
    fn follow<V: HasMeta>(
        &self,
        cache: &Informer<V>,
        matters: impl Fn(&V, &V) -> bool + Send + Sync + 'static,
    ) {
        let recount = self.recount.clone();
        cache.on_event(move |event| {
            let counts = match event {
                Event::Added(_) => false,
                Event::Modified { old, new } => matters(old, new),
                Event::Deleted(_) => true,
            };
            if counts {
                recount.namespace(&event.object().meta().namespace);
            }
        });
    }

    /// The metadata of a resource's objects, followed from now on; and whether it is only now that they are.
    fn counted(&self, resource: &ResourceRef) -> (Arc<dyn MetaCache>, bool) {
        let mut counted = self.counted.lock();
        // Those of a kind that went are stopped, and it may have come again.
        counted.retain(|_, cache| !cache.is_stopped());
        if let Some(cache) = counted.get(resource) {
            return (cache.clone(), false);
        }
        let cache = self.kinds.metadata(resource);
        let recount = self.recount.clone();
        cache.on_change(Box::new(move |_, _, meta, gone| {
            if gone {
                recount.namespace(&meta.namespace);
            }
        }));
        counted.insert(resource.clone(), cache.clone());
        (cache, true)
    }

    /// How many objects there are of what a quota counts by number, by the quota's names; and when to look again, where not all
    /// could be counted. What cannot, because its kind is not listed yet, or never will be, keeps the number it has. The first quota
    /// that counts a kind waits for its list: until the status is whole, all that it counts is refused.
    async fn numbers(
        &self,
        known: &Known,
        quota: &ResourceQuota,
    ) -> (FxHashMap<Text, i64>, Option<Duration>) {
        let (mut numbers, mut again) = (FxHashMap::default(), None);
        for name in quota.spec.hard.keys() {
            let Some((plural, group)) = usage::by_number(name) else { continue };
            let Some(resource) = known.followed(group, plural) else {
                again.get_or_insert(UNKNOWN);
                continue;
            };
            let (cache, fresh) = self.counted(resource);
            if fresh {
                let _ = tokio::time::timeout(UNLISTED, cache.synced()).await;
            }
            if !cache.is_synced() {
                again = Some(UNLISTED);
                continue;
            }
            let count = cache.count_in(&quota.metadata.namespace);
            numbers.insert(name.clone(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        (numbers, again)
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(quota) = self.quotas.get_key(key) else {
            self.recount.waiting.lock().remove(key);
            return Ok(Next::Done);
        };
        self.kinds.known_first().await;
        let known = self.kinds.known();
        let (settled, wait) = self.recount.settled(key);
        let (numbers, again) = self.numbers(&known, &quota).await;
        let namespace = &*key.namespace;
        let objects = usage::Objects {
            pods: &self.pods.cache.list_in(namespace),
            services: &self.services.list_in(namespace),
            volume_claims: &self.volume_claims.list_in(namespace),
            device_claims: &self.device_claims.list_in(namespace),
            classes: &self.classes.list(),
            numbers: &numbers,
        };
        let counted = usage::used(&quota, &objects, jiff::Timestamp::now());
        let level = usage::level(&quota, &counted, settled.as_ref());
        let used = usage::written(&level.used);
        let status = QuotaStatus { hard: Some(quota.spec.hard.clone()), used: Some(used) };
        write_status(client, &*quota, &quota.status, &status).await?;
        if settled.is_some() {
            self.recount.waiting.lock().remove(key);
        }
        if level.again {
            self.recount.quota(key.clone(), status.used.as_ref());
        }
        let resync = (!self.resync.is_zero()).then_some(self.resync);
        Ok(Next::after(again.or(resync)).or(Next::after(wait)))
    }
}
