//! Upstream's metrics.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use daemon::metrics::{Counter, CounterVec, Histogram, HistogramVec, registry};

use crate::driver::Scheduler;
use crate::framework::Point;

/// `start · 2^n`.
fn doubling(start: f64, count: i32) -> Vec<f64> {
    (0..count).map(|n| start * f64::from(2).powi(n)).collect()
}

pub static ATTEMPTS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "scheduler_schedule_attempts_total",
        "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
        &["result", "profile"],
    )
});

pub static ATTEMPT_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "scheduler_scheduling_attempt_duration_seconds",
        "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
        &["result", "profile"],
        &doubling(0.001, 15),
    )
});

pub static ALGORITHM_DURATION: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "scheduler_scheduling_algorithm_duration_seconds",
        "Scheduling algorithm latency in seconds",
        &doubling(0.001, 15),
    )
});

pub static POD_ATTEMPTS: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "scheduler_pod_scheduling_attempts",
        "Number of attempts to successfully schedule a pod.",
        &[1.0, 2.0, 4.0, 8.0, 16.0],
    )
});

pub static SLI: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "scheduler_pod_scheduling_sli_duration_seconds",
        "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
        &["attempts"],
        &doubling(0.01, 20),
    )
});

pub static PREEMPTIONS: LazyLock<Arc<Counter>> = LazyLock::new(|| {
    registry()
        .counter("scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now")
});

pub static VICTIMS: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    registry().histogram(
        "scheduler_preemption_victims",
        "Number of selected preemption victims for preemption initiated by a single pod",
        &doubling(1.0, 7),
    )
});

static POINTS: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "scheduler_framework_extension_point_duration_seconds",
        "Latency for running all plugins of a specific extension point.",
        &["extension_point", "profile", "status"],
        &doubling(0.0001, 12),
    )
});

/// How an extension point ended.
#[derive(Clone, Copy)]
pub enum Ended {
    Success,
    Unschedulable,
    Unresolvable,
    Wait,
    Error,
}

impl Ended {
    const COUNT: usize = Ended::Error as usize + 1;

    fn text(self) -> &'static str {
        match self {
            Ended::Success => "Success",
            Ended::Unschedulable => "Unschedulable",
            Ended::Unresolvable => "UnschedulableAndUnresolvable",
            Ended::Wait => "Wait",
            Ended::Error => "Error",
        }
    }
}

/// The time that the extension points of a profile take. Each figure is looked up by its labels once.
pub struct PointTimes {
    profile: String,
    figures: [[OnceLock<Arc<Histogram>>; Ended::COUNT]; Point::COUNT],
}

impl PointTimes {
    pub fn new(profile: &str) -> PointTimes {
        PointTimes { profile: profile.to_owned(), figures: Default::default() }
    }

    pub fn observe(&self, point: Point, ended: Ended, started: Instant) {
        let figure = self.figures[point as usize][ended as usize]
            .get_or_init(|| POINTS.with(&[point.name(), &self.profile, ended.text()]));
        figure.observe(started.elapsed().as_secs_f64());
    }
}

/// Registers what is read when scraped, and shows what may stay at 0.
pub fn register(scheduler: &Arc<Scheduler>) {
    LazyLock::force(&PREEMPTIONS);
    LazyLock::force(&VICTIMS);
    let own = Arc::downgrade(scheduler);
    let sizes = own.clone();
    registry().gauge_fn(
        "scheduler_pending_pods",
        "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means number of pods in backoffQ; 'unschedulable' means number of pods in unschedulableEntities that the scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never attempted to schedule because they are gated.",
        &["queue"],
        move || {
            let sizes = sizes.upgrade().map(|own| own.sizes()).unwrap_or_default();
            [
                ("active", sizes.active),
                ("backoff", sizes.backoff),
                ("gated", sizes.gated),
                ("unschedulable", sizes.unschedulable),
            ]
            .map(|(queue, count)| (vec![queue.to_string()], count as f64))
            .to_vec()
        },
    );
    let cache = own.clone();
    registry().gauge_fn(
        "scheduler_cache_size",
        "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
        &["type"],
        move || {
            let (nodes, pods, assumed) = cache.upgrade().map(|own| own.cache_sizes()).unwrap_or_default();
            [("assumed_pods", assumed), ("nodes", nodes), ("pods", pods)]
                .map(|(kind, count)| (vec![kind.to_string()], count as f64))
                .to_vec()
        },
    );
    let lost = own.clone();
    registry().gauge_fn(
        "corten_scheduler_unqueued_pods",
        "Number of unbound pods for this scheduler that are in no queue and on no node. It stays 0.",
        &[],
        move || vec![(Vec::new(), lost.upgrade().map_or(0, |own| own.lost()) as f64)],
    );
    let incoming = own.clone();
    registry().counter_fn(
        "scheduler_queue_incoming_pods_total",
        "Number of pods added to scheduling queues by event and queue type.",
        &["event", "queue"],
        move || incoming.upgrade().map(|own| own.incoming()).unwrap_or_default(),
    );
    registry().gauge_fn(
        "scheduler_unschedulable_pods",
        "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.",
        &["plugin", "profile"],
        move || own.upgrade().map(|own| own.rejected()).unwrap_or_default(),
    );
}
