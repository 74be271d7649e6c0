//! Takes back the announcement that a pod will be disrupted, when it was not.

use std::time::Duration;

use client::{Client, Key, Patch};
use controllers::views::Pod;
use controllers::{Context, Error, Next, Pods, Reconcile, time};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
const CONDITION: &str = "DisruptionTarget";

struct Stale {
    pods: Pods,
}

pub(super) async fn run(context: &Context, account: &str) -> Result<(), Error> {
    let mut builder = context.builder("stale_pod_disruption", account, "controllermanager").await?;
    let pods = builder.pods();
    let queue = builder.queue.clone();
    pods.cache().on_keyed_event(move |key, event| {
        if left(event.object(), Timestamp::now()).is_some() {
            queue.add(key.clone());
        }
    });
    builder.run(1, Stale { pods }).await
}

/// How long the announcement may stand yet. What a kubelet announces it does in its own time.
pub(super) fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let condition = pod.condition(CONDITION)?;
    let stands = condition.status == "True" && condition.reason != "TerminationByKubelet";
    if !stands || pod.metadata.is_deleting() || pod.is_terminal() {
        return None;
    }
    let since = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let left = TIMEOUT - now.duration_since(since);
    Some(if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() })
}

impl Reconcile for Stale {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(pod) = self.pods.cache.get_key(key) else { return Ok(Next::Done) };
        let now = Timestamp::now();
        match left(&pod, now) {
            None => return Ok(Next::Done),
            Some(Duration::ZERO) => {}
            Some(wait) => return Ok(Next::After(wait)),
        }
        let meta = &pod.metadata;
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": {"conditions": [{
                "type": CONDITION, "status": "False", "lastTransitionTime": time::text(now), "reason": null, "message": null,
            }]},
        }));
        match client.patch::<Pod>(meta.namespace(), &meta.name, Some("status"), patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Done),
        }
    }
}
