//! What a controller has asked for and not seen yet.
//!
//! Between creating a pod and seeing it in the cache a controller would count one too few. Each key keeps
//! how many creations and which deletions are still to be seen; until then the controller only watches.
//! An expectation that stays unmet (a missed event, a lost answer) is forgotten after five minutes, so
//! nothing hangs on it.

use std::time::{Duration, Instant};

use client::Text;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

const EXPIRES: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
pub struct Expectations {
    keys: Mutex<FxHashMap<String, Expected>>,
}

struct Expected {
    creations: i64,
    deletions: FxHashSet<Text>,
    since: Instant,
}

impl Expectations {
    /// Nothing is outstanding for the key, or it has been for too long.
    pub fn satisfied(&self, key: &str) -> bool {
        match self.keys.lock().get(key) {
            None => true,
            Some(expected) => {
                (expected.creations <= 0 && expected.deletions.is_empty())
                    || expected.since.elapsed() > EXPIRES
            }
        }
    }

    /// Replaces what was expected by this many creations and these deletions (by uid).
    pub fn set(&self, key: &str, creations: usize, deletions: impl IntoIterator<Item = Text>) {
        let expected = Expected {
            creations: i64::try_from(creations).unwrap_or(i64::MAX),
            deletions: deletions.into_iter().collect(),
            since: Instant::now(),
        };
        self.keys.lock().insert(key.to_owned(), expected);
    }

    /// A creation was seen, or failed.
    pub fn created(&self, key: &str) {
        self.lower_creations(key, 1);
    }

    pub fn lower_creations(&self, key: &str, count: usize) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.creations -= i64::try_from(count).unwrap_or(i64::MAX);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &str, uid: &str) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The object of the key is gone.
    pub fn forget(&self, key: &str) {
        self.keys.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outstanding_until_seen() {
        let expectations = Expectations::default();
        assert!(expectations.satisfied("a"));
        expectations.set("a", 2, []);
        expectations.created("a");
        assert!(!expectations.satisfied("a"));
        expectations.created("a");
        assert!(expectations.satisfied("a"));
        expectations.set("a", 0, ["x".into(), "y".into()]);
        expectations.deleted("a", "x");
        expectations.deleted("a", "x");
        assert!(!expectations.satisfied("a"));
        expectations.deleted("a", "y");
        assert!(expectations.satisfied("a"));
        expectations.set("a", 1, []);
        expectations.forget("a");
        assert!(expectations.satisfied("a"));
    }
}
