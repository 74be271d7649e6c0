//! What is counted of impersonation, under upstream's names.

use std::sync::LazyLock;
use std::time::Instant;

use daemon::metrics::{CounterVec, HistogramVec, registry};

/// Up to half a minute, each twice the one before.
fn doubling() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// Decisions about impersonation, by mode.
pub struct Impersonations {
    counts: CounterVec,
    durations: HistogramVec,
}

impl Impersonations {
    fn new(counts: (&str, &str), durations: (&str, &str)) -> Impersonations {
        let labels = &["mode", "decision"];
        Impersonations {
            counts: registry().counter_vec(counts.0, counts.1, labels),
            durations: registry().histogram_vec(durations.0, durations.1, labels, &doubling()),
        }
    }

    pub fn count(&self, mode_and_decision: [&str; 2], started: Instant) {
        self.counts.with(&mode_and_decision).inc();
        self.durations.with(&mode_and_decision).observe(started.elapsed().as_secs_f64());
    }
}

pub static IMPERSONATION: LazyLock<Impersonations> = LazyLock::new(|| {
    Impersonations::new(
        (
            "apiserver_impersonation_attempts_total",
            "Total number of impersonation attempts split by mode and decision.",
        ),
        (
            "apiserver_impersonation_attempts_duration_seconds",
            "Latency of impersonation attempts in seconds split by mode and decision.",
        ),
    )
});

pub static IMPERSONATION_AUTHORIZATION: LazyLock<Impersonations> = LazyLock::new(|| {
    Impersonations::new(
        (
            "apiserver_impersonation_authorization_attempts_total",
            "Total number of authorization checks made by the impersonation handler split by mode and decision.",
        ),
        (
            "apiserver_impersonation_authorization_attempts_duration_seconds",
            "Latency of authorization checks made by the impersonation handler in seconds split by mode and decision.",
        ),
    )
});
