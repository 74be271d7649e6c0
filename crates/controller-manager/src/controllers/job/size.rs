//! How many pods a job should have now, which of them, and when the next may be made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{BURST, Create, Round, count, index, index_failures};
use super::policy::{self, Meaning};
use crate::support::ranking;
use crate::views::Pod;

/// Between a pod's failure and the next try; doubled with each failure in a row.
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
        if let Some(wait) = self.backoff() {
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
            let mut seen = BTreeSet::new();
            let completions = self.job.spec.completions.unwrap_or(0);
            let mut kept = Vec::new();
            for pod in rest {
                let good = index(&pod).is_some_and(|index| {
                    index < completions && !self.completed.contains(&index) && seen.insert(index)
                });
                if good { kept.push(pod) } else { gone.push(pod) }
            }
            rest = kept;
        }
        let more = usize::try_from(count(rest.len()) - wanted).unwrap_or(0);
        if more > 0 {
            gone.extend(ranking::choose(rest, more, |_| 0, self.input.now));
        }
        gone.truncate(BURST);
        gone
    }

    /// Indexes without a pod, from the lowest.
    fn pending_indexes(&self, missing: usize) -> Vec<Create> {
        let running: BTreeSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let leaving: BTreeSet<i32> = if self.only_failed {
            self.input.pods.iter().filter(|pod| !pod.is_terminal()).filter_map(|pod| index(pod)).collect()
        } else {
            BTreeSet::new()
        };
        let mut failures: BTreeMap<i32, i32> = BTreeMap::new();
        for pod in self.input.pods.iter().filter(|pod| self.fails(pod)) {
            let ignored = policy::meaning(self.job.spec.pod_failure_policy.as_ref(), pod) == Meaning::Ignore;
            if let Some(index) = index(pod) {
                let known = failures.entry(index).or_default();
                *known = (*known).max(index_failures(pod) + i32::from(!ignored));
            }
        }
        let limited = self.job.spec.backoff_limit_per_index.is_some();
        let pending = (0..self.job.spec.completions.unwrap_or(0)).filter(|index| {
            !self.completed.contains(index)
                && !self.failed_indexes.contains(index)
                && !running.contains(index)
                && !leaving.contains(index)
        });
        let create = |index: i32| Create {
            index: Some(index),
            failures: limited.then(|| failures.get(&index).copied().unwrap_or(0)),
        };
        pending.take(missing).map(create).collect()
    }

    /// Seconds to wait before the next try, after failures in a row.
    fn backoff(&self) -> Option<u64> {
        let finished = |pod: &Pod| {
            let ended = pod.status.container_statuses.iter().filter_map(|status| {
                status.state.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
            });
            let changed = || pod.condition("Ready")?.last_transition_time.as_ref().map(|time| time.0);
            ended.max().or_else(changed).unwrap_or_else(|| pod.metadata.created())
        };
        let of = |phase: &'static str| {
            self.input.pods.iter().filter(move |pod| pod.status.phase == phase).map(|pod| finished(pod))
        };
        let success = of("Succeeded").max();
        let failures: Vec<_> =
            of("Failed").filter(|time| success.is_none_or(|success| *time > success)).collect();
        let last = failures.iter().max()?;
        let steps = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
        let delay = (FIRST_BACKOFF << steps).min(LONGEST_BACKOFF);
        let left = last.as_second() + delay - self.input.now.as_second();
        u64::try_from(left).ok().filter(|left| *left > 0)
    }
}
