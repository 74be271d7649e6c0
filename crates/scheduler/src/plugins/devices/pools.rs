//! The pools of devices that a node reaches, as far as they are published whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cluster::facts::devices::{Allocated, Device, DeviceId, Inventory, Slice};
use crate::cluster::{Node, Symbol};

/// Name of a set, and of a counter in it.
pub(super) type Counter = (String, String);

pub(super) struct Pool {
    pub(super) driver: Symbol,
    pub(super) name: Symbol,
    pub(super) state: State,
    /// Those that have devices for the node.
    pub(super) slices: Vec<Arc<Slice>>,
    /// What is left of the counters, in billionths.
    pub(super) counters: FxHashMap<Counter, i128>,
}

#[derive(Debug, PartialEq)]
pub(super) enum State {
    Whole,
    /// Some of its slices are not published yet.
    Incomplete,
    /// Its slices contradict each other.
    Invalid,
}

impl Pool {
    pub(super) fn id(&self, device: &Device) -> DeviceId {
        DeviceId { driver: self.driver.clone(), pool: self.name.clone(), name: device.name.clone() }
    }
}

/// In the order of their names; those whose devices have to be made ready come last.
pub(super) fn gather(inventory: &Inventory, allocated: &Allocated, node: &Node) -> Vec<Pool> {
    let mut by_pool: BTreeMap<(String, String), Vec<Arc<Slice>>> = BTreeMap::new();
    for slice in inventory.of_node(node) {
        let pool = (slice.driver.to_string(), slice.pool.to_string());
        by_pool.entry(pool).or_default().push(slice.clone());
    }
    let pools = by_pool.into_values().filter_map(|mut slices| {
        let newest = slices.iter().map(|slice| slice.generation).max()?;
        slices.retain(|slice| slice.generation == newest);
        slices.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        pool(inventory, allocated, slices)
    });
    let mut pools: Vec<Pool> = pools.collect();
    let waits = |pool: &Pool| {
        pool.slices
            .iter()
            .flat_map(|slice| &slice.devices)
            .any(|device| !device.binding_conditions.is_empty())
    };
    pools.sort_by_key(waits);
    pools
}

/// None for a pool that has a newer generation elsewhere.
fn pool(inventory: &Inventory, allocated: &Allocated, slices: Vec<Arc<Slice>>) -> Option<Pool> {
    let first = slices.first()?.clone();
    let has_count = |count: usize| i64::try_from(count).is_ok_and(|count| count == first.count);
    let mut all: Vec<&Arc<Slice>> = slices.iter().collect();
    if !has_count(all.len()) {
        // Some may be for other nodes.
        all = inventory.of_pool(&first.driver, &first.pool).collect();
        if all.iter().any(|slice| slice.generation > first.generation) {
            return None;
        }
        all.retain(|slice| slice.generation == first.generation);
    }
    let is_whole = has_count(all.len());
    let mut pool = Pool {
        driver: first.driver.clone(),
        name: first.pool.clone(),
        state: State::Incomplete,
        slices: Vec::new(),
        counters: FxHashMap::default(),
    };
    if !is_whole {
        return Some(pool);
    }
    pool.slices = slices.iter().filter(|slice| slice.counters.is_empty()).cloned().collect();
    pool.state = match counters(&all) {
        Some(counters) if has_unique_names(&pool.slices) && consume_known(&all, &counters) => {
            pool.counters = counters;
            State::Whole
        }
        _ => State::Invalid,
    };
    let taken = all.iter().flat_map(|slice| &slice.devices);
    let taken: Vec<&Device> = taken.filter(|device| allocated.is_in_use(&pool.id(device))).collect();
    for device in taken {
        consume(&mut pool.counters, device, 1);
    }
    Some(pool)
}

/// None where two sets have one name.
fn counters(slices: &[&Arc<Slice>]) -> Option<FxHashMap<Counter, i128>> {
    let (mut names, mut all) = (FxHashSet::default(), FxHashMap::default());
    for set in slices.iter().flat_map(|slice| &slice.counters) {
        if !names.insert(&set.name) {
            return None;
        }
        let counters = set.counters.iter();
        all.extend(counters.map(|(name, value)| ((set.name.clone(), name.clone()), *value)));
    }
    Some(all)
}

fn has_unique_names(slices: &[Arc<Slice>]) -> bool {
    let mut names = FxHashSet::default();
    slices.iter().flat_map(|slice| &slice.devices).all(|device| names.insert(&device.name))
}

fn consumed(device: &Device) -> impl Iterator<Item = (Counter, i128)> {
    device.consumes.iter().flat_map(|set| {
        set.counters.iter().map(move |(name, value)| ((set.name.clone(), name.clone()), *value))
    })
}

fn consume_known(slices: &[&Arc<Slice>], counters: &FxHashMap<Counter, i128>) -> bool {
    let devices = slices.iter().flat_map(|slice| &slice.devices);
    devices.flat_map(consumed).all(|(counter, _)| counters.contains_key(&counter))
}

/// Takes a device's part of the counters, or gives it back with `times` -1.
pub(super) fn consume(counters: &mut FxHashMap<Counter, i128>, device: &Device, times: i128) {
    for (counter, value) in consumed(device) {
        *counters.entry(counter).or_default() -= value * times;
    }
}

/// Whether enough is left of each counter. Where devices have more than there is, even of one that the device takes no part
/// of, nothing more is given.
pub(super) fn has_left(counters: &FxHashMap<Counter, i128>, device: &Device) -> bool {
    if device.consumes.is_empty() {
        return true;
    }
    if counters.values().any(|left| *left < 0) {
        return false;
    }
    let mut wanted: FxHashMap<Counter, i128> = FxHashMap::default();
    consumed(device).for_each(|(counter, value)| *wanted.entry(counter).or_default() += value);
    wanted.iter().all(|(counter, value)| counters.get(counter).is_some_and(|left| left >= value))
}
