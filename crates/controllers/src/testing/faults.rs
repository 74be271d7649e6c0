//! What goes wrong between a process and the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Clones share it.
#[derive(Clone)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
    /// Wakes the watches.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    /// By plural: the version up to which watches bring changes.
    limits: BTreeMap<String, u64>,
    /// By plural: how often watches were cut off.
    epochs: BTreeMap<String, u64>,
    /// Plurals whose next watch finds its history gone.
    expired: BTreeSet<String>,
    /// Plurals of which each change comes twice.
    repeated: BTreeSet<String>,
    /// Methods and plurals of requests whose answers are lost.
    lost: Vec<(Method, String)>,
    /// How many writes are still done.
    writes: Option<usize>,
    written: usize,
    dead: bool,
}

impl Faults {
    pub(super) fn new(changes: watch::Sender<u64>) -> Faults {
        Faults { plan: Arc::default(), changes }
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock());
        self.changes.send_modify(|_| {});
    }

    /// Keeps back later changes than that.
    pub fn delay(&self, plural: &str, version: u64) {
        self.change(|plan| {
            plan.limits.insert(plural.to_owned(), version);
        });
    }

    pub fn resume(&self, plural: &str) {
        self.change(|plan| {
            plan.limits.remove(plural);
        });
    }

    /// Ends the watches of a resource. Where `expired`, the next one finds that what it asks for is gone.
    pub fn cut(&self, plural: &str, expired: bool) {
        self.change(|plan| {
            *plan.epochs.entry(plural.to_owned()).or_default() += 1;
            if expired {
                plan.expired.insert(plural.to_owned());
            }
        });
    }

    /// Whether changes of a resource come twice.
    pub fn repeat(&self, plural: &str, twice: bool) {
        self.change(|plan| {
            match twice {
                true => plan.repeated.insert(plural.to_owned()),
                false => plan.repeated.remove(plural),
            };
        });
    }

    pub fn lose_answer(&self, method: Method, plural: &str) {
        self.plan.lock().lost.push((method, plural.to_owned()));
    }

    /// Lets the process die with its write of that number from now on, which is done, and not answered.
    pub fn die_after(&self, writes: usize) {
        self.plan.lock().writes = Some(writes);
    }

    /// Lets all come through from now on.
    pub fn end(&self) {
        self.change(|plan| {
            plan.limits.clear();
            plan.writes = None;
        });
    }

    pub fn is_dead(&self) -> bool {
        self.plan.lock().dead
    }

    /// How many writes were done.
    pub fn written(&self) -> usize {
        self.plan.lock().written
    }

    /// Notes a request; whether its answer is lost.
    pub(super) fn loses(&self, method: &Method, plural: &str) -> bool {
        let mut plan = self.plan.lock();
        // Events are written whenever it suits, and nobody depends on them.
        if method != Method::GET && plural != "events" {
            plan.written += 1;
            plan.writes = plan.writes.map(|writes| writes.saturating_sub(1));
            plan.dead = plan.dead || plan.writes == Some(0);
        }
        let place = plan.lost.iter().position(|(lost, of)| lost == method && of == plural);
        place.map(|place| plan.lost.swap_remove(place)).is_some() || plan.dead
    }

    pub(super) fn takes_expiry(&self, plural: &str) -> bool {
        self.plan.lock().expired.remove(plural)
    }

    pub(super) fn epoch(&self, plural: &str) -> u64 {
        self.plan.lock().epochs.get(plural).copied().unwrap_or(0)
    }

    pub(super) fn limit(&self, plural: &str) -> u64 {
        self.plan.lock().limits.get(plural).copied().unwrap_or(u64::MAX)
    }

    pub(super) fn times(&self, plural: &str) -> usize {
        if self.plan.lock().repeated.contains(plural) { 2 } else { 1 }
    }
}
