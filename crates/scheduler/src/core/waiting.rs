//! Pods that permit plugins hold back: assumed on their nodes, and not bound before each of these plugins allows it. A
//! plugin that neither allows nor rejects within the time it named has rejected.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

/// No plugin holds a pod back for longer.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The pods that wait, by UID. Permit plugins allow and reject them here.
#[derive(Default)]
pub struct WaitingPods {
    pods: Mutex<FxHashMap<Box<str>, Weak<Shared>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    pending: Vec<Pending>,
    rejected: Option<Rejection>,
}

/// A plugin let the pod wait in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub message: String,
}

#[derive(Clone, Copy)]
struct Pending {
    plugin: &'static str,
    limit: Duration,
    until: Instant,
}

/// A pod that waits for its permit plugins, until this is dropped.
pub struct WaitingPod {
    all: Arc<WaitingPods>,
    uid: Box<str>,
    shared: Arc<Shared>,
}

impl WaitingPods {
    /// `plugins`: who holds the pod back, and for how long at most.
    pub fn add(self: &Arc<Self>, uid: &str, plugins: &[(&'static str, Duration)]) -> WaitingPod {
        let now = Instant::now();
        let pending = plugins.iter().map(|(plugin, limit)| {
            let limit = LONGEST.min(*limit);
            Pending { plugin, limit, until: now + limit }
        });
        let state = Mutex::new(State { pending: pending.collect(), rejected: None });
        let shared = Arc::new(Shared { state, changed: Notify::new() });
        self.pods.lock().insert(uid.into(), Arc::downgrade(&shared));
        WaitingPod { all: self.clone(), uid: uid.into(), shared }
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut State)) {
        let Some(shared) = self.pods.lock().get(uid).and_then(Weak::upgrade) else { return };
        change(&mut shared.state.lock());
        shared.changed.notify_one();
    }

    pub fn allow(&self, uid: &str, plugin: &str) {
        self.change(uid, |state| state.pending.retain(|own| own.plugin != plugin));
    }

    pub fn reject(&self, uid: &str, plugin: &'static str, message: &str) {
        let rejection = Rejection { plugin, message: message.to_owned() };
        self.change(uid, |state| _ = state.rejected.get_or_insert(rejection));
    }

    pub fn uids(&self) -> Vec<Box<str>> {
        self.pods.lock().keys().cloned().collect()
    }
}

impl WaitingPod {
    /// Waits until all plugins allow the pod; otherwise why it is rejected.
    pub async fn decided(self) -> Result<(), Rejection> {
        loop {
            let next = {
                let state = self.shared.state.lock();
                if let Some(rejection) = &state.rejected {
                    return Err(rejection.clone());
                }
                state.pending.iter().min_by_key(|pending| pending.until).copied()
            };
            let Some(Pending { plugin, limit, until }) = next else { return Ok(()) };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep_until(until) => {
                    let limit = daemon::flags::Duration(limit);
                    let message = format!("rejected due to timeout after waiting {limit} at plugin {plugin}");
                    return Err(Rejection { plugin, message });
                }
            }
        }
    }
}

impl Drop for WaitingPod {
    fn drop(&mut self) {
        self.all.pods.lock().remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGINS: [(&str, Duration); 2] =
        [("A", Duration::from_millis(20)), ("B", Duration::from_millis(40))];

    #[tokio::test]
    async fn all_have_to_allow() {
        let all = Arc::new(WaitingPods::default());
        let pod = all.add("u", &PLUGINS);
        all.allow("u", "A");
        all.allow("u", "B");
        assert_eq!(pod.decided().await, Ok(()));
        assert!(all.uids().is_empty());
    }

    #[tokio::test]
    async fn silence_is_a_rejection() {
        let all = Arc::new(WaitingPods::default());
        let pod = all.add("u", &PLUGINS);
        assert_eq!(
            pod.decided().await.unwrap_err().message,
            "rejected due to timeout after waiting 20ms at plugin A"
        );
        let pod = all.add("u", &PLUGINS);
        all.allow("u", "A");
        assert!(pod.decided().await.unwrap_err().message.ends_with("40ms at plugin B"));
    }

    #[tokio::test]
    async fn one_rejection_is_enough() {
        let all = Arc::new(WaitingPods::default());
        let pod = all.add("u", &PLUGINS);
        all.allow("u", "A");
        all.reject("u", "A", "no");
        assert_eq!(pod.decided().await.unwrap_err().message, "no");
    }
}
