//! Figures the kubelet counts as it works, under upstream's names. [`crate::metrics`] has those that are read
//! when asked for.

use daemon::metrics::{CounterVec, HistogramVec, registry};
use std::sync::LazyLock;
use std::time::Duration;

const EXPONENTIAL: &[f64] =
    &[0.005, 0.0125, 0.03125, 0.078125, 0.1953125, 0.48828125, 1.220703125, 3.0517578125, 7.62939453125];

pub struct Figures {
    pub runtime_operations: CounterVec,
    pub runtime_errors: CounterVec,
    pub runtime_seconds: HistogramVec,
    pub relist_seconds: HistogramVec,
    pub relist_interval_seconds: HistogramVec,
    pub pod_worker_seconds: HistogramVec,
    pub started_pods: CounterVec,
    pub started_pods_errors: CounterVec,
    pub started_containers: CounterVec,
    pub started_containers_errors: CounterVec,
}

pub static FIGURES: LazyLock<Figures> = LazyLock::new(|| {
    let registry = registry();
    let counter = |name: &str, help: &str, labels: &[&'static str]| registry.counter_vec(name, help, labels);
    let histogram = |name: &str, help: &str, labels: &[&'static str]| {
        registry.histogram_vec(name, help, labels, daemon::metrics::DEFAULT_BUCKETS)
    };
    Figures {
        runtime_operations: counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
            &["operation_type"],
        ),
        runtime_errors: counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
            &["operation_type"],
        ),
        runtime_seconds: registry.histogram_vec(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            &["operation_type"],
            EXPONENTIAL,
        ),
        relist_seconds: histogram(
            "kubelet_pleg_relist_duration_seconds",
            "Duration in seconds for relisting pods in PLEG.",
            &[],
        ),
        relist_interval_seconds: histogram(
            "kubelet_pleg_relist_interval_seconds",
            "Interval in seconds between relisting in PLEG.",
            &[],
        ),
        pod_worker_seconds: histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            &["operation_type"],
        ),
        started_pods: counter("kubelet_started_pods_total", "Cumulative number of pods started", &[]),
        started_pods_errors: counter(
            "kubelet_started_pods_errors_total",
            "Cumulative number of errors when starting pods",
            &[],
        ),
        started_containers: counter(
            "kubelet_started_containers_total",
            "Cumulative number of containers started",
            &["container_type"],
        ),
        started_containers_errors: counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            &["container_type", "code"],
        ),
    }
});

/// Notes a call to the runtime by its name in the protocol.
pub fn runtime_call(method: &str, took: Duration, failed: bool) {
    let name = operation(method);
    FIGURES.runtime_operations.with(&[&name]).inc();
    FIGURES.runtime_seconds.with(&[&name]).observe(took.as_secs_f64());
    if failed {
        FIGURES.runtime_errors.with(&[&name]).inc();
    }
}

/// `RunPodSandbox` is `run_podsandbox`.
fn operation(method: &str) -> String {
    let mut name = String::with_capacity(method.len() + 4);
    for letter in method.replace("PodSandbox", "Podsandbox").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        for (method, name) in [
            ("RunPodSandbox", "run_podsandbox"),
            ("PodSandboxStatus", "podsandbox_status"),
            ("ListContainers", "list_containers"),
            ("Version", "version"),
        ] {
            assert_eq!(operation(method), name);
        }
    }
}
