//! `EventRateLimit`: no one source of events takes all the room that the cluster has for them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use api::{Status, Tree};
use async_trait::async_trait;
use parking_lot::Mutex;
use registry::tree::text;
use tokio::time::Instant;

use crate::{Attributes, Plugin, Point};

/// What shares one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimit {
    pub of: EventSource,
    /// Events a second, and how many may come at once.
    pub rate: u32,
    pub burst: u32,
    /// Sources that are remembered.
    pub sources: usize,
}

impl EventSource {
    fn name(self) -> &'static str {
        match self {
            EventSource::Server => "Server",
            EventSource::Namespace => "Namespace",
            EventSource::User => "User",
            EventSource::SourceAndObject => "SourceAndObject",
        }
    }

    /// What names a source.
    fn parts<'a>(self, attributes: &Attributes<'a>, event: &'a Tree) -> Vec<&'a str> {
        match self {
            EventSource::Server => Vec::new(),
            EventSource::Namespace => vec![attributes.namespace],
            EventSource::User => vec![attributes.user.name],
            EventSource::SourceAndObject => [
                "source.component",
                "source.host",
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
            ]
            .map(|path| text(event, path))
            .to_vec(),
        }
    }
}

/// Events that a source may still send, as of a time.
struct Bucket {
    left: f64,
    since: Instant,
    /// When it was used last, in the order of all uses.
    used: u64,
}

/// Sources by a hash of their names, which are as long as clients like.
#[derive(Default)]
struct Buckets {
    by_source: HashMap<u64, Bucket>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

impl Buckets {
    /// The bucket of a source, full where it is new; then the one that was not used for the longest time goes when there are too many.
    fn of(&mut self, source: u64, burst: f64, now: Instant, most: usize) -> &mut Bucket {
        let Buckets { by_source, by_use, uses } = self;
        if by_source.len() >= most
            && !by_source.contains_key(&source)
            && let Some((_, oldest)) = by_use.pop_first()
        {
            by_source.remove(&oldest);
        }
        *uses += 1;
        let bucket = by_source.entry(source).or_insert(Bucket { left: burst, since: now, used: *uses });
        by_use.remove(&bucket.used);
        by_use.insert(*uses, source);
        bucket.used = *uses;
        bucket
    }
}

struct Limiter {
    limit: EventLimit,
    hashes: RandomState,
    buckets: Mutex<Buckets>,
}

impl Limiter {
    fn takes(&self, source: &[&str]) -> bool {
        let (rate, burst) = (f64::from(self.limit.rate), f64::from(self.limit.burst));
        let source = self.hashes.hash_one(source);
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let bucket = buckets.of(source, burst, now, self.limit.sources);
        let passed: Duration = now.saturating_duration_since(bucket.since);
        bucket.left = (bucket.left + passed.as_secs_f64() * rate).min(burst);
        bucket.since = now;
        let takes = bucket.left >= 1.0;
        if takes {
            bucket.left -= 1.0;
        }
        takes
    }
}

pub struct EventRateLimit {
    limiters: Vec<Limiter>,
}

impl EventRateLimit {
    pub fn new(limits: &[EventLimit]) -> Self {
        let limiter = |limit: &EventLimit| Limiter {
            limit: *limit,
            hashes: RandomState::new(),
            buckets: Mutex::default(),
        };
        Self { limiters: limits.iter().map(limiter).collect() }
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is("", "events") && point.operation.writes()
    }

    async fn validate(&self, attributes: &Attributes<'_>, event: &Tree) -> Result<(), Status> {
        if attributes.dry_run {
            return Ok(());
        }
        let mut reached = Vec::new();
        for limiter in &self.limiters {
            let of = limiter.limit.of;
            let source = of.parts(attributes, event);
            if !limiter.takes(&source) {
                let key = source.concat();
                reached.push(format!("limit reached on type {} for key {key}", of.name()));
            }
        }
        let why = match reached.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        Err(Status::failure(429, "TooManyRequests", format!("Too many requests: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(sources: usize) -> Limiter {
        let limit = EventLimit { of: EventSource::SourceAndObject, rate: 1, burst: 1, sources };
        Limiter { limit, hashes: RandomState::new(), buckets: Mutex::default() }
    }

    #[test]
    fn the_source_that_was_used_last_is_remembered_longest() {
        let limiter = limiter(2);
        assert!(limiter.takes(&["a"]) && limiter.takes(&["b"]));
        assert!(!limiter.takes(&["a"]));
        // in the place of b
        assert!(limiter.takes(&["c"]));
        assert!(!limiter.takes(&["a"]) && !limiter.takes(&["c"]));
        assert!(limiter.takes(&["b"]));
        let buckets = limiter.buckets.lock();
        assert_eq!((buckets.by_source.len(), buckets.by_use.len()), (2, 2));
    }

    #[test]
    fn names_that_join_to_the_same_text_are_different_sources() {
        let limiter = limiter(9);
        assert!(limiter.takes(&["ab", ""]) && limiter.takes(&["a", "b"]) && limiter.takes(&["", "ab"]));
        assert!(!limiter.takes(&["a", "b"]));
    }
}
