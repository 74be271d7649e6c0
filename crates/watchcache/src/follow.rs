//! Keeps something up to date with one resource of the watch cache.

use std::sync::Arc;

use daemon::aside::Parts;
use registry::Kind;
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::resources::{Entry, Resources};

/// Adds each object to a draft, in parts, and calls `reset` with that; then `change` for each event, until `shutdown`. From the start
/// again when the subscription ends. Must be called when the caches are synced.
pub async fn follow<Draft: Default + Send>(
    resources: Arc<Resources>,
    resource: &'static Arc<Kind>,
    shutdown: CancellationToken,
    add: impl Fn(&mut Draft, &Entry) + Send,
    reset: impl Fn(Draft) + Send,
    change: impl Fn(&Event) + Send,
) {
    loop {
        let Some((all, subscription)) = resources.subscribe(resource) else { return };
        let mut draft = Draft::default();
        let mut parts = Parts::begin();
        for entry in all {
            add(&mut draft, &entry);
            parts.pause().await;
        }
        reset(draft);
        loop {
            match shutdown.run_until_cancelled(subscription.events.recv()).await {
                None => return,
                Some(None) => break,
                Some(Some(event)) => {
                    change(&event);
                    parts.pause().await;
                }
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
