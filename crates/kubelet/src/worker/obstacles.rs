//! Obstacles to a pod's start that the kubelet cannot remove: a network that is not ready, a volume whose source is
//! missing. Retried with back-off; the part that sees an obstacle go wakes the worker.

use crate::events::Warning;
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
/// Upstream's longest for a volume.
const LONGEST: Duration = Duration::from_secs(122);

#[derive(Default)]
pub(super) struct Obstacles {
    last: Option<Met>,
}

struct Met {
    messages: Vec<String>,
    pause: Duration,
    /// When the pause is over.
    until: Instant,
}

impl Obstacles {
    /// Notes what is in the way and returns how long to wait. Events say so, unless the same was said and its pause is not
    /// over yet: then somebody woke the worker for another reason.
    pub(super) fn met(
        &mut self,
        reason: &str,
        messages: Vec<String>,
        kubelet: &Kubelet,
        pod: &Pod,
    ) -> Duration {
        let now = Instant::now();
        let pause = match &self.last {
            Some(last) if last.messages == messages && now < last.until => return last.until - now,
            Some(last) if last.messages == messages => (last.pause * 2).min(LONGEST),
            _ => FIRST,
        };
        for message in &messages {
            kubelet.events.event(pod, Warning, reason, message);
        }
        self.last = Some(Met { messages, pause, until: now + pause });
        pause
    }

    pub(super) fn clear(&mut self) {
        self.last = None;
    }
}
