//! The last changes of a kind, so that a watcher that lost its connection goes on where it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::TooOld;
use crate::event::Event;

/// Kept whatever their age.
const LEAST: usize = 100;
const MOST: usize = 8192;
const MOST_BYTES: usize = 32 << 20;
/// How long a watcher has to come back.
const AGE: Duration = Duration::from_secs(75);
/// How long the frames of an event are of use.
const FRAMES: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct History {
    events: VecDeque<(Arc<Event>, Instant)>,
    bytes: usize,
    /// Every change after this revision is here.
    after: i64,
}

impl History {
    pub fn start(&mut self, revision: i64) {
        self.events.clear();
        self.bytes = 0;
        self.after = revision;
    }

    pub fn push(&mut self, event: Arc<Event>) {
        let now = Instant::now();
        self.bytes += event.entry.size();
        self.events.push_back((event, now));
        drop(self.trim(now));
    }

    /// Drops the frames of what nobody is still to be sent, who comes back later has them made again; answers what is too old.
    pub fn prune(&mut self, now: Instant) -> Vec<Arc<Event>> {
        let old_events = self.trim(now);
        let old = self.events.partition_point(|(_, at)| now.duration_since(*at) > FRAMES);
        self.events.range(..old).for_each(|(event, _)| event.forget_json());
        if self.events.len() * 4 < self.events.capacity() {
            self.events.shrink_to_fit();
        }
        old_events
    }

    fn trim(&mut self, now: Instant) -> Vec<Arc<Event>> {
        let mut old = Vec::new();
        while self.events.len() > LEAST
            && (self.events.len() > MOST
                || self.bytes > MOST_BYTES
                || self.events.front().is_some_and(|(_, at)| now.duration_since(*at) > AGE))
        {
            if let Some((event, _)) = self.events.pop_front() {
                self.bytes -= event.entry.size();
                self.after = event.revision();
                old.push(event);
            }
        }
        old
    }

    /// The changes after `revision`, oldest first.
    pub fn since(&self, revision: i64) -> Result<Vec<Arc<Event>>, TooOld> {
        if revision < self.after {
            return Err(TooOld { asked: revision, oldest: self.after + 1 });
        }
        let from = self.events.partition_point(|(event, _)| event.revision() <= revision);
        Ok(self.events.range(from..).map(|(event, _)| Arc::clone(event)).collect())
    }
}
