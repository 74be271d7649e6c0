//! When a pod is to leave its devices, and what a rule's status says about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::Text;
use controllers::taints::tolerates;
use controllers::views::{Condition, DeviceTaintRule, Pod, ResourceClaim, ResourceSlice, Taint};
use jiff::Timestamp;

use crate::controllers::devices::claims::plan::{self as claims, Named};

pub const IN_PROGRESS: &str = "EvictionInProgress";
pub const EVICTS: &str = "NoExecute";

/// A pool of devices: its driver and its name.
pub type Pool = (Text, Text);

/// Taints of a pool's devices that evict, by device.
pub type PoolTaints = BTreeMap<Text, Vec<Taint>>;

/// When a pod is to be evicted, and which rules are among the reasons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eviction {
    pub at: Timestamp,
    pub rules: BTreeSet<Text>,
}

/// The slices of a pool that count: those of its newest generation.
pub fn current(slices: &[Arc<ResourceSlice>]) -> impl Iterator<Item = &Arc<ResourceSlice>> {
    let newest = slices.iter().map(|slice| slice.spec.pool.generation).max();
    slices.iter().filter(move |slice| Some(slice.spec.pool.generation) == newest)
}

pub fn pool_taints(slices: &[Arc<ResourceSlice>]) -> PoolTaints {
    let devices = current(slices).flat_map(|slice| &slice.spec.devices);
    let tainted = devices.filter_map(|device| {
        let taints: Vec<Taint> =
            device.taints.iter().filter(|taint| taint.effect == EVICTS).cloned().collect();
        (!taints.is_empty()).then(|| (device.name.clone(), taints))
    });
    tainted.collect()
}

/// Devices whose taints differ.
pub fn changed<'a>(old: &'a PoolTaints, new: &'a PoolTaints) -> BTreeSet<&'a Text> {
    old.keys().chain(new.keys()).filter(|device| old.get(*device) != new.get(*device)).collect()
}

pub struct Taints<'a> {
    /// The taints of a pool's devices.
    pub of_pool: &'a dyn Fn(&Pool) -> Option<Arc<PoolTaints>>,
    /// Rules that evict.
    pub rules: &'a [Arc<DeviceTaintRule>],
}

impl Taints<'_> {
    /// When the users of a claim are to go: at the earliest time among its devices' taints and tolerations.
    pub fn of_claim(&self, claim: &ResourceClaim) -> Option<Eviction> {
        let mut eviction: Option<Eviction> = None;
        for allocated in claim.devices() {
            let pool = (self.of_pool)(&(allocated.driver.clone(), allocated.pool.clone()));
            let own = pool.as_ref().and_then(|pool| pool.get(&allocated.device));
            let own = own.into_iter().flatten().map(|taint| (taint, None));
            let rules = self
                .rules
                .iter()
                .filter(|rule| rule.selects(&allocated.driver, &allocated.pool, &allocated.device));
            let rules = rules.map(|rule| (&rule.spec.taint, Some(rule.metadata.uid.clone())));
            for (taint, rule) in own.chain(rules) {
                let tolerations =
                    allocated.tolerations.iter().filter(|toleration| toleration.effect == EVICTS);
                let mut matching = tolerations.filter(|toleration| tolerates(toleration, taint)).peekable();
                let is_tolerated = matching.peek().is_some();
                let limits: Option<Vec<i64>> =
                    matching.map(|toleration| toleration.toleration_seconds).collect();
                // One without a limit tolerates it for good.
                let Some(limits) = limits else { continue };
                let Some(added) = &taint.time_added else { continue };
                let shortest = limits.into_iter().min().filter(|_| is_tolerated).unwrap_or(0).max(0);
                let at = Timestamp::from_second(added.0.as_second().saturating_add(shortest));
                let at = at.unwrap_or(Timestamp::MAX);
                let sum = eviction.get_or_insert_with(|| Eviction { at, rules: BTreeSet::new() });
                sum.at = sum.at.min(at);
                sum.rules.extend(rule);
            }
        }
        eviction
    }

    /// When a pod is to go because of one of its claims.
    pub fn of_pod(&self, pod: &Pod, find: impl Fn(&str) -> Option<Arc<ResourceClaim>>) -> Option<Eviction> {
        if pod.spec.node_name.is_empty() || pod.metadata.is_deleting() {
            return None;
        }
        let of_entry = |entry| {
            let Ok(Named::Claim { name, is_generated }) = claims::named(pod, entry) else { return None };
            let claim = find(name)?;
            let is_other = is_generated && claims::check_owner(pod, &claim).is_err();
            (!is_other && claim.is_reserved_for(&pod.metadata.uid)).then(|| self.of_claim(&claim))?
        };
        pod.spec.resource_claims.iter().filter_map(of_entry).reduce(|mut sum, other| {
            sum.at = sum.at.min(other.at);
            sum.rules.extend(other.rules);
            sum
        })
    }
}

/// What a rule does, or would do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub published: usize,
    pub allocated: usize,
    pub pods: usize,
    pub namespaces: usize,
    /// Evicted since this process started.
    pub evicted: u64,
}

fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// The rule's condition; its time is that of the one before, so that they can be compared.
pub fn condition(rule: &DeviceTaintRule, counts: &Counts) -> Condition {
    let old = Condition::find(&rule.status.conditions, IN_PROGRESS);
    let Counts { published, allocated, pods, namespaces, evicted } = *counts;
    let places = plural(namespaces, "namespace", "different namespaces");
    let (status, reason, mut message) = match rule.spec.taint.effect.as_str() {
        EVICTS if pods > 0 => {
            let pods = plural(pods, "pod needs to be evicted in", "pods need to be evicted in");
            ("True", "PodsPendingEviction", format!("{pods} {places}."))
        }
        EVICTS if evicted > 0 => ("False", "Completed", String::new()),
        EVICTS => ("False", "NotStarted", String::new()),
        "None" => {
            let published = plural(published, "published device selected.", "published devices selected.");
            let allocated = plural(allocated, "allocated device selected.", "allocated devices selected.");
            let pods = plural(pods, "pod would be evicted in", "pods would be evicted in");
            let rest = "if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.";
            ("False", "NoEffect", format!("{published} {allocated} {pods} {places} {rest}"))
        }
        _ => ("False", "OtherEffect", "Eviction only happens for the NoExecute effect.".to_owned()),
    };
    if evicted > 0 {
        let count = usize::try_from(evicted).unwrap_or(usize::MAX);
        let evicted = plural(count, "pod evicted", "pods evicted");
        let space = if message.is_empty() { "" } else { " " };
        message.push_str(&format!("{space}{evicted} since starting the controller."));
    }
    Condition {
        type_: IN_PROGRESS.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: rule.metadata.generation,
        last_transition_time: old.and_then(|old| old.last_transition_time.clone()),
        ..Condition::default()
    }
}
