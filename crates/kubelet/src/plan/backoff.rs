//! Crash-loop back-off: 10 s after the second failure, doubled to 300 s, forgotten when a container ran well
//! for ten minutes.

use std::collections::HashMap;
use std::time::Duration;

pub const INITIAL: Duration = Duration::from_secs(10);
pub const LONGEST: Duration = Duration::from_secs(300);
/// However short the longest delay is.
const WELL: Duration = Duration::from_secs(600);

/// By pod uid and name of what backs off. Times are nanoseconds since the epoch.
#[derive(Clone, Debug)]
pub struct Backoffs {
    entries: HashMap<(String, String), Entry>,
    initial: Duration,
    longest: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    updated: i64,
}

impl Default for Backoffs {
    fn default() -> Self {
        Self::new(INITIAL, LONGEST)
    }
}

impl Backoffs {
    pub fn new(initial: Duration, longest: Duration) -> Self {
        Self { entries: HashMap::new(), initial: initial.min(longest), longest }
    }

    /// The whole delay and what is left of it, while something that ended at `event` must wait.
    pub fn remaining(&self, uid: &str, name: &str, event: i64, now: i64) -> Option<(Duration, Duration)> {
        let entry = self.entries.get(&(uid.to_owned(), name.to_owned()))?;
        if self.expired(entry, event) {
            return None;
        }
        let passed = Duration::from_nanos(u64::try_from(now - event).unwrap_or_default());
        (passed < entry.delay).then(|| (entry.delay, entry.delay - passed))
    }

    /// Notes another attempt after an end at `event`, which lengthens the next delay.
    pub fn next(&mut self, uid: &str, name: &str, event: i64, now: i64) {
        let key = (uid.to_owned(), name.to_owned());
        let delay = match self.entries.get(&key) {
            Some(entry) if !self.expired(entry, event) => (entry.delay * 2).min(self.longest),
            _ => self.initial,
        };
        self.entries.insert(key, Entry { delay, updated: now });
    }

    /// The rest of the delay, counted from the last attempt itself.
    pub fn remaining_since_update(&self, uid: &str, name: &str, now: i64) -> Option<Duration> {
        let entry = self.entries.get(&(uid.to_owned(), name.to_owned()))?;
        let passed = Duration::from_nanos(u64::try_from(now - entry.updated).unwrap_or_default());
        entry.delay.checked_sub(passed).filter(|left| !left.is_zero())
    }

    pub fn forget(&mut self, uid: &str) {
        self.entries.retain(|(of, _), _| of != uid);
    }

    fn expired(&self, entry: &Entry, event: i64) -> bool {
        let since = Duration::from_nanos(u64::try_from(event - entry.updated).unwrap_or_default());
        since > WELL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn doubles_and_forgets() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.remaining("u", "c", 0, 0), None, "the first restart is at once");
        backoffs.next("u", "c", 0, 0);
        let (delay, remaining) = backoffs.remaining("u", "c", 2 * SECOND, 5 * SECOND).unwrap();
        assert_eq!((delay.as_secs(), remaining.as_secs()), (10, 7));
        assert_eq!(backoffs.remaining("u", "c", 2 * SECOND, 12 * SECOND), None);
        for step in 1..9 {
            backoffs.next("u", "c", step * SECOND, step * SECOND);
        }
        assert_eq!(backoffs.remaining("u", "c", 9 * SECOND, 9 * SECOND).unwrap().0, LONGEST);
        assert_eq!(backoffs.remaining("u", "c", 700 * SECOND, 700 * SECOND), None, "ran well for long");
        backoffs.next("u", "c", 700 * SECOND, 700 * SECOND);
        assert_eq!(backoffs.remaining("u", "c", 701 * SECOND, 701 * SECOND).unwrap().0, INITIAL);
    }
}
