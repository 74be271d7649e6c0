//! The devices of all drivers, found by node and by pool.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::slice::{Nodes, Slice};
use super::taint::TaintRule;
use crate::cluster::{Node, Symbol};

/// Driver and name of a pool.
type PoolId = (Symbol, Symbol);

#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// As published, and with the taints of rules.
    slices: FxHashMap<Symbol, (Arc<Slice>, Arc<Slice>)>,
    by_node: FxHashMap<Symbol, FxHashSet<Symbol>>,
    /// Those that are not of one node alone.
    shared: FxHashSet<Symbol>,
    by_pool: FxHashMap<PoolId, FxHashSet<Symbol>>,
}

fn pool(slice: &Slice) -> PoolId {
    (slice.driver.clone(), slice.pool.clone())
}

impl Inventory {
    pub(super) fn set(&mut self, slice: &Arc<Slice>, rules: &[Arc<TaintRule>]) {
        self.remove(&slice.name);
        match &slice.nodes {
            Nodes::Named(node) => {
                self.by_node.entry(node.clone()).or_default().insert(slice.name.clone());
            }
            _ => drop(self.shared.insert(slice.name.clone())),
        }
        self.by_pool.entry(pool(slice)).or_default().insert(slice.name.clone());
        self.slices.insert(slice.name.clone(), (slice.clone(), tainted(slice, rules)));
    }

    pub(super) fn remove(&mut self, name: &Symbol) {
        let Some((slice, _)) = self.slices.remove(name) else { return };
        if let Nodes::Named(node) = &slice.nodes {
            take(&mut self.by_node, node, name);
        }
        self.shared.remove(name);
        take(&mut self.by_pool, &pool(&slice), name);
    }

    pub(super) fn apply(&mut self, rules: &[Arc<TaintRule>]) {
        for (published, own) in self.slices.values_mut() {
            *own = tainted(published, rules);
        }
    }

    fn named<'a>(&'a self, names: Option<&'a FxHashSet<Symbol>>) -> impl Iterator<Item = &'a Arc<Slice>> {
        names.into_iter().flatten().filter_map(move |name| self.slices.get(name)).map(|(_, slice)| slice)
    }

    /// Slices that have a device for the node.
    pub fn of_node<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Arc<Slice>> {
        let own = self.named(self.by_node.get(&node.name));
        own.chain(self.named(Some(&self.shared)).filter(move |slice| slice.concerns(node)))
    }

    pub fn of_pool(&self, driver: &Symbol, pool: &Symbol) -> impl Iterator<Item = &Arc<Slice>> {
        self.named(self.by_pool.get(&(driver.clone(), pool.clone())))
    }
}

fn take<K: std::hash::Hash + Eq>(map: &mut FxHashMap<K, FxHashSet<Symbol>>, key: &K, name: &Symbol) {
    if let Some(names) = map.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(key);
        }
    }
}

/// The slice, with the taints that rules give to its devices.
fn tainted(slice: &Arc<Slice>, rules: &[Arc<TaintRule>]) -> Arc<Slice> {
    let concerns = |rule: &&Arc<TaintRule>| slice.devices.iter().any(|device| rule.selects(slice, device));
    if !rules.iter().any(|rule| concerns(&rule)) {
        return slice.clone();
    }
    let mut own = (**slice).clone();
    for device in &mut own.devices {
        let its = rules.iter().filter(|rule| rule.selects(slice, device));
        let taints: Vec<_> = its.map(|rule| rule.taint.clone()).collect();
        device.taints.extend(taints);
    }
    Arc::new(own)
}
