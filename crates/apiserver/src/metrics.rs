//! What the API server counts, under upstream's names.

pub mod storage;

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use daemon::metrics::{Counter, CounterVec, GaugeVec, Histogram, HistogramVec, registry};

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

pub static SLI_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_request_sli_duration_seconds",
        "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
        &["component", "group", "resource", "scope", "subresource", "verb", "version"],
        &SECONDS[2..],
    )
});

pub static SIZES: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_response_sizes",
        "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
        &["component", "group", "resource", "scope", "subresource", "verb", "version"],
        &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
    )
});

pub static DEPRECATED: LazyLock<GaugeVec> = LazyLock::new(|| {
    registry().gauge_vec(
        "apiserver_requested_deprecated_apis",
        "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
        &["group", "removed_release", "resource", "subresource", "version"],
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

/// Up to half a minute, each twice the one before.
fn doubling() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// How requests end at one of the layers, and in what time. One entry per result, made at its first.
pub struct Results {
    results: &'static [&'static str],
    counts: CounterVec,
    durations: HistogramVec,
    figures: Vec<OnceLock<(Arc<Counter>, Arc<Histogram>)>>,
}

impl Results {
    fn new(counts: (&str, &str), durations: (&str, &str), results: &'static [&'static str]) -> Results {
        Results {
            results,
            counts: registry().counter_vec(counts.0, counts.1, &["result"]),
            durations: registry().histogram_vec(durations.0, durations.1, &["result"], &doubling()),
            figures: results.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    /// `result` is one of those there are.
    pub fn count(&self, result: &str, started: Instant) {
        let Some(place) = self.results.iter().position(|known| *known == result) else { return };
        let (count, duration) =
            self.figures[place].get_or_init(|| (self.counts.with(&[result]), self.durations.with(&[result])));
        count.inc();
        duration.observe(started.elapsed().as_secs_f64());
    }
}

pub static AUTHENTICATION: LazyLock<Results> = LazyLock::new(|| {
    Results::new(
        ("authentication_attempts", "Counter of authenticated attempts."),
        ("authentication_duration_seconds", "Authentication duration in seconds broken out by result."),
        &["success", "failure", "error"],
    )
});

pub static AUTHORIZATION: LazyLock<Results> = LazyLock::new(|| {
    Results::new(
        (
            "authorization_attempts_total",
            "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
        ),
        ("authorization_duration_seconds", "Authorization duration in seconds broken out by result."),
        &["allowed", "no-opinion"],
    )
});

/// A few names that are the same in every cluster; of the others only that there was one.
pub fn user_seen(name: &str) {
    static COUNTS: [OnceLock<Arc<Counter>>; USERS.len() + 2] = [const { OnceLock::new() }; USERS.len() + 2];
    let (place, shown) = match USERS.iter().position(|known| *known == name) {
        Some(place) => (place, name),
        None if name.contains('@') => (USERS.len(), "email_id"),
        None => (USERS.len() + 1, "other"),
    };
    let counter = COUNTS[place].get_or_init(|| {
        let help = "Counter of authenticated requests broken out by username.";
        registry().counter_vec("authenticated_user_requests", help, &["username"]).with(&[shown])
    });
    counter.inc();
}

const USERS: [&str; 5] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];

pub static CERTIFICATE_EXPIRATION: LazyLock<Arc<Histogram>> = LazyLock::new(|| {
    const HOUR: f64 = 3600.0;
    const DAY: f64 = 24.0 * HOUR;
    registry().histogram(
        "apiserver_client_certificate_expiration_seconds",
        "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
        &[
            0.0,
            0.5 * HOUR,
            HOUR,
            2.0 * HOUR,
            6.0 * HOUR,
            12.0 * HOUR,
            DAY,
            2.0 * DAY,
            4.0 * DAY,
            7.0 * DAY,
            30.0 * DAY,
            90.0 * DAY,
            180.0 * DAY,
            360.0 * DAY,
        ],
    )
});
