//! `device-taint-eviction-controller`: pods leave devices with `NoExecute` taints that their claims do not tolerate, or no
//! longer. Taints are those that drivers publish in slices, and those of `DeviceTaintRules`, whose status says how far it is.
//!
//! Absent: claims that are reserved for pod groups (the feature `DRAWorkloadResourceClaims` is off by default).

mod plan;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use client::{
    Client, DeleteOptions, Event, EventRecorder, EventType, Index, Informer, Key, Patch, Text, WorkQueue,
};
use controllers::views::{Condition, DeviceTaintRule, Object, Pod, ResourceClaim, ResourceSlice};
use controllers::{Context, Error, Next, Pods, Reconcile, time};
use daemon::metrics::{Counter, Histogram, registry};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use crate::Options;
use plan::{Counts, EVICTS, Eviction, IN_PROGRESS, Pool, PoolTaints, Taints};

const NAME: &str = "device-taint-eviction-controller";
/// The shortest time between two updates of a rule's status.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

static DELETIONS: LazyLock<Arc<Counter>> = LazyLock::new(|| {
    registry().counter(
        "device_taint_eviction_controller_pod_deletions_total",
        "Total number of Pods deleted by DeviceTaintEvictionController since its start.",
    )
});

static LATENCY: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "device_taint_eviction_controller_pod_deletion_duration_seconds",
        "Latency, in seconds, between the time when a device taint effect has been activated and a Pod's deletion via DeviceTaintEvictionController.",
        &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0],
    )
});

struct Controller {
    events: EventRecorder,
    queue: WorkQueue<Key>,
    pods: Pods,
    claims: Informer<ResourceClaim>,
    slices: Informer<ResourceSlice>,
    by_pool: Index<ResourceSlice, Pool>,
    pools: Arc<Pools>,
    /// None where rules are not followed.
    rules: Option<Informer<DeviceTaintRule>>,
    work: Arc<Work>,
}

/// Taints by pool, kept up to date with the slices.
type Pools = RwLock<FxHashMap<Pool, Arc<PoolTaints>>>;

#[derive(Default)]
struct Work {
    /// Evictions that are to come, of pods by uid.
    planned: Mutex<FxHashMap<Key, (Text, Eviction)>>,
    /// How many pods each rule has evicted.
    evicted: Mutex<FxHashMap<Text, u64>>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder(NAME, NAME, NAME).await?;
    LazyLock::force(&DELETIONS);
    LazyLock::force(&LATENCY);
    let has_rules = context.gates.enabled("DRADeviceTaintRules");
    let slices = builder.reads::<ResourceSlice>();
    let controller = Controller {
        events: builder.events.clone(),
        queue: builder.queue.clone(),
        pods: builder.pods(),
        claims: builder.reads(),
        by_pool: slices.index(|slice| [(slice.spec.driver.clone(), slice.spec.pool.name.clone())]),
        slices,
        pools: Arc::default(),
        rules: has_rules.then(|| builder.reads()),
        work: Arc::default(),
    };
    controller.follow();
    builder.run(options.concurrent_device_taint_eviction_syncs, controller).await
}

fn evicts(rule: &DeviceTaintRule) -> bool {
    rule.spec.taint.effect == EVICTS
}

/// The keys of rules have no namespace.
fn key_of(rule: &DeviceTaintRule) -> Key {
    Key::new("", &rule.metadata.name)
}

impl Controller {
    fn follow(&self) {
        let (queue, work) = (self.queue.clone(), self.work.clone());
        self.pods.cache().on_keyed_event(move |key, event| {
            let pod = event.object();
            let same = event.old().is_some_and(|old| {
                old.spec.node_name == pod.spec.node_name
                    && old.status.resource_claim_statuses == pod.status.resource_claim_statuses
            });
            if matches!(event, Event::Deleted(_)) {
                work.planned.lock().remove(key);
            } else if !same && !pod.spec.resource_claims.is_empty() {
                queue.add(key.clone());
            }
        });
        let queue = self.queue.clone();
        self.claims.on_event(move |event| {
            let all = event.old().into_iter().chain([event.object()]);
            all.flat_map(|claim| claim.users()).for_each(|pod| queue.add(pod));
        });
        let by_device = self.claims.index(|claim| {
            let devices = claim.devices().iter();
            let devices = devices.map(|own| (own.driver.clone(), own.pool.clone(), own.device.clone()));
            devices.collect::<Vec<_>>()
        });
        let (queue, by_pool, pools) = (self.queue.clone(), self.by_pool.clone(), self.pools.clone());
        self.slices.on_event(move |event| {
            let moved = event.old().filter(|old| old.spec.pool.name != event.object().spec.pool.name);
            for slice in moved.into_iter().chain([event.object()]) {
                let pool: Pool = (slice.spec.driver.clone(), slice.spec.pool.name.clone());
                let new = Arc::new(plan::pool_taints(&by_pool.get(&pool)));
                let old = match new.is_empty() {
                    true => pools.write().remove(&pool),
                    false => pools.write().insert(pool.clone(), new.clone()),
                };
                for device in plan::changed(&old.unwrap_or_default(), &new) {
                    let claims = by_device.get(&(pool.0.clone(), pool.1.clone(), device.clone()));
                    claims.iter().flat_map(|claim| claim.users()).for_each(|pod| queue.add(pod));
                }
            }
        });
        let Some(rules) = &self.rules else { return };
        let (queue, work, claims) = (self.queue.clone(), self.work.clone(), self.claims.clone());
        rules.on_event(move |event| {
            let rule = event.object();
            match event {
                // Its pods come after its status.
                Event::Added(_) => queue.add(key_of(rule)),
                Event::Modified { old, .. } if old.spec == rule.spec => {}
                Event::Modified { .. } => queue.add(key_of(rule)),
                Event::Deleted(_) => {
                    work.evicted.lock().remove(&rule.metadata.uid);
                    queue_affected(&queue, &work, &claims, rule);
                }
            }
        });
    }

    fn evicting_rules(&self) -> Vec<Arc<DeviceTaintRule>> {
        let mut rules = self.rules.as_ref().map(Informer::list).unwrap_or_default();
        rules.retain(|rule| evicts(rule));
        rules
    }

    fn eviction(&self, pod: &Pod, rules: &[Arc<DeviceTaintRule>]) -> Option<Eviction> {
        let of_pool = |pool: &Pool| self.pools.read().get(pool).cloned();
        let taints = Taints { of_pool: &of_pool, rules };
        taints.of_pod(pod, |name| self.claims.get(pod.metadata.namespace(), name))
    }
}

/// Brings the pods that a rule evicts, and those that are to go because of how it was.
fn queue_affected(
    queue: &WorkQueue<Key>,
    work: &Work,
    claims: &Informer<ResourceClaim>,
    rule: &DeviceTaintRule,
) {
    if evicts(rule) {
        for claim in claims.list().iter().filter(|claim| is_affected(claim, rule)) {
            claim.users().for_each(|pod| queue.add(pod));
        }
    }
    for (pod, (_, eviction)) in work.planned.lock().iter() {
        if eviction.rules.contains(&rule.metadata.uid) {
            queue.add(pod.clone());
        }
    }
}

fn is_affected(claim: &ResourceClaim, rule: &DeviceTaintRule) -> bool {
    claim.devices().iter().any(|own| rule.selects(&own.driver, &own.pool, &own.device))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        if key.namespace.is_empty() {
            self.reconcile_rule(key, client).await
        } else {
            self.reconcile_pod(key, client).await
        }
    }
}

impl Controller {
    async fn reconcile_pod(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let pod = self.pods.cache.get_key(key);
        let Some(pod) = pod.filter(|pod| !pod.metadata.is_deleting()) else {
            self.work.planned.lock().remove(key);
            return Ok(Next::Done);
        };
        let rules = self.evicting_rules();
        let Some(eviction) = self.eviction(&pod, &rules) else {
            let planned = self.work.planned.lock().remove(key);
            if planned.is_some_and(|(uid, _)| uid == pod.metadata.uid) {
                self.event(&pod, "Cancelling deletion");
            }
            return Ok(Next::Done);
        };
        let wait = eviction.at.duration_since(Timestamp::now());
        if !wait.is_negative() && !wait.is_zero() {
            let planned = (pod.metadata.uid.clone(), eviction.clone());
            self.work.planned.lock().insert(key.clone(), planned);
            self.report_later(&rules, &eviction);
            return Ok(Next::After(wait.unsigned_abs()));
        }
        if self.evict(client, &pod).await? {
            DELETIONS.inc();
            LATENCY.observe(Timestamp::now().duration_since(eviction.at).as_secs_f64());
            for rule in &eviction.rules {
                *self.work.evicted.lock().entry(rule.clone()).or_default() += 1;
            }
            self.report_later(&rules, &eviction);
        }
        self.work.planned.lock().remove(key);
        Ok(Next::Done)
    }

    /// More pods may follow, so the status is written once for all of them.
    fn report_later(&self, rules: &[Arc<DeviceTaintRule>], eviction: &Eviction) {
        for rule in rules.iter().filter(|rule| eviction.rules.contains(&rule.metadata.uid)) {
            self.queue.add_after(key_of(rule), STATUS_PERIOD);
        }
    }

    fn event(&self, pod: &Pod, message: &str) {
        self.events.event(&pod.reference(), EventType::Normal, "DeviceTaintManagerEviction", message);
    }

    /// Whether the pod was there to be deleted.
    async fn evict(&self, client: &Client, pod: &Pod) -> Result<bool, Error> {
        self.event(pod, "Marking for deletion");
        let meta = &pod.metadata;
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByDeviceTaintManager",
            "message": "Device Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": time::text(Timestamp::now()),
        }]}});
        let patch = Patch::Strategic(patch);
        match client.patch::<Pod>(meta.namespace(), &meta.name, Some("status"), patch).await {
            Err(error) if error.is_not_found() => return Ok(false),
            result => drop(result?),
        }
        let options = DeleteOptions::default().uid(meta.uid.clone());
        match client.delete::<Pod>(meta.namespace(), &meta.name, &options).await {
            Err(error) if error.is_not_found() => Ok(false),
            result => Ok(result.map(|()| true)?),
        }
    }

    async fn reconcile_rule(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let rule = self.rules.as_ref().and_then(|rules| rules.get_key(key));
        let Some(rule) = rule else { return Ok(Next::Done) };
        let old = Condition::find(&rule.status.conditions, IN_PROGRESS);
        let is_current = old.is_some_and(|old| old.observed_generation == rule.metadata.generation);
        if let Some(written) = old.filter(|_| is_current).and_then(|old| old.last_transition_time.as_ref()) {
            let since = Timestamp::now().duration_since(written.0);
            if let Some(wait) = STATUS_PERIOD.checked_sub(since.unsigned_abs()).filter(|wait| !wait.is_zero())
            {
                return Ok(Next::After(wait));
            }
        }
        let new = plan::condition(&rule, &self.counts(&rule));
        let written = match old == Some(&new) {
            true => Ok(()),
            false => write(client, &rule, new).await,
        };
        if !is_current {
            // Nobody waits for a status that cannot be written.
            queue_affected(&self.queue, &self.work, &self.claims, &rule);
        }
        written.map(|()| Next::Done)
    }

    /// What the rule does, or would do if it evicted.
    fn counts(&self, rule: &Arc<DeviceTaintRule>) -> Counts {
        let effect = rule.spec.taint.effect.as_str();
        let mut counts = Counts { evicted: self.evicted(&rule.metadata.uid), ..Counts::default() };
        if !matches!(effect, EVICTS | "None") {
            return counts;
        }
        let claims = self.claims.list();
        let affected: Vec<_> = claims.iter().filter(|claim| is_affected(claim, rule)).collect();
        let rules = if effect == EVICTS { self.evicting_rules() } else { vec![rule.clone()] };
        let pods: FxHashSet<Key> = affected.iter().flat_map(|claim| claim.users()).collect();
        let pods: Vec<Key> = pods.into_iter().filter(|pod| self.is_to_go(pod, &rules, rule)).collect();
        counts.pods = pods.len();
        counts.namespaces = pods.iter().map(|pod| &pod.namespace).collect::<FxHashSet<_>>().len();
        if effect == "None" {
            let allocated = affected.iter().flat_map(|claim| claim.devices());
            let is_selected = |driver: &str, pool: &str, device: &str| rule.selects(driver, pool, device);
            counts.allocated =
                allocated.filter(|own| is_selected(&own.driver, &own.pool, &own.device)).count();
            let mut pools: FxHashMap<Pool, Vec<Arc<ResourceSlice>>> = FxHashMap::default();
            for slice in self.slices.list() {
                let pool = (slice.spec.driver.clone(), slice.spec.pool.name.clone());
                pools.entry(pool).or_default().push(slice);
            }
            let selected = pools.iter().map(|((driver, pool), slices)| {
                let devices = plan::current(slices).flat_map(|slice| &slice.spec.devices);
                devices.filter(|device| is_selected(driver, pool, &device.name)).count()
            });
            counts.published = selected.sum();
        }
        counts
    }

    fn evicted(&self, uid: &Text) -> u64 {
        self.work.evicted.lock().get(uid).copied().unwrap_or(0)
    }

    fn is_to_go(&self, pod: &Key, rules: &[Arc<DeviceTaintRule>], rule: &DeviceTaintRule) -> bool {
        let eviction = self.pods.cache.get_key(pod).and_then(|pod| self.eviction(&pod, rules));
        eviction.is_some_and(|eviction| eviction.rules.contains(&rule.metadata.uid))
    }
}

async fn write(client: &Client, rule: &DeviceTaintRule, condition: Condition) -> Result<(), Error> {
    let object = json!({
        "apiVersion": DeviceTaintRule::API_VERSION,
        "kind": DeviceTaintRule::KIND,
        "metadata": {"name": rule.metadata.name, "uid": rule.metadata.uid},
        "status": {"conditions": [{
            "type": condition.type_,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": condition.observed_generation,
            "lastTransitionTime": time::text(Timestamp::now()),
        }]},
    });
    let patch = Patch::Apply { manager: NAME.to_owned(), force: true, object };
    match client.patch::<DeviceTaintRule>(None, &rule.metadata.name, Some("status"), patch).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}
