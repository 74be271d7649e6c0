//! What the API server counts, under upstream's names.

use std::sync::LazyLock;

use daemon::metrics::{CounterVec, GaugeVec, HistogramVec, registry};

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

pub static REQUESTS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_request_total",
        "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        &["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
    )
});

pub static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_request_duration_seconds",
        "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
        SECONDS,
    )
});

pub static LONG_RUNNING: LazyLock<GaugeVec> = LazyLock::new(|| {
    registry().gauge_vec(
        "apiserver_longrunning_requests",
        "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
        &["component", "group", "resource", "scope", "subresource", "verb", "version"],
    )
});

pub static IN_FLIGHT: LazyLock<GaugeVec> = LazyLock::new(|| {
    registry().gauge_vec(
        "apiserver_current_inflight_requests",
        "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        &["request_kind"],
    )
});

pub static AUTHENTICATION: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec("authentication_attempts", "Counter of authenticated attempts.", &["result"])
});

pub static AUTHORIZATION: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "authorization_attempts_total",
        "Counter of authorization attempts broken down by result.",
        &["result"],
    )
});
