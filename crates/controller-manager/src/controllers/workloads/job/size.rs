//! How many pods a job should have now, which of them, and when the next may be made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;

use super::account::{Failures, finished, index_ignored_failures};
use super::plan::{BURST, Create, Round, count, index, index_failures};
use super::policy::{self, Meaning};
use controllers::ranking;
use controllers::views::Pod;

/// Seconds between a pod's failure and its replacement; doubled with each failure in a row.
const FIRST_BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 600;

impl Round<'_> {
    /// Makes or deletes pods; returns how many will be active.
    pub(super) fn resize(&mut self) -> i32 {
        let active = count(self.active.len());
        if self.job.spec.suspend {
            self.plan.delete = self.active.iter().take(BURST).cloned().collect();
            return 0;
        }
        let parallelism = self.job.spec.parallelism.unwrap_or(1);
        let wanted = match self.job.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => {
                (completions - self.succeeded - count(self.failed_indexes.len())).clamp(0, parallelism.max(0))
            }
        };
        let surplus = self.surplus(wanted);
        if !surplus.is_empty() {
            let gone = count(surplus.len());
            self.plan.delete = surplus;
            return active - gone;
        }
        let leaving = if self.only_failed { count(self.terminating) } else { 0 };
        let missing = usize::try_from(wanted - active - leaving).unwrap_or(0).min(BURST);
        if missing == 0 {
            return active;
        }
        if self.job.spec.backoff_limit_per_index.is_none()
            && let Some(wait) = self.backoff(self.plan.memory.failures.unwrap_or_default())
        {
            self.look_again(wait);
            return active;
        }
        self.plan.create = if self.indexed {
            self.pending_indexes(missing)
        } else {
            (0..missing).map(|_| Create { index: None, failures: None }).collect()
        };
        active + count(self.plan.create.len())
    }

    fn surplus(&self, wanted: i32) -> Vec<Arc<Pod>> {
        let mut rest = self.active.clone();
        let mut gone = Vec::new();
        if self.indexed {
            let completions = self.job.spec.completions.unwrap_or(0);
            let mut by_index: BTreeMap<i32, Vec<Arc<Pod>>> = BTreeMap::new();
            for pod in std::mem::take(&mut rest) {
                match index(&pod) {
                    Some(index) if index < completions && !self.completed.contains(&index) => {
                        by_index.entry(index).or_default().push(pod);
                    }
                    _ => gone.push(pod),
                }
            }
            for pods in by_index.into_values() {
                let twice = ranking::choose(pods.clone(), pods.len() - 1, |_| 0, self.input.now);
                rest.extend(pods.into_iter().filter(|pod| !twice.contains(pod)));
                gone.extend(twice);
            }
        }
        let more = usize::try_from(count(rest.len()) - wanted).unwrap_or(0);
        if more > 0 {
            gone.extend(ranking::choose(rest, more, |_| 0, self.input.now));
        }
        gone.truncate(BURST);
        gone
    }

    /// Indexes without a pod, from the lowest. An index that failed is given time before it is tried again.
    fn pending_indexes(&mut self, missing: usize) -> Vec<Create> {
        let running: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let leaving: BTreeSet<i32> = if self.only_failed {
            self.input.pods.iter().filter(|pod| !pod.is_terminal()).filter_map(|pod| index(pod)).collect()
        } else {
            BTreeSet::new()
        };
        let pending = (0..self.job.spec.completions.unwrap_or(0)).filter(|index| {
            !self.completed.contains(index)
                && !self.failed_indexes.contains(index)
                && !running.contains(index)
                && !leaving.contains(index)
        });
        let pending: Vec<i32> = pending.take(missing).collect();
        let limited = self.job.spec.backoff_limit_per_index.is_some();
        let mut create = Vec::new();
        for index in pending {
            let last = self.last_failed.get(&index);
            if let Some(wait) = last.and_then(|last| self.backoff(index_record(last))) {
                self.look_again(wait);
                continue;
            }
            let failures = limited.then(|| last.map_or((0, 0), |last| self.index_failures(last)));
            create.push(Create { index: Some(index), failures });
        }
        create
    }

    /// What the pod that replaces this one is to remember of failures of their index.
    fn index_failures(&self, last: &Pod) -> (i32, i32) {
        let (failures, ignored) = (index_failures(last), index_ignored_failures(last));
        match policy::meaning(self.job.spec.pod_failure_policy.as_ref(), last) {
            Meaning::Ignore => (failures, ignored + 1),
            _ => (failures + 1, ignored),
        }
    }

    /// How long to wait before the next try, after failures in a row.
    fn backoff(&self, failures: Failures) -> Option<SignedDuration> {
        let last = failures.last.filter(|_| failures.number > 0)?;
        let delay = (FIRST_BACKOFF << (failures.number - 1).min(10)).min(LONGEST_BACKOFF);
        let left = SignedDuration::from_secs(delay) - self.input.now.duration_since(last);
        (left > SignedDuration::ZERO).then_some(left)
    }
}

fn index_record(last: &Pod) -> Failures {
    let number = index_failures(last) + index_ignored_failures(last) + 1;
    Failures { number: u32::try_from(number).unwrap_or(0), last: Some(finished(last)) }
}
