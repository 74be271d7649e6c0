//! `PodTopologySpread`: the pods a constraint selects, counted by topology domain.
//!
//! Placed pods are counted again for each pod to schedule, over all nodes: its cost grows with the cluster. Counts per
//! selector that are kept up to date by difference are absent yet.
//!
//! Constraints are the pod's own. Upstream's defaults for pods of a service or controller are deliberately absent yet.

use std::sync::{Arc, LazyLock};

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::node_affinity;
use crate::cluster::pod::{Spread, selects};
use crate::cluster::selector::Labels;
use crate::cluster::{Effect, Pod, Row, Symbol, Table};
use crate::framework::{Change, Cycle, MAX_SCORE, Plugin, Point, PreFilter, Reject};

pub struct PodTopologySpread;

pub fn make(_: &Value) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(PodTopologySpread))
}

struct Texts {
    skew: Symbol,
    missing: Symbol,
    host: Symbol,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| Texts {
    skew: Symbol::new("node(s) didn't match pod topology spread constraints"),
    missing: Symbol::new("node(s) didn't match pod topology spread constraints (missing required label)"),
    host: Symbol::new("kubernetes.io/hostname"),
});

/// For each hard constraint, in the pod's order.
struct Hard(Vec<Domains>);

struct Domains {
    counts: FxHashMap<Symbol, i64>,
    least: i64,
    /// The pod itself counts.
    own: i64,
}

/// For each soft constraint: pods by domain, and the weight of one.
struct Soft(Vec<(FxHashMap<Symbol, i64>, f64)>);

fn eligible(pod: &Pod, constraint: &Spread, row: &Row) -> bool {
    (!constraint.honor_affinity || node_affinity::selects(&pod.needs, row))
        && (!constraint.honor_taints
            || row
                .taints
                .iter()
                .all(|taint| taint.effect == Effect::PreferNoSchedule || pod.tolerates(taint)))
}

fn counted(pod: &Pod, constraint: &Spread, row: &Row) -> i64 {
    let own = row.pods.values().filter(|other| {
        !other.deleting && other.key.namespace == pod.key.namespace && selects(&constraint.selector, other)
    });
    own.count() as i64
}

fn constraints(pod: &Pod, hard: bool) -> impl Iterator<Item = &Spread> {
    pod.needs.spread.iter().filter(move |constraint| constraint.hard == hard)
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        if constraints(pod, true).next().is_none() {
            return PreFilter::Skip;
        }
        let domains = constraints(pod, true).map(|constraint| {
            let mut counts: FxHashMap<Symbol, i64> = FxHashMap::default();
            for row in table.rows().iter().filter(|row| row.present) {
                let complete = constraints(pod, true).all(|other| row.labels.get(other.key).is_some());
                if let (true, Some(value)) = (complete, row.labels.get(constraint.key))
                    && eligible(pod, constraint, row)
                {
                    *counts.entry(value).or_default() += counted(pod, constraint, row);
                }
            }
            let enough = counts.len() as i64 >= constraint.min_domains;
            let least = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
            Domains { counts, least, own: i64::from(selects(&constraint.selector, pod)) }
        });
        cycle.set(own, Hard(domains.collect()));
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        let Some(Hard(all)) = cycle.state(own) else { return Ok(()) };
        for (constraint, domains) in constraints(pod, true).zip(all) {
            let Some(value) = row.labels.get(constraint.key) else {
                return Err(Reject::unresolvable(TEXTS.missing));
            };
            let count = domains.counts.get(&value).copied().unwrap_or(0);
            if count + domains.own - domains.least > constraint.max_skew {
                return Err(Reject::resolvable(TEXTS.skew));
            }
        }
        Ok(())
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table, rows: &[usize]) -> bool {
        if constraints(pod, false).next().is_none() {
            return false;
        }
        let soft = constraints(pod, false).map(|constraint| {
            let values: FxHashSet<Symbol> =
                rows.iter().filter_map(|row| table.row(*row).labels.get(constraint.key)).collect();
            let size = if constraint.key == TEXTS.host { rows.len() } else { values.len() };
            let mut counts = FxHashMap::default();
            for row in table.rows().iter().filter(|row| row.present && eligible(pod, constraint, row)) {
                if let Some(value) = row.labels.get(constraint.key).filter(|value| values.contains(value)) {
                    *counts.entry(value).or_default() += counted(pod, constraint, row);
                }
            }
            (counts, (size as f64 + 2.0).ln())
        });
        let soft = Soft(soft.collect());
        // The plugin's one state: hard constraints are done with.
        cycle.set(own, soft);
        true
    }

    fn score(&self, own: usize, cycle: &Cycle, pod: &Pod, row: &Row) -> i64 {
        let Some(Soft(soft)) = cycle.state(own) else { return 0 };
        let mut score = 0.0;
        for (constraint, (counts, weight)) in constraints(pod, false).zip(soft) {
            let Some(value) = row.labels.get(constraint.key) else { return -1 };
            let count = counts.get(&value).copied().unwrap_or(0);
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

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        let counts = |other: &Pod| {
            other.key.namespace == pod.key.namespace
                && constraints(pod, true).any(|constraint| selects(&constraint.selector, other))
        };
        let labelled =
            |labels: &Labels| constraints(pod, true).all(|constraint| labels.get(constraint.key).is_some());
        match change {
            Change::NodeAdded(row) => labelled(&row.labels),
            // A domain may have come, or the least filled one may have gone.
            Change::NodeUpdated { row, labels } => labelled(&row.labels) || labelled(labels),
            Change::NodeRemoved(labels) => labelled(labels),
            Change::PodRemoved { pod: other, .. } | Change::PodPlaced(other) => counts(other),
        }
    }
}
