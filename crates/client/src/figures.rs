//! What is counted of requests and elections, under upstream's names.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use daemon::metrics::{Counter, CounterVec, GaugeVec, Histogram, HistogramVec, registry};
use http::{Method, StatusCode};
use parking_lot::RwLock;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

static REQUESTS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "rest_client_requests_total",
        "Number of HTTP requests, partitioned by status code, method, and host.",
        &["code", "host", "method"],
    )
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "rest_client_request_duration_seconds",
        "Request latency in seconds. Broken down by verb, and host.",
        &["host", "verb"],
        SECONDS,
    )
});

static LEADER: LazyLock<GaugeVec> = LazyLock::new(|| {
    registry().gauge_vec(
        "leader_election_master_status",
        "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease. Please make sure to group by name.",
        &["name"],
    )
});

/// Says whether this process leads in an election.
pub(crate) fn leads(name: &str, whether: bool) {
    LEADER.with(&[name]).set(if whether { 1.0 } else { 0.0 });
}

type Of<K, V> = RwLock<Vec<(K, Arc<V>)>>;

/// The requests of one client. A few methods and codes: each is looked up by its labels once.
#[derive(Default)]
pub(crate) struct Requests {
    host: String,
    counts: Of<(Method, Option<StatusCode>), Counter>,
    durations: Of<Method, Histogram>,
}

impl Requests {
    pub fn of(server: &http::Uri) -> Requests {
        let host = server.authority().map(|authority| authority.to_string()).unwrap_or_default();
        Requests { host, ..Requests::default() }
    }

    /// A request that was answered, or, without a code, was not. Watches have no duration worth counting.
    pub fn count(&self, method: &Method, code: Option<StatusCode>, duration: Option<Duration>) {
        let counter = child(&self.counts, &(method.clone(), code), || {
            let code = code.map_or("<error>".to_owned(), |code| code.as_str().to_owned());
            REQUESTS.with(&[&code, &self.host, method.as_str()])
        });
        counter.inc();
        if let Some(duration) = duration {
            let histogram = child(&self.durations, method, || DURATION.with(&[&self.host, method.as_str()]));
            histogram.observe(duration.as_secs_f64());
        }
    }
}

fn child<K: PartialEq + Clone, V>(known: &Of<K, V>, key: &K, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
    if let Some((_, found)) = known.read().iter().find(|(other, _)| other == key) {
        return found.clone();
    }
    let made = make();
    known.write().push((key.clone(), made.clone()));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_by_code_method_and_host() {
        let requests = Requests::of(&"https://figures.example:6443/prefix".parse().unwrap());
        for _ in 0..2 {
            requests.count(&Method::GET, Some(StatusCode::OK), Some(Duration::from_millis(7)));
        }
        requests.count(&Method::POST, None, None);
        let text = registry().text();
        for line in [
            "rest_client_requests_total{code=\"200\",host=\"figures.example:6443\",method=\"GET\"} 2\n",
            "rest_client_requests_total{code=\"<error>\",host=\"figures.example:6443\",method=\"POST\"} 1\n",
            "rest_client_request_duration_seconds_bucket{host=\"figures.example:6443\",verb=\"GET\",le=\"0.025\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
