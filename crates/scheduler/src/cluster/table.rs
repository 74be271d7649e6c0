//! The table: a row per node with what is placed on it, kept by difference. A change to a pod or node
//! costs its own row; nothing is copied for a scheduling cycle.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use client::Key;
use rustc_hash::{FxHashMap, FxHashSet};

use super::counts::{CountKey, Counted, Counts, Query, Source};
use super::nominations::Nominations;
use super::row::claim_key;
use super::terms::Terms;
use super::{Facts, Namespaces, Node, NodeView, Pod, Row, Symbol};

/// A placed pod, in the list of its namespace.
#[derive(Debug)]
pub struct Placed {
    pub pod: Arc<Pod>,
    pub row: usize,
}

/// Where a pod is placed.
#[derive(Debug)]
struct Place {
    row: usize,
    /// Placed by us and not yet seen bound.
    assumed: bool,
    /// In the list of its namespace.
    at: usize,
}

#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    by_name: FxHashMap<Symbol, usize>,
    /// Rows of nodes that are gone and have no pods: to be used again.
    free: Vec<usize>,
    /// Rows of nodes, zone by zone in turns; made again when nodes have come, gone or moved.
    order: Vec<usize>,
    order_changed: bool,
    places: FxHashMap<Box<str>, Place>,
    by_namespace: FxHashMap<Symbol, Vec<Placed>>,
    present: usize,
    assumed: usize,
    pub namespaces: Namespaces,
    pub facts: Facts,
    /// By how many placed pods a claim is used.
    claim_users: FxHashMap<Key, u32>,
    /// On how many nodes an image is.
    image_nodes: FxHashMap<Symbol, u32>,
    terms: Terms,
    /// Brought up to date when somebody asks.
    counts: RefCell<Counts>,
    nominations: Nominations,
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

    pub fn view(&self, index: usize) -> NodeView<'_> {
        let row = &self.rows[index];
        NodeView { table: self, index, row, node: &row.node, usage: &row.usage }
    }

    pub fn index(&self, name: &Symbol) -> Option<usize> {
        self.by_name.get(name).copied()
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

    pub fn image_nodes(&self, image: &Symbol) -> u32 {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// Whether a placed pod uses the claim.
    pub fn is_claim_used(&self, claim: &Key) -> bool {
        self.claim_users.contains_key(claim)
    }

    /// Terms of affinity that placed pods have.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Placed pods by topology domain; `query` says what the key stands for.
    pub fn counted(&self, key: CountKey, query: impl FnOnce() -> Query) -> Arc<Counted> {
        let source = Source { rows: &self.rows, pods: &self.by_namespace, namespaces: &self.namespaces };
        self.counts.borrow_mut().get(key, query, source)
    }

    /// Rows of nodes in the order in which they are looked at: a window of it has nodes of all zones.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Brings the order up to date.
    pub fn arrange(&mut self) {
        if !std::mem::take(&mut self.order_changed) {
            return;
        }
        let mut zones: Vec<Vec<usize>> = Vec::new();
        let mut numbers: FxHashMap<&Symbol, usize> = FxHashMap::default();
        for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| row.present) {
            let number = *numbers.entry(&row.node.zone).or_insert_with(|| {
                zones.push(Vec::new());
                zones.len() - 1
            });
            zones[number].push(index);
        }
        self.order.clear();
        let mut turn = 0;
        while !zones.is_empty() {
            zones.retain(|zone| turn < zone.len());
            self.order.extend(zones.iter().map(|zone| zone[turn]));
            turn += 1;
        }
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

    pub fn set_node(&mut self, node: &Arc<Node>) -> usize {
        let index = self.row_of(&node.name);
        let row = &mut self.rows[index];
        let is_new = !row.present;
        let old = std::mem::replace(&mut row.node, node.clone());
        row.present = true;
        self.present += usize::from(is_new);
        self.order_changed |= is_new || old.zone != node.zone;
        if is_new || old.labels != node.labels {
            for pod in row.pods.values() {
                if !is_new {
                    self.terms.count(pod, &old, -1);
                }
                self.terms.count(pod, node, 1);
            }
        }
        if is_new || old.labels != node.labels || old.taints != node.taints {
            self.counts.get_mut().node(index, Some(node));
        }
        // A heartbeat brings the same images again, and a cluster knows many.
        if old.images != node.images {
            uncount(&mut self.image_nodes, &old);
            for image in node.images.keys() {
                *self.image_nodes.entry(image.clone()).or_default() += 1;
            }
        }
        index
    }

    /// The node that was there.
    pub fn remove_node(&mut self, name: &Symbol) -> Option<Arc<Node>> {
        let index = self.index(name)?;
        let row = &mut self.rows[index];
        if !row.present {
            return None;
        }
        row.present = false;
        self.present -= 1;
        self.order_changed = true;
        let bare = Arc::new(Node { name: name.clone(), ..Node::default() });
        let node = std::mem::replace(&mut row.node, bare);
        for pod in row.pods.values() {
            self.terms.count(pod, &node, -1);
        }
        self.counts.get_mut().node(index, None);
        uncount(&mut self.image_nodes, &node);
        self.release(index);
        Some(node)
    }

    /// Sets a pod that is bound, wherever and as whatever it was before.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) {
        if !self.replace(pod) {
            self.remove_pod(&pod.uid);
            self.put(pod, &pod.node, false);
        }
    }

    /// Places a pod before it is bound.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: &Symbol) {
        self.remove_pod(&pod.uid);
        self.put(pod, node, true);
    }

    /// Takes the new state of a pod that stays where it is and counts the same.
    fn replace(&mut self, pod: &Arc<Pod>) -> bool {
        let Some(place) = self.places.get_mut(&pod.uid) else { return false };
        let row = &mut self.rows[place.row];
        let Some(old) = row.pods.get_mut(&pod.uid) else { return false };
        let same_terms = old.needs == pod.needs || !(old.needs.has_pod_terms() || pod.needs.has_pod_terms());
        if row.node.name != pod.node
            || old.labels != pod.labels
            || old.deleting != pod.deleting
            || old.namespace != pod.namespace
            || old.needs.claims != pod.needs.claims
            || !same_terms
        {
            return false;
        }
        row.usage.remove(old);
        row.usage.add(pod);
        *old = pod.clone();
        self.assumed -= usize::from(std::mem::take(&mut place.assumed));
        if let Some(placed) =
            self.by_namespace.get_mut(&pod.namespace).and_then(|list| list.get_mut(place.at))
        {
            placed.pod = pod.clone();
        }
        true
    }

    fn put(&mut self, pod: &Arc<Pod>, node: &Symbol, assumed: bool) {
        let index = self.row_of(node);
        let row = &mut self.rows[index];
        row.usage.add(pod);
        row.pods.insert(pod.uid.clone(), pod.clone());
        self.assumed += usize::from(assumed);
        if row.present {
            self.terms.count(pod, &row.node, 1);
        }
        self.counts.get_mut().pod(index, pod, 1);
        for claim in &pod.needs.claims {
            *self.claim_users.entry(claim_key(pod, &claim.name)).or_default() += 1;
        }
        let list = self.by_namespace.entry(pod.namespace.clone()).or_default();
        self.places.insert(pod.uid.clone(), Place { row: index, assumed, at: list.len() });
        list.push(Placed { pod: pod.clone(), row: index });
    }

    /// The pod that was there, and its row.
    pub fn remove_pod(&mut self, uid: &str) -> Option<(Arc<Pod>, usize)> {
        let place = self.places.remove(uid)?;
        self.assumed -= usize::from(place.assumed);
        let row = &mut self.rows[place.row];
        let pod = row.pods.remove(uid)?;
        row.usage.remove(&pod);
        if row.present {
            self.terms.count(&pod, &row.node, -1);
        }
        self.counts.get_mut().pod(place.row, &pod, -1);
        for claim in &pod.needs.claims {
            uncount_one(&mut self.claim_users, claim_key(&pod, &claim.name));
        }
        if let Entry::Occupied(mut list) = self.by_namespace.entry(pod.namespace.clone()) {
            list.get_mut().swap_remove(place.at);
            if let Some(moved) =
                list.get().get(place.at).and_then(|moved| self.places.get_mut(&moved.pod.uid))
            {
                moved.at = place.at;
            }
            if list.get().is_empty() {
                list.remove();
            }
        }
        self.release(place.row);
        Some((pod, place.row))
    }

    /// Takes back an assumption; nothing when the pod has been seen bound since.
    pub fn forget(&mut self, uid: &str) -> Option<(Arc<Pod>, usize)> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.places.get(uid).is_some_and(|place| place.assumed)
    }

    pub fn node_of(&self, uid: &str) -> Option<&Symbol> {
        self.places.get(uid).map(|place| &self.rows[place.row].node.name)
    }

    /// Pods nominated to a row.
    pub fn nominated(&self, row: usize) -> &[Arc<Pod>] {
        self.nominations.at(row)
    }

    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &Symbol) {
        match self.index(node) {
            Some(row) => self.nominations.add(row, pod),
            None => _ = self.nominations.remove(&pod.uid),
        }
    }

    /// Pods nominated to a row that `pod` has to leave place for.
    pub fn promised(&self, row: usize, pod: &Pod) -> Vec<&Arc<Pod>> {
        let others = self.nominated(row).iter();
        others.filter(|other| other.needs.priority >= pod.needs.priority && other.uid != pod.uid).collect()
    }

    /// The row a pod is nominated to.
    pub fn nomination(&self, uid: &str) -> Option<usize> {
        self.nominations.of(uid)
    }

    /// Ends a pod's nomination; answers with the row that it was nominated to.
    pub fn end_nomination(&mut self, uid: &str) -> Option<usize> {
        self.nominations.remove(uid)
    }

    fn row_of(&mut self, name: &Symbol) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            self.rows.len() - 1
        });
        let node = Arc::new(Node { name: name.clone(), ..Node::default() });
        self.rows[index] = Row { node, ..Row::default() };
        self.by_name.insert(name.clone(), index);
        index
    }

    /// Gives a row up that nothing is in. It keeps its node's name until it is used again.
    fn release(&mut self, index: usize) {
        let row = &self.rows[index];
        if !row.present && row.pods.is_empty() && self.by_name.remove(&row.node.name).is_some() {
            self.nominations.clear(index);
            self.free.push(index);
        }
    }
}

/// Takes a node's images away from the counts; what is nowhere is not kept.
fn uncount(counts: &mut FxHashMap<Symbol, u32>, node: &Node) {
    for image in node.images.keys() {
        uncount_one(counts, image.clone());
    }
}

fn uncount_one<K: Hash + Eq>(counts: &mut FxHashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    fn node(name: &str, images: &[&str]) -> Arc<Node> {
        let images: Vec<_> = images.iter().map(|name| json!({"names": [name], "sizeBytes": 5})).collect();
        Arc::new(
            Node::deserialize(json!({"metadata": {"name": name}, "status": {"images": images}})).unwrap(),
        )
    }

    #[test]
    fn images_are_counted_while_a_node_has_them() {
        let mut table = Table::default();
        let (web, db) = (Symbol::new("web"), Symbol::new("db"));
        let mut check = |change: &dyn Fn(&mut Table), expect: (u32, u32), kept: usize| {
            change(&mut table);
            assert_eq!((table.image_nodes(&web), table.image_nodes(&db)), expect);
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
        check(&|table| drop(table.remove_node(&Symbol::new("a"))), (1, 0), 1);
        check(&set("a", &["db"]), (1, 1), 2);
        check(&|table| drop(table.remove_node(&Symbol::new("b"))), (0, 1), 1);
    }
}
