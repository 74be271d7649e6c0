//! Counts a request, its time and the size of its answer. The figures of a kind of request are looked up together, once
//! a request, by one key.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use access::request_info::{RequestInfo, parameter};
use bytes::Bytes;
use daemon::metrics::{Counter, Gauge, Histogram};
use http::{Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::RwLock;

use super::long_running;
use crate::body::Body;
use crate::metrics;

const COMPONENT: &str = "apiserver";

/// The figures of requests that are alike.
struct Series {
    labels: Labels,
    duration: OnceLock<(Arc<Histogram>, Arc<Histogram>)>,
    size: OnceLock<Arc<Histogram>>,
    running: OnceLock<Arc<Gauge>>,
    /// By status code.
    counts: RwLock<Vec<(u16, Arc<Counter>)>>,
}

struct Labels {
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

/// Upstream counts few requests that are not for resources, each in its own way.
fn of_path(path: &str) -> Option<(&'static str, &'static str)> {
    Some(match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        "healthz" => ("", "/healthz"),
        "livez" => ("", "/livez"),
        "readyz" => ("", "/readyz"),
        _ => match path {
            "/api" | "/api/" => (COMPONENT, "api"),
            "/apis" | "/apis/" => (COMPONENT, "apis"),
            "/openapi/v3" => ("", "openapi/v3"),
            path if path.starts_with("/openapi/v3/") => ("", "openapi/v3/"),
            _ => return None,
        },
    })
}

fn series(info: &RequestInfo, method: &Method, query: &str) -> Option<Arc<Series>> {
    static KNOWN: LazyLock<RwLock<HashMap<String, Arc<Series>>>> = LazyLock::new(RwLock::default);
    let verb = verb(info, method);
    let (component, group, version, resource, subresource, scope) = if info.is_resource_request {
        let scope = match (info.name.is_empty(), info.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        // Unknown resources get no labels: clients could create any number of them.
        match api::tables::resource(&info.group, &info.version, &info.resource) {
            Some(row) => {
                let subresource =
                    row.subresource(&info.subresource).map_or("", |_| info.subresource.as_str());
                (COMPONENT, &*info.group, &*info.version, &*info.resource, subresource, scope)
            }
            None => (COMPONENT, "", "", "", "", scope),
        }
    } else {
        let (component, subresource) = of_path(&info.path)?;
        (component, "", "", "", subresource, "")
    };
    let dry_run = if parameter(query, "dryRun").is_some() { "All" } else { "" };
    let key = [verb, group, version, resource, subresource, scope, dry_run].join("\u{1f}");
    if let Some(known) = KNOWN.read().get(&key) {
        return Some(known.clone());
    }
    if let Some(kind) = registry::kind::built_in(group, version, resource)
        && registry::kinds::warnings::deprecated(kind).is_some()
    {
        metrics::DEPRECATED.with(&[group, "", resource, subresource, version]).set(1.0);
    }
    let labels = Labels {
        component,
        dry_run,
        group: group.to_owned(),
        resource: resource.to_owned(),
        scope,
        subresource: subresource.to_owned(),
        verb,
        version: version.to_owned(),
    };
    let made = Arc::new(Series {
        labels,
        duration: OnceLock::new(),
        size: OnceLock::new(),
        running: OnceLock::new(),
        counts: RwLock::default(),
    });
    Some(KNOWN.write().entry(key).or_insert(made).clone())
}

impl Series {
    fn count(&self, code: http::StatusCode) {
        let known = |counts: &[(u16, Arc<Counter>)]| {
            counts.iter().find(|(known, _)| *known == code.as_u16()).map(|(_, counter)| counter.clone())
        };
        let found = known(&self.counts.read());
        let counter = found.unwrap_or_else(|| {
            let Labels { component, dry_run, group, resource, scope, subresource, verb, version } =
                &self.labels;
            let labels =
                [code.as_str(), component, dry_run, group, resource, scope, subresource, verb, version];
            let counter = metrics::REQUESTS.with(&labels);
            self.counts.write().push((code.as_u16(), counter.clone()));
            counter
        });
        counter.inc();
    }

    fn took(&self, seconds: f64) {
        let (all, promised) = self.duration.get_or_init(|| {
            let Labels { component, dry_run, group, resource, scope, subresource, verb, version } =
                &self.labels;
            let all = metrics::DURATION.with(&[
                component,
                dry_run,
                group,
                resource,
                scope,
                subresource,
                verb,
                version,
            ]);
            let promised =
                metrics::SLI_DURATION.with(&[component, group, resource, scope, subresource, verb, version]);
            (all, promised)
        });
        all.observe(seconds);
        promised.observe(seconds);
    }

    fn size(&self) -> &Arc<Histogram> {
        self.size.get_or_init(|| self.of(|labels| metrics::SIZES.with(labels)))
    }

    fn running(&self) -> &Arc<Gauge> {
        self.running.get_or_init(|| self.of(|labels| metrics::LONG_RUNNING.with(labels)))
    }

    fn of<T>(&self, of: impl Fn(&[&str]) -> T) -> T {
        let Labels { component, group, resource, scope, subresource, verb, version, .. } = &self.labels;
        of(&[component, group, resource, scope, subresource, verb, version])
    }
}

/// A request under way.
pub struct Observed {
    start: Instant,
    series: Option<Arc<Series>>,
    running: Option<Running>,
}

/// Counts a long-running request until its answer's body is dropped.
struct Running(Arc<Gauge>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Observed {
    pub fn begin(info: &RequestInfo, method: &Method, query: &str) -> Observed {
        let series = series(info, method, query);
        let running = series.as_ref().filter(|_| long_running(info)).map(|series| {
            series.running().inc();
            Running(series.running().clone())
        });
        Observed { start: Instant::now(), series, running }
    }

    /// The answer's head is made.
    pub fn end(self, response: Response<Body>) -> Response<Body> {
        let Some(series) = self.series else { return response };
        series.count(response.status());
        if let Some(running) = self.running {
            return response.map(|body| Body::wrap(Counted { body, size: None, running: Some(running) }));
        }
        series.took(self.start.elapsed().as_secs_f64());
        if !matches!(series.labels.verb, "GET" | "LIST") {
            return response;
        }
        match response.body().size_hint().exact() {
            Some(size) => {
                series.size().observe(size as f64);
                response
            }
            None => {
                let size = Some((series.size().clone(), 0));
                response.map(|body| Body::wrap(Counted { body, size, running: None }))
            }
        }
    }
}

/// A body that is streamed: its size is known when it has been.
struct Counted {
    body: Body,
    size: Option<(Arc<Histogram>, u64)>,
    running: Option<Running>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some((_, size))) = (&polled, &mut self.size)
            && let Some(data) = frame.data_ref()
        {
            *size += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((histogram, size)) = &self.size {
            histogram.observe(*size as f64);
        }
        drop(self.running.take());
    }
}

fn verb(info: &RequestInfo, method: &Method) -> &'static str {
    match info.verb.as_str() {
        _ if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "proxy" => "CONNECT",
        _ if *method == Method::HEAD => "GET",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn observe(uri: &str) -> Observed {
        let uri: http::Uri = uri.parse().unwrap();
        Observed::begin(&RequestInfo::of(&Method::GET, &uri), &Method::GET, uri.query().unwrap_or_default())
    }

    fn sees(line: &str) -> bool {
        daemon::metrics::registry().text().contains(&format!("\n{line}\n"))
    }

    #[tokio::test]
    async fn sizes_of_whole_and_of_streamed_answers() {
        let leases = "component=\"apiserver\",group=\"coordination.k8s.io\",resource=\"leases\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"";
        let uri = "/apis/coordination.k8s.io/v1/namespaces/sizes/leases/a";
        observe(uri).end(Response::new(Body::from("x".repeat(700))));
        let chunks = ["x".repeat(900), "y".repeat(400)].map(|chunk| Ok(Bytes::from(chunk)));
        let streamed = Body::stream(futures::stream::iter(chunks));
        observe(uri).end(Response::new(streamed)).into_body().collect().await.unwrap();
        assert!(sees(&format!("apiserver_response_sizes_bucket{{{leases},le=\"1000\"}} 1")));
        assert!(sees(&format!("apiserver_response_sizes_sum{{{leases}}} 2000")));
        assert!(sees(&format!("apiserver_request_sli_duration_seconds_count{{{leases}}} 2")));
    }

    #[test]
    fn a_watch_runs_until_its_body_is_gone() {
        let watch = "apiserver_longrunning_requests{component=\"apiserver\",group=\"batch\",resource=\"cronjobs\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}";
        let answer = observe("/apis/batch/v1/cronjobs?watch=1").end(Response::new(Body::from("x")));
        assert!(sees(&format!("{watch} 1")));
        drop(answer);
        assert!(sees(&format!("{watch} 0")));
    }

    #[test]
    fn deprecated_kinds_are_counted_and_unknown_paths_have_no_labels() {
        observe("/api/v1/endpoints").end(Response::new(Body::empty()));
        assert!(sees(
            "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"} 1"
        ));
        observe("/apis/nobody.example/v1/knows/it/surely").end(Response::new(Body::empty()));
        observe("/healthz/etcd").end(Response::new(Body::empty()));
        let text = daemon::metrics::registry().text();
        assert!(!text.contains("nobody.example") && !text.contains("surely"));
        assert!(sees(
            "apiserver_request_total{code=\"200\",component=\"\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"/healthz\",verb=\"GET\",version=\"\"} 1"
        ));
    }
}
