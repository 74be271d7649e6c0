//! `InterPodAffinity`: near to some pods, away from others, by topology domain.

use std::sync::{Arc, LazyLock};

use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::cluster::pod::PodTerm;
use crate::cluster::{Pod, Row, Symbol, Table};
use crate::framework::{Change, Cycle, MAX_SCORE, Plugin, Point, PreFilter, Reject};

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

struct Texts {
    affinity: Symbol,
    anti_affinity: Symbol,
    existing: Symbol,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| Texts {
    affinity: Symbol::new("node(s) didn't match pod affinity rules"),
    anti_affinity: Symbol::new("node(s) didn't match pod anti-affinity rules"),
    existing: Symbol::new("node(s) didn't satisfy existing pods anti-affinity rules"),
});

/// By topology key and value.
type Counts = FxHashMap<(Symbol, Symbol), i64>;

#[derive(Default)]
struct State {
    /// Pods that all affinity terms select.
    affinity: Counts,
    anti_affinity: Counts,
    /// Placed pods that keep this one away, and the keys they do it by.
    existing: Counts,
    existing_keys: Vec<Symbol>,
    selects_itself: bool,
}

struct Scores(Counts);

fn count(counts: &mut Counts, row: &Row, key: Symbol, by: i64) {
    if let Some(value) = row.labels.get(key) {
        *counts.entry((key, value)).or_default() += by;
    }
}

fn at(counts: &Counts, row: &Row, key: Symbol) -> i64 {
    row.labels.get(key).and_then(|value| counts.get(&(key, value))).copied().unwrap_or(0)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let (namespace, namespaces) = (&*pod.key.namespace, &table.namespaces);
        let (with, without) = (&pod.needs.affinity, &pod.needs.anti_affinity);
        let mut state = State::default();
        for (row, other) in table.repelling() {
            for term in &other.needs.anti_affinity {
                if term.matches(&other.key.namespace, pod, namespaces) {
                    count(&mut state.existing, row, term.key, 1);
                    if !state.existing_keys.contains(&term.key) {
                        state.existing_keys.push(term.key);
                    }
                }
            }
        }
        if with.is_empty() && without.is_empty() && state.existing.is_empty() {
            return PreFilter::Skip;
        }
        let all = |other: &Pod| with.iter().all(|term| term.matches(namespace, other, namespaces));
        if !(with.is_empty() && without.is_empty()) {
            for row in table.rows().iter().filter(|row| row.present) {
                for other in row.pods.values() {
                    if !with.is_empty() && all(other) {
                        for term in with {
                            count(&mut state.affinity, row, term.key, 1);
                        }
                    }
                    for term in without.iter().filter(|term| term.matches(namespace, other, namespaces)) {
                        count(&mut state.anti_affinity, row, term.key, 1);
                    }
                }
            }
            state.selects_itself = all(pod);
        }
        cycle.set(own, state);
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, pod: &Pod, row: &Row) -> Result<(), Reject> {
        let Some(state) = cycle.state::<State>(own) else { return Ok(()) };
        let terms = &pod.needs.affinity;
        let near = terms.iter().all(|term| at(&state.affinity, row, term.key) > 0);
        if !near {
            // The first of a group that wants to be together may go anywhere that has the keys.
            let first = state.affinity.is_empty()
                && state.selects_itself
                && terms.iter().all(|term| row.labels.get(term.key).is_some());
            if !first {
                return Err(Reject::unresolvable(TEXTS.affinity));
            }
        }
        if pod.needs.anti_affinity.iter().any(|term| at(&state.anti_affinity, row, term.key) > 0) {
            return Err(Reject::resolvable(TEXTS.anti_affinity));
        }
        if state.existing_keys.iter().any(|key| at(&state.existing, row, *key) > 0) {
            return Err(Reject::resolvable(TEXTS.existing));
        }
        Ok(())
    }

    fn pre_score(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table, _: &[usize]) -> bool {
        let (namespace, namespaces) = (&*pod.key.namespace, &table.namespaces);
        let (with, without) = (&pod.needs.preferred_affinity, &pod.needs.preferred_anti_affinity);
        let mut scores = Counts::default();
        if !(with.is_empty() && without.is_empty()) {
            for row in table.rows().iter().filter(|row| row.present) {
                for other in row.pods.values() {
                    for (weight, term) in
                        with.iter().filter(|(_, term)| term.matches(namespace, other, namespaces))
                    {
                        count(&mut scores, row, term.key, *weight);
                    }
                    for (weight, term) in
                        without.iter().filter(|(_, term)| term.matches(namespace, other, namespaces))
                    {
                        count(&mut scores, row, term.key, -weight);
                    }
                }
            }
        }
        let skip_preferred = self.ignore_preferred_of_existing && with.is_empty() && without.is_empty();
        for (row, other) in table.repelling() {
            let speaks = |term: &PodTerm| term.matches(&other.key.namespace, pod, namespaces);
            for term in other.needs.affinity.iter().filter(|term| speaks(term)) {
                count(&mut scores, row, term.key, self.hard_weight);
            }
            if skip_preferred {
                continue;
            }
            for (weight, term) in other.needs.preferred_affinity.iter().filter(|(_, term)| speaks(term)) {
                count(&mut scores, row, term.key, *weight);
            }
            for (weight, term) in other.needs.preferred_anti_affinity.iter().filter(|(_, term)| speaks(term))
            {
                count(&mut scores, row, term.key, -weight);
            }
        }
        let any = !scores.is_empty();
        cycle.set(own, Scores(scores));
        any
    }

    fn score(&self, own: usize, cycle: &Cycle, _: &Pod, row: &Row) -> i64 {
        let Some(Scores(scores)) = cycle.state(own) else { return 0 };
        scores
            .iter()
            .filter(|((key, value), _)| row.labels.get(*key) == Some(*value))
            .map(|(_, score)| score)
            .sum()
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if span > 0 { MAX_SCORE * (*score - least) / span } else { 0 };
        }
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        let namespace = &*pod.key.namespace;
        match change {
            Change::NodeAdded(_) | Change::NodeUpdated { .. } | Change::NodeRemoved(_) => true,
            Change::PodPlaced(other) => {
                pod.needs.affinity.iter().any(|term| term.may_match(namespace, other))
            }
            Change::PodRemoved { pod: other, .. } => {
                pod.needs.anti_affinity.iter().any(|term| term.may_match(namespace, other))
                    || other.needs.anti_affinity.iter().any(|term| term.may_match(&other.key.namespace, pod))
            }
        }
    }
}
