//! What a controller has asked for and not seen yet.
//!
//! Between creating a pod and seeing it in the cache a controller would count one too few. Each key keeps
//! how many creations and which deletions are still to be seen; until then the controller only watches.
//! An expectation that stays unmet (a missed event, a lost answer) is forgotten after five minutes, and the
//! key looked at again, so that nothing hangs on it.

use std::time::{Duration, Instant};

use client::{Key, Text, WorkQueue};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

const EXPIRES: Duration = Duration::from_secs(5 * 60);

pub struct Expectations {
    keys: Mutex<FxHashMap<Key, Expected>>,
    expires: Duration,
}

impl Default for Expectations {
    fn default() -> Self {
        Expectations { keys: Mutex::default(), expires: EXPIRES }
    }
}

struct Expected {
    creations: i64,
    deletions: FxHashSet<Text>,
    since: Instant,
}

impl Expectations {
    /// Whether nothing is outstanding for the key, or has been for too long. While something is, the key comes back
    /// to its queue at the latest when that is forgotten.
    pub fn settled(&self, key: &Key, queue: &WorkQueue<Key>) -> bool {
        let outstanding = self.outstanding(key);
        if let Some(wait) = outstanding {
            queue.add_after(key.clone(), wait);
        }
        outstanding.is_none()
    }

    /// For how long what the key waits for may be outstanding yet.
    fn outstanding(&self, key: &Key) -> Option<Duration> {
        let keys = self.keys.lock();
        let expected =
            keys.get(key).filter(|expected| expected.creations > 0 || !expected.deletions.is_empty())?;
        self.expires.checked_sub(expected.since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Replaces what was expected by this many creations and these deletions (by uid).
    pub fn set(&self, key: &Key, creations: usize, deletions: impl IntoIterator<Item = Text>) {
        let expected = Expected {
            creations: i64::try_from(creations).unwrap_or(i64::MAX),
            deletions: deletions.into_iter().collect(),
            since: Instant::now(),
        };
        self.keys.lock().insert(key.clone(), expected);
    }

    /// A creation was seen, or failed.
    pub fn created(&self, key: &Key) {
        self.lower_creations(key, 1);
    }

    pub fn lower_creations(&self, key: &Key, count: usize) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.creations -= i64::try_from(count).unwrap_or(i64::MAX);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &Key, uid: &str) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The object of the key is gone.
    pub fn forget(&self, key: &Key) {
        self.keys.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_until_seen() {
        let (expectations, key) = (Expectations::default(), Key::new("a", "b"));
        let is_settled = || expectations.outstanding(&key).is_none();
        assert!(is_settled());
        expectations.set(&key, 2, []);
        expectations.created(&key);
        assert!(!is_settled());
        expectations.created(&key);
        assert!(is_settled());
        expectations.set(&key, 0, ["x".into(), "y".into()]);
        expectations.deleted(&key, "x");
        expectations.deleted(&key, "x");
        assert!(!is_settled());
        expectations.deleted(&key, "y");
        assert!(is_settled());
        expectations.set(&key, 1, []);
        expectations.forget(&key);
        assert!(is_settled());
    }

    #[tokio::test]
    async fn a_key_whose_expectation_is_never_met_comes_back() {
        let expectations = Expectations { expires: Duration::from_millis(20), ..Default::default() };
        let (key, queue) = (Key::new("a", "b"), WorkQueue::default());
        expectations.set(&key, 1, []);
        assert!(!expectations.settled(&key, &queue));
        assert_eq!(*queue.get().await.unwrap(), key);
        assert!(expectations.settled(&key, &queue));
    }
}
