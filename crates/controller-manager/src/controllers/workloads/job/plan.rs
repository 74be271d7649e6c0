//! One round for one job: what to count, make, delete and say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Key, Text};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustc_hash::FxHashMap;

use super::account::Failures;
use super::decide::{self, Counts, DEADLINE, End};
use super::indexes;
use controllers::views::annotation::{INDEX, INDEX_FAILURES};
use controllers::views::{Condition, Job, JobStatus, Pod};

/// What a controller remembers of a job from round to round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// None before the first round.
    pub(super) failures: Option<Failures>,
    /// Since when there is cause to end the job while pods run.
    pub(super) ending: Option<jiff::Timestamp>,
}

/// Memories by job key, each with its job's uid: a job that is recreated under the same name starts without one.
#[derive(Default)]
pub(super) struct Memories(FxHashMap<Key, (Text, Memory)>);

impl Memories {
    pub(super) fn get(&self, key: &Key, uid: &Text) -> Memory {
        self.0.get(key).filter(|(own, _)| own == uid).map(|(_, memory)| *memory).unwrap_or_default()
    }

    pub(super) fn set(&mut self, key: &Key, uid: &Text, memory: Memory) {
        self.0.insert(key.clone(), (uid.clone(), memory));
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

/// How long a job that ends leaves the pods that run: those that end at about the same time are to count as they ended.
const LAST_MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// The most pods made or deleted in one go.
pub(super) const BURST: usize = 500;
pub(super) struct Input<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) memory: Memory,
    pub(super) now: jiff::Timestamp,
}

#[derive(Debug, PartialEq)]
pub(super) struct Create {
    pub(super) index: Option<i32>,
    /// How often the index failed, and how often that was ignored, where failures are limited.
    pub(super) failures: Option<(i32, i32)>,
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
    /// With what the status accounts for, once it is written.
    pub(super) memory: Memory,
    pub(super) events: Vec<(EventType, String, String)>,
    pub(super) again: Option<Duration>,
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.metadata.annotation(INDEX)?.parse().ok()
}

pub(super) fn index_failures(pod: &Pod) -> i32 {
    pod.metadata.annotation(INDEX_FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) struct Round<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) job: &'a Job,
    pub(super) indexed: bool,
    /// A pod on its way out is not replaced, nor counted, before it has ended.
    pub(super) only_failed: bool,
    pub(super) completed: BTreeSet<i32>,
    /// Completed indexes that the status has already.
    pub(super) completed_before: BTreeSet<i32>,
    pub(super) failed_indexes: BTreeSet<i32>,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) fail_job: Option<String>,
    /// By index, the failed pod that is to be replaced, where failures are limited by index.
    pub(super) last_failed: BTreeMap<i32, Arc<Pod>>,
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) terminating: usize,
    pub(super) plan: Plan,
}

pub(super) fn plan(input: &Input) -> Plan {
    let job = input.job;
    let completions = job.spec.completions.unwrap_or(i32::MAX);
    let completed = indexes::parse(&job.status.completed_indexes, completions);
    let mut round = Round {
        input,
        job,
        indexed: job.spec.completion_mode == "Indexed",
        only_failed: job.spec.pod_replacement_policy == "Failed" || job.spec.pod_failure_policy.is_some(),
        completed_before: completed.clone(),
        completed,
        failed_indexes: indexes::parse(job.status.failed_indexes.as_deref().unwrap_or_default(), completions),
        succeeded: job.status.succeeded,
        failed: job.status.failed,
        fail_job: None,
        last_failed: BTreeMap::new(),
        active: input.pods.iter().filter(|pod| pod.is_active()).cloned().collect(),
        terminating: input.pods.iter().filter(|pod| pod.metadata.is_deleting() && !pod.is_terminal()).count(),
        plan: Plan { status: job.status.clone(), ..Default::default() },
    };
    let status = &mut round.plan.status;
    if status.start_time.is_none() && !job.spec.suspend {
        status.start_time = Some(Time(input.now));
    }
    round.settle_uncounted();
    round.tally();
    round.go_on();
    round.plan
}

impl Round<'_> {
    fn go_on(&mut self) {
        let now = self.input.now;
        let counts = Counts {
            succeeded: self.succeeded,
            failed: self.failed,
            pods: self.input.pods,
            fail_job: self.fail_job.clone(),
            completed: &self.completed,
            failed_indexes: &self.failed_indexes,
        };
        let earlier = decide::earlier(self.job);
        let fresh = earlier.is_none();
        let mut end = earlier.or_else(|| decide::end(self.job, &counts, now));
        let mut active = count(self.active.len());
        let leaves_time = end.as_ref().is_some_and(|end| fresh && end.reason != DEADLINE && active > 0);
        let since = self.input.memory.ending.unwrap_or(now);
        if leaves_time && now.duration_since(since) < LAST_MOMENT {
            self.plan.memory.ending = Some(since);
            self.look_again(LAST_MOMENT - now.duration_since(since));
            end = None;
        } else if let Some(ending) = &end {
            self.plan.delete = self.active.iter().take(BURST).cloned().collect();
            self.plan.count_deleted = !ending.success;
            active -= count(self.plan.delete.len());
        } else if !self.job.metadata.is_deleting() {
            active = self.resize();
            end = decide::complete(self.job, self.succeeded, active);
            if end.is_none() {
                self.note_suspension();
            }
            if let Some(left) = decide::deadline_left(self.job, now) {
                self.look_again(left);
            }
        }
        self.account(end.as_ref());
        let ready =
            self.active.iter().filter(|pod| pod.is_ready() && !self.plan.delete.contains(pod)).count();
        let leaving = if self.plan.delete.is_empty() {
            0
        } else {
            self.plan.delete.iter().filter(|pod| !pod.spec.node_name.is_empty()).count()
        };
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

    pub(super) fn look_again(&mut self, wait: SignedDuration) {
        let wait = wait.unsigned_abs();
        self.plan.again = Some(self.plan.again.map_or(wait, |known| known.min(wait)));
    }

    fn note_suspension(&mut self) {
        let now = self.input.now;
        let current = Condition::find(&self.plan.status.conditions, "Suspended")
            .map(|condition| condition.status == "True");
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
        let pending =
            !uncounted.succeeded.is_empty() || !uncounted.failed.is_empty() || !self.plan.counted.is_empty();
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
            if self.job.spec.completions.is_some_and(|wanted| self.plan.status.succeeded > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                let reason = "TooManySucceededPods".to_owned();
                self.plan.events.push((EventType::Warning, reason, message.to_owned()));
            }
            self.plan.events.push((EventType::Normal, "Completed".to_owned(), "Job completed".to_owned()));
        } else {
            self.set_condition("Failed", "True", &end.reason, &end.message);
            self.plan.events.push((EventType::Warning, end.reason, end.message));
        }
    }
}
