//! `PodTopologySpread`: the pods a constraint selects, counted by topology domain.
//!
//! Constraints are the pod's own. For pods that have none, and belong to a service or a controller, there are defaults.

use std::sync::Arc;

use machinery::labels::Selector;
use rustc_hash::FxHashSet;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::counts::{CountKey, Counted, Eligible, Part, Query, Select};
use crate::cluster::pod::{Spread, selects};
use crate::cluster::{Node, NodeView, Pod, Symbol, Table};
use crate::framework::{Adjustment, Change, Cycle, Events, MAX_SCORE, Plugin, Point, PreFilter, Reject};

pub struct PodTopologySpread {
    host: Symbol,
    /// Constraints of pods that have none, without their selector.
    defaults: Vec<Spread>,
    /// The defaults are upstream's: nodes need not have all of their keys.
    is_system: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Arguments {
    default_constraints: Option<Vec<Value>>,
    defaulting_type: String,
}

pub fn make(value: &Value) -> Result<Arc<dyn Plugin>, String> {
    let arguments = if value.is_null() { Arguments::default() } else { serde(value)? };
    let given = arguments.default_constraints.unwrap_or_default();
    let is_system = matches!(arguments.defaulting_type.as_str(), "" | "System");
    if is_system && !given.is_empty() {
        return Err("defaultConstraints: Invalid value: when .defaultingType is System".into());
    }
    let constraints = if is_system {
        json!([
            {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 3},
            {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 5},
        ])
    } else {
        Value::Array(given)
    };
    // A pod with nothing but these constraints: reading it is reading them.
    let pod: Pod = serde(&json!({"spec": {"topologySpreadConstraints": constraints}}))?;
    Ok(Arc::new(PodTopologySpread {
        host: Symbol::new("kubernetes.io/hostname"),
        defaults: pod.needs.spread.clone(),
        is_system,
    }))
}

fn serde<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

#[derive(Default)]
struct State {
    hard: Vec<Hard>,
    soft: Vec<Soft>,
    /// Nodes without one of the soft constraints' keys are scored last; otherwise by the others.
    needs_all_keys: bool,
}

struct Hard {
    counted: Arc<Counted>,
    max_skew: i64,
    min_domains: i64,
    /// The pod itself counts.
    own: i64,
}

struct Soft {
    counted: Arc<Counted>,
    max_skew: i64,
    is_host: bool,
    /// Weight of a pod.
    weight: f64,
}

/// Constraints of one kind that hold for a pod.
struct Constraints<'a> {
    list: Vec<&'a Spread>,
    /// Selector of default constraints.
    selector: Option<Arc<Selector>>,
    hard: bool,
    needs_all_keys: bool,
}

impl Constraints<'_> {
    fn selector<'a>(&'a self, constraint: &'a Spread) -> &'a Selector {
        self.selector.as_deref().unwrap_or(&constraint.selector)
    }

    fn has_keys(&self, node: &Node) -> bool {
        self.list.iter().all(|constraint| node.labels.get(&constraint.key).is_some())
    }

    /// Counts for each constraint. Where all keys are needed, only nodes count that have them all.
    fn counted(&self, pod: &Pod, table: &Table) -> Vec<Arc<Counted>> {
        let part = match (&self.selector, self.hard) {
            (Some(selector), hard) => Part::DefaultSpread { hard, selector: selector.clone() },
            (None, true) => Part::HardSpread,
            (None, false) => Part::SoftSpread,
        };
        let chooses_nodes = !pod.needs.node_selector.is_empty() || pod.needs.required.is_some();
        let one = |(index, constraint): (usize, &&Spread)| {
            let key = CountKey {
                namespace: pod.namespace.clone(),
                needs: pod.needs.clone(),
                part: part.clone(),
                index,
            };
            table.counted(key, || Query {
                namespace: pod.namespace.clone(),
                select: Select::Labels(self.selector(constraint).clone()),
                key: constraint.key.clone(),
                nodes: Eligible {
                    keys: if self.needs_all_keys {
                        self.list.iter().map(|other| other.key.clone()).collect()
                    } else {
                        Vec::new()
                    },
                    selected_by: (constraint.honor_affinity && chooses_nodes).then(|| pod.needs.clone()),
                    tolerated_by: constraint.honor_taints.then(|| pod.needs.clone()),
                },
            })
        };
        self.list.iter().enumerate().map(one).collect()
    }
}

/// The pod's own constraints of one kind.
fn own_constraints(pod: &Pod, hard: bool) -> impl Iterator<Item = &Spread> {
    pod.needs.spread.iter().filter(move |constraint| constraint.hard == hard)
}

fn has_own_keys(pod: &Pod, node: &Node) -> bool {
    own_constraints(pod, true).all(|constraint| node.labels.get(&constraint.key).is_some())
}

impl PodTopologySpread {
    fn constraints<'a>(&'a self, pod: &'a Pod, table: &Table, hard: bool) -> Constraints<'a> {
        let own = Constraints {
            list: own_constraints(pod, hard).collect(),
            selector: None,
            hard,
            needs_all_keys: true,
        };
        if !pod.needs.spread.is_empty() {
            return own;
        }
        let list: Vec<&Spread> = self.defaults.iter().filter(|constraint| constraint.hard == hard).collect();
        let selector = (!list.is_empty()).then(|| table.facts.selectors.of(pod)).flatten();
        match selector {
            Some(selector) => Constraints {
                list,
                selector: Some(Arc::new(selector)),
                hard,
                needs_all_keys: hard || !self.is_system,
            },
            None => own,
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let constraints = self.constraints(pod, table, true);
        if constraints.list.is_empty() {
            return PreFilter::Skip;
        }
        let counted = constraints.counted(pod, table);
        let hard = constraints.list.iter().zip(counted).map(|(constraint, counted)| Hard {
            counted,
            max_skew: constraint.max_skew,
            min_domains: constraint.min_domains,
            own: i64::from(selects(constraints.selector(constraint), pod)),
        });
        cycle.set(own, State { hard: hard.collect(), ..State::default() });
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        for Hard { counted, max_skew, min_domains, own } in &state.hard {
            let Some(count) = counted.in_domain(view.index) else {
                return Err(Reject::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let (domains, least) = counted.domains();
            let least = if domains as i64 >= *min_domains { least } else { 0 };
            if count + own - least > *max_skew {
                return Err(Reject::resolvable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn adjust(&self, own: usize, cycle: &mut Cycle, _: &Pod, adjustment: &Adjustment<'_>) {
        let Some(state) = cycle.state_mut::<State>(own) else { return };
        let Adjustment { table, row, other, by } = adjustment;
        for hard in &mut state.hard {
            Arc::make_mut(&mut hard.counted).adjust(*row, other, &table.namespaces, *by);
        }
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table, rows: &[usize]) -> bool {
        let constraints = self.constraints(pod, table, false);
        if constraints.list.is_empty() {
            return false;
        }
        let needs_all_keys = constraints.needs_all_keys;
        let scored: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|row| !needs_all_keys || constraints.has_keys(&table.row(*row).node))
            .collect();
        let counted = constraints.counted(pod, table);
        let soft = constraints.list.iter().zip(counted).map(|(constraint, counted)| {
            let is_host = constraint.key == self.host;
            let domains = if is_host {
                scored.len()
            } else {
                // Nodes without the key are a domain in this figure.
                let domains: FxHashSet<Option<u32>> = scored.iter().map(|row| counted.domain(*row)).collect();
                domains.len()
            };
            let weight = (domains as f64 + 2.0).ln();
            Soft { counted, max_skew: constraint.max_skew, is_host, weight }
        });
        let soft = soft.collect();
        // The hard constraints are done with.
        cycle.set(own, State { hard: Vec::new(), soft, needs_all_keys });
        true
    }

    fn score(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> i64 {
        let Some(state) = cycle.state::<State>(own) else { return 0 };
        let mut score = 0.0;
        for Soft { counted, max_skew, is_host, weight } in &state.soft {
            let Some(count) = counted.in_domain(view.index) else {
                if state.needs_all_keys {
                    return -1;
                }
                continue;
            };
            let count = if *is_host { counted.on_row(view.index) } else { count };
            score += count as f64 * weight + (max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        let known = || scores.iter().copied().filter(|score| *score >= 0);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                // Without the label: last.
                ..0 => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + least - score) / most,
            };
        }
    }

    fn events(&self) -> Events {
        let pods = Events::POD_ADD | Events::POD_DELETE | Events::POD_LABEL;
        pods | Events::NODE_ADD | Events::NODE_DELETE | Events::NODE_LABEL | Events::NODE_TAINT
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        let has_own = !pod.needs.spread.is_empty();
        let constraints = || own_constraints(pod, true);
        let counts = |other: &Pod| {
            other.namespace == pod.namespace
                && (!has_own || constraints().any(|constraint| selects(&constraint.selector, other)))
        };
        match change {
            Change::NodeAdded(row) => has_own_keys(pod, &row.node),
            // A domain may have come, or the least filled one may have gone.
            Change::NodeUpdated { row, old } => {
                let moved = |constraint: &Spread| {
                    row.node.labels.get(&constraint.key) != old.labels.get(&constraint.key)
                };
                let (now, before) = (has_own_keys(pod, &row.node), has_own_keys(pod, old));
                now != before
                    || !has_own
                    || (now && (old.taints != row.node.taints || constraints().any(moved)))
            }
            Change::NodeRemoved(node) => has_own_keys(pod, node),
            Change::PodRemoved { pod: other, .. } | Change::PodPlaced(other) => counts(other),
            Change::PodLabelled { old, new } => counts(old) != counts(new) || (!has_own && counts(new)),
            _ => false,
        }
    }
}
