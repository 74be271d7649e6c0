//! Which pods have ended, what that means for the job, and what of it the status accounts for.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Text;
use rustc_hash::FxHashSet;

use super::decide::End;
use super::is_tracked;
use super::plan::{Round, count, index, index_failures};
use super::policy::{self, Meaning};
use controllers::views::annotation::INDEX_IGNORED_FAILURES;
use controllers::views::{Pod, UncountedPods};

/// The most pods whose uids the status has at once: it has to stay small enough to be stored.
const UNCOUNTED: usize = 500;

/// Failures in a row, by which the next try is delayed. Kept from round to round, as pods go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Failures {
    pub(super) number: u32,
    pub(super) last: Option<jiff::Timestamp>,
}

impl Failures {
    /// With pods that succeeded and failed since.
    fn with(self, succeeded: &[jiff::Timestamp], failed: &[jiff::Timestamp]) -> Failures {
        let success = succeeded.iter().max();
        let since = failed.iter().filter(|time| success.is_none_or(|success| *time > success));
        let number = u32::try_from(since.clone().count()).unwrap_or(u32::MAX);
        let (before, last) = if success.is_none() { (self.number, self.last) } else { (0, None) };
        Failures { number: before.saturating_add(number), last: since.max().copied().max(last) }
    }
}

/// When a pod ended, as far as that is known.
pub(super) fn finished(pod: &Pod) -> jiff::Timestamp {
    let ends = pod
        .status
        .container_statuses
        .iter()
        .map(|status| status.state.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0));
    let ended = || ends.collect::<Option<Vec<_>>>()?.into_iter().max();
    let not_ready = || {
        let ready = pod.condition("Ready").filter(|condition| condition.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let meta = &pod.metadata;
        let grace = meta.deletion_grace_period_seconds.unwrap_or(0);
        meta.deletion_timestamp.as_ref().map(|time| time.0 - jiff::SignedDuration::from_secs(grace))
    };
    ended().or_else(not_ready).or_else(deleted).unwrap_or_else(|| pod.metadata.created())
}

pub(super) fn index_ignored_failures(pod: &Pod) -> i32 {
    pod.metadata.annotation(INDEX_IGNORED_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn uids(uncounted: &UncountedPods) -> FxHashSet<Text> {
    uncounted.succeeded.iter().chain(&uncounted.failed).cloned().collect()
}

impl Round<'_> {
    /// Uids whose pods have lost the finalizer become numbers.
    pub(super) fn settle_uncounted(&mut self) {
        let mut uncounted = self.job.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let tracked = self.input.pods.iter().filter(|pod| is_tracked(&pod.metadata));
        let tracked: FxHashSet<&Text> = tracked.map(|pod| &pod.metadata.uid).collect();
        let (succeeded, failed) = (uncounted.succeeded.len(), uncounted.failed.len());
        uncounted.succeeded.retain(|uid| tracked.contains(uid));
        uncounted.failed.retain(|uid| tracked.contains(uid));
        let status = &mut self.plan.status;
        status.succeeded += count(succeeded - uncounted.succeeded.len());
        status.failed += count(failed - uncounted.failed.len());
        self.succeeded += count(succeeded);
        self.failed += count(failed);
        status.uncounted_terminated_pods = Some(uncounted);
    }

    pub(super) fn fails(&self, pod: &Pod) -> bool {
        pod.status.phase == "Failed"
            || (!self.only_failed && pod.metadata.is_deleting() && pod.status.phase != "Succeeded")
    }

    /// What the pod's failure means to the job's policy.
    fn meaning(&self, pod: &Pod) -> Meaning {
        policy::meaning(self.job.spec.pod_failure_policy.as_ref(), pod)
    }

    /// The pod's index, where the job has indexes and this is one of them.
    fn own_index(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|index| self.indexed && *index < self.job.spec.completions.unwrap_or(0))
    }

    fn counts(&self, pod: &Pod) -> bool {
        !self.indexed || self.own_index(pod).is_some()
    }

    /// Takes in what has ended, whether or not the status accounts for it yet.
    pub(super) fn tally(&mut self) {
        let pods = self.input.pods;
        let known = self.plan.status.uncounted_terminated_pods.as_ref().map(uids).unwrap_or_default();
        let ended = |pod: &&Arc<Pod>| pod.status.phase == "Succeeded" || self.fails(pod);
        let fresh = |pod: &&Arc<Pod>| is_tracked(&pod.metadata) && !known.contains(&pod.metadata.uid);
        let fresh: Vec<&Arc<Pod>> =
            pods.iter().filter(ended).filter(fresh).filter(|pod| self.counts(pod)).collect();
        for pod in &fresh {
            let own = self.own_index(pod);
            if pod.status.phase == "Succeeded" {
                match own {
                    Some(index) => drop(self.completed.insert(index)),
                    None => self.succeeded += 1,
                }
                continue;
            }
            let meaning = self.meaning(pod);
            self.failed += i32::from(meaning != Meaning::Ignore);
            if let (Some(limit), Some(own)) = (self.job.spec.backoff_limit_per_index, own)
                && (meaning == Meaning::FailIndex
                    || (meaning != Meaning::Ignore && index_failures(pod) >= limit))
            {
                self.failed_indexes.insert(own);
            }
        }
        if self.indexed {
            self.succeeded = count(self.completed.len());
        }
        if self.job.spec.pod_failure_policy.is_some() {
            self.fail_job =
                pods.iter().filter(|pod| self.fails(pod)).find_map(|pod| match self.meaning(pod) {
                    Meaning::FailJob(message) => Some(message),
                    _ => None,
                });
        }
        if self.job.spec.backoff_limit_per_index.is_some() {
            self.last_failed = self.last_failed(&fresh);
        }
        self.plan.memory.failures = Some(match self.input.memory.failures {
            Some(before) => self.failures(before, fresh.into_iter()),
            // A controller that has just started takes them from the pods there are.
            None => self.failures(Failures::default(), pods.iter()),
        });
    }

    fn failures<'a>(&self, before: Failures, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Failures {
        let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
        for pod in pods {
            if pod.status.phase == "Succeeded" {
                succeeded.push(finished(pod));
            } else if self.fails(pod) {
                failed.push(finished(pod));
            }
        }
        before.with(&succeeded, &failed)
    }

    /// With a limit per index, a failed pod is what remembers its index's failures until there is another
    /// pod that does, or the index is given up.
    fn last_failed(&self, fresh: &[&Arc<Pod>]) -> BTreeMap<i32, Arc<Pod>> {
        let running: FxHashSet<i32> = self.active.iter().filter_map(|pod| index(pod)).collect();
        let mut last: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        let order = |pod: &Pod| (index_failures(pod) + index_ignored_failures(pod), finished(pod));
        for pod in fresh.iter().filter(|pod| self.fails(pod)) {
            let Some(own) = self.own_index(pod) else { continue };
            let over = self.completed.contains(&own) || self.failed_indexes.contains(&own);
            if over || running.contains(&own) {
                continue;
            }
            if last.get(&own).is_none_or(|other| order(other) <= order(pod)) {
                last.insert(own, (*pod).clone());
            }
        }
        last
    }

    /// Puts into the status what it can take of pods that ended, and with a job that fails of all its pods.
    pub(super) fn account(&mut self, end: Option<&End>) {
        let mut uncounted = self.plan.status.uncounted_terminated_pods.take().unwrap_or_default();
        let known = uids(&uncounted);
        let fails_all = end.is_some_and(|end| !end.success);
        let mut indexes = 0;
        for pod in self.input.pods.iter().filter(|pod| is_tracked(&pod.metadata)) {
            let (uid, own) = (&pod.metadata.uid, self.own_index(pod));
            let (succeeded, failed) = (pod.status.phase == "Succeeded", self.fails(pod));
            let remembered = || {
                own.and_then(|own| self.last_failed.get(&own)).is_some_and(|last| last.metadata.uid == *uid)
            };
            let over = end.is_some() || self.job.metadata.is_deleting();
            if !(over || succeeded || (failed && !remembered())) {
                continue;
            }
            self.plan.counted.push(pod.clone());
            if known.contains(uid) || !self.counts(pod) {
                continue;
            }
            if succeeded {
                match own {
                    // The index itself keeps it from being counted twice.
                    Some(index) => indexes += usize::from(!self.completed_before.contains(&index)),
                    None => uncounted.succeeded.push(uid.clone()),
                }
            } else if (failed || fails_all) && self.meaning(pod) != Meaning::Ignore {
                uncounted.failed.push(uid.clone());
            }
            if indexes + uncounted.succeeded.len() + uncounted.failed.len() >= UNCOUNTED {
                // The rest follows when these have become numbers.
                break;
            }
        }
        self.plan.status.uncounted_terminated_pods = Some(uncounted);
    }
}
