//! Keeps something up to date with one resource of the watch cache.

use std::sync::Arc;

use api::model::Resource;
use tokio_util::sync::CancellationToken;

use crate::cache::event::Event;
use crate::resources::{Entry, Resources};

/// Calls `reset` with all objects, then `change` for each event, until `shutdown`; from the start again when the
/// subscription ends. Must be called when the caches are synced. `reset` has run when the future is first pending.
pub async fn follow(
    resources: Arc<Resources>,
    resource: &'static Resource,
    shutdown: CancellationToken,
    reset: impl Fn(&[Arc<Entry>]) + Send,
    change: impl Fn(&Event) + Send,
) {
    loop {
        let Some((all, subscription)) = resources.subscribe(resource) else { return };
        reset(&all);
        drop(all);
        loop {
            match shutdown.run_until_cancelled(subscription.events.recv()).await {
                None => return,
                Some(None) => break,
                Some(Some(event)) => change(&event),
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
