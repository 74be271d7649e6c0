//! `cronjob-controller`: starts jobs at the times that a schedule names.

mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Propagation};
use controllers::views::{CronJob, Job, JobReference, Object, Partial};
use controllers::{Context, Error, Next, Owned, Reconcile, write_status};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use crate::{Options, metrics};
use plan::{Input, Plan, job_name};

/// Annotation of a job with the time that it was started for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Controller {
    events: EventRecorder,
    cron_jobs: Informer<CronJob>,
    jobs: Owned<Job>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "cronjob-controller";
    let mut builder = context.builder("cronjob", account, account).await?;
    let controller = Controller {
        events: builder.events.clone(),
        cron_jobs: builder.reads(),
        jobs: builder.owns::<Job, CronJob>(),
    };
    let (queue, events) = (builder.queue.clone(), controller.events.clone());
    controller.cron_jobs.on_keyed_event(move |key, event| {
        let Event::Modified { old, new } = event else { return queue.add(key.clone()) };
        if (&old.spec.schedule, &old.spec.time_zone) == (&new.spec.schedule, &new.spec.time_zone) {
            return queue.add(key.clone());
        }
        // Another schedule begins with its next time: what would have been due by it was not asked for.
        match plan::schedule(new, TimeZone::system()) {
            Ok(schedule) => {
                let wait = plan::until_next(new, &new.status, &schedule, Timestamp::now());
                queue.add_after(key.clone(), wait);
            }
            Err(_) => {
                let message = format!("unparseable schedule for cronjob: {}", new.spec.schedule);
                events.event(&new.reference(), EventType::Warning, "UnParseableCronJobSchedule", &message);
            }
        }
    });
    builder.run(options.concurrent_cron_job_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(cron_job) = self.cron_jobs.get_key(key) else { return Ok(Next::Done) };
        let jobs = self.jobs.of(&cron_job.metadata.uid);
        let mut gone = FxHashSet::default();
        for active in &cron_job.status.active {
            if jobs.iter().any(|job| job.metadata.uid == active.uid) {
                continue;
            }
            match client.get::<Job>(key.namespace(), &active.name).await {
                Err(error) if error.is_not_found() => drop(gone.insert(active.uid.clone())),
                result => drop(result?),
            }
        }
        let plan = plan::plan(&Input {
            cron_job: &cron_job,
            jobs: &jobs,
            gone: &gone,
            zone: TimeZone::system(),
            now: Timestamp::now(),
        });
        self.execute(client, &cron_job, plan).await
    }
}

impl Controller {
    async fn execute(&self, client: &Client, cron_job: &CronJob, plan: Plan) -> Result<Next, Error> {
        let mut status = plan.status;
        for job in &plan.forget {
            if self.delete(client, cron_job, &job.metadata.name).await {
                status.active.retain(|active| active.uid != job.metadata.uid);
            }
        }
        for (kind, reason, message) in &plan.events {
            self.events.event(&cron_job.reference(), *kind, reason, message);
        }
        let mut failure = None;
        if let Some(due) = plan.start {
            match self.start(client, cron_job, &plan.replace, &mut status.active, due).await {
                Ok(Some(job)) => status = plan::started(status, job, due),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        write_status(client, cron_job, &cron_job.status, &status).await?;
        failure.map_or(Ok(Next::after(plan.again)), Err)
    }

    /// Starts the job of a time, in place of others where these are named. None where there is one already.
    async fn start(
        &self,
        client: &Client,
        cron_job: &CronJob,
        replace: &[JobReference],
        active: &mut Vec<JobReference>,
        due: Timestamp,
    ) -> Result<Option<JobReference>, Error> {
        let meta = &cron_job.metadata;
        for job in replace {
            if !self.delete(client, cron_job, &job.name).await {
                return Err(Error::Other(format!("could not replace job {}/{}", meta.namespace, job.name)));
            }
            active.retain(|other| other.uid != job.uid);
        }
        let resource = client::ResourceRef::of::<Job>();
        let api = client.at(&resource);
        let created = api.create::<Partial>(meta.namespace(), &job(cron_job, due)).await;
        let made = match created {
            Ok(made) => {
                metrics::cron_job_started(Timestamp::now().duration_since(due).as_secs_f64());
                let message = format!("Created job {}", made.metadata.name);
                self.events.event(&cron_job.reference(), EventType::Normal, "SuccessfulCreate", &message);
                made.metadata
            }
            Err(error) if error.is_namespace_terminating() => return Err(error.into()),
            Err(error) if error.is_already_exists() => {
                let made: Partial = api.get(meta.namespace(), &job_name(cron_job, due)).await?;
                let known = active.iter().any(|active| active.uid == made.metadata.uid);
                if known || !made.metadata.is_controlled_by(&meta.uid) {
                    return Ok(None);
                }
                made.metadata
            }
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.events.event(&cron_job.reference(), EventType::Warning, "FailedCreate", &message);
                return Err(error.into());
            }
        };
        Ok(Some(JobReference {
            kind: Job::KIND.to_owned(),
            namespace: (&made.namespace).into(),
            name: made.name,
            uid: made.uid,
            api_version: Job::API_VERSION.to_owned(),
            resource_version: made.resource_version,
        }))
    }

    /// Deletes a job with its pods, and says so. False where that failed.
    async fn delete(&self, client: &Client, cron_job: &CronJob, name: &str) -> bool {
        let options = DeleteOptions::default().propagation(Propagation::Background);
        let result = client.delete::<Job>(cron_job.metadata.namespace(), name, &options).await;
        let (kind, reason, message) = match &result {
            Ok(()) => (EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}")),
            Err(error) => (EventType::Warning, "FailedDelete", format!("Deleted job: {error}")),
        };
        self.events.event(&cron_job.reference(), kind, reason, &message);
        result.is_ok()
    }
}

/// The job of a time.
fn job(cron_job: &CronJob, due: Timestamp) -> Value {
    let (meta, template) = (&cron_job.metadata, &cron_job.spec.job_template);
    let zone = cron_job.spec.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    let zone = zone.unwrap_or(TimeZone::UTC);
    let local = due.to_zoned(zone);
    let offset = if local.offset().is_zero() { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    let mut annotations = template.metadata.annotations.clone();
    annotations.insert(SCHEDULED.to_owned(), local.strftime(offset).to_string());
    json!({
        "apiVersion": Job::API_VERSION,
        "kind": Job::KIND,
        "metadata": {
            "name": job_name(cron_job, due),
            "namespace": meta.namespace,
            "labels": template.metadata.labels,
            "annotations": annotations,
            "ownerReferences": [meta.controller_reference(CronJob::API_VERSION, CronJob::KIND)],
        },
        "spec": template.spec,
    })
}
