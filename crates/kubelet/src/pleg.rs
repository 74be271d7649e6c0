//! Notices what changed in the runtime, by relisting it every second, and wakes the pods concerned.

use crate::figures::FIGURES;
use crate::run::Kubelet;
use crate::runtime::POD_UID;
use cri::v1::{ContainerState, PodSandboxState};
use std::collections::HashMap;
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

/// A pod's sandboxes and containers, by id.
type Fingerprint = HashMap<String, Seen>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    state: i32,
    /// It may run: when it goes, that is its end.
    alive: bool,
}

/// Whether a pod's worker should look at what happened: what has ended and is then removed was removed by the kubelet.
fn worth_a_look(before: Option<&Fingerprint>, now: Option<&Fingerprint>) -> bool {
    let (nothing, nothing_too) = (Fingerprint::new(), Fingerprint::new());
    let (before, now) = (before.unwrap_or(&nothing), now.unwrap_or(&nothing_too));
    now.iter().any(|(id, seen)| before.get(id) != Some(seen))
        || before.iter().any(|(id, seen)| seen.alive && !now.contains_key(id))
}

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
                    let changed = gone.chain(now.keys());
                    for uid in changed.filter(|uid| worth_a_look(before.get(*uid), now.get(*uid))) {
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
            let alive = sandbox.state == i32::from(PodSandboxState::SandboxReady);
            found.entry(uid.clone()).or_default().insert(sandbox.id, Seen { state: sandbox.state, alive });
        }
    }
    for container in kubelet.runtime.list_containers(None).await? {
        if let Some(uid) = container.labels.get(POD_UID) {
            let alive = container.state != i32::from(ContainerState::ContainerExited);
            found
                .entry(uid.clone())
                .or_default()
                .insert(container.id, Seen { state: container.state, alive });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_pods_that_changed() {
        let some = |all: &[(&str, i32, bool)]| -> Fingerprint {
            all.iter()
                .map(|(id, state, alive)| ((*id).to_owned(), Seen { state: *state, alive: *alive }))
                .collect()
        };
        let (runs, ended) = (some(&[("a", 1, true)]), some(&[("a", 2, false)]));
        let both = some(&[("a", 2, false), ("b", 1, true)]);
        let check = |before: &Fingerprint, now: &Fingerprint| worth_a_look(Some(before), Some(now));
        assert!(worth_a_look(None, Some(&runs)), "made");
        assert!(!check(&runs, &runs), "the same");
        assert!(check(&runs, &ended), "ended");
        assert!(check(&ended, &both), "its successor");
        assert!(!check(&both, &some(&[("b", 1, true)])), "the old one removed");
        assert!(check(&both, &ended), "gone without an end");
        assert!(!worth_a_look(Some(&ended), None), "all is removed");
        assert!(worth_a_look(Some(&runs), None), "all is gone");
    }
}
