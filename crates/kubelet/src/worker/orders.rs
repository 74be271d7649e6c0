//! Orders to a worker, from the pod's source and from the kubelet itself.

use crate::status::conditions;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// The wanted state of a pod; shared between its worker and those who give orders.
pub struct Orders {
    pod: Mutex<Arc<Pod>>,
    state: Mutex<State>,
    /// Makes the worker look again.
    pub wake: Arc<Notify>,
    /// Makes the worker stop its current work and look again: the pod is to end, or to end faster.
    pub(super) interrupt: Notify,
}

/// Why the kubelet ends a pod itself: what the pod's status says.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: String,
    pub message: String,
    /// The node takes the pod away for its own sake, which is no fault of the pod's.
    pub disruption: bool,
    /// The pod has failed however its containers end.
    pub lasting: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The pod is no longer wanted by its source.
    pub(super) removed: bool,
    pub(super) failure: Option<Failure>,
    /// It was never admitted.
    pub(super) rejected: bool,
    /// Grace in seconds that goes with `failure` or removal.
    pub(super) grace: Option<i64>,
}

impl Orders {
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod: Mutex::new(pod),
            state: Mutex::default(),
            wake: Arc::new(Notify::new()),
            interrupt: Notify::new(),
        }
    }

    pub fn pod(&self) -> Arc<Pod> {
        self.pod.lock().clone()
    }

    pub fn update(&self, pod: Arc<Pod>) {
        let (urgent, worth_a_look) = {
            let mut current = self.pod.lock();
            let grace = |pod: &Pod| {
                pod.metadata.deletion_timestamp.as_ref().map(|_| pod.metadata.deletion_grace_period_seconds)
            };
            let changes = (grace(&current) != grace(&pod), !asks_the_same(&current, &pod));
            *current = pod;
            changes
        };
        if urgent {
            self.interrupt.notify_one();
        }
        if worth_a_look {
            self.wake.notify_one();
        }
    }

    pub fn remove(&self) {
        self.state.lock().removed = true;
        self.interrupt.notify_one();
        self.wake.notify_one();
    }

    /// Ends the pod as failed, e.g. evicted.
    pub fn fail(&self, failure: Failure, grace: Option<i64>) {
        let mut state = self.state.lock();
        if state.failure.is_none() {
            state.failure = Some(failure);
            state.grace = grace;
            self.interrupt.notify_one();
            self.wake.notify_one();
        }
    }

    /// The pod does not fit here and never starts.
    pub fn reject(&self, reason: &str, message: &str) {
        self.state.lock().rejected = true;
        self.fail(
            Failure { reason: reason.into(), message: message.into(), disruption: false, lasting: true },
            None,
        );
    }

    pub(super) fn state(&self) -> State {
        self.state.lock().clone()
    }
}

/// Whether nothing changed but what the kubelet itself says of the pod: an answer to its own report is no reason to look at
/// the runtime again.
fn asks_the_same(before: &Pod, now: &Pod) -> bool {
    let (old, new) = (&before.metadata, &now.metadata);
    before.spec == now.spec
        && old.generation == new.generation
        && old.labels == new.labels
        && old.annotations == new.annotations
        && old.deletion_timestamp == new.deletion_timestamp
        && old.deletion_grace_period_seconds == new.deletion_grace_period_seconds
        && conditions::foreign(before.status.as_ref()) == conditions::foreign(now.status.as_ref())
}
