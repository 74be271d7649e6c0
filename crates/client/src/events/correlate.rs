//! Decides what to do with a report: a new event, a count on an existing one, or nothing. Pure; the clock is passed in.
//!
//! Upstream's rules for core events: the same text again counts up; after ten reports within ten minutes that differ
//! in text only they become one "combined" event; an object gets 25 events at once and then one in five minutes.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::{ObjectReference, Report};

/// How the message of a combined event begins.
pub(super) const COMBINED: &str = "(combined from similar events): ";
const SIMILAR: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
/// Entries of each table; a full table is emptied of its older half.
const ENTRIES: usize = 4096;

/// What to do with a report.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Make an event.
    Create { key: u64, message: String },
    /// Patch the event made under this key.
    Count { name: String, count: i32, message: String, key: u64 },
    /// Too many events about this object.
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    buckets: FxHashMap<u64, (f64, Duration)>,
    similar: FxHashMap<u64, (FxHashSet<u64>, Duration)>,
    known: FxHashMap<u64, Known>,
}

struct Known {
    name: String,
    count: i32,
    seen: Duration,
}

impl Correlator {
    /// `now` is the time since any fixed point.
    pub fn judge(&mut self, report: &Report, now: Duration) -> Verdict {
        let object = hash(&(identity(&report.regarding), report.kind));
        trim(&mut self.buckets, |entry| entry.1);
        let (tokens, filled) = self.buckets.entry(object).or_insert((BURST, now));
        *tokens = (*tokens + (now - *filled).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
        *filled = now;
        if *tokens < 1.0 {
            return Verdict::Drop;
        }
        *tokens -= 1.0;

        let group = hash(&(object, report.kind, &report.reason, &report.regarding.field_path));
        let text = hash(&report.message);
        trim(&mut self.similar, |entry| entry.1);
        let (texts, seen) = self.similar.entry(group).or_insert_with(|| (FxHashSet::default(), now));
        if now - *seen > SIMILAR_WITHIN {
            texts.clear();
        }
        texts.insert(text);
        *seen = now;
        let (key, message) = if texts.len() >= SIMILAR {
            // Texts before the limit keep their own events, and later ones do not accumulate.
            texts.remove(&text);
            (group, format!("{COMBINED}{}", report.message))
        } else {
            (hash(&(group, text)), report.message.clone())
        };
        match self.known.get_mut(&key) {
            Some(known) => {
                known.count += 1;
                known.seen = now;
                Verdict::Count { name: known.name.clone(), count: known.count, message, key }
            }
            None => Verdict::Create { key, message },
        }
    }

    /// The event was made, so that the next one counts on it.
    pub fn made(&mut self, key: u64, name: String, count: i32, now: Duration) {
        trim(&mut self.known, |entry| entry.seen);
        self.known.insert(key, Known { name, count, seen: now });
    }
}

/// An object's identity without its resource version and part, which differ from report to report.
fn identity(object: &ObjectReference) -> (&str, &str, &str, &str, &str) {
    (&object.api_version, &object.kind, &object.namespace, &object.name, &object.uid)
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

fn trim<V>(table: &mut FxHashMap<u64, V>, seen: impl Fn(&V) -> Duration) {
    if table.len() < ENTRIES {
        return;
    }
    let mut times: Vec<Duration> = table.values().map(&seen).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    table.retain(|_, value| seen(value) > median);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventType;

    fn report(message: &str) -> Report {
        Report {
            regarding: ObjectReference { name: "a".into(), ..Default::default() },
            related: None,
            kind: EventType::Warning,
            reason: "Failed".into(),
            action: String::new(),
            message: message.into(),
            annotations: Vec::new(),
        }
    }

    #[test]
    fn early_texts_keep_their_own_counts() {
        let mut correlator = Correlator::default();
        let mut judge = |message: &str| correlator.judge(&report(message), Duration::ZERO);
        for number in 1..SIMILAR {
            judge(&number.to_string());
        }
        let own = |verdict| match verdict {
            Verdict::Create { message, .. } | Verdict::Count { message, .. } => {
                !message.starts_with(COMBINED)
            }
            Verdict::Drop => panic!("dropped"),
        };
        assert!(!own(judge("one more")));
        assert!(own(judge("1")));
        assert!(!own(judge("another")));
        assert!(own(judge("1")));
    }

    #[test]
    fn the_same_again_counts() {
        let mut correlator = Correlator::default();
        let Verdict::Create { key, .. } = correlator.judge(&report("x"), Duration::ZERO) else { panic!() };
        correlator.made(key, "a.1".into(), 1, Duration::ZERO);
        for count in 2..5 {
            let verdict = correlator.judge(&report("x"), Duration::from_secs(1));
            assert_eq!(verdict, Verdict::Count { name: "a.1".into(), count, message: "x".into(), key });
        }
    }

    #[test]
    fn many_alike_are_combined_and_then_dropped() {
        let mut correlator = Correlator::default();
        let mut combined = 0;
        for n in 0..30 {
            match correlator.judge(&report(&n.to_string()), Duration::ZERO) {
                Verdict::Create { key, message } => {
                    if message.starts_with("(combined from similar events): ") {
                        combined += 1;
                        correlator.made(key, "a.2".into(), 1, Duration::ZERO);
                    }
                }
                Verdict::Count { message, .. } => assert!(message.starts_with("(combined")),
                Verdict::Drop => assert!(n >= 25),
            }
        }
        assert_eq!(combined, 1);
        let later = Duration::from_secs(301);
        assert_ne!(correlator.judge(&report("0"), later), Verdict::Drop);
    }
}
