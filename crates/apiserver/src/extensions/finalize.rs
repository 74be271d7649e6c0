//! Deletes the objects of a definition that is being deleted, and then lets it go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Status, Tree};
use registry::Kind;
use registry::tree::text;

use super::{definitions, plan, write};
use crate::handlers::Server;

/// Between looks at what is left.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// After which the definition says that objects are still there.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a definition has in the store.
pub(super) enum Objects {
    /// Those of a built-in kind, which stay.
    BuiltIn,
    /// None: it was never served.
    Never,
    /// Those of this kind.
    Of(Arc<Kind>),
}

/// Goes on until nothing is left.
pub(super) async fn finalize(server: &Arc<Server>, name: &str, objects: Objects) {
    let kind = match objects {
        Objects::Of(kind) => kind,
        Objects::Never => {
            update(server, name, "NeverEstablished", "resource was never established", true).await;
            return;
        }
        Objects::BuiltIn => {
            let message = "instances overlap with built-in resources in storage";
            update(server, name, "OverlappingBuiltInResource", message, true).await;
            return;
        }
    };
    update(server, name, "InstanceDeletionInProgress", "CustomResource deletion is in progress", false).await;
    let began = Instant::now();
    let (mut pause, mut reported) = (PAUSE, false);
    loop {
        match delete_all(server, &kind).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(message) => update(server, name, "InstanceDeletionFailed", &message, false).await,
        }
        if began.elapsed() > PATIENCE && !reported {
            let message = "could not confirm zero CustomResources remaining: context deadline exceeded";
            update(server, name, "InstanceDeletionCheck", message, false).await;
            reported = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
    update(server, name, "InstanceDeletionCompleted", "removed all instances", true).await;
}

/// Asks for every object's deletion. Answers whether the store had none, or why some may be left.
async fn delete_all(server: &Arc<Server>, kind: &Arc<Kind>) -> Result<bool, String> {
    let unlisted = |cause: String| format!("could not list instances: {cause}");
    // the store's own answer: caches may be behind, and lack what cannot be read
    let prefix = format!("/registry/{}/", kind.storage_prefix);
    let end = store::prefix_end(prefix.as_bytes());
    // Its kinds allow no creates any more: those that are under way began before.
    let settled = server.creates.none(&kind.storage_prefix);
    let found = server.resources.store.range(prefix.as_bytes(), &end, 1, 0).await;
    if found.map_err(|error| unlisted(error.to_string()))?.items.is_empty() {
        return Ok(settled);
    }
    let cache = server.resources.cache_of(kind);
    let cache = cache.ok_or_else(|| unlisted("its objects are not followed".to_owned()))?;
    server.resources.catch_up().await;
    let mut refused = Vec::new();
    for entry in server.resources.list(kind, None) {
        match server.delete(kind, &entry.namespace, &entry.name).await {
            Err(status) if status.reason != "NotFound" => refused.push(status.message),
            _ => {}
        }
    }
    if let Some(error) = cache.unreadable(&cache.kind.prefix) {
        return Err(unlisted(error.of_list(&kind.plural).message));
    }
    match refused.as_slice() {
        [] => Ok(false),
        [one] => Err(format!("could not issue all deletes: {one}")),
        several => Err(format!("could not issue all deletes: [{}]", several.join(", "))),
    }
}

/// Until it is written, or the definition is gone.
async fn update(server: &Arc<Server>, name: &str, reason: &str, message: &str, done: bool) {
    let mut pause = PAUSE;
    loop {
        match attempt(server, name, reason, message, done).await {
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
    server: &Arc<Server>,
    name: &str,
    reason: &str,
    message: &str,
    done: bool,
) -> Result<(), Status> {
    let Some(entry) = server.resources.get(definitions(), "", name) else { return Ok(()) };
    let mut tree: Tree = entry.read()?;
    if text(&tree, "metadata.deletionTimestamp").is_empty() {
        return Ok(());
    }
    plan::terminating(&mut tree, reason, message, done, jiff::Timestamp::now());
    write(server, name, &tree).await.map(|_| ())
}
