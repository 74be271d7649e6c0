//! One pod, one table: filter, score, choose.

use std::sync::Arc;
use std::time::Instant;

use rand::Rng;
use rustc_hash::FxHashSet;

use super::inquiry::{Answers, Question, Verdicts};
use super::profile::{Profile, Trial};
use crate::cluster::{Pod, Symbol, Table};
use crate::framework::{Cycle, Diagnosis, Point, PreFilter, Reason, Reasons, Reject};
use crate::metrics::Ended;

/// How far an attempt came.
pub enum Found {
    Choice(Choice),
    /// Extenders are to be asked first.
    Ask(Question),
}

/// A node chosen.
pub struct Choice {
    /// What plugins computed on the way.
    pub cycle: Cycle,
    pub row: usize,
    /// How many nodes were looked at, and how many would do.
    pub evaluated: usize,
    pub feasible: usize,
}

/// Why none was, with what preemption goes on from: the cycle, and the filters that apply.
pub type Failure = Box<(Diagnosis, Cycle, Vec<usize>)>;

/// In a cluster of fewer nodes, all are looked at.
const FEW_NODES: usize = 100;

/// Finds the best node for a pod. `start` is where looking begins, and moves on, so that all nodes have their turn
/// where not all are looked at. `answers` is what extenders have said so far.
pub fn schedule(
    profile: &Profile,
    table: &Table,
    pod: &Arc<Pod>,
    answers: &mut Answers,
    start: &mut usize,
    random: &mut impl Rng,
) -> Result<Found, Failure> {
    let mut diagnosis = Diagnosis { nodes: table.nodes(), ..Default::default() };
    if table.nodes() == 0 {
        return Err(Box::new((diagnosis, Cycle::new(0), Vec::new())));
    }
    let started = Instant::now();
    let Prepared { mut cycle, active, only } = match prepare(profile, table, pod) {
        Ok(prepared) => prepared,
        Err((place, message)) => {
            diagnosis.plugins |= 1 << place;
            diagnosis.message = Some(message);
            profile.times.observe(Point::PreFilter, Ended::Unresolvable, started);
            return Err(Box::new((diagnosis, Cycle::new(0), Vec::new())));
        }
    };
    profile.times.observe(Point::PreFilter, Ended::Success, started);
    let started = Instant::now();
    let trial = Trial { profile, table, pod, active: &active };
    let mut search = Search { trial, diagnosis, feasible: Vec::new(), failed: false };
    let filtered = profile.extenders.filter(&pod.needs);
    // The node that the pod was promised is likely to do; then no other is looked at.
    let promised = table.nomination(&pod.uid).or_else(|| table.index(&pod.nominated));
    if let Some(row) = promised.filter(|row| table.row(*row).present)
        && answers.nodes.is_none()
        && search.look(&mut cycle, row).is_ok()
    {
        let node = &table.row(row).node.name;
        let verdicts = answers.promised.as_ref().filter(|(of, _)| of == node).map(|(_, verdicts)| verdicts);
        if filtered && verdicts.is_none() {
            return Ok(Found::Ask(Question::Promised(node.clone())));
        }
        if verdicts.is_none_or(|verdicts| verdicts.kept.contains(node)) {
            profile.times.observe(Point::Filter, Ended::Success, started);
            return Ok(Found::Choice(Choice { cycle, row, evaluated: 1, feasible: 1 }));
        }
    }
    let mut evaluated = 0;
    match &only {
        Some((names, by)) => {
            let rows: Vec<usize> = names
                .iter()
                .filter_map(|name| table.index(name))
                .filter(|row| table.row(*row).present)
                .collect();
            for row in &rows {
                search.consider(&mut cycle, *row);
            }
            evaluated += rows.len();
            search.exclude(table.nodes() - rows.len(), by);
        }
        None => {
            let rows = table.order();
            let enough = enough(table.nodes(), profile.percentage);
            // The same nodes once more, where extenders have answered for them.
            let begin = if answers.nodes.is_some() { answers.begin } else { *start } % rows.len();
            while evaluated < rows.len() && search.feasible.len() < enough && !search.failed {
                let row = rows[(begin + evaluated) % rows.len()];
                evaluated += 1;
                search.consider(&mut cycle, row);
            }
            if answers.nodes.is_none() {
                *start = (begin + evaluated) % rows.len();
                answers.begin = begin;
            }
        }
    }
    if search.failed {
        profile.times.observe(Point::Filter, Ended::Error, started);
        return Err(Box::new((search.diagnosis, cycle, active)));
    }
    profile.times.observe(Point::Filter, Ended::Success, started);
    match &answers.nodes {
        Some(verdicts) => search.keep(verdicts),
        None => {
            let many = search.feasible.len();
            if (filtered && many > 0) || (many > 1 && profile.extenders.prioritize(&pod.needs)) {
                let names = search.feasible.iter().map(|row| table.row(*row).node.name.clone());
                return Ok(Found::Ask(Question::Nodes(names.collect())));
            }
        }
    }
    let Search { diagnosis, feasible, .. } = search;
    let row = match feasible.as_slice() {
        [] => return Err(Box::new((diagnosis, cycle, active))),
        [one] => *one,
        _ => best(&trial, &mut cycle, &feasible, answers.nodes.as_ref(), random),
    };
    Ok(Found::Choice(Choice { cycle, row, evaluated, feasible: feasible.len() }))
}

/// What pre-filter plugins leave to be looked at.
pub struct Prepared {
    pub cycle: Cycle,
    /// Places of the filters that apply.
    pub active: Vec<usize>,
    /// Names of the only nodes that can do, and which plugins say so.
    pub only: Option<(Vec<Symbol>, Vec<usize>)>,
}

/// Runs pre-filter plugins; an error is that of the first that rejects the pod, with its place.
pub fn prepare(profile: &Profile, table: &Table, pod: &Pod) -> Result<Prepared, (usize, String)> {
    let mut cycle = Cycle::new(profile.plugins.len());
    let mut skipped = 0u64;
    let mut only: Option<(Vec<Symbol>, Vec<usize>)> = None;
    for (place, plugin) in profile.each(Point::PreFilter) {
        match plugin.pre_filter(place, &mut cycle, pod, table) {
            PreFilter::Run => {}
            PreFilter::Skip => skipped |= 1 << place,
            PreFilter::Only(names) => {
                only = Some(match only {
                    None => (names, vec![place]),
                    Some((mut kept, mut by)) => {
                        kept.retain(|name| names.contains(name));
                        by.push(place);
                        (kept, by)
                    }
                });
            }
            PreFilter::Reject(message) => return Err((place, message)),
        }
    }
    let active = profile.at(Point::Filter).iter().copied().filter(|place| skipped & (1 << place) == 0);
    Ok(Prepared { cycle, active: active.collect(), only })
}

struct Search<'a> {
    trial: Trial<'a>,
    diagnosis: Diagnosis,
    feasible: Vec<usize>,
    /// A filter does not know: the diagnosis says why.
    failed: bool,
}

impl Search<'_> {
    fn look(&self, cycle: &mut Cycle, index: usize) -> Result<(), (usize, Reject)> {
        let table = self.trial.table;
        let promised = table.promised(index, self.trial.pod);
        self.trial.fits(cycle, table.view(index), &promised)
    }

    fn consider(&mut self, cycle: &mut Cycle, index: usize) {
        match self.look(cycle, index) {
            Ok(()) => self.feasible.push(index),
            Err((place, Reject { reasons: Reasons::Failed(reason), .. })) => {
                let plugin = self.trial.profile.plugins[place].name();
                self.diagnosis.failure = Some(format!("running {plugin:?} filter plugin: {reason}"));
                self.failed = true;
            }
            Err((place, reject)) => self.diagnosis.add(place, &reject, index),
        }
    }

    /// Leaves the nodes that extenders keep.
    fn keep(&mut self, verdicts: &Verdicts) {
        let kept: FxHashSet<&Symbol> = verdicts.kept.iter().collect();
        let place = self.trial.profile.extenders_place();
        for row in std::mem::take(&mut self.feasible) {
            let name = &self.trial.table.row(row).node.name;
            if kept.contains(name) {
                self.feasible.push(row);
                continue;
            }
            self.diagnosis.plugins |= 1 << place;
            if let Some(reject) = verdicts.rejects(name) {
                self.diagnosis.add(place, &reject, row);
            }
        }
    }

    /// Accounts for nodes that pre-filter plugins left out.
    fn exclude(&mut self, nodes: usize, by: &[usize]) {
        if nodes == 0 {
            return;
        }
        let mut names: Vec<&str> = by.iter().map(|place| self.trial.profile.plugins[*place].name()).collect();
        names.sort_unstable();
        let reason = format!("node(s) didn't satisfy plugin(s) [{}]", names.join(" "));
        *self.diagnosis.counts.entry(Reason::Message(reason.into())).or_default() += nodes as u32;
        for place in by {
            self.diagnosis.plugins |= 1 << place;
        }
    }
}

/// How many feasible nodes are enough to choose from.
fn enough(nodes: usize, percentage: i64) -> usize {
    if nodes < FEW_NODES || percentage >= 100 {
        return nodes;
    }
    let percentage = match percentage {
        1.. => percentage as usize,
        // Half of a small cluster, less of a large one, at least a twentieth.
        _ => 50usize.saturating_sub(nodes / 125).max(5),
    };
    (nodes * percentage / 100).max(FEW_NODES)
}

fn best(
    trial: &Trial<'_>,
    cycle: &mut Cycle,
    rows: &[usize],
    verdicts: Option<&Verdicts>,
    random: &mut impl Rng,
) -> usize {
    let Trial { profile, table, pod, .. } = *trial;
    let started = Instant::now();
    let mut skipped = 0u64;
    for (place, plugin) in profile.each(Point::PreScore) {
        if !plugin.pre_score(place, cycle, pod, table, rows) {
            skipped |= 1 << place;
        }
    }
    profile.times.observe(Point::PreScore, Ended::Success, started);
    let started = Instant::now();
    let is_logged = tracing::enabled!(tracing::Level::TRACE);
    let mut totals = vec![0i64; rows.len()];
    let mut scores = vec![0i64; rows.len()];
    for (place, plugin) in profile.each(Point::Score).filter(|(place, _)| skipped & (1 << place) == 0) {
        for (score, row) in scores.iter_mut().zip(rows) {
            *score = plugin.score(place, cycle, pod, table.view(*row));
        }
        plugin.normalize(place, cycle, pod, table, rows, &mut scores);
        let weight = profile.weight(place);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * weight;
        }
        for (score, row) in scores.iter().zip(rows).filter(|_| is_logged) {
            let (node, score) = (&table.row(*row).node.name, score * weight);
            tracing::trace!(pod = %pod.key, plugin = plugin.name(), %node, score, "Plugin scored node for pod");
        }
    }
    if let Some(Verdicts { scores, .. }) = verdicts {
        for (total, row) in totals.iter_mut().zip(rows) {
            *total += scores.get(&table.row(*row).node.name).copied().unwrap_or(0);
        }
    }
    profile.times.observe(Point::Score, Ended::Success, started);
    for (score, row) in totals.iter().zip(rows).filter(|_| is_logged) {
        let node = &table.row(*row).node.name;
        tracing::trace!(pod = %pod.key, %node, score, "Calculated node's final score for pod");
    }
    let (mut chosen, mut highest, mut equals) = (rows[0], i64::MIN, 0u32);
    for (row, total) in rows.iter().zip(&totals) {
        if *total > highest {
            (chosen, highest, equals) = (*row, *total, 1);
        } else if *total == highest {
            equals += 1;
            if random.random_range(0..equals) == 0 {
                chosen = *row;
            }
        }
    }
    chosen
}
