//! Queue of changes from the sources to the workers. It keeps only the latest change of each pod, so that its length is bounded by
//! the number of pods and senders never wait.

use super::Change;
use crate::pods::uid;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Cheap to clone; clones share the queue.
#[derive(Clone, Default)]
pub struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Keys of `latest` in the order in which they were queued: pod UIDs, and a path for changes that belong to no pod.
    order: VecDeque<String>,
    latest: HashMap<String, Change>,
}

impl Changes {
    pub fn send(&self, change: Change) {
        let key = match &change {
            Change::Put(pod) | Change::Removed(pod) => uid(pod).to_owned(),
            Change::ManifestsRead => "/manifests".to_owned(),
            Change::ApiListed => "/api".to_owned(),
        };
        let mut waiting = self.0.waiting.lock();
        if waiting.latest.insert(key.clone(), change).is_none() {
            waiting.order.push_back(key);
        }
        drop(waiting);
        self.0.more.notify_one();
    }

    fn take(&self) -> Option<Change> {
        let mut waiting = self.0.waiting.lock();
        let key = waiting.order.pop_front()?;
        waiting.latest.remove(&key)
    }

    /// Waits for the next one. For a single reader.
    pub async fn next(&self) -> Change {
        loop {
            if let Some(change) = self.take() {
                return change;
            }
            self.0.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(uid: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        Arc::new(pod)
    }

    #[tokio::test]
    async fn the_latest_of_each_pod_in_the_order_of_the_first() {
        let changes = Changes::default();
        changes.send(Change::Put(pod("a")));
        changes.send(Change::Put(pod("b")));
        changes.send(Change::Removed(pod("a")));
        changes.send(Change::ManifestsRead);
        changes.send(Change::ApiListed);
        assert!(matches!(changes.next().await, Change::Removed(pod) if uid(&pod) == "a"));
        assert!(matches!(changes.next().await, Change::Put(pod) if uid(&pod) == "b"));
        assert!(matches!(changes.next().await, Change::ManifestsRead));
        assert!(matches!(changes.next().await, Change::ApiListed));
        assert!(changes.take().is_none());
    }
}
