//! The work queue of reconcilers: a key is queued once however often it is added, handled by one worker
//! at a time, and queued again when it was added while being handled.

mod figures;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use figures::{Figures, Measured, Now};

/// How long a key that failed `n` times waits: `base · 2^n`, at most `max`.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    pub base: Duration,
    pub max: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit { base: Duration::from_millis(5), max: Duration::from_secs(1000) }
    }
}

impl RateLimit {
    fn delay(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

/// A queue of keys. Clones share it. It is as long as there are distinct keys, and so needs no bound.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue { inner: self.inner.clone() }
    }
}

struct Inner<K> {
    name: String,
    limit: RateLimit,
    state: Mutex<State<K>>,
    notify: Notify,
    figures: Option<Figures>,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys to be handled, with when they were added: those in `ready`, and those added while in `processing` or `kept_back`.
    dirty: FxHashMap<K, Instant>,
    /// With when it began.
    processing: FxHashMap<K, Instant>,
    /// How many things each key waits for before it may be handled again.
    kept_back: FxHashMap<K, usize>,
    failures: FxHashMap<K, u32>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: FxHashMap<u64, K>,
    /// The earliest time a key waits for, and its entry in `delayed`.
    waiting: FxHashMap<K, (Instant, u64)>,
    sequence: u64,
    shutdown: bool,
}

impl<K: Clone + Eq + Hash + Send + 'static> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue::new("", RateLimit::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> WorkQueue<K> {
    /// `name` is for logs and metrics.
    pub fn new(name: &str, limit: RateLimit) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: FxHashMap::default(),
            processing: FxHashMap::default(),
            kept_back: FxHashMap::default(),
            failures: FxHashMap::default(),
            delayed: BinaryHeap::new(),
            delayed_keys: FxHashMap::default(),
            waiting: FxHashMap::default(),
            sequence: 0,
            shutdown: false,
        };
        let figures = Figures::of(name);
        let shown = figures.is_some();
        let inner = Arc::new(Inner {
            name: name.into(),
            limit,
            state: Mutex::new(state),
            notify: Notify::new(),
            figures,
        });
        if shown {
            let weak: Weak<Inner<K>> = Arc::downgrade(&inner);
            figures::show(name, weak);
        }
        WorkQueue { inner }
    }

    pub fn named(name: &str) -> Self {
        WorkQueue::new(name, RateLimit::default())
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Queues a key, unless it is queued already.
    pub fn add(&self, key: K) {
        if self.inner.state.lock().add(key, self.inner.figures.as_ref()) {
            self.inner.notify.notify_one();
        }
    }

    /// Queues a key later. Of several such times for one key the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if let Some(figures) = &self.inner.figures {
            figures.retries.inc();
        }
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.inner.state.lock();
        if state.shutdown {
            return;
        }
        let at = Instant::now() + delay;
        match state.waiting.get(&key) {
            Some((earlier, _)) if *earlier <= at => return,
            Some((_, sequence)) => {
                let sequence = *sequence;
                state.delayed_keys.remove(&sequence);
            }
            None => {}
        }
        state.sequence += 1;
        let sequence = state.sequence;
        state.delayed.push(Reverse((at, sequence)));
        state.delayed_keys.insert(sequence, key.clone());
        state.waiting.insert(key, (at, sequence));
        drop(state);
        // Whoever sleeps may sleep too long now.
        self.inner.notify.notify_one();
    }

    /// Queues a key that failed, later each time until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.inner.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures += 1;
            *failures - 1
        };
        self.add_after(key, self.inner.limit.delay(failures));
    }

    /// The key is well: its next failure counts as the first.
    pub fn forget(&self, key: &K) {
        self.inner.state.lock().failures.remove(key);
    }

    /// How often the key was added rate limited since it was forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.inner.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Keeps a key back until [`WorkQueue::release`] was called as often: it can be added, and is not handed out.
    pub fn hold(&self, key: &K) {
        let mut state = self.inner.state.lock();
        let holds = state.kept_back.entry(key.clone()).or_default();
        *holds += 1;
        let waits = state.dirty.contains_key(key) && !state.processing.contains_key(key);
        if waits {
            state.ready.retain(|ready| ready != key);
        }
    }

    pub fn release(&self, key: &K) {
        if self.inner.state.lock().release(key) {
            self.inner.notify.notify_one();
        }
    }

    /// Keys ready to be handled.
    pub fn len(&self) -> usize {
        self.inner.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next key, waiting for one; none after shutdown, once the ready keys are gone. The key is
    /// being handled until the item is dropped. Safe to cancel.
    pub async fn get(&self) -> Option<Item<K>> {
        loop {
            let notified = self.inner.notify.notified();
            let next = {
                let mut state = self.inner.state.lock();
                let now = Instant::now();
                state.promote(now, self.inner.figures.as_ref());
                if let Some(key) = state.ready.pop_front() {
                    let added = state.dirty.remove(&key);
                    state.processing.insert(key.clone(), now);
                    if let Some((figures, added)) = self.inner.figures.as_ref().zip(added) {
                        figures.waited(now.saturating_duration_since(added));
                    }
                    if !state.ready.is_empty() || !state.delayed.is_empty() {
                        // Pass on what woke us: another worker may take the next key or keep the time.
                        self.inner.notify.notify_one();
                    }
                    return Some(Item { key, queue: self.clone() });
                }
                if state.shutdown {
                    return None;
                }
                state.delayed.peek().map(|Reverse((at, _))| *at)
            };
            match next {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Takes no more keys; those that wait for a time are given up, those ready are still handed out.
    pub fn shutdown(&self) {
        self.inner.state.lock().shutdown = true;
        self.inner.notify.notify_waiters();
        self.inner.notify.notify_one();
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a worker should wake.
    fn add(&mut self, key: K, figures: Option<&Figures>) -> bool {
        if self.shutdown || self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), Instant::now());
        if let Some(figures) = figures {
            figures.adds.inc();
        }
        if self.processing.contains_key(&key) || self.kept_back.contains_key(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Whether a worker should wake.
    fn release(&mut self, key: &K) -> bool {
        match self.kept_back.get_mut(key) {
            Some(holds) if *holds > 1 => {
                *holds -= 1;
                return false;
            }
            Some(_) => drop(self.kept_back.remove(key)),
            None => return false,
        }
        let waits = self.dirty.contains_key(key) && !self.processing.contains_key(key);
        if waits {
            self.ready.push_back(key.clone());
        }
        waits
    }

    fn promote(&mut self, now: Instant, figures: Option<&Figures>) {
        while let Some(Reverse((at, sequence))) = self.delayed.peek().copied() {
            if at > now && self.delayed_keys.contains_key(&sequence) {
                break;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&sequence) {
                self.waiting.remove(&key);
                self.add(key, figures);
            }
        }
    }

    fn done(&mut self, key: &K, figures: Option<&Figures>) -> bool {
        let began = self.processing.remove(key);
        if let Some((figures, began)) = figures.zip(began) {
            figures.worked(began.elapsed());
        }
        let again = self.dirty.contains_key(key) && !self.kept_back.contains_key(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }
}

impl<K: Send> Measured for Inner<K> {
    fn now(&self) -> Now {
        let state = self.state.lock();
        let running = || state.processing.values().map(|began| began.elapsed().as_secs_f64());
        Now { depth: state.dirty.len(), unfinished: running().sum(), longest: running().fold(0.0, f64::max) }
    }
}

/// A key being handled; dropping it says that the handling is over.
pub struct Item<K: Clone + Eq + Hash> {
    key: K,
    queue: WorkQueue<K>,
}

impl<K: Clone + Eq + Hash> Deref for Item<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Clone + Eq + Hash> Drop for Item<K> {
    fn drop(&mut self) {
        let inner = &self.queue.inner;
        let (again, shutdown) = {
            let mut state = inner.state.lock();
            (state.done(&self.key, inner.figures.as_ref()), state.shutdown)
        };
        if again || shutdown {
            inner.notify.notify_one();
        }
    }
}

/// Why reconciling a key did not succeed.
pub trait Failure: Display + Send {
    /// It only says that what was read was behind, and deserves no warning.
    fn is_routine(&self) -> bool {
        false
    }
}

impl Failure for crate::Error {
    fn is_routine(&self) -> bool {
        self.is_conflict()
    }
}

/// Runs `workers` workers until `shutdown`: each takes a key and reconciles it; a failure is logged and
/// the key comes back later, each time later. Returns when every worker has finished its last key.
pub async fn run_workers<K, F, Reconciled, E>(
    queue: WorkQueue<K>,
    workers: usize,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Clone + Eq + Hash + Display + Debug + Send + Sync + 'static,
    F: Fn(K) -> Reconciled + Clone + Send + Sync + 'static,
    Reconciled: Future<Output = Result<(), E>> + Send,
    E: Failure,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        let (queue, shutdown, reconcile) = (queue.clone(), shutdown.clone(), reconcile.clone());
        tasks.spawn(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break,
                    item = queue.get() => match item {
                        Some(item) => item,
                        None => break,
                    },
                };
                match reconcile(item.clone()).await {
                    Ok(()) => queue.forget(&item),
                    Err(error) => {
                        if error.is_routine() {
                            tracing::debug!(queue = queue.name(), key = %*item, %error, "Cache was behind, retrying");
                        } else {
                            tracing::warn!(queue = queue.name(), key = %*item, %error, "Reconciling failed, retrying");
                        }
                        queue.add_rate_limited(item.clone());
                    }
                }
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result {
            tracing::error!(queue = queue.name(), %error, "a worker panicked");
        }
    }
    queue.shutdown();
}
