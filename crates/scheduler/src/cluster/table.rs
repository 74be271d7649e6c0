//! The table: a row per node with what is placed on it, kept by difference. A change to a pod or node
//! costs its own row; nothing is copied for a scheduling cycle.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::selector::Labels;
use super::{Namespaces, Node, Pod, Port, Resources, Symbol, Taint};

/// A node and the pods placed on it.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub name: Symbol,
    /// There is a node of this name. Pods may name a node that we do not know yet, or no more.
    pub present: bool,
    pub unschedulable: bool,
    pub max_pods: i64,
    pub allocatable: Resources,
    pub requested: Resources,
    /// CPU and memory as scores count them, with defaults for pods that request none.
    pub scored: (i64, i64),
    pub taints: Vec<Taint>,
    pub labels: Labels,
    pub images: FxHashMap<Symbol, i64>,
    pub ports: Vec<Port>,
    pub pods: FxHashMap<Box<str>, Arc<Pod>>,
}

impl Row {
    pub fn place(&mut self, pod: &Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.scored.0 += pod.scored.0;
        self.scored.1 += pod.scored.1;
        self.ports.extend(pod.ports.iter().copied());
        self.pods.insert(pod.uid.clone(), pod.clone());
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests);
        self.scored.0 -= pod.scored.0;
        self.scored.1 -= pod.scored.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|own| own == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}

/// Where a pod is placed.
#[derive(Debug)]
struct Place {
    row: usize,
    /// Placed by us and not yet seen bound.
    assumed: bool,
}

#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    by_name: FxHashMap<Symbol, usize>,
    /// Rows of nodes that are gone and have no pods: to be used again.
    free: Vec<usize>,
    places: FxHashMap<Box<str>, Place>,
    present: usize,
    assumed: usize,
    pub namespaces: Namespaces,
    /// On how many nodes an image is.
    image_nodes: FxHashMap<Symbol, u32>,
    /// Placed pods that keep others away, or draw or repel by preference: the only ones inter-pod affinity must look at.
    repelling: FxHashMap<Box<str>, usize>,
    /// Pods that have preempted and wait for their place, by row.
    nominated: FxHashMap<usize, Vec<Arc<Pod>>>,
    /// Placed pods that a preemption takes away, from its decision to their end: their deletion shows only later.
    leaving: FxHashSet<Box<str>>,
}

impl Table {
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn row(&self, index: usize) -> &Row {
        &self.rows[index]
    }

    pub fn index(&self, name: Symbol) -> Option<usize> {
        self.by_name.get(&name).copied()
    }

    /// Nodes there are.
    pub fn nodes(&self) -> usize {
        self.present
    }

    pub fn pods(&self) -> usize {
        self.places.len()
    }

    pub fn assumed(&self) -> usize {
        self.assumed
    }

    pub fn image_nodes(&self, image: Symbol) -> u32 {
        self.image_nodes.get(&image).copied().unwrap_or(0)
    }

    /// Pods with inter-pod terms of their own that are placed on a node there is, and its row.
    pub fn repelling(&self) -> impl Iterator<Item = (&Row, &Arc<Pod>)> {
        self.repelling.iter().filter_map(|(uid, row)| {
            let row = &self.rows[*row];
            row.pods.get(uid).filter(|_| row.present).map(|pod| (row, pod))
        })
    }

    pub fn is_leaving(&self, uid: &str) -> bool {
        self.leaving.contains(uid)
    }

    pub fn set_leaving(&mut self, pods: &[Arc<Pod>]) {
        self.leaving.extend(pods.iter().map(|pod| pod.uid.clone()));
    }

    /// The pod is gone, or stays after all.
    pub fn end_leaving(&mut self, uid: &str) {
        self.leaving.remove(uid);
    }

    pub fn set_node(&mut self, node: &Node) -> usize {
        let index = self.row_of(node.name);
        let row = &mut self.rows[index];
        if !row.present {
            row.present = true;
            self.present += 1;
        }
        row.unschedulable = node.unschedulable;
        row.max_pods = node.max_pods;
        row.allocatable = node.allocatable.clone();
        row.taints.clone_from(&node.taints);
        row.labels = node.labels.clone();
        // A heartbeat brings the same images again, and a cluster knows many.
        let images =
            || node.images.iter().flat_map(|(names, size)| names.iter().map(move |name| (*name, *size)));
        let same = images().count() == row.images.len()
            && images().all(|(image, size)| row.images.get(&image) == Some(&size));
        if !same {
            uncount(&mut self.image_nodes, &mut row.images);
            row.images.extend(images());
            for image in row.images.keys() {
                *self.image_nodes.entry(*image).or_default() += 1;
            }
        }
        index
    }

    /// The labels of the node that was there.
    pub fn remove_node(&mut self, name: Symbol) -> Option<Labels> {
        let index = self.index(name)?;
        let row = &mut self.rows[index];
        let mut labels = None;
        if row.present {
            row.present = false;
            self.present -= 1;
            labels = Some(std::mem::take(&mut row.labels));
            uncount(&mut self.image_nodes, &mut row.images);
        }
        self.release(index);
        labels
    }

    /// Sets a pod that is bound, wherever and as whatever it was before.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        self.remove_pod(&pod.uid);
        self.put(pod, pod.node, false);
    }

    /// Places a pod before it is bound.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: Symbol) {
        self.remove_pod(&pod.uid);
        self.put(pod, node, true);
    }

    fn put(&mut self, pod: &Arc<Pod>, node: Symbol, assumed: bool) {
        let row = self.row_of(node);
        self.rows[row].place(pod);
        self.assumed += usize::from(assumed);
        let needs = &pod.needs;
        if !(needs.anti_affinity.is_empty()
            && needs.affinity.is_empty()
            && needs.preferred_affinity.is_empty()
            && needs.preferred_anti_affinity.is_empty())
        {
            self.repelling.insert(pod.uid.clone(), row);
        }
        self.places.insert(pod.uid.clone(), Place { row, assumed });
    }

    /// The pod that was there, and its node.
    pub fn remove_pod(&mut self, uid: &str) -> Option<(Arc<Pod>, Symbol)> {
        let place = self.places.remove(uid)?;
        self.assumed -= usize::from(place.assumed);
        self.repelling.remove(uid);
        let row = &mut self.rows[place.row];
        let (pod, name) = (row.remove(uid)?, row.name);
        self.release(place.row);
        Some((pod, name))
    }

    /// Takes back an assumption; nothing when the pod has been seen bound since.
    pub fn forget(&mut self, uid: &str) -> Option<(Arc<Pod>, Symbol)> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.places.get(uid).is_some_and(|place| place.assumed)
    }

    pub fn node_of(&self, uid: &str) -> Option<Symbol> {
        self.places.get(uid).map(|place| self.rows[place.row].name)
    }

    /// Pods nominated to a row.
    pub fn nominated(&self, row: usize) -> &[Arc<Pod>] {
        self.nominated.get(&row).map_or(&[], Vec::as_slice)
    }

    pub fn nominate(&mut self, pod: &Arc<Pod>, node: Symbol) {
        self.end_nomination(&pod.uid);
        if let Some(row) = self.index(node) {
            self.nominated.entry(row).or_default().push(pod.clone());
        }
    }

    /// Pods nominated to a row that `pod` has to leave place for.
    pub fn promised(&self, row: usize, pod: &Pod) -> Vec<&Arc<Pod>> {
        let others = self.nominated(row).iter();
        others.filter(|other| other.priority >= pod.priority && other.uid != pod.uid).collect()
    }

    /// The row a pod is nominated to.
    pub fn nomination(&self, uid: &str) -> Option<usize> {
        let mut rows = self.nominated.iter();
        rows.find(|(_, pods)| pods.iter().any(|pod| *pod.uid == *uid)).map(|(row, _)| *row)
    }

    /// Ends a pod's nomination; answers with the node that it was nominated to.
    pub fn end_nomination(&mut self, uid: &str) -> Option<Symbol> {
        let row = self.nomination(uid)?;
        let pods = self.nominated.get_mut(&row)?;
        pods.retain(|pod| *pod.uid != *uid);
        if pods.is_empty() {
            self.nominated.remove(&row);
        }
        Some(self.rows[row].name)
    }

    fn row_of(&mut self, name: Symbol) -> usize {
        if let Some(index) = self.by_name.get(&name) {
            return *index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            self.rows.len() - 1
        });
        self.rows[index] = Row { name, ..Row::default() };
        self.by_name.insert(name, index);
        index
    }

    fn release(&mut self, index: usize) {
        let row = &self.rows[index];
        if !row.present && row.pods.is_empty() && self.by_name.remove(&row.name).is_some() {
            self.rows[index] = Row::default();
            self.nominated.remove(&index);
            self.free.push(index);
        }
    }
}

/// Takes a node's images away from the counts; what is nowhere is not kept.
fn uncount(counts: &mut FxHashMap<Symbol, u32>, images: &mut FxHashMap<Symbol, i64>) {
    for image in images.drain().map(|(image, _)| image) {
        if let Entry::Occupied(mut count) = counts.entry(image) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    fn node(name: &str, images: &[&str]) -> Node {
        let images: Vec<_> = images.iter().map(|name| json!({"names": [name], "sizeBytes": 5})).collect();
        Node::deserialize(json!({"metadata": {"name": name}, "status": {"images": images}})).unwrap()
    }

    #[test]
    fn images_are_counted_while_a_node_has_them() {
        let mut table = Table::default();
        let (web, db) = (Symbol::new("web"), Symbol::new("db"));
        let mut check = |change: &dyn Fn(&mut Table), expect: (u32, u32), kept: usize| {
            change(&mut table);
            assert_eq!((table.image_nodes(web), table.image_nodes(db)), expect);
            assert_eq!(table.image_nodes.len(), kept);
        };
        let set = |name: &'static str, images: &'static [&'static str]| {
            move |table: &mut Table| {
                table.set_node(&node(name, images));
            }
        };
        check(&set("a", &["web", "db"]), (1, 1), 2);
        check(&set("b", &["web"]), (2, 1), 2);
        check(&set("a", &["web", "db"]), (2, 1), 2);
        check(&set("a", &["web"]), (2, 0), 1);
        check(&set("a", &["db"]), (1, 1), 2);
        check(&|table| drop(table.remove_node(Symbol::new("a"))), (1, 0), 1);
        check(&set("a", &["db"]), (1, 1), 2);
        check(&|table| drop(table.remove_node(Symbol::new("b"))), (0, 1), 1);
    }
}
