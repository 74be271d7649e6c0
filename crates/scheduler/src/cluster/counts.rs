//! Placed pods counted by topology domain, for constraints of pods to be scheduled.
//!
//! A count is made once for all pods of a template, by walking over nodes and pods of its namespaces. From then on it is
//! brought up to date with what has happened since, out of a journal of changes: the second pod of a template costs
//! what the first one and others changed.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use machinery::labels::Selector;
use rustc_hash::FxHashMap;

use super::pod::{Needs, PodTerm, selects};
use super::table::Placed;
use super::topology::{NONE, Topologies, Topology};
use super::{Effect, Namespaces, Node, Pod, Row, Shared, Symbol};

/// Changes that are remembered. A count that has missed more is made again.
const JOURNAL: usize = 8192;
/// Rows of all counts together: the least recently used counts go when there are more.
const ROWS: usize = 1 << 20;
/// Counts that are kept however large the cluster is.
const FEWEST: usize = 32;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// Namespace of the pod that asks.
    pub namespace: Symbol,
    pub select: Select,
    /// Topology key.
    pub key: Symbol,
    pub nodes: Eligible,
}

/// Which pods count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// Pods of the same namespace that are not being deleted.
    Labels(Selector),
    /// Pods that all of these terms select.
    Terms(Vec<PodTerm>),
}

/// On which nodes pods count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Eligible {
    /// Nodes that have all of these labels.
    pub keys: Vec<Symbol>,
    /// Nodes that this pod's node selector and affinity select.
    pub selected_by: Option<Shared<Needs>>,
    /// Nodes whose taints this pod tolerates.
    pub tolerated_by: Option<Shared<Needs>>,
}

impl Eligible {
    fn contains(&self, node: &Node) -> bool {
        self.keys.iter().all(|key| node.labels.get(key).is_some())
            && self.selected_by.as_ref().is_none_or(|needs| needs.selects(node))
            && self.tolerated_by.as_ref().is_none_or(|needs| {
                let mut taints = node.taints.iter();
                taints.all(|taint| taint.effect == Effect::PreferNoSchedule || needs.tolerates(taint))
            })
    }
}

impl Query {
    pub fn selects(&self, pod: &Pod, namespaces: &Namespaces) -> bool {
        match &self.select {
            Select::Labels(selector) => {
                // An empty selector counts nothing.
                !pod.deleting
                    && pod.namespace == self.namespace
                    && !selector.is_everything()
                    && selects(selector, pod)
            }
            Select::Terms(terms) => terms.iter().all(|term| term.matches(&self.namespace, pod, namespaces)),
        }
    }

    /// The namespaces of pods that may count; none for any.
    fn namespaces(&self) -> Option<Vec<&Symbol>> {
        let own = || Some(vec![&self.namespace]);
        match &self.select {
            Select::Labels(_) => own(),
            Select::Terms(terms) => match terms.first()? {
                term if term.namespace_selector.is_some() => None,
                term if term.namespaces.is_empty() => own(),
                term => Some(term.namespaces.iter().collect()),
            },
        }
    }

    fn reads_namespace_labels(&self) -> bool {
        match &self.select {
            Select::Labels(_) => false,
            Select::Terms(terms) => terms.iter().any(|term| term.namespace_selector.is_some()),
        }
    }
}

/// Names a count without spelling it out: the template that asks, and the place of what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CountKey {
    pub namespace: Symbol,
    pub needs: Shared<Needs>,
    pub part: Part,
    pub index: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    HardSpread,
    SoftSpread,
    /// Spreading by a selector that the template does not say.
    DefaultSpread {
        hard: bool,
        selector: Arc<Selector>,
    },
    Affinity,
    AntiAffinity,
    PreferredAffinity,
    PreferredAntiAffinity,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    domain: u32,
    count: i32,
    eligible: bool,
}

const EMPTY: Cell = Cell { domain: NONE, count: 0, eligible: false };

#[derive(Clone, Copy, Debug, Default)]
struct Domain {
    count: i64,
    /// Eligible rows; a domain without any does not exist.
    rows: u32,
}

/// Pods counted by row and by domain.
#[derive(Clone, Debug)]
pub struct Counted {
    query: Arc<Query>,
    cells: Vec<Cell>,
    domains: Vec<Domain>,
    /// How many domains have each count.
    levels: BTreeMap<i64, u32>,
    existing: usize,
    total: i64,
    /// Next change of the journal.
    next: u64,
    /// State of the namespaces' labels that it was made with.
    namespaces: u64,
}

impl Counted {
    fn new(query: Query) -> Counted {
        Counted {
            query: Arc::new(query),
            cells: Vec::new(),
            domains: Vec::new(),
            levels: BTreeMap::new(),
            existing: 0,
            total: 0,
            next: 0,
            namespaces: 0,
        }
    }

    /// Pods in the domain of a row; none where the node lacks the key.
    pub fn in_domain(&self, row: usize) -> Option<i64> {
        let domain = self.domain(row)?;
        Some(self.domains.get(domain as usize).map_or(0, |domain| domain.count))
    }

    /// The number of the domain that a row is in.
    pub fn domain(&self, row: usize) -> Option<u32> {
        self.cells.get(row).map(|cell| cell.domain).filter(|domain| *domain != NONE)
    }

    /// Pods on the row itself.
    pub fn on_row(&self, row: usize) -> i64 {
        self.cells.get(row).map_or(0, |cell| cell.count.into())
    }

    /// Pods in all domains.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// Domains there are, and the fewest pods that one has.
    pub fn domains(&self) -> (usize, i64) {
        (self.existing, self.levels.first_key_value().map_or(0, |(least, _)| *least))
    }

    /// Counts a pod on a row as more or less than there is, for a trial.
    pub fn adjust(&mut self, row: usize, pod: &Pod, namespaces: &Namespaces, by: i64) {
        if self.query.selects(pod, namespaces) {
            self.add(row, by);
        }
    }

    fn cell(&mut self, row: usize) -> &mut Cell {
        if self.cells.len() <= row {
            self.cells.resize(row + 1, EMPTY);
        }
        &mut self.cells[row]
    }

    fn add(&mut self, row: usize, by: i64) {
        let cell = self.cell(row);
        cell.count += by as i32;
        let Cell { domain, eligible, .. } = *cell;
        if eligible {
            self.count(domain, by, 0);
        }
    }

    /// Changes a domain by pods and by rows.
    fn count(&mut self, domain: u32, pods: i64, rows: i32) {
        let at = domain as usize;
        if self.domains.len() <= at {
            self.domains.resize(at + 1, Domain::default());
        }
        let Domain { count, rows: before } = self.domains[at];
        let after = Domain { count: count + pods, rows: before.saturating_add_signed(rows) };
        self.domains[at] = after;
        self.total += pods;
        if before > 0 {
            self.existing -= 1;
            if let Some(domains) = self.levels.get_mut(&count) {
                *domains -= 1;
                if *domains == 0 {
                    self.levels.remove(&count);
                }
            }
        }
        if after.rows > 0 {
            self.existing += 1;
            *self.levels.entry(after.count).or_default() += 1;
        }
    }

    /// Takes a node as it is now, with its pods as they were counted.
    fn set_row(&mut self, index: usize, rows: &[Row], topology: &Topology) {
        let old = *self.cell(index);
        if old.eligible {
            self.count(old.domain, -i64::from(old.count), -1);
        }
        let row = rows.get(index).filter(|row| row.present);
        let domain = if row.is_some() { topology.domain(index) } else { NONE };
        let eligible = domain != NONE && row.is_some_and(|row| self.query.nodes.contains(&row.node));
        *self.cell(index) = Cell { domain, eligible, ..old };
        if eligible {
            self.count(domain, i64::from(old.count), 1);
        }
    }

    fn recount(&mut self, topology: &Topology, source: Source<'_>) {
        let query = self.query.clone();
        self.cells = vec![EMPTY; source.rows.len()];
        self.domains.clear();
        self.levels.clear();
        (self.existing, self.total) = (0, 0);
        let mut count = |placed: &[Placed]| {
            for Placed { pod, row } in placed {
                if query.selects(pod, source.namespaces) {
                    self.cells[*row].count += 1;
                }
            }
        };
        match query.namespaces() {
            Some(names) => names.iter().filter_map(|name| source.pods.get(name)).for_each(|pods| count(pods)),
            None => source.pods.values().for_each(|pods| count(pods)),
        }
        for index in 0..source.rows.len() {
            self.set_row(index, source.rows, topology);
        }
    }
}

/// The table that is counted.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub rows: &'a [Row],
    /// Placed pods by namespace.
    pub pods: &'a FxHashMap<Symbol, Vec<Placed>>,
    pub namespaces: &'a Namespaces,
}

#[derive(Debug)]
enum Change {
    Pod {
        row: usize,
        pod: Arc<Pod>,
        by: i64,
    },
    /// The node of a row came, went, or has other labels or taints.
    Node {
        row: usize,
    },
}

#[derive(Debug)]
struct Kept {
    counted: Arc<Counted>,
    used: u64,
}

/// Counts that pods asked for lately, and the changes that bring them up to date.
#[derive(Debug, Default)]
pub struct Counts {
    topologies: Topologies,
    journal: VecDeque<Change>,
    /// Number of the journal's first change.
    first: u64,
    kept: FxHashMap<CountKey, Kept>,
    uses: u64,
}

impl Counts {
    fn next(&self) -> u64 {
        self.first + self.journal.len() as u64
    }

    fn note(&mut self, change: Change) {
        if self.kept.is_empty() {
            self.first = self.next() + 1;
            self.journal.clear();
            return;
        }
        if self.journal.len() >= JOURNAL {
            self.journal.pop_front();
            self.first += 1;
        }
        self.journal.push_back(change);
    }

    /// A pod was placed, or went away.
    pub fn pod(&mut self, row: usize, pod: &Arc<Pod>, by: i64) {
        self.note(Change::Pod { row, pod: pod.clone(), by });
    }

    /// A node came, changed its labels or taints, or went away.
    pub fn node(&mut self, row: usize, node: Option<&Node>) {
        self.topologies.set(row, node);
        self.note(Change::Node { row });
    }

    /// The count of this key as of now; `query` spells it out where it is not kept.
    pub fn get(&mut self, key: CountKey, query: impl FnOnce() -> Query, source: Source<'_>) -> Arc<Counted> {
        self.make_room(source.rows.len());
        self.uses += 1;
        let (uses, next) = (self.uses, self.next());
        let mut is_new = false;
        let kept = self.kept.entry(key).or_insert_with(|| {
            is_new = true;
            Kept { counted: Arc::new(Counted::new(query())), used: 0 }
        });
        kept.used = uses;
        let counted = Arc::make_mut(&mut kept.counted);
        let topology = self.topologies.get(&counted.query.clone().key, source.rows);
        let moved =
            counted.namespaces != source.namespaces.generation() && counted.query.reads_namespace_labels();
        if is_new || moved || counted.next < self.first {
            counted.recount(topology, source);
        } else {
            let missed = (counted.next - self.first) as usize;
            let query = counted.query.clone();
            for change in self.journal.range(missed..) {
                match change {
                    Change::Pod { row, pod, by } if query.selects(pod, source.namespaces) => {
                        counted.add(*row, *by);
                    }
                    Change::Pod { .. } => {}
                    Change::Node { row } => counted.set_row(*row, source.rows, topology),
                }
            }
        }
        counted.next = next;
        counted.namespaces = source.namespaces.generation();
        kept.counted.clone()
    }

    fn make_room(&mut self, rows: usize) {
        if self.kept.len() < (ROWS / rows.max(1)).max(FEWEST) {
            return;
        }
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        let (_, oldest, _) = uses.select_nth_unstable(self.kept.len() / 8);
        let oldest = *oldest;
        self.kept.retain(|_, kept| kept.used > oldest);
        let used: Vec<Symbol> = self.kept.values().map(|kept| kept.counted.query.key.clone()).collect();
        self.topologies.retain(|key| used.contains(key));
    }
}
