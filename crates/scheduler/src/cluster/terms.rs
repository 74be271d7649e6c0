//! Terms of affinity between pods that placed pods have, and in which topology domains: what others must be kept away
//! from, or are drawn to. Pods of one template are one group, kept by difference; a pod asks only groups with terms
//! whose namespace and one of whose labels are its own.

use std::sync::Arc;

use machinery::labels::{Operator, Selector};
use rustc_hash::FxHashMap;

use super::pod::{Needs, PodTerm};
use super::{Namespaces, Node, Pod, Shared, Symbol};

/// How many of a group's pods are in each domain, by the value of its label.
pub type Values = FxHashMap<Symbol, i64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermKind {
    Affinity,
    AntiAffinity,
    PreferredAffinity,
    PreferredAntiAffinity,
}

/// A term of placed pods that selects the pod in question.
pub struct Match<'a> {
    pub kind: TermKind,
    pub weight: i64,
    pub key: &'a Symbol,
    pub values: &'a Arc<Values>,
}

#[derive(Debug)]
struct Group {
    namespace: Symbol,
    needs: Shared<Needs>,
    pods: usize,
    /// By topology key.
    values: Vec<(Symbol, Arc<Values>)>,
}

/// Where a term is found: what every pod that it selects has. None stands for any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Anchor {
    namespace: Option<Symbol>,
    label: Option<(Symbol, Symbol)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    group: usize,
    kind: TermKind,
    /// Place in the list of the needs.
    term: usize,
}

#[derive(Debug, Default)]
pub struct Terms {
    groups: Vec<Option<Group>>,
    free: Vec<usize>,
    by_template: FxHashMap<(Symbol, Shared<Needs>), usize>,
    places: FxHashMap<Anchor, Vec<Place>>,
}

/// All terms of a template, with their places in its lists.
fn all(needs: &Needs) -> Vec<(TermKind, usize, &PodTerm)> {
    let mut terms = Vec::new();
    for (kind, list) in
        [(TermKind::Affinity, &needs.affinity), (TermKind::AntiAffinity, &needs.anti_affinity)]
    {
        terms.extend(list.iter().enumerate().map(|(at, term)| (kind, at, term)));
    }
    for (kind, list) in [
        (TermKind::PreferredAffinity, &needs.preferred_affinity),
        (TermKind::PreferredAntiAffinity, &needs.preferred_anti_affinity),
    ] {
        terms.extend(list.iter().enumerate().map(|(at, (_, term))| (kind, at, term)));
    }
    terms
}

fn term(needs: &Needs, place: Place) -> Option<(i64, &PodTerm)> {
    match place.kind {
        TermKind::Affinity => needs.affinity.get(place.term).map(|term| (1, term)),
        TermKind::AntiAffinity => needs.anti_affinity.get(place.term).map(|term| (1, term)),
        TermKind::PreferredAffinity => {
            needs.preferred_affinity.get(place.term).map(|(weight, term)| (*weight, term))
        }
        TermKind::PreferredAntiAffinity => {
            needs.preferred_anti_affinity.get(place.term).map(|(weight, term)| (*weight, term))
        }
    }
}

/// Every pod that the term selects is found by exactly one of these.
fn anchors(own: &Symbol, term: &PodTerm) -> Vec<Anchor> {
    let namespaces: Vec<Option<Symbol>> = match &term.namespace_selector {
        Some(_) => vec![None],
        None if term.namespaces.is_empty() => vec![Some(own.clone())],
        None => term.namespaces.iter().cloned().map(Some).collect(),
    };
    let labels = labels(&term.selector);
    let pairs = namespaces.iter().flat_map(|namespace| {
        labels.iter().map(|label| Anchor { namespace: namespace.clone(), label: label.clone() })
    });
    pairs.collect()
}

fn labels(selector: &Selector) -> Vec<Option<(Symbol, Symbol)>> {
    let listed = |operator| matches!(operator, Operator::Equals | Operator::In);
    let narrow = selector
        .requirements()
        .iter()
        .filter(|requirement| listed(requirement.operator))
        .min_by_key(|requirement| requirement.values.len());
    match narrow {
        Some(narrow) => {
            narrow.values.iter().map(|value| Some((Symbol::new(&narrow.key), Symbol::new(value)))).collect()
        }
        None => vec![None],
    }
}

impl Terms {
    /// Counts a placed pod, or takes it away.
    pub fn count(&mut self, pod: &Pod, node: &Node, by: i64) {
        if !pod.needs.has_pod_terms() {
            return;
        }
        let template = (pod.namespace.clone(), pod.needs.clone());
        let index = match self.by_template.get(&template) {
            Some(index) => *index,
            None => self.insert(template),
        };
        let Some(group) = &mut self.groups[index] else { return };
        group.pods = group.pods.saturating_add_signed(by as isize);
        for (key, values) in &mut group.values {
            let Some(value) = node.labels.get(key) else { continue };
            let values = Arc::make_mut(values);
            let count = values.entry(value.clone()).or_default();
            *count += by;
            if *count == 0 {
                values.remove(value);
            }
        }
        if group.pods == 0 {
            self.remove(index);
        }
    }

    fn insert(&mut self, (namespace, needs): (Symbol, Shared<Needs>)) -> usize {
        let mut values: Vec<(Symbol, Arc<Values>)> = Vec::new();
        let index = self.free.pop().unwrap_or(self.groups.len());
        for (kind, at, term) in all(&needs) {
            if !values.iter().any(|(key, _)| *key == term.key) {
                values.push((term.key.clone(), Arc::default()));
            }
            for anchor in anchors(&namespace, term) {
                self.places.entry(anchor).or_default().push(Place { group: index, kind, term: at });
            }
        }
        self.by_template.insert((namespace.clone(), needs.clone()), index);
        let group = Some(Group { namespace, needs, pods: 0, values });
        match self.groups.get_mut(index) {
            Some(slot) => *slot = group,
            None => self.groups.push(group),
        }
        index
    }

    fn remove(&mut self, index: usize) {
        let Some(group) = self.groups[index].take() else { return };
        for (_, _, term) in all(&group.needs) {
            for anchor in anchors(&group.namespace, term) {
                if let Some(places) = self.places.get_mut(&anchor) {
                    places.retain(|place| place.group != index);
                    if places.is_empty() {
                        self.places.remove(&anchor);
                    }
                }
            }
        }
        self.by_template.remove(&(group.namespace, group.needs));
        self.free.push(index);
    }

    /// Calls back for every term of placed pods that selects the pod.
    pub fn selecting<'a>(&'a self, pod: &Pod, namespaces: &Namespaces, mut found: impl FnMut(Match<'a>)) {
        if self.places.is_empty() {
            return;
        }
        let labels = pod.labels.iter().cloned().map(Some).chain([None]);
        for label in labels {
            for namespace in [Some(pod.namespace.clone()), None] {
                let anchor = Anchor { namespace, label: label.clone() };
                for place in self.places.get(&anchor).into_iter().flatten() {
                    let Some(group) = &self.groups[place.group] else { continue };
                    let Some((weight, term)) = term(&group.needs, *place) else { continue };
                    if !term.matches(&group.namespace, pod, namespaces) {
                        continue;
                    }
                    let values = group.values.iter().find(|(key, _)| *key == term.key);
                    if let Some((key, values)) = values.filter(|(_, values)| !values.is_empty()) {
                        found(Match { kind: place.kind, weight, key, values });
                    }
                }
            }
        }
    }
}
