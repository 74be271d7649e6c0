//! The metrics of work queues, under upstream's names.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use client::{Key, WorkQueue};
use daemon::metrics::{CounterVec, HistogramVec, registry};
use parking_lot::Mutex;

type Named = (&'static str, WorkQueue<Key>);

static QUEUES: LazyLock<Mutex<Vec<Named>>> = LazyLock::new(|| {
    registry().gauge_fn(
        "workqueue_depth",
        "Current depth of workqueue by workqueue and priority",
        &["name"],
        || {
            let depth = |(name, queue): &Named| (vec![(*name).to_owned()], queue.len() as f64);
            QUEUES.lock().iter().map(depth).collect()
        },
    );
    Mutex::default()
});

/// Shows the depth of a queue.
pub(crate) fn watch(name: &'static str, queue: WorkQueue<Key>) {
    let mut queues = QUEUES.lock();
    queues.retain(|(other, _)| *other != name);
    queues.push((name, queue));
}

/// What is counted of one queue.
#[derive(Clone)]
pub(crate) struct Queue {
    name: Arc<str>,
    duration: HistogramVec,
    handled: CounterVec,
    retries: CounterVec,
}

impl Queue {
    pub(crate) fn new(name: &str) -> Queue {
        let buckets = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
        Queue {
            name: name.into(),
            duration: registry().histogram_vec(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
                &["name"],
                &buckets,
            ),
            handled: registry().counter_vec(
                "workqueue_adds_total",
                "Total number of adds handled by workqueue",
                &["name"],
            ),
            retries: registry().counter_vec(
                "workqueue_retries_total",
                "Total number of retries handled by workqueue",
                &["name"],
            ),
        }
    }

    pub(crate) fn done(&self, duration: Duration, failed: bool) {
        let name = [&*self.name];
        self.duration.with(&name).observe(duration.as_secs_f64());
        self.handled.with(&name).inc();
        if failed {
            self.retries.with(&name).inc();
        }
    }
}
