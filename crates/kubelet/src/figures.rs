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
    pub requested_resizes: CounterVec,
    pub infeasible_resizes: CounterVec,
    pub deferred_accepted_resizes: CounterVec,
    pub deferred_resize_seconds: HistogramVec,
    pub resize_milliseconds: HistogramVec,
}

const RESIZE_MILLISECONDS: &[f64] = &[
    10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 60_000.0, 120_000.0,
    300_000.0, 600_000.0,
];
const DEFERRED_SECONDS: &[f64] = &[
    5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];

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
        requested_resizes: counter(
            "kubelet_container_requested_resizes_total",
            "Number of requested resizes, counted at the container level. Different resources on the same container are counted separately. The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of 'add', 'remove', 'increase' or 'decrease'.",
            &["resource", "requirement", "operation"],
        ),
        infeasible_resizes: counter(
            "kubelet_pod_infeasible_resizes_total",
            "Number of infeasible resizes for pods.",
            &["reason_detail"],
        ),
        deferred_accepted_resizes: counter(
            "kubelet_pod_deferred_accepted_resizes_total",
            "Cumulative number of resizes that were accepted after being deferred.",
            &["retry_trigger"],
        ),
        deferred_resize_seconds: registry.histogram_vec(
            "kubelet_pod_deferred_resize_duration_seconds",
            "Duration in seconds that a pod resize remains deferred before completion. Label 'priority_bucket' classifies the pod priority (system-critical: >=2000000000, high: 100000..1999999999, medium: 1..99999, normal: 0/default, low: -999..-1, very-low: <=-1000, unknown: nil pod). Label 'resolution' describes how the deferred resize was resolved (accepted, reverted, terminated).",
            &["resolution", "priority_bucket"],
            DEFERRED_SECONDS,
        ),
        resize_milliseconds: registry.histogram_vec(
            "kubelet_pod_resize_duration_milliseconds",
            "Duration in milliseconds to actuate a pod resize",
            &["success"],
            RESIZE_MILLISECONDS,
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
