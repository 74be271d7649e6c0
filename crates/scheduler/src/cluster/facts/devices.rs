//! Claims of devices, classes of devices, and the devices that drivers publish. Which of them are allocated is counted by
//! difference, those included whose claims are still to be written.

mod allocated;
mod claim;
mod inventory;
mod read;
mod request;
mod slice;
mod taint;

use std::sync::Arc;

use client::Key;
use rustc_hash::FxHashMap;

pub use allocated::{Allocated, Amounts, Share, Taken};
pub use claim::{Allocation, DeviceClaim, Prepared};
pub use inventory::Inventory;
pub use request::{AttributeConstraint, DeviceClass, Exact, Request, Selector};
pub use slice::{Amount, Attribute, Capacity, Device, Nodes, Policy, Range, Slice};
pub use taint::TaintRule;

use crate::cluster::Symbol;

/// Driver, pool and name of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId {
    pub driver: Symbol,
    pub pool: Symbol,
    pub name: Symbol,
}

impl std::fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}/{}", self.driver, self.pool, self.name)
    }
}

#[derive(Debug)]
struct Pending {
    /// The pod that they are for.
    pod: Box<str>,
    taken: Taken,
    /// Version of the claim that says so, once it is written.
    written: Option<u64>,
}

/// What a change of a claim may mean to pods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClaimChange {
    /// Others may have its devices now.
    pub has_freed: bool,
    /// It is new, or its status is another: pods that use it may go on.
    pub concerns_users: bool,
}

#[derive(Debug, Default)]
pub struct Devices {
    pub classes: FxHashMap<Symbol, Arc<DeviceClass>>,
    claims: FxHashMap<Key, Arc<DeviceClaim>>,
    /// Devices chosen for claims, by the claim's UID, until that is seen or taken back.
    pending: FxHashMap<Box<str>, Pending>,
    allocated: Arc<Allocated>,
    inventory: Arc<Inventory>,
    rules: FxHashMap<Symbol, Arc<TaintRule>>,
}

impl Devices {
    pub fn claim(&self, key: &Key) -> Option<&Arc<DeviceClaim>> {
        self.claims.get(key)
    }

    pub fn allocated(&self) -> Arc<Allocated> {
        self.allocated.clone()
    }

    pub fn inventory(&self) -> Arc<Inventory> {
        self.inventory.clone()
    }

    /// Whether a pod has chosen devices for the claim that are not seen yet.
    pub fn is_pending(&self, claim: &DeviceClaim) -> bool {
        self.pending.contains_key(&claim.uid)
    }

    pub fn set_claim(&mut self, claim: &Arc<DeviceClaim>) -> ClaimChange {
        let pending = self.pending.get(&claim.uid);
        let is_seen = |pending: &Pending| pending.written.is_some_and(|version| version <= claim.version);
        if claim.allocation.is_some() || pending.is_some_and(is_seen) {
            self.end_pending(&claim.uid);
        }
        let old = self.claims.insert(claim.key.clone(), claim.clone());
        self.count(claim.taken(), 1);
        let Some(old) = old else { return ClaimChange { has_freed: false, concerns_users: true } };
        self.count(old.taken(), -1);
        ClaimChange {
            has_freed: old.allocation.is_some() && claim.allocation.is_none(),
            concerns_users: old.uid != claim.uid || !old.has_status_of(claim),
        }
    }

    pub fn remove_claim(&mut self, claim: &DeviceClaim) -> ClaimChange {
        self.end_pending(&claim.uid);
        let Some(old) = self.claims.remove(&claim.key) else { return ClaimChange::default() };
        self.count(old.taken(), -1);
        ClaimChange { has_freed: old.allocation.is_some(), concerns_users: false }
    }

    /// Keeps devices for a claim that a pod will have written.
    pub fn choose(&mut self, claim: &DeviceClaim, pod: &str, taken: Taken) {
        self.end_pending(&claim.uid);
        self.count(Some(&taken), 1);
        self.pending.insert(claim.uid.clone(), Pending { pod: pod.into(), taken, written: None });
    }

    /// Takes back what the pod chose for a claim, unless it is written.
    pub fn take_back(&mut self, claim: &DeviceClaim, pod: &str) {
        let is_its = |pending: &Pending| *pending.pod == *pod && pending.written.is_none();
        if self.pending.get(&claim.uid).is_some_and(is_its) {
            self.end_pending(&claim.uid);
        }
    }

    /// What the pod chose is written in this version of the claim: it holds until that, or a later one, is seen.
    pub fn is_written(&mut self, claim: &DeviceClaim, pod: &str, version: u64) {
        let is_seen = self.claims.get(&claim.key).is_none_or(|seen| seen.version >= version);
        match self.pending.get_mut(&claim.uid).filter(|pending| *pending.pod == *pod) {
            Some(_) if is_seen => self.end_pending(&claim.uid),
            Some(pending) => pending.written = Some(version),
            None => {}
        }
    }

    fn end_pending(&mut self, uid: &str) {
        if let Some(pending) = self.pending.remove(uid) {
            self.count(Some(&pending.taken), -1);
        }
    }

    fn count(&mut self, taken: Option<&Taken>, by: i32) {
        if let Some(taken) = taken {
            Arc::make_mut(&mut self.allocated).count(taken, by);
        }
    }

    pub fn set_slice(&mut self, slice: &Arc<Slice>) {
        let rules: Vec<_> = self.rules.values().cloned().collect();
        Arc::make_mut(&mut self.inventory).set(slice, &rules);
    }

    pub fn remove_slice(&mut self, name: &Symbol) {
        Arc::make_mut(&mut self.inventory).remove(name);
    }

    pub fn set_rule(&mut self, rule: &Arc<TaintRule>) {
        self.rules.insert(rule.name.clone(), rule.clone());
        self.apply_rules();
    }

    pub fn remove_rule(&mut self, name: &Symbol) {
        self.rules.remove(name);
        self.apply_rules();
    }

    fn apply_rules(&mut self) {
        let rules: Vec<_> = self.rules.values().cloned().collect();
        Arc::make_mut(&mut self.inventory).apply(&rules);
    }
}
