//! A node with the pods that are placed on it.

use std::sync::Arc;

use client::Key;
use rustc_hash::FxHashMap;

use super::pod::Disk;
use super::{Node, Pod, Port, Resources, Symbol, Table};

#[derive(Clone, Debug, Default)]
pub struct Row {
    /// There is a node of this name. Pods may name a node that we do not know yet, or no more.
    pub present: bool,
    /// The node; nothing but its name where it is not present.
    pub node: Arc<Node>,
    pub usage: Usage,
    pub pods: FxHashMap<Box<str>, Arc<Pod>>,
}

/// What placed pods take of their node. It is apart from the row, so that a trial can add and remove pods on a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub pods: i64,
    pub requested: Resources,
    /// CPU and memory as scores count them, with defaults for pods that request none.
    pub scored: (i64, i64),
    pub ports: Vec<Port>,
    pub disks: Vec<Disk>,
    /// Claims, as often as pods use them.
    pub claims: Vec<Key>,
}

impl Usage {
    pub fn add(&mut self, pod: &Pod) {
        let needs = &pod.needs;
        self.pods += 1;
        self.requested.add(&needs.requests);
        self.scored.0 += needs.scored.0;
        self.scored.1 += needs.scored.1;
        self.ports.extend(needs.ports.iter().cloned());
        self.disks.extend(needs.disks.iter().cloned());
        self.claims.extend(needs.claims.iter().map(|claim| claim_key(pod, &claim.name)));
    }

    pub fn remove(&mut self, pod: &Pod) {
        let needs = &pod.needs;
        self.pods -= 1;
        self.requested.subtract(&needs.requests);
        self.scored.0 -= needs.scored.0;
        self.scored.1 -= needs.scored.1;
        needs.ports.iter().for_each(|port| take(&mut self.ports, port));
        needs.disks.iter().for_each(|disk| take(&mut self.disks, disk));
        needs.claims.iter().for_each(|claim| take(&mut self.claims, &claim_key(pod, &claim.name)));
    }
}

fn take<T: PartialEq>(list: &mut Vec<T>, one: &T) {
    if let Some(at) = list.iter().position(|own| own == one) {
        list.swap_remove(at);
    }
}

/// The claim of this name that the pod uses.
pub fn claim_key(pod: &Pod, name: &Symbol) -> Key {
    Key { namespace: pod.key.namespace.clone(), name: name.to_arc() }
}

/// A node as filters and scores see it: what it is, and what would be used of it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub table: &'a Table,
    pub index: usize,
    pub row: &'a Row,
    pub node: &'a Node,
    pub usage: &'a Usage,
}
