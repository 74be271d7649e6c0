//! Owns the workers, one per pod uid: starts them, gives them orders and awaits them.

use super::{Failure, Orders, Worker};
use crate::allocation::resize::{self, Trigger};
use crate::pods::{self, title};
use crate::run::Kubelet;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

#[derive(Default)]
pub struct Supervisor {
    workers: Mutex<HashMap<String, Arc<Orders>>>,
    /// Uids of static pods by namespace and name, as they came. An edited manifest is another pod of the same name:
    /// only the first runs, the next when that one is gone.
    turns: Mutex<HashMap<(String, String), VecDeque<String>>>,
    tasks: TaskTracker,
}

impl Supervisor {
    /// A pod was added to its source, or changed there.
    pub fn update(self: &Arc<Self>, kubelet: &Arc<Kubelet>, pod: Arc<Pod>, shutdown: &CancellationToken) {
        let uid = pods::uid(&pod).to_owned();
        let known = self.workers.lock().get(&uid).cloned();
        if let Some(orders) = known {
            kubelet.pods.put(pod.clone());
            resize::update(kubelet, &orders.pod(), &pod);
            orders.update(pod);
            // Others may have written what is the kubelet's to say.
            kubelet.status.look_again(&uid);
            return;
        }
        let others = self.with_room(kubelet);
        kubelet.pods.put(pod.clone());
        kubelet.objects.refresh(pods::namespace(&pod));
        let orders = Arc::new(Orders::new(pod.clone()));
        kubelet.pods.set_waker(&uid, orders.wake.clone());
        // A pod that already ran here was admitted before; one that is over is not admitted again.
        let fresh = pod.metadata.deletion_timestamp.is_none()
            && pod.status.as_ref().is_none_or(|status| status.start_time.is_none());
        if let Err(refusal) = resize::add(kubelet, &pod, fresh, &others) {
            warn!(pod = title(&pod), reason = refusal.reason, message = refusal.message, "Pod was rejected");
            kubelet.events.event(&pod, crate::events::Warning, &refusal.reason, &refusal.message);
            let message = format!("Pod was rejected: {}", refusal.message);
            orders.reject(&refusal.reason, &message);
        }
        self.workers.lock().insert(uid.clone(), orders.clone());
        let turn = pods::is_static(&pod).then(|| full_name(&pod));
        if let Some(name) = turn.clone() {
            self.turns.lock().entry(name).or_default().push_back(uid.clone());
        }
        let (supervisor, worker, shutdown) =
            (self.clone(), Worker::new(kubelet.clone(), orders), shutdown.clone());
        if kubelet.allocations.differs(&pod) {
            resize::retry(kubelet, Trigger::PodsAdded);
        }
        self.tasks.spawn(async move {
            tokio::select! {
                () = worker.run() => {}
                () = shutdown.cancelled() => {}
            }
            supervisor.workers.lock().remove(&uid);
            if let Some(name) = turn {
                supervisor.pass_turn(name, &uid);
            }
        });
    }

    /// Pods that take room on the node. Those that their source has removed take none, even while they end; neither do those
    /// that were rejected.
    pub fn with_room(&self, kubelet: &Kubelet) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock();
        let dropped = |other: &Arc<Pod>| {
            let state = workers.get(pods::uid(other)).map(|orders| orders.state());
            state.is_some_and(|state| state.removed || state.rejected)
        };
        kubelet.pods.all().into_iter().filter(|other| !dropped(other)).collect()
    }

    /// Whether no pod of the same name came before this one, or all of them are gone.
    pub fn may_start(&self, pod: &Pod) -> bool {
        !pods::is_static(pod)
            || self
                .turns
                .lock()
                .get(&full_name(pod))
                .is_none_or(|turns| turns.front().is_none_or(|first| first == pods::uid(pod)))
    }

    fn pass_turn(&self, name: (String, String), uid: &str) {
        let mut turns = self.turns.lock();
        let Some(waiting) = turns.get_mut(&name) else { return };
        waiting.retain(|other| other != uid);
        let next = waiting.front().cloned();
        if next.is_none() {
            turns.remove(&name);
        }
        drop(turns);
        if let Some(orders) = next.and_then(|next| self.workers.lock().get(&next).cloned()) {
            orders.wake.notify_one();
        }
    }

    /// The source no longer has the pod: what runs of it is ended.
    pub fn remove(&self, kubelet: &Arc<Kubelet>, uid: &str) {
        if let Some(orders) = self.workers.lock().get(uid) {
            info!(uid, "Pod was removed from its source");
            orders.remove();
        }
        resize::retry(kubelet, Trigger::PodsRemoved);
    }

    pub fn fail(&self, uid: &str, failure: Failure, grace: Option<i64>) {
        if let Some(orders) = self.workers.lock().get(uid) {
            orders.fail(failure, grace);
        }
    }

    /// Whether the kubelet is ending the pod, or has.
    pub fn has_failed(&self, uid: &str) -> bool {
        self.workers.lock().get(uid).is_some_and(|orders| orders.state().failure.is_some())
    }

    /// Whether the pod was rejected at admission.
    pub fn is_rejected(&self, uid: &str) -> bool {
        self.workers.lock().get(uid).is_some_and(|orders| orders.state().rejected)
    }

    pub fn knows(&self, uid: &str) -> bool {
        self.workers.lock().contains_key(uid)
    }

    /// Waits for all workers after shutdown was asked for.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn full_name(pod: &Pod) -> (String, String) {
    (pods::namespace(pod).to_owned(), pods::name(pod).to_owned())
}
