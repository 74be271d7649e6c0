//! The numbers themselves. All updates are lock-free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// An `f64` that several threads change.
#[derive(Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
    fn add(&self, value: f64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |old| Some((f64::from_bits(old) + value).to_bits()));
    }
}

/// Only rises.
#[derive(Default)]
pub struct Counter(Number);

impl Counter {
    pub fn inc(&self) {
        self.0.add(1.0);
    }
    pub fn add(&self, value: f64) {
        self.0.add(value);
    }
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// Rises and falls.
#[derive(Default)]
pub struct Gauge(Number);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }
    pub fn inc(&self) {
        self.0.add(1.0);
    }
    pub fn dec(&self) {
        self.0.add(-1.0);
    }
    pub fn add(&self, value: f64) {
        self.0.add(value);
    }
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// Counts of observations by size.
pub struct Histogram {
    bounds: Arc<[f64]>,
    /// One per bound and one for what is above them all.
    counts: Box<[AtomicU64]>,
    sum: Number,
}

impl Histogram {
    pub fn new(bounds: Arc<[f64]>) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: Number::default() }
    }

    pub fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        self.counts[index].fetch_add(1, Relaxed);
        self.sum.add(value);
    }

    /// Observes the seconds until the timer is dropped.
    pub fn timer(self: &Arc<Self>) -> Timer {
        Timer { histogram: self.clone(), start: Instant::now() }
    }

    /// Upper bounds with cumulative counts, without `+Inf`; then the count of all and the sum.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, count) in self.bounds.iter().zip(self.counts.iter()) {
            total += count.load(Relaxed);
            buckets.push((*bound, total));
        }
        total += self.counts[self.bounds.len()].load(Relaxed);
        (buckets, total, self.sum.get())
    }
}

pub struct Timer {
    histogram: Arc<Histogram>,
    start: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.start.elapsed().as_secs_f64());
    }
}
