//! How many requests are worked on at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics;

/// `--max-requests-inflight` and `--max-mutating-requests-inflight`; 0 is no limit.
pub struct Limits {
    reading: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

/// A place taken until it is dropped.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    kind: &'static str,
}

impl Drop for Permit {
    fn drop(&mut self) {
        metrics::IN_FLIGHT.with(&[self.kind]).dec();
    }
}

impl Limits {
    pub fn new(reading: usize, mutating: usize) -> Limits {
        let semaphore =
            |limit| Arc::new(Semaphore::new(if limit == 0 { Semaphore::MAX_PERMITS } else { limit }));
        Limits { reading: semaphore(reading), mutating: semaphore(mutating) }
    }

    /// A place for a request of this verb, if there is one.
    pub fn enter(&self, verb: &str) -> Option<Permit> {
        let (semaphore, kind) = match verb {
            "get" | "list" | "watch" => (&self.reading, "readOnly"),
            _ => (&self.mutating, "mutating"),
        };
        let permit = semaphore.clone().try_acquire_owned().ok()?;
        metrics::IN_FLIGHT.with(&[kind]).inc();
        Some(Permit { _permit: permit, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_requests_do_not_crowd_each_other_out() {
        let limits = Limits::new(1, 1);
        let first = limits.enter("get");
        assert!(first.is_some() && limits.enter("list").is_none());
        assert!(limits.enter("create").is_some());
        drop(first);
        assert!(limits.enter("list").is_some());
    }
}
