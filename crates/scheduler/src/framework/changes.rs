//! Wakes bindings that wait, each by changes of the objects that it waits for.

use std::sync::Arc;

use client::Key;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::cluster::Symbol;

/// An object that a binding may wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Pod(Key),
    Node(Symbol),
    /// Also volumes that are reserved for the claim: which one it gets is not known before.
    Claim(Key),
    Volume(Symbol),
    DeviceClaim(Key),
}

#[derive(Default)]
pub struct Changes {
    interests: Mutex<FxHashMap<Subject, Vec<Arc<Notify>>>>,
}

/// Receives changes of its subjects until it is dropped.
pub struct Interest {
    all: Arc<Changes>,
    subjects: Vec<Subject>,
    changed: Arc<Notify>,
}

impl Changes {
    pub fn subscribe(self: &Arc<Self>, subjects: Vec<Subject>) -> Interest {
        let changed = Arc::new(Notify::new());
        let mut interests = self.interests.lock();
        for subject in &subjects {
            interests.entry(subject.clone()).or_default().push(changed.clone());
        }
        drop(interests);
        Interest { all: self.clone(), subjects, changed }
    }

    pub fn notify(&self, subject: &Subject) {
        for changed in self.interests.lock().get(subject).into_iter().flatten() {
            changed.notify_one();
        }
    }
}

impl Interest {
    /// Waits for a change since the last call, or since the subscription.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut interests = self.all.interests.lock();
        for subject in &self.subjects {
            if let Some(others) = interests.get_mut(subject) {
                others.retain(|other| !Arc::ptr_eq(other, &self.changed));
                if others.is_empty() {
                    interests.remove(subject);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_woken(interest: &Interest) -> bool {
        let changed = std::pin::pin!(interest.changed());
        matches!(changed.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    #[test]
    fn each_is_woken_by_its_own_subjects() {
        let all = Arc::new(Changes::default());
        let claim = |name: &str| Subject::Claim(Key::new("ns", name));
        let one = all.subscribe(vec![claim("c"), Subject::Node(Symbol::new("a"))]);
        let other = all.subscribe(vec![claim("d"), Subject::Node(Symbol::new("a"))]);
        all.notify(&claim("c"));
        assert_eq!((is_woken(&one), is_woken(&other)), (true, false));
        assert!(!is_woken(&one), "one change wakes it once");
        all.notify(&Subject::Node(Symbol::new("a")));
        all.notify(&Subject::Node(Symbol::new("b")));
        assert_eq!((is_woken(&one), is_woken(&other)), (true, true));
        drop((one, other));
        assert!(all.interests.lock().is_empty());
    }
}
