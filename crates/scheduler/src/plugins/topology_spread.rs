//! `PodTopologySpread`: the pods a constraint selects, counted by topology domain.
//!
//! Constraints are the pod's own. Upstream's defaults for pods of a service or controller are deliberately absent yet.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde_json::Value;

use crate::cluster::counts::{CountKey, Counted, Eligible, Part, Query, Select};
use crate::cluster::pod::{Spread, selects};
use crate::cluster::{Node, NodeView, Pod, Symbol, Table};
use crate::framework::{Adjustment, Change, Cycle, Events, MAX_SCORE, Plugin, Point, PreFilter, Reject};

pub struct PodTopologySpread {
    host: Symbol,
}

pub fn make(_: &Value) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(PodTopologySpread { host: Symbol::new("kubernetes.io/hostname") }))
}

#[derive(Default)]
struct State {
    hard: Vec<Hard>,
    soft: Vec<Soft>,
}

struct Hard {
    counted: Arc<Counted>,
    /// The pod itself counts.
    own: i64,
}

struct Soft {
    counted: Arc<Counted>,
    /// Weight of a pod.
    weight: f64,
}

fn constraints(pod: &Pod, hard: bool) -> impl Iterator<Item = &Spread> {
    pod.needs.spread.iter().filter(move |constraint| constraint.hard == hard)
}

/// Counts for all constraints of a kind. Only nodes count that have the keys of them all.
fn counted(pod: &Pod, table: &Table, hard: bool) -> Vec<Arc<Counted>> {
    let part = if hard { Part::HardSpread } else { Part::SoftSpread };
    let one = |(index, constraint): (usize, &Spread)| {
        let key = CountKey {
            namespace: pod.namespace.clone(),
            needs: pod.needs.clone(),
            part: part.clone(),
            index,
        };
        table.counted(key, || Query {
            namespace: pod.namespace.clone(),
            select: Select::Labels(constraint.selector.clone()),
            key: constraint.key.clone(),
            nodes: Eligible {
                keys: constraints(pod, hard).map(|other| other.key.clone()).collect(),
                selected_by: constraint.honor_affinity.then(|| pod.needs.clone()),
                tolerated_by: constraint.honor_taints.then(|| pod.needs.clone()),
            },
        })
    };
    constraints(pod, hard).enumerate().map(one).collect()
}

fn has_keys(pod: &Pod, hard: bool, node: &Node) -> bool {
    constraints(pod, hard).all(|constraint| node.labels.get(&constraint.key).is_some())
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let counted = counted(pod, table, true);
        if counted.is_empty() {
            return PreFilter::Skip;
        }
        let hard = constraints(pod, true).zip(counted).map(|(constraint, counted)| Hard {
            counted,
            own: i64::from(selects(&constraint.selector, pod)),
        });
        cycle.set(own, State { hard: hard.collect(), soft: Vec::new() });
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        for (constraint, Hard { counted, own }) in constraints(pod, true).zip(&state.hard) {
            let Some(count) = counted.in_domain(view.index) else {
                return Err(Reject::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let (domains, least) = counted.domains();
            let least = if domains as i64 >= constraint.min_domains { least } else { 0 };
            if count + own - least > constraint.max_skew {
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
        let counted = counted(pod, table, false);
        if counted.is_empty() {
            return false;
        }
        let soft = constraints(pod, false).zip(counted).map(|(constraint, counted)| {
            let complete = rows.iter().filter(|row| has_keys(pod, false, &table.row(**row).node));
            let domains = if constraint.key == self.host {
                complete.count()
            } else {
                let domains: FxHashSet<u32> = complete.filter_map(|row| counted.domain(*row)).collect();
                domains.len()
            };
            Soft { counted, weight: (domains as f64 + 2.0).ln() }
        });
        let soft = soft.collect();
        // The hard constraints are done with.
        cycle.set(own, State { hard: Vec::new(), soft });
        true
    }

    fn score(&self, own: usize, cycle: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let Some(state) = cycle.state::<State>(own) else { return 0 };
        let mut score = 0.0;
        for (constraint, Soft { counted, weight }) in constraints(pod, false).zip(&state.soft) {
            let Some(count) = counted.in_domain(view.index) else { return -1 };
            let count = if constraint.key == self.host { counted.on_row(view.index) } else { count };
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
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
        let counts = |other: &Pod| {
            other.namespace == pod.namespace
                && constraints(pod, true).any(|constraint| selects(&constraint.selector, other))
        };
        match change {
            Change::NodeAdded(row) => has_keys(pod, true, &row.node),
            // A domain may have come, or the least filled one may have gone.
            Change::NodeUpdated { row, old } => {
                let moved = |constraint: &Spread| {
                    row.node.labels.get(&constraint.key) != old.labels.get(&constraint.key)
                };
                let (now, before) = (has_keys(pod, true, &row.node), has_keys(pod, true, old));
                now != before || (now && (old.taints != row.node.taints || constraints(pod, true).any(moved)))
            }
            Change::NodeRemoved(node) => has_keys(pod, true, node),
            Change::PodRemoved { pod: other, .. } | Change::PodPlaced(other) => counts(other),
            Change::PodLabelled { old, new } => {
                let differs = |constraint: &Spread| {
                    selects(&constraint.selector, old) != selects(&constraint.selector, new)
                };
                new.namespace == pod.namespace && constraints(pod, true).any(differs)
            }
            Change::PodScaled { .. } => false,
        }
    }
}
