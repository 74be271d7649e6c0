//! `ttl-after-finished-controller`: jobs that ended go after the time they were given.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Informer, Key, Propagation};
use controllers::views::Job;
use controllers::{Context, Error, Next, Reconcile};

use crate::{Options, metrics};

struct Controller {
    jobs: Informer<Job>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "ttl-after-finished-controller";
    let mut builder = context.builder("ttl_jobs_to_delete", account, account).await?;
    let jobs = builder.reads::<Job>();
    let queue = builder.queue.clone();
    jobs.on_keyed_event(move |key, event| {
        if event.object().spec.ttl_seconds_after_finished.is_some() && event.object().is_finished() {
            queue.add(key.clone());
        }
    });
    builder.run(options.concurrent_ttl_after_finished_syncs, Controller { jobs }).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(job) = self.jobs.get_key(key) else { return Ok(Next::Done) };
        let Some(left) = left(&job, jiff::Timestamp::now()) else { return Ok(Next::Done) };
        if left > 0 {
            return Ok(Next::After(Duration::from_secs(left.unsigned_abs())));
        }
        let options = DeleteOptions::default()
            .uid(job.metadata.uid.clone())
            .resource_version(job.metadata.resource_version.clone())
            .propagation(Propagation::Foreground);
        match client.delete::<Job>(key.namespace(), &key.name, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            Err(_) => Ok(Next::Done),
            Ok(()) => {
                metrics::job_deleted(left.unsigned_abs() as f64);
                Ok(Next::Done)
            }
        }
    }
}

/// Seconds a finished job has left.
fn left(job: &Job, now: jiff::Timestamp) -> Option<i64> {
    let ttl = i64::from(job.spec.ttl_seconds_after_finished?);
    if !job.is_finished() || job.metadata.is_deleting() {
        return None;
    }
    let ended = job.status.conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })?;
    Some(ended.last_transition_time.as_ref()?.0.as_second() + ttl - now.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_left() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let check = |conditions: serde_json::Value, expect| {
            let job = json!({"spec": {"ttlSecondsAfterFinished": 90}, "status": {"conditions": conditions}});
            assert_eq!(left(&serde_json::from_value(job).unwrap(), now), expect);
        };
        check(json!([]), None);
        let ended =
            json!([{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        check(ended, Some(30));
    }
}
