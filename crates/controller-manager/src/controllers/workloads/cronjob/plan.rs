//! What to do for one cron job now, and when to look at it again.

use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Text};
use controllers::views::{Condition, CronJob, CronJobStatus, Job, JobReference};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustc_hash::FxHashSet;

use super::schedule::Schedule;

/// How long after its time a job is started: clocks differ a little.
const DELTA: Duration = Duration::from_millis(100);
/// Missed times from which on there is a warning.
const MANY: i64 = 100;

pub(super) struct Input<'a> {
    pub(super) cron_job: &'a CronJob,
    /// The jobs that it manages.
    pub(super) jobs: &'a [Arc<Job>],
    /// Jobs of its status that do not exist any more, by uid.
    pub(super) gone: &'a FxHashSet<Text>,
    /// The zone of a schedule that names none.
    pub(super) zone: TimeZone,
    pub(super) now: Timestamp,
}

pub(super) type Said = (EventType, &'static str, String);

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Ended jobs beyond the history, oldest first.
    pub(super) forget: Vec<Arc<Job>>,
    pub(super) events: Vec<Said>,
    /// Jobs that a new one takes the place of.
    pub(super) replace: Vec<JobReference>,
    /// The time that a job is to be started for.
    pub(super) start: Option<Timestamp>,
    /// Before what is replaced and started.
    pub(super) status: CronJobStatus,
    pub(super) again: Option<Duration>,
}

pub(super) fn job_name(cron_job: &CronJob, time: Timestamp) -> String {
    format!("{}-{}", cron_job.metadata.name, time.as_second().div_euclid(60))
}

/// The schedule with its zone; `Err` with the reason and message of an event.
pub(super) fn schedule(cron_job: &CronJob, zone: TimeZone) -> Result<Schedule, Said> {
    let spec = &cron_job.spec;
    let named = spec.time_zone.as_ref().map(|name| (name, TimeZone::get(name)));
    let zone = match named {
        Some((_, Ok(zone))) => zone,
        Some((name, Err(_))) => {
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            return Err((EventType::Warning, "UnknownTimeZone", message));
        }
        None => zone,
    };
    Schedule::parse(&spec.schedule, zone).map_err(|error| {
        let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
        (EventType::Warning, "UnparseableSchedule", message)
    })
}

pub(super) fn plan(input: &Input) -> Plan {
    let cron_job = input.cron_job;
    let mut plan = Plan { status: cron_job.status.clone(), ..Plan::default() };
    plan.forget = history(input);
    plan.account(input);
    if cron_job.metadata.is_deleting() {
        return plan;
    }
    let schedule = match schedule(cron_job, input.zone.clone()) {
        _ if cron_job.spec.suspend && cron_job.spec.time_zone.is_none() => return plan,
        Ok(schedule) => schedule,
        Err(said) => {
            plan.events.push(said);
            return plan;
        }
    };
    if cron_job.spec.suspend {
        return plan;
    }
    if cron_job.spec.schedule.contains("TZ") {
        let message = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            cron_job.spec.schedule
        );
        plan.events.push((EventType::Warning, "UnsupportedSchedule", message));
    }
    plan.again = Some(until_next(cron_job, &plan.status, &schedule, input.now));
    plan.start_job(input, &schedule);
    plan
}

impl Plan {
    /// Brings the list of active jobs up to date.
    fn account(&mut self, input: &Input) {
        let status = &mut self.status;
        for job in input.jobs {
            let meta = &job.metadata;
            let listed = status.active.iter().any(|active| active.uid == meta.uid);
            if !job.is_finished() {
                if !listed {
                    let message =
                        format!("Saw a job that the controller did not create or forgot: {}", meta.name);
                    self.events.push((EventType::Warning, "UnexpectedJob", message));
                }
                continue;
            }
            let succeeded = Condition::is_true(&job.status.conditions, "Complete");
            if listed {
                status.active.retain(|active| active.uid != meta.uid);
                let condition = if succeeded { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {}, condition: {condition}", meta.name);
                self.events.push((EventType::Normal, "SawCompletedJob", message));
            }
            let completed = job.status.completion_time.as_ref().filter(|_| succeeded);
            let last = status.last_successful_time.as_ref();
            if let Some(time) = completed
                && last.is_none_or(|last| last.0 < time.0)
            {
                status.last_successful_time = Some(time.clone());
            }
        }
        for active in status.active.iter().filter(|active| input.gone.contains(&active.uid)) {
            let message = format!("Active job went missing: {}", active.name);
            self.events.push((EventType::Normal, "MissingJob", message));
        }
        status.active.retain(|active| !input.gone.contains(&active.uid));
    }

    fn start_job(&mut self, input: &Input, schedule: &Schedule) {
        let (spec, now) = (&input.cron_job.spec, input.now);
        let found =
            match last_due(input.cron_job, &self.status, schedule, now, spec.starting_deadline_seconds) {
                Ok(found) => found,
                Err(error) => {
                    let message = format!("invalid schedule: {} : {error}", spec.schedule);
                    self.events.push((EventType::Warning, "InvalidSchedule", message));
                    self.again = None;
                    return;
                }
            };
        let Some(due) = found.due else { return };
        if found.missed > MANY {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.events.push((EventType::Warning, "TooManyMissedTimes", message.to_owned()));
        }
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if deadline.is_some_and(|deadline| due.checked_add(deadline).is_ok_and(|last| last < now)) {
            let time = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {time}");
            self.events.push((EventType::Warning, "MissSchedule", message));
            return;
        }
        let name = job_name(input.cron_job, due);
        let started = self.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == due);
        if started || self.status.active.iter().any(|active| active.name == name) {
            return;
        }
        match spec.concurrency_policy.as_str() {
            "Forbid" if !self.status.active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.events.push((EventType::Normal, "JobAlreadyActive", message.to_owned()));
                return;
            }
            "Replace" => self.replace.clone_from(&self.status.active),
            _ => {}
        }
        self.start = Some(due);
    }
}

/// Ended jobs beyond what is to be kept of each kind, oldest first.
fn history(input: &Input) -> Vec<Arc<Job>> {
    let spec = &input.cron_job.spec;
    let limits =
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    let mut forget = Vec::new();
    for (condition, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let ended = |job: &&Arc<Job>| Condition::is_true(&job.status.conditions, condition);
        let mut jobs: Vec<_> = input.jobs.iter().filter(ended).cloned().collect();
        jobs.sort_by(|left, right| {
            let start = |job: &Job| job.status.start_time.as_ref().map(|time| time.0);
            let (one, other) = (start(left), start(right));
            one.is_none()
                .cmp(&other.is_none())
                .then_with(|| one.cmp(&other))
                .then_with(|| left.metadata.name.cmp(&right.metadata.name))
        });
        let surplus = jobs.len().saturating_sub(limit);
        forget.extend(jobs.into_iter().take(surplus));
    }
    forget
}

struct Found {
    /// From when on times were looked for.
    since: Timestamp,
    /// The last time that is due.
    due: Option<Timestamp>,
    /// About how many times were due.
    missed: i64,
}

/// The last time up to now, of those since the last start.
fn last_due(
    cron_job: &CronJob,
    status: &CronJobStatus,
    schedule: &Schedule,
    now: Timestamp,
    deadline: Option<i64>,
) -> Result<Found, String> {
    let last = status.last_schedule_time.as_ref().map_or_else(|| cron_job.metadata.created(), |last| last.0);
    let allowed = deadline.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let since = allowed.map_or(last, |allowed| allowed.max(last));
    let none = Found { since, due: None, missed: 0 };
    let Some(first) = schedule.next(since).filter(|first| *first <= now) else { return Ok(none) };
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return Ok(Found { due: Some(first), ..none });
    };
    let between = second.as_second() - first.as_second();
    if between < 1 {
        return Err("time difference between two schedules is less than 1 second".to_owned());
    }
    // Times are about as far apart as the first two: the search begins a little before the last one.
    let missed = (now.as_second() - first.as_second()) / between + 1;
    let mut from = Timestamp::from_second(first.as_second() + (missed - 2) * between).unwrap_or(second);
    let mut due = None;
    while let Some(next) = schedule.next(from).filter(|next| *next <= now) {
        due = Some(next);
        from = next;
    }
    Ok(Found { due, missed, ..none })
}

/// How long until the next time.
pub(super) fn until_next(
    cron_job: &CronJob,
    status: &CronJobStatus,
    schedule: &Schedule,
    now: Timestamp,
) -> Duration {
    let from = match last_due(cron_job, status, schedule, now, None) {
        Ok(Found { due: Some(due), .. }) => due,
        Ok(Found { missed: 0, since, .. }) => since,
        _ => now,
    };
    let next = schedule.next(from).unwrap_or(Timestamp::MAX);
    let left = next.duration_since(now);
    if left.is_negative() { DELTA } else { left.unsigned_abs() + DELTA }
}

/// With a job that has been started.
pub(super) fn started(mut status: CronJobStatus, job: JobReference, due: Timestamp) -> CronJobStatus {
    status.active.push(job);
    status.last_schedule_time = Some(Time(due));
    status
}
