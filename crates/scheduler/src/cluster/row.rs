//! A node with the pods that are placed on it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Node, Pod, Port, Resources};

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
}

impl Usage {
    pub fn add(&mut self, pod: &Pod) {
        let needs = &pod.needs;
        self.pods += 1;
        self.requested.add(&needs.requests);
        self.scored.0 += needs.scored.0;
        self.scored.1 += needs.scored.1;
        self.ports.extend(needs.ports.iter().cloned());
    }

    pub fn remove(&mut self, pod: &Pod) {
        let needs = &pod.needs;
        self.pods -= 1;
        self.requested.subtract(&needs.requests);
        self.scored.0 -= needs.scored.0;
        self.scored.1 -= needs.scored.1;
        for port in &needs.ports {
            if let Some(at) = self.ports.iter().position(|own| own == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

/// A node as filters and scores see it: what it is, and what would be used of it.
#[derive(Clone, Copy)]
pub struct NodeView<'a> {
    pub index: usize,
    pub row: &'a Row,
    pub node: &'a Node,
    pub usage: &'a Usage,
}
