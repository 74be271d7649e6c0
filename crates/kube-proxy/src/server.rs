//! The ports: health on one, for load balancers and probes; metrics, the mode and the configuration on the other.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use daemon::health::Checks;
use daemon::serving;
use daemon::zpages::Pages;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Configuration};
use crate::sync::Health;

const PAGES: Pages =
    Pages { name: "kube-proxy", paths: &["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"] };
const TEXT: &str = "text/plain; charset=utf-8";

/// Serves both until `shutdown`.
pub async fn serve(
    configuration: &Configuration,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let health_listener =
        serving::bind(configuration.health_address()?, false).context("healthzBindAddress")?;
    let metrics_listener =
        serving::bind(configuration.metrics_address()?, false).context("metricsBindAddress")?;
    let patience = configuration.sync_period() * 2;
    let healthy = service_fn(move |request: Request<Incoming>| {
        let health = health.clone();
        async move {
            let now = Timestamp::now();
            Ok::<_, Infallible>(answer_health(request.uri().path(), &health, patience, now))
        }
    });
    let port =
        Arc::new(Metrics { configuration: config::document(configuration)?.to_string(), checks: ping() });
    let metrics = service_fn(move |request: Request<Incoming>| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(port.answer(&request).await) }
    });
    let serve_metrics =
        serving::serve(metrics_listener, None, metrics, serving::Options::default(), shutdown.clone());
    let serve_health = serving::serve(health_listener, None, healthy, serving::Options::default(), shutdown);
    tokio::join!(serve_health, serve_metrics);
    Ok(())
}

fn ping() -> Checks {
    let checks = Checks::default();
    checks.add("ping", || Ok(()));
    checks
}

struct Metrics {
    configuration: String,
    checks: Checks,
}

impl Metrics {
    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if let Some(answer) = PAGES.answer(path, request.headers()) {
            return answer;
        }
        match path {
            "/metrics" => {
                answer(StatusCode::OK, daemon::metrics::CONTENT_TYPE, daemon::metrics::registry().text())
            }
            "/metrics/slis" => {
                answer(StatusCode::OK, daemon::metrics::CONTENT_TYPE, daemon::metrics::slis().text())
            }
            "/configz" => answer(StatusCode::OK, "application/json", self.configuration.clone()),
            "/proxyMode" => answer(StatusCode::OK, TEXT, "nftables".to_owned()),
            _ if path == "/healthz" || path.starts_with("/healthz/") => {
                self.checks.answer_uri(request.uri()).await
            }
            _ => not_found(),
        }
    }
}

/// `/healthz` is for load balancers: not well on a node that is about to go, either. `/livez` is for probes. Both are
/// well once rules have been programmed and no change waits for longer than `patience`.
fn answer_health(path: &str, health: &Health, patience: Duration, now: Timestamp) -> Response<Full<Bytes>> {
    if !matches!(path, "/healthz" | "/livez") {
        return not_found();
    }
    let (programmed, pending) =
        (health.programmed.load(Ordering::Relaxed), health.pending.load(Ordering::Relaxed));
    let since = |millis: u64| now.as_millisecond().saturating_sub(i64::try_from(millis).unwrap_or(0));
    let overdue = pending != 0 && u128::try_from(since(pending)).unwrap_or(0) > patience.as_millis();
    let healthy = programmed != 0 && !overdue;
    let eligible = !health.leaving.load(Ordering::Relaxed);
    let updated = match programmed {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        millis => {
            Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(0)).unwrap_or_default().to_string()
        }
    };
    let mut body = Map::new();
    let last = if healthy { now.to_string() } else { updated.clone() };
    body.insert("lastUpdated".into(), last.into());
    body.insert("currentTime".into(), now.to_string().into());
    if path == "/healthz" {
        body.insert("nodeEligible".into(), eligible.into());
    }
    body.insert("healthy".into(), healthy.into());
    // Both families are programmed in one go.
    let family = json!({"lastUpdated": updated, "healthy": healthy});
    body.insert("status".into(), json!({"IPv4": family, "IPv6": family}));
    let well = healthy && (eligible || path == "/livez");
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, "application/json", Value::Object(body).to_string())
}

fn not_found() -> Response<Full<Bytes>> {
    answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned())
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn check(path: &str, health: &Health, status: u16, expect: Value) {
        let now = Timestamp::from_second(1000).unwrap();
        let answer = answer_health(path, health, Duration::from_secs(60), now);
        assert_eq!(answer.status().as_u16(), status);
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), expect.to_string());
    }

    #[tokio::test]
    async fn health_is_that_of_the_rules_and_of_the_node() {
        let (never, now) = ("0001-01-01T00:00:00Z", "1970-01-01T00:16:40Z");
        let health = Health::default();
        let status = |updated: &str, healthy: bool| {
            let family = json!({"lastUpdated": updated, "healthy": healthy});
            json!({"IPv4": family, "IPv6": family})
        };
        let ill = json!({"lastUpdated": never, "currentTime": now, "healthy": false, "status": status(never, false)});
        check("/livez", &health, 503, ill).await;
        health.programmed.store(990_000, Ordering::Relaxed);
        health.pending.store(950_000, Ordering::Relaxed);
        let programmed = "1970-01-01T00:16:30Z";
        let well = |eligible: bool| {
            json!({"lastUpdated": now, "currentTime": now, "nodeEligible": eligible, "healthy": true,
                   "status": status(programmed, true)})
        };
        check("/healthz", &health, 200, well(true)).await;
        health.leaving.store(true, Ordering::Relaxed);
        check("/healthz", &health, 503, well(false)).await;
        health.pending.store(930_000, Ordering::Relaxed);
        let late = json!({"lastUpdated": programmed, "currentTime": now, "healthy": false, "status": status(programmed, false)});
        check("/livez", &health, 503, late).await;
    }

    #[tokio::test]
    async fn the_metrics_port_shows_the_configuration_and_the_process() {
        let configuration = config::document(&Configuration::default()).unwrap().to_string();
        let port = Metrics { configuration, checks: ping() };
        for (path, expect) in [
            ("/healthz?verbose", "[+]ping ok\nhealthz check passed\n"),
            (
                "/configz",
                "\"healthzBindAddress\":\"0.0.0.0:10256\",\"metricsBindAddress\":\"127.0.0.1:10249\",\"mode\":\"nftables\"",
            ),
            ("/statusz", "Paths: /configz /flagz /healthz /metrics /proxyMode\n"),
            ("/flagz", "\nkube-proxy flagz\n"),
            ("/metrics/slis", "process_start_time_seconds "),
            ("/livez", "404 page not found\n"),
        ] {
            let request = Request::get(path).body(()).unwrap();
            let bytes = port.answer(&request).await.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.contains(expect), "{path}: {text}");
        }
    }
}
