//! `/healthz`, `/livez`, `/readyz`, with `?verbose`, `?exclude=` and a path per check, in upstream's words.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use parking_lot::RwLock;

use crate::metrics::{CounterVec, GaugeVec, slis};

/// Why a check fails. Shown to nobody but the log.
pub type Failure = String;
type Run = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

#[derive(Clone)]
struct Check {
    name: String,
    run: Run,
}

/// Named checks of one endpoint, in the order they were added. Cheap to clone.
#[derive(Clone, Default)]
pub struct Checks {
    checks: Arc<RwLock<Vec<Check>>>,
}

impl Checks {
    /// With `ping` and `log`, which every daemon has.
    pub fn new() -> Checks {
        let checks = Checks::default();
        checks.add("ping", || Ok(()));
        checks.add("log", || Ok(()));
        checks
    }

    /// A check that looks at a value in memory.
    pub fn add(&self, name: &str, check: impl Fn() -> Result<(), Failure> + Send + Sync + 'static) {
        self.add_async(name, move || {
            let result = check();
            Box::pin(async move { result })
        });
    }

    /// A check that does I/O. It bounds its own time.
    pub fn add_async(
        &self,
        name: &str,
        check: impl Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static,
    ) {
        self.checks.write().push(Check { name: name.into(), run: Arc::new(check) });
    }

    /// The names of the checks.
    pub fn names(&self) -> Vec<String> {
        self.checks.read().iter().map(|check| check.name.clone()).collect()
    }

    /// Answers `endpoint` (`healthz`, `livez` or `readyz`); `rest` is the path after it without its slash,
    /// `query` the raw query.
    pub async fn answer(&self, endpoint: &str, rest: &str, query: &str) -> Response<Full<Bytes>> {
        let checks = self.checks.read().clone();
        if !rest.is_empty() {
            return match checks.iter().find(|check| check.name == rest) {
                None => plain(StatusCode::NOT_FOUND, "404 page not found\n".into()),
                Some(check) => match (check.run)().await {
                    Ok(()) => plain(StatusCode::OK, "ok".into()),
                    Err(error) => {
                        plain(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {error}\n"))
                    }
                },
            };
        }
        let mut excluded: Vec<&str> =
            pairs(query).filter(|(name, _)| *name == "exclude").map(|(_, value)| value).collect();
        let verbose = pairs(query).any(|(name, _)| name == "verbose");
        let mut lines = String::new();
        let mut failed = Vec::new();
        let mut used = Vec::new();
        for check in &checks {
            if excluded.contains(&check.name.as_str()) {
                used.push(check.name.as_str());
                lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
                continue;
            }
            let result = (check.run)().await;
            observe(&check.name, endpoint, result.is_ok());
            match result {
                Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name)),
                Err(error) => {
                    tracing::debug!(check = check.name, error, "Health check failed");
                    lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                    failed.push(check.name.as_str());
                }
            }
        }
        excluded.retain(|name| !used.contains(name));
        if !excluded.is_empty() {
            let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
            lines.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for {}\n",
                names.join(",")
            ));
        }
        if !failed.is_empty() {
            tracing::info!("{} check failed: {}", failed.join(","), endpoint);
            return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"));
        }
        match verbose {
            true => plain(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
            false => plain(StatusCode::OK, "ok".into()),
        }
    }

    /// [`Checks::answer`] for a request whose path begins with `/healthz`, `/livez` or `/readyz`.
    pub async fn answer_uri(&self, uri: &http::Uri) -> Response<Full<Bytes>> {
        let path = uri.path().trim_start_matches('/');
        let (endpoint, rest) = path.split_once('/').unwrap_or((path, ""));
        self.answer(endpoint, rest, uri.query().unwrap_or_default()).await
    }
}

/// For `/metrics/slis`.
fn observe(check: &str, endpoint: &str, well: bool) {
    static LAST: LazyLock<GaugeVec> = LazyLock::new(|| {
        let help = "This metric records the result of a single healthcheck.";
        slis().gauge_vec("kubernetes_healthcheck", help, &["name", "type"])
    });
    static ALL: LazyLock<CounterVec> = LazyLock::new(|| {
        let help = "This metric records the results of all healthcheck.";
        slis().counter_vec("kubernetes_healthchecks_total", help, &["name", "status", "type"])
    });
    LAST.with(&[check, endpoint]).set(if well { 1.0 } else { 0.0 });
    ALL.with(&[check, if well { "success" } else { "error" }, endpoint]).inc();
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn check(checks: &Checks, uri: &str, status: u16, body: &str) {
        let response = checks.answer_uri(&uri.parse().unwrap()).await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }

    #[tokio::test]
    async fn words_of_upstream() {
        let checks = Checks::new();
        check(&checks, "/healthz", 200, "ok").await;
        check(&checks, "/readyz?verbose", 200, "[+]ping ok\n[+]log ok\nreadyz check passed\n").await;
        check(&checks, "/livez/ping", 200, "ok").await;
        check(&checks, "/livez/none", 404, "404 page not found\n").await;
        checks.add("etcd", || Err("down".into()));
        checks.answer("slis-test", "", "").await;
        let counted = slis().text();
        for line in [
            "kubernetes_healthcheck{name=\"etcd\",type=\"slis-test\"} 0\n",
            "kubernetes_healthcheck{name=\"ping\",type=\"slis-test\"} 1\n",
            "kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"slis-test\"} 1\n",
            "process_start_time_seconds ",
        ] {
            assert!(counted.contains(line), "{line} in {counted}");
        }
        check(
            &checks,
            "/readyz",
            500,
            "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nreadyz check failed\n",
        )
        .await;
        check(&checks, "/readyz?exclude=etcd", 200, "ok").await;
        check(
            &checks,
            "/livez?verbose&exclude=etcd&exclude=nope",
            200,
            "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"nope\"\nlivez check passed\n",
        )
        .await;
    }
}
