//! What is counted of work queues, under upstream's names. Queues without a name are not counted.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use daemon::metrics::{Counter, CounterVec, Histogram, HistogramVec, Samples, registry};
use parking_lot::Mutex;

/// Upstream's, to the last digit.
const SECONDS: &[f64] =
    &[1e-8, 1e-7, 1e-6, 9.999999999999999e-6, 9.999999999999999e-5, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// What a queue is like now; read when scraped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Now {
    pub depth: usize,
    /// Time that all keys under work have taken so far, in seconds.
    pub unfinished: f64,
    pub longest: f64,
}

pub(crate) trait Measured: Send + Sync {
    fn now(&self) -> Now;
}

/// The counters of one queue.
pub(crate) struct Figures {
    pub adds: Arc<Counter>,
    pub retries: Arc<Counter>,
    waited: Arc<Histogram>,
    worked: Arc<Histogram>,
}

impl Figures {
    pub fn of(name: &str) -> Option<Figures> {
        (!name.is_empty()).then(|| Figures {
            adds: ADDS.with(&[name]),
            retries: RETRIES.with(&[name]),
            waited: WAITED.with(&[name]),
            worked: WORKED.with(&[name]),
        })
    }

    pub fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    pub fn worked(&self, time: Duration) {
        self.worked.observe(time.as_secs_f64());
    }
}

static ADDS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec("workqueue_adds_total", "Total number of adds handled by workqueue", &["name"])
});

static RETRIES: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Total number of retries handled by workqueue";
    registry().counter_vec("workqueue_retries_total", help, &["name"])
});

static WAITED: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long in seconds an item stays in workqueue before being requested.";
    registry().histogram_vec("workqueue_queue_duration_seconds", help, &["name"], SECONDS)
});

static WORKED: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "How long in seconds processing an item from workqueue takes.";
    registry().histogram_vec("workqueue_work_duration_seconds", help, &["name"], SECONDS)
});

type Queues = Vec<(String, Weak<dyn Measured>)>;

static QUEUES: LazyLock<Mutex<Queues>> = LazyLock::new(|| {
    gauge("workqueue_depth", "Current depth of workqueue", |now| now.depth as f64);
    gauge(
        "workqueue_unfinished_work_seconds",
        "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
        |now| now.unfinished,
    );
    gauge(
        "workqueue_longest_running_processor_seconds",
        "How many seconds has the longest running processor for workqueue been running.",
        |now| now.longest,
    );
    Mutex::default()
});

fn gauge(name: &str, help: &str, of: fn(&Now) -> f64) {
    registry().gauge_fn(name, help, &["name"], move || samples(of));
}

fn samples(of: fn(&Now) -> f64) -> Samples {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let queues: Vec<_> = {
        let mut queues = QUEUES.lock();
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        queues.iter().filter_map(|(name, queue)| Some((name.clone(), queue.upgrade()?))).collect()
    };
    for (name, queue) in queues {
        *sums.entry(name).or_default() += of(&queue.now());
    }
    sums.into_iter().map(|(name, value)| (vec![name], value)).collect()
}

/// Shows a queue as long as it lives.
pub(crate) fn show(name: &str, queue: Weak<dyn Measured>) {
    QUEUES.lock().push((name.to_owned(), queue));
}
