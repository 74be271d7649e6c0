//! Deletes the objects of a definition that is being deleted, and then lets it go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Status, Tree};
use registry::Kind;
use registry::tree::text;

use super::{definitions, plan, write};
use crate::resources::Resources;

/// Between looks at what is left.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// After which the definition says that objects are still there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Goes on until nothing is left. `stored`: the kind of the objects, where it was ever served.
pub(super) async fn finalize(resources: &Arc<Resources>, name: &str, stored: Option<Arc<Kind>>) {
    let Some(kind) = stored else {
        update(resources, name, "NeverEstablished", "resource was never established", true).await;
        return;
    };
    update(resources, name, "InstanceDeletionInProgress", "CustomResource deletion is in progress", false)
        .await;
    let began = Instant::now();
    let (mut pause, mut reported) = (PAUSE, false);
    loop {
        resources.catch_up().await;
        let left = resources.list(&kind, None);
        if left.is_empty() {
            break;
        }
        for entry in left {
            match resources.delete(&kind, &entry.namespace, &entry.name).await {
                Ok(()) => {}
                Err(status) if status.reason == "NotFound" => {}
                Err(status) => {
                    let message = format!("could not issue all deletes: {}", status.message);
                    update(resources, name, "InstanceDeletionFailed", &message, false).await;
                    break;
                }
            }
        }
        if began.elapsed() > PATIENCE && !reported {
            let message = "could not confirm zero CustomResources remaining: context deadline exceeded";
            update(resources, name, "InstanceDeletionCheck", message, false).await;
            reported = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
    update(resources, name, "InstanceDeletionCompleted", "removed all instances", true).await;
}

/// Until it is written, or the definition is gone.
async fn update(resources: &Arc<Resources>, name: &str, reason: &str, message: &str, done: bool) {
    let mut pause = PAUSE;
    loop {
        match attempt(resources, name, reason, message, done).await {
            Ok(()) => return,
            Err(status) if status.reason == "NotFound" => return,
            Err(status) => {
                tracing::warn!(definition = %name, error = %status.message, "The status of a definition was not written");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

async fn attempt(
    resources: &Arc<Resources>,
    name: &str,
    reason: &str,
    message: &str,
    done: bool,
) -> Result<(), Status> {
    let Some(entry) = resources.get(definitions(), "", name) else { return Ok(()) };
    let mut tree: Tree = entry.read()?;
    if text(&tree, "metadata.deletionTimestamp").is_empty() {
        return Ok(());
    }
    plan::terminating(&mut tree, reason, message, done, jiff::Timestamp::now());
    write(resources, name, &tree).await.map(|_| ())
}
