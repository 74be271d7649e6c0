//! The ports: health checks on one, metrics and the mode on the other.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use bytes::Bytes;
use daemon::serving;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio_util::sync::CancellationToken;

use crate::config::Configuration;
use crate::sync::Health;

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
    let healthy = service_fn(move |request: Request<Incoming>| {
        let health = health.clone();
        async move { Ok::<_, Infallible>(answer_health(request.uri().path(), &health)) }
    });
    let metrics = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(match request.uri().path() {
            "/metrics" => {
                text(StatusCode::OK, daemon::metrics::CONTENT_TYPE, daemon::metrics::registry().text())
            }
            "/proxyMode" => text(StatusCode::OK, "text/plain; charset=utf-8", "nftables".to_owned()),
            "/healthz" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok".to_owned()),
            _ => text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
        })
    });
    let serve_metrics =
        serving::serve(metrics_listener, None, metrics, serving::Options::default(), shutdown.clone());
    let serve_health = serving::serve(health_listener, None, healthy, serving::Options::default(), shutdown);
    tokio::join!(serve_health, serve_metrics);
    Ok(())
}

/// Healthy once rules have been programmed; `/livez` says only that the process answers.
fn answer_health(path: &str, health: &Health) -> Response<Full<Bytes>> {
    if !matches!(path, "/healthz" | "/livez") {
        return text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".to_owned());
    }
    let programmed = health.programmed.load(Ordering::Relaxed);
    let timestamp =
        |millis: u64| jiff::Timestamp::from_millisecond(millis as i64).unwrap_or_default().to_string();
    let current = timestamp(jiff::Timestamp::now().as_millisecond() as u64);
    let status =
        if programmed == 0 && path == "/healthz" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = format!("{{\"lastUpdated\": {:?},\"currentTime\": {current:?}}}", timestamp(programmed));
    text(status, "application/json", body)
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
