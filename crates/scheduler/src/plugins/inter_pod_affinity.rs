//! `InterPodAffinity`: near to some pods, away from others, by topology domain.

use std::sync::Arc;

use serde_json::Value;

use crate::cluster::counts::{CountKey, Counted, Eligible, Part, Query, Select};
use crate::cluster::pod::PodTerm;
use crate::cluster::terms::{Match, TermKind, Values};
use crate::cluster::{Node, NodeView, Pod, Symbol, Table};
use crate::framework::{Adjustment, Change, Cycle, Events, MAX_SCORE, Plugin, Point, PreFilter, Reject};

pub struct InterPodAffinity {
    /// What another pod's required affinity to this one counts in scores.
    hard_weight: i64,
    ignore_preferred_of_existing: bool,
}

pub fn make(arguments: &Value) -> Result<Arc<dyn Plugin>, String> {
    let ignore = arguments.get("ignorePreferredTermsOfExistingPods").and_then(Value::as_bool);
    Ok(Arc::new(InterPodAffinity {
        hard_weight: arguments.get("hardPodAffinityWeight").and_then(Value::as_i64).unwrap_or(1),
        ignore_preferred_of_existing: ignore.unwrap_or(false),
    }))
}

struct Filters {
    /// Pods that all affinity terms select, by each term's key.
    affinity: Vec<Arc<Counted>>,
    anti_affinity: Vec<Arc<Counted>>,
    /// Placed pods that keep this one away, by the key they do it by.
    existing: Vec<(Symbol, Arc<Values>)>,
    selects_itself: bool,
}

struct Scores {
    /// The pod's own terms, with their weights.
    own: Vec<(i64, Arc<Counted>)>,
    /// Terms of placed pods, with their weights.
    existing: Vec<(i64, Symbol, Arc<Values>)>,
}

/// More terms of placed pods than these are added up by key before nodes are scored.
const FEW_TERMS: usize = 4;

fn combine(terms: &[(i64, Symbol, Arc<Values>)]) -> Vec<(i64, Symbol, Arc<Values>)> {
    let mut sums: Vec<(Symbol, Values)> = Vec::new();
    for (weight, key, values) in terms {
        let at = sums.iter().position(|(own, _)| own == key).unwrap_or_else(|| {
            sums.push((key.clone(), Values::default()));
            sums.len() - 1
        });
        for (value, count) in &**values {
            *sums[at].1.entry(value.clone()).or_default() += weight * count;
        }
    }
    sums.into_iter().map(|(key, values)| (1, key, Arc::new(values))).collect()
}

/// What is counted for a term of the pod, or for several that a pod must match at once.
fn counted(
    pod: &Pod,
    table: &Table,
    part: Part,
    terms: &[&PodTerm],
    index: usize,
    key: &Symbol,
) -> Arc<Counted> {
    let count_key = CountKey { namespace: pod.namespace.clone(), needs: pod.needs.clone(), part, index };
    table.counted(count_key, || Query {
        namespace: pod.namespace.clone(),
        select: Select::Terms(terms.iter().copied().cloned().collect()),
        key: key.clone(),
        nodes: Eligible::default(),
    })
}

fn value(values: &Values, key: &Symbol, node: &Node) -> i64 {
    node.labels.get(key).and_then(|value| values.get(value)).copied().unwrap_or(0)
}

/// Adds to the counts of a key.
fn add_values(all: &mut Vec<(Symbol, Arc<Values>)>, key: &Symbol, values: &Arc<Values>) {
    match all.iter_mut().find(|(own, _)| own == key) {
        Some((_, own)) => {
            let own = Arc::make_mut(own);
            for (value, count) in &**values {
                *own.entry(value.clone()).or_default() += count;
            }
        }
        None => all.push((key.clone(), values.clone())),
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let (with, without) = (&pod.needs.affinity, &pod.needs.anti_affinity);
        let mut existing = Vec::new();
        table.terms().selecting(pod, &table.namespaces, |found| {
            if found.kind == TermKind::AntiAffinity {
                add_values(&mut existing, found.key, found.values);
            }
        });
        if with.is_empty() && without.is_empty() && existing.is_empty() {
            return PreFilter::Skip;
        }
        let all: Vec<&PodTerm> = with.iter().collect();
        let affinity = with
            .iter()
            .enumerate()
            .map(|(index, term)| counted(pod, table, Part::Affinity, &all, index, &term.key));
        let anti_affinity = without
            .iter()
            .enumerate()
            .map(|(index, term)| counted(pod, table, Part::AntiAffinity, &[term], index, &term.key));
        let state = Filters {
            affinity: affinity.collect(),
            anti_affinity: anti_affinity.collect(),
            existing,
            selects_itself: with.iter().all(|term| term.matches(&pod.namespace, pod, &table.namespaces)),
        };
        cycle.set(own, state);
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(state) = cycle.state::<Filters>(own) else { return Ok(()) };
        let near = state.affinity.iter().all(|counted| counted.in_domain(view.index).unwrap_or(0) > 0);
        if !near {
            // The first of a group that wants to be together may go anywhere that has the keys.
            let first = state.affinity.iter().all(|counted| counted.total() == 0)
                && state.selects_itself
                && state.affinity.iter().all(|counted| counted.in_domain(view.index).is_some());
            if !first {
                return Err(Reject::unresolvable("node(s) didn't match pod affinity rules"));
            }
        }
        if state.anti_affinity.iter().any(|counted| counted.in_domain(view.index).unwrap_or(0) > 0) {
            return Err(Reject::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        if state.existing.iter().any(|(key, values)| value(values, key, view.node) > 0) {
            return Err(Reject::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn adjust(&self, own: usize, cycle: &mut Cycle, pod: &Pod, adjustment: &Adjustment<'_>) {
        let Some(state) = cycle.state_mut::<Filters>(own) else { return };
        let Adjustment { table, row, other, by } = adjustment;
        for counted in state.affinity.iter_mut().chain(&mut state.anti_affinity) {
            Arc::make_mut(counted).adjust(*row, other, &table.namespaces, *by);
        }
        let node = &table.row(*row).node;
        for term in &other.needs.anti_affinity {
            if let Some(value) = node.labels.get(&term.key)
                && term.matches(&other.namespace, pod, &table.namespaces)
            {
                let one = [(value.clone(), *by)].into_iter().collect();
                add_values(&mut state.existing, &term.key, &Arc::new(one));
            }
        }
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table, _: &[usize]) -> bool {
        let (with, without) = (&pod.needs.preferred_affinity, &pod.needs.preferred_anti_affinity);
        let terms = |part: Part, terms: &[(i64, PodTerm)], sign: i64| -> Vec<(i64, Arc<Counted>)> {
            let counted = terms.iter().enumerate().map(|(index, (weight, term))| {
                (sign * weight, counted(pod, table, part.clone(), &[term], index, &term.key))
            });
            counted.filter(|(_, counted)| counted.total() > 0).collect()
        };
        let mut preferred = terms(Part::PreferredAffinity, with, 1);
        preferred.extend(terms(Part::PreferredAntiAffinity, without, -1));
        let mut existing = Vec::new();
        let ignores = self.ignore_preferred_of_existing && with.is_empty() && without.is_empty();
        if !ignores {
            table.terms().selecting(pod, &table.namespaces, |Match { kind, weight, key, values }| {
                let weight = match kind {
                    TermKind::Affinity => self.hard_weight,
                    TermKind::PreferredAffinity => weight,
                    TermKind::PreferredAntiAffinity => -weight,
                    TermKind::AntiAffinity => 0,
                };
                if weight != 0 {
                    existing.push((weight, key.clone(), values.clone()));
                }
            });
        }
        if existing.len() > FEW_TERMS {
            existing = combine(&existing);
        }
        let any = !(preferred.is_empty() && existing.is_empty());
        cycle.set(own, Scores { own: preferred, existing });
        any
    }

    fn score(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> i64 {
        let Some(scores) = cycle.state::<Scores>(own) else { return 0 };
        let preferred = scores.own.iter();
        let preferred: i64 =
            preferred.map(|(weight, counted)| weight * counted.in_domain(view.index).unwrap_or(0)).sum();
        let existing = scores.existing.iter();
        preferred + existing.map(|(weight, key, values)| weight * value(values, key, view.node)).sum::<i64>()
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if span > 0 { MAX_SCORE * (*score - least) / span } else { 0 };
        }
    }

    fn events(&self) -> Events {
        let pods = Events::POD_ADD | Events::POD_DELETE | Events::POD_LABEL;
        pods | Events::NODE_ADD | Events::NODE_DELETE | Events::NODE_LABEL
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        let draws = |other: &Pod| pod.needs.affinity.iter().any(|term| term.may_match(&pod.namespace, other));
        let repels = |other: &Pod| {
            pod.needs.anti_affinity.iter().any(|term| term.may_match(&pod.namespace, other))
                || other.needs.anti_affinity.iter().any(|term| term.may_match(&other.namespace, pod))
        };
        match change {
            Change::NodeAdded(_) | Change::NodeUpdated { .. } | Change::NodeRemoved(_) => true,
            Change::PodPlaced(other) => draws(other),
            Change::PodLabelled { old, new } => draws(new) || repels(old),
            Change::PodRemoved { pod: other, .. } => repels(other),
            _ => false,
        }
    }
}
