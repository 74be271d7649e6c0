//! What is known besides nodes and pods: volumes and claims, disruption budgets. Pure tables, kept by difference. What
//! was decided and is not yet seen is assumed, and forgotten when it does not come about.

mod assumed;
mod budget;
pub mod devices;
pub mod selectors;
pub mod storage;

use std::sync::Arc;

use client::Key;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Symbol;
pub use assumed::Assumed;
pub use budget::Budget;
use devices::Devices;
use selectors::Selectors;
use storage::{Attachment, Capacity, Claim, Class, CsiDriver, CsiNode, Volume};

#[derive(Debug, Default)]
pub struct Facts {
    pub claims: Assumed<Key, Claim>,
    pub volumes: Assumed<Symbol, Volume>,
    volumes_by_class: FxHashMap<Symbol, FxHashSet<Symbol>>,
    pub classes: FxHashMap<Symbol, Arc<Class>>,
    pub csi_nodes: FxHashMap<Symbol, Arc<CsiNode>>,
    pub csi_drivers: FxHashMap<Symbol, Arc<CsiDriver>>,
    pub capacities: FxHashMap<Key, Arc<Capacity>>,
    /// By node and name.
    attachments: FxHashMap<Symbol, FxHashMap<Symbol, Arc<Attachment>>>,
    pub devices: Devices,
    pub selectors: Selectors,
    /// By namespace.
    budgets: FxHashMap<Symbol, FxHashMap<Key, Arc<Budget>>>,
}

impl Facts {
    pub fn set_volume(&mut self, volume: &Arc<Volume>) {
        self.remove_volume_class(&volume.name);
        let names = self.volumes_by_class.entry(volume.class.clone()).or_default();
        names.insert(volume.name.clone());
        self.volumes.set(volume.name.clone(), volume.clone());
    }

    pub fn remove_volume(&mut self, name: &Symbol) {
        self.remove_volume_class(name);
        self.volumes.remove(name);
    }

    fn remove_volume_class(&mut self, name: &Symbol) {
        let Some(class) = self.volumes.get(name).map(|volume| volume.class.clone()) else { return };
        if let Some(names) = self.volumes_by_class.get_mut(&class) {
            names.remove(name);
            if names.is_empty() {
                self.volumes_by_class.remove(&class);
            }
        }
    }

    /// Volumes of a storage class; of none, where it is empty.
    pub fn volumes_of(&self, class: &Symbol) -> impl Iterator<Item = &Arc<Volume>> {
        let names = self.volumes_by_class.get(class).into_iter().flatten();
        names.filter_map(|name| self.volumes.get(name))
    }

    pub fn set_attachment(&mut self, attachment: &Arc<Attachment>) {
        let of_node = self.attachments.entry(attachment.node.clone()).or_default();
        of_node.insert(attachment.name.clone(), attachment.clone());
    }

    pub fn remove_attachment(&mut self, attachment: &Attachment) {
        if let Some(of_node) = self.attachments.get_mut(&attachment.node) {
            of_node.remove(&attachment.name);
            if of_node.is_empty() {
                self.attachments.remove(&attachment.node);
            }
        }
    }

    /// CSI volumes that are attached to a node: driver and handle.
    pub fn attached(&self, node: &Symbol) -> impl Iterator<Item = (Symbol, Symbol)> {
        let attachments = self.attachments.get(node).into_iter().flat_map(FxHashMap::values);
        attachments.filter(|attachment| !attachment.driver.is_empty()).filter_map(|attachment| {
            let (_, handle) = self.volumes.get(&attachment.volume)?.csi.as_ref()?;
            Some((attachment.driver.clone(), handle.clone()))
        })
    }

    pub fn set_budget(&mut self, budget: &Arc<Budget>) {
        let budgets = self.budgets.entry(Symbol::new(&budget.key.namespace)).or_default();
        budgets.insert(budget.key.clone(), budget.clone());
    }

    pub fn remove_budget(&mut self, key: &Key) {
        let namespace = Symbol::new(&key.namespace);
        if let Some(budgets) = self.budgets.get_mut(&namespace) {
            budgets.remove(key);
            if budgets.is_empty() {
                self.budgets.remove(&namespace);
            }
        }
    }

    /// Disruption budgets of a namespace.
    pub fn budgets(&self, namespace: &Symbol) -> impl Iterator<Item = &Arc<Budget>> {
        self.budgets.get(namespace).into_iter().flat_map(FxHashMap::values)
    }
}
