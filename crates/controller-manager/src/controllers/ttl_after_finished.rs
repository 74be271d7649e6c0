//! `ttl-after-finished-controller`: jobs that ended go after the time they were given.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Informer, Key, Propagation, WorkQueue};

use crate::context::{Context, Error};
use crate::views::{Job, Object};

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("ttl-after-finished-controller").await?;
    let queue = context.queue("ttl_jobs_to_delete");
    let jobs: Informer<Job> = context.informers.all();
    let touch = queue.clone();
    jobs.on_keyed_event(move |key, event| {
        if event.object().spec.ttl_seconds_after_finished.is_some() && event.object().is_finished() {
            touch.add(key.clone());
        }
    });
    jobs.synced().await;
    let workers = context.options.concurrent_ttl_after_finished_syncs;
    let shared = Arc::new((client, jobs, queue.clone()));
    context
        .work(queue, workers, move |key| {
            let shared = shared.clone();
            async move { reconcile(&shared.0, &shared.1, &shared.2, &key).await }
        })
        .await;
    Ok(())
}

async fn reconcile(
    client: &Client,
    jobs: &Informer<Job>,
    queue: &WorkQueue<Key>,
    key: &Key,
) -> Result<(), Error> {
    let Some(job) = jobs.get_key(key) else { return Ok(()) };
    let Some(left) = left(&job, jiff::Timestamp::now()) else { return Ok(()) };
    if left > 0 {
        queue.add_after(key.clone(), Duration::from_secs(u64::try_from(left).unwrap_or(1)));
        return Ok(());
    }
    let options = DeleteOptions::default()
        .uid(job.meta().uid.clone())
        .resource_version(job.meta().resource_version.clone())
        .propagation(Propagation::Foreground);
    match client.delete::<Job>(key.namespace(), &key.name, &options).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => Ok(result?),
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
