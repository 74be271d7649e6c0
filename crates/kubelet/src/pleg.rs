//! Notices what changed in the runtime, by relisting it every second, and wakes the pods concerned.

use crate::figures::FIGURES;
use crate::run::Kubelet;
use crate::runtime::POD_UID;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

const PERIOD: Duration = Duration::from_secs(1);
/// Seconds without a successful relist after which the node is not ready.
const THRESHOLD: i64 = 180;

/// When the runtime was last listed, for the node's health.
#[derive(Default)]
pub struct Pleg {
    /// Seconds since the epoch; 0 is never.
    last: AtomicI64,
}

/// A pod's sandboxes and containers with their states.
type Fingerprint = HashSet<(String, i32)>;

impl Pleg {
    /// Why the node is not ready, in upstream's words.
    pub fn problem(&self) -> Option<String> {
        let last = self.last.load(Ordering::Relaxed);
        if last == 0 {
            return Some("PLEG is not healthy: pleg has yet to be successful".into());
        }
        let age = jiff::Timestamp::now().as_second() - last;
        (age > THRESHOLD)
            .then(|| format!("PLEG is not healthy: pleg was last seen active {age}s ago; threshold is 3m0s"))
    }

    pub async fn run(&self, kubelet: Arc<Kubelet>, shutdown: CancellationToken) {
        let mut before: HashMap<String, Fingerprint> = HashMap::new();
        let mut last_began = Instant::now();
        let mut failing = false;
        loop {
            let began = Instant::now();
            let interval = began.duration_since(std::mem::replace(&mut last_began, began));
            FIGURES.relist_interval_seconds.with(&[]).observe(interval.as_secs_f64());
            let listed = relist(&kubelet).await;
            FIGURES.relist_seconds.with(&[]).observe(began.elapsed().as_secs_f64());
            match listed {
                Ok(now) => {
                    self.last.store(jiff::Timestamp::now().as_second(), Ordering::Relaxed);
                    // While the runtime was away, whatever any worker tried has failed.
                    if std::mem::take(&mut failing) {
                        kubelet.pods.wake_all();
                    }
                    let gone = before.keys().filter(|uid| !now.contains_key(*uid));
                    let changed = now.iter().filter(|(uid, state)| before.get(*uid) != Some(state));
                    for uid in gone.chain(changed.map(|(uid, _)| uid)) {
                        kubelet.pods.wake(uid);
                    }
                    let orphans: Vec<String> =
                        now.keys().filter(|uid| !kubelet.supervisor.knows(uid)).cloned().collect();
                    kubelet.housekeeping.note_orphans(orphans);
                    before = now;
                }
                Err(error) => {
                    failing = true;
                    warn!(%error, "Failed to list what the runtime holds");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

async fn relist(kubelet: &Kubelet) -> cri::Result<HashMap<String, Fingerprint>> {
    let mut found: HashMap<String, Fingerprint> = HashMap::new();
    for sandbox in kubelet.runtime.list_pod_sandboxes(None).await? {
        if let Some(uid) = sandbox.labels.get(POD_UID) {
            found.entry(uid.clone()).or_default().insert((sandbox.id, sandbox.state));
        }
    }
    for container in kubelet.runtime.list_containers(None).await? {
        if let Some(uid) = container.labels.get(POD_UID) {
            found.entry(uid.clone()).or_default().insert((container.id, container.state));
        }
    }
    Ok(found)
}
