//! One pod, one table: filter, score, choose.

use std::sync::Arc;
use std::time::Instant;

use rand::Rng;

use super::profile::{Profile, Trial};
use crate::cluster::{Pod, Symbol, Table};
use crate::framework::{Cycle, Diagnosis, Point, PreFilter, Reason, Reject};
use crate::metrics::Ended;

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
/// where not all are looked at.
pub fn schedule(
    profile: &Profile,
    table: &Table,
    pod: &Arc<Pod>,
    start: &mut usize,
    random: &mut impl Rng,
) -> Result<Choice, Failure> {
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
    let mut search = Search { trial, diagnosis, feasible: Vec::new() };
    // The node that the pod was promised is likely to do; then no other is looked at.
    let promised = table.nomination(&pod.uid).or_else(|| table.index(&pod.nominated));
    if let Some(row) = promised.filter(|row| table.row(*row).present)
        && search.look(&mut cycle, row).is_ok()
    {
        profile.times.observe(Point::Filter, Ended::Success, started);
        return Ok(Choice { cycle, row, evaluated: 1, feasible: 1 });
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
            let begin = *start % rows.len();
            while evaluated < rows.len() && search.feasible.len() < enough {
                let row = rows[(begin + evaluated) % rows.len()];
                evaluated += 1;
                search.consider(&mut cycle, row);
            }
            *start = (begin + evaluated) % rows.len();
        }
    }
    profile.times.observe(Point::Filter, Ended::Success, started);
    let Search { diagnosis, feasible, .. } = search;
    let row = match feasible.as_slice() {
        [] => return Err(Box::new((diagnosis, cycle, active))),
        [one] => *one,
        _ => best(profile, table, pod, &mut cycle, &feasible, random),
    };
    Ok(Choice { cycle, row, evaluated, feasible: feasible.len() })
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
            Err((place, reject)) => self.diagnosis.add(place, &reject, index),
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
    profile: &Profile,
    table: &Table,
    pod: &Arc<Pod>,
    cycle: &mut Cycle,
    rows: &[usize],
    random: &mut impl Rng,
) -> usize {
    let started = Instant::now();
    let mut skipped = 0u64;
    for (place, plugin) in profile.each(Point::PreScore) {
        if !plugin.pre_score(place, cycle, pod, table, rows) {
            skipped |= 1 << place;
        }
    }
    profile.times.observe(Point::PreScore, Ended::Success, started);
    let started = Instant::now();
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
    }
    profile.times.observe(Point::Score, Ended::Success, started);
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
