//! `EventRateLimit`: no one source of events takes all the room that the cluster has for them.

use std::collections::HashMap;
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

    fn key(self, attributes: &Attributes<'_>, event: &Tree) -> String {
        match self {
            EventSource::Server => String::new(),
            EventSource::Namespace => attributes.namespace.to_owned(),
            EventSource::User => attributes.user.name.to_owned(),
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
            .concat(),
        }
    }
}

/// Events that a source may still send, as of a time.
struct Bucket {
    left: f64,
    since: Instant,
}

struct Limiter {
    limit: EventLimit,
    buckets: Mutex<HashMap<String, Bucket>>,
}

impl Limiter {
    fn takes(&self, key: &str) -> bool {
        let (rate, burst) = (f64::from(self.limit.rate), f64::from(self.limit.burst));
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        if !buckets.contains_key(key) && buckets.len() >= self.limit.sources {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.since).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| buckets.remove(&oldest));
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { left: burst, since: now });
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
        let limiter = |limit: &EventLimit| Limiter { limit: *limit, buckets: Mutex::default() };
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
            let key = of.key(attributes, event);
            if !limiter.takes(&key) {
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
