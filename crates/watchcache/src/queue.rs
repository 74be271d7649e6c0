//! A watcher's queue of events. Unlike a channel's it can be emptied from the side that fills it: a client that keeps its
//! connection and reads nothing must not keep what it was sent when its watch is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::Event;

/// Changes a watcher may be behind before it is cut off and has to start over.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    closed: bool,
    until: Option<Instant>,
}

impl Queue {
    /// Appends an event; `false` when there are too many, and from then on.
    pub fn push(&self, event: &Arc<Event>) -> bool {
        let mut state = self.state.lock();
        if state.events.len() >= MOST {
            state.closed = true;
        }
        if state.closed {
            return false;
        }
        state.events.push_back(Arc::clone(event));
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The next event; `None` when there will be none.
    pub async fn recv(&self) -> Option<Arc<Event>> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(event) = state.events.pop_front() {
                    if state.events.is_empty() && state.events.capacity() > 64 {
                        state.events = VecDeque::new();
                    }
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().events.is_empty()
    }

    /// When the watch is over, at the latest.
    pub fn ends(&self, at: Instant) {
        self.state.lock().until = Some(at);
    }

    /// Whether it is over; then it is emptied. Its reader may not have been asked for anything since.
    pub fn expired(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let over = state.until.is_some_and(|until| until < now);
        if over {
            state.closed = true;
            state.events = VecDeque::new();
            drop(state);
            self.filled.notify_one();
        }
        over
    }

    /// No more will come.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }
}
