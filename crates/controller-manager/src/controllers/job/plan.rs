//! One round for one job: what to count, make, delete and say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{self, Counts, End};
use super::policy::{self, Meaning};
use super::{INDEX, INDEX_FAILURES, indexes, is_tracked};
use crate::support::ranking;
use crate::views::{Condition, Job, JobStatus, Pod};

/// The most pods made or deleted, and counted, in one go.
const BURST: usize = 500;
/// Between a pod's failure and the next try; doubled with each failure in a row.
const FIRST_BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 600;

pub(super) struct Input<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Arc<Pod>],
    /// Everything asked for earlier has been seen.
    pub(super) settled: bool,
    pub(super) now: jiff::Timestamp,
}

#[derive(Debug, PartialEq)]
pub(super) struct Create {
    pub(super) index: Option<i32>,
    /// How often the index failed, where that is limited.
    pub(super) failures: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    pub(super) create: Vec<Create>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// The deleted ones failed with the job, rather than being too many.
    pub(super) count_deleted: bool,
    /// Pods the status accounts for, once it is written.
    pub(super) counted: Vec<Arc<Pod>>,
    pub(super) events: Vec<(EventType, String, String)>,
    pub(super) again: Option<Duration>,
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn index(pod: &Pod) -> Option<i32> {
    pod.metadata.annotation(INDEX)?.parse().ok()
}

fn index_failures(pod: &Pod) -> i32 {
    pod.metadata.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

struct Round<'a> {
    input: &'a Input<'a>,
    job: &'a Job,
    indexed: bool,
    /// A pod on its way out is not replaced, nor counted, before it has ended.
    only_failed: bool,
    completed: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
    succeeded: i32,
    failed: i32,
    new_failure: bool,
    fail_job: Option<String>,
    active: Vec<Arc<Pod>>,
    terminating: usize,
    plan: Plan,
}

pub(super) fn plan(input: &Input) -> Plan {
    let job = input.job;
    let completions = job.spec.completions.unwrap_or(i32::MAX);
    let mut round = Round {
        input,
        job,
        indexed: job.spec.completion_mode == "Indexed",
        only_failed: job.spec.pod_replacement_policy == "Failed" || job.spec.pod_failure_policy.is_some(),
        completed: indexes::parse(&job.status.completed_indexes, completions),
        failed_indexes: indexes::parse(job.status.failed_indexes.as_deref().unwrap_or_default(), completions),
        succeeded: job.status.succeeded,
        failed: job.status.failed,
        new_failure: false,
        fail_job: None,
        active: input.pods.iter().filter(|pod| pod.is_active()).cloned().collect(),
        terminating: input.pods.iter().filter(|pod| pod.metadata.is_deleting() && !pod.is_terminal()).count(),
        plan: Plan { status: job.status.clone(), ..Default::default() },
    };
    let status = &mut round.plan.status;
    if status.start_time.is_none() && !job.spec.suspend {
        status.start_time = Some(Time(input.now));
    }
    round.settle_uncounted();
    round.count_ended();
    round.go_on();
    round.plan
}

impl Round<'_> {
    /// Uids whose pods have lost the finalizer become numbers.
    fn settle_uncounted(&mut self) {
        let mut uncounted = self.job.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let held = |uid: &String| {
            self.input.pods.iter().any(|pod| pod.metadata.uid == *uid && is_tracked(&pod.metadata))
        };
        let (succeeded, failed) = (uncounted.succeeded.len(), uncounted.failed.len());
        uncounted.succeeded.retain(held);
        uncounted.failed.retain(held);
        let status = &mut self.plan.status;
        status.succeeded += count(succeeded - uncounted.succeeded.len());
        status.failed += count(failed - uncounted.failed.len());
        self.succeeded += count(succeeded);
        self.failed += count(failed);
        status.uncounted_terminated_pods = Some(uncounted);
    }

    fn fails(&self, pod: &Pod) -> bool {
        pod.status.phase == "Failed"
            || (!self.only_failed && pod.metadata.is_deleting() && pod.status.phase != "Succeeded")
    }

    /// Takes account of pods that have ended since.
    fn count_ended(&mut self) {
        let mut left = BURST;
        for pod in self.input.pods.iter().filter(|pod| is_tracked(&pod.metadata)) {
            let uid = &pod.metadata.uid;
            let uncounted = self.plan.status.uncounted_terminated_pods.get_or_insert_default();
            if uncounted.succeeded.contains(uid) || uncounted.failed.contains(uid) {
                self.plan.counted.push(pod.clone());
                continue;
            }
            if left == 0 {
                break;
            }
            if pod.status.phase == "Succeeded" {
                left -= 1;
                if self.indexed {
                    // The index itself keeps it from being counted twice.
                    if let Some(index) = index(pod).filter(|index| *index < self.job.spec.completions.unwrap_or(0)) {
                        self.completed.insert(index);
                    }
                } else {
                    uncounted.succeeded.push(uid.clone());
                    self.succeeded += 1;
                }
                self.plan.counted.push(pod.clone());
            } else if self.fails(pod) {
                let meaning = policy::meaning(self.job.spec.pod_failure_policy.as_ref(), pod);
                if self.keeps_failure(pod, &meaning) {
                    continue;
                }
                left -= 1;
                self.count_failure(pod, meaning);
            }
        }
        if self.indexed {
            self.succeeded = count(self.completed.len());
        }
    }

    fn count_failure(&mut self, pod: &Arc<Pod>, meaning: Meaning) {
        self.plan.counted.push(pod.clone());
        if let Meaning::Ignore = meaning {
            return;
        }
        if let Meaning::FailJob(message) = meaning {
            self.fail_job.get_or_insert(message);
        }
        self.failed += 1;
        self.new_failure = true;
        self.plan.status.uncounted_terminated_pods.get_or_insert_default().failed.push(pod.metadata.uid.clone());
    }

    /// With a limit per index, a failed pod is what remembers its index's failures until there is another
    /// pod that does, or the index is given up.
    fn keeps_failure(&mut self, pod: &Pod, meaning: &Meaning) -> bool {
        let (Some(limit), Some(own)) = (self.job.spec.backoff_limit_per_index, index(pod)) else { return false };
        if self.completed.contains(&own) || self.failed_indexes.contains(&own) {
            return false;
        }
        if *meaning == Meaning::FailIndex || (*meaning != Meaning::Ignore && index_failures(pod) >= limit) {
            self.failed_indexes.insert(own);
            return false;
        }
        let newer = |other: &Arc<Pod>| {
            index(other) == Some(own)
                && other.metadata.uid != pod.metadata.uid
                && (index_failures(other) > index_failures(pod) || other.metadata.created() > pod.metadata.created())
        };
        !self.input.pods.iter().any(newer) && !matches!(meaning, Meaning::FailJob(_))
    }

    fn go_on(&mut self) {
        let now = self.input.now;
        let earlier = decide::earlier(self.job);
        let counts = Counts {
            succeeded: self.succeeded,
            failed: self.failed,
            new_failure: self.new_failure,
            active: &self.active,
            fail_job: self.fail_job.clone(),
            completed: &self.completed,
            failed_indexes: &self.failed_indexes,
        };
        let mut end = earlier.or_else(|| decide::end(self.job, &counts, now));
        let mut active = count(self.active.len());
        if let Some(end) = &end {
            self.finish_pods(end.success);
            active = 0;
        } else if !self.job.metadata.is_deleting() {
            if self.input.settled {
                active = self.resize();
            }
            end = decide::complete(self.job, self.succeeded, active);
            if end.is_none() {
                self.note_suspension();
            }
            if let Some(left) = decide::deadline_left(self.job, now).and_then(|left| u64::try_from(left).ok()) {
                self.look_again(left.max(1));
            }
        }
        let ready = self.active.iter().filter(|pod| pod.is_ready() && !self.plan.delete.contains(pod)).count();
        let leaving = if self.plan.delete.is_empty() { 0 } else { self.plan.delete.iter().filter(|pod| !pod.spec.node_name.is_empty()).count() };
        let status = &mut self.plan.status;
        status.active = active;
        status.ready = Some(count(ready));
        status.terminating = Some(count(self.terminating + leaving));
        if self.indexed {
            status.succeeded = self.succeeded;
            status.completed_indexes = indexes::text(&self.completed);
            if self.job.spec.backoff_limit_per_index.is_some() {
                status.failed_indexes = Some(indexes::text(&self.failed_indexes));
            }
        }
        if let Some(end) = end {
            self.conclude(end);
        }
    }

    /// The job has ended: what still runs is stopped, and after a failure counts as failed.
    fn finish_pods(&mut self, success: bool) {
        self.plan.delete = self.active.iter().take(BURST).cloned().collect();
        self.plan.count_deleted = !success;
        if success {
            return;
        }
        for pod in self.active.clone() {
            let uid = &pod.metadata.uid;
            let uncounted = self.plan.status.uncounted_terminated_pods.get_or_insert_default();
            if is_tracked(&pod.metadata) && !uncounted.failed.contains(uid) {
                uncounted.failed.push(uid.clone());
                self.plan.counted.push(pod.clone());
            }
        }
    }

    /// Makes or deletes pods; returns how many will be active.
    fn resize(&mut self) -> i32 {
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
            let changed = || Condition::find(&pod.status.conditions, "Ready")?.last_transition_time.as_ref().map(|time| time.0);
            ended.max().or_else(changed).unwrap_or_else(|| pod.metadata.created())
        };
        let of = |phase: &'static str| {
            self.input.pods.iter().filter(move |pod| pod.status.phase == phase).map(|pod| finished(pod))
        };
        let success = of("Succeeded").max();
        let failures: Vec<_> = of("Failed").filter(|time| success.is_none_or(|success| *time > success)).collect();
        let last = failures.iter().max()?;
        let steps = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
        let delay = (FIRST_BACKOFF << steps).min(LONGEST_BACKOFF);
        let left = last.as_second() + delay - self.input.now.as_second();
        u64::try_from(left).ok().filter(|left| *left > 0)
    }

    fn look_again(&mut self, seconds: u64) {
        let wait = Duration::from_secs(seconds);
        self.plan.again = Some(self.plan.again.map_or(wait, |known| known.min(wait)));
    }

    fn note_suspension(&mut self) {
        let now = self.input.now;
        let current = Condition::find(&self.plan.status.conditions, "Suspended").map(|condition| condition.status == "True");
        let (state, reason, message, event) = match (self.job.spec.suspend, current) {
            (true, Some(true)) | (false, None | Some(false)) => return,
            (true, _) => ("True", "JobSuspended", "Job suspended", "Suspended"),
            (false, Some(true)) => ("False", "JobResumed", "Job resumed", "Resumed"),
        };
        self.plan.status.start_time = (!self.job.spec.suspend).then_some(Time(now));
        self.set_condition("Suspended", state, reason, message);
        self.plan.events.push((EventType::Normal, event.to_owned(), message.to_owned()));
    }

    fn set_condition(&mut self, type_: &str, state: &str, reason: &str, message: &str) {
        let conditions = &mut self.plan.status.conditions;
        let wanted = Condition {
            type_: type_.to_owned(),
            status: state.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_probe_time: Some(Time(self.input.now)),
            last_transition_time: Some(Time(self.input.now)),
            ..Default::default()
        };
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(present) if present.status == wanted.status && present.reason == wanted.reason => {}
            Some(present) => *present = wanted,
            None => conditions.push(wanted),
        }
    }

    /// First says how the job will end, and that it has ended once every pod has, and is counted.
    fn conclude(&mut self, end: End) {
        let target = if end.success { "SuccessCriteriaMet" } else { "FailureTarget" };
        let known = Condition::find(&self.plan.status.conditions, target).is_some();
        self.set_condition(target, "True", &end.reason, &end.message);
        let uncounted = self.plan.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let pending = !uncounted.succeeded.is_empty() || !uncounted.failed.is_empty() || !self.plan.counted.is_empty();
        let running = self.terminating > 0 || !self.plan.delete.is_empty() || self.plan.status.active > 0;
        if !known || pending || running {
            if !pending && !running {
                self.plan.again = Some(Duration::ZERO);
            }
            return;
        }
        let now = self.input.now;
        if end.success {
            self.plan.status.completion_time = Some(Time(now));
            self.set_condition("Complete", "True", &end.reason, &end.message);
            self.plan.events.push((EventType::Normal, "Completed".to_owned(), "Job completed".to_owned()));
        } else {
            self.set_condition("Failed", "True", &end.reason, &end.message);
            self.plan.events.push((EventType::Warning, end.reason, end.message));
        }
    }
}
