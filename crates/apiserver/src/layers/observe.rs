//! Counts a request and its time.

use std::time::Instant;

use http::{Method, StatusCode};

use super::long_running;
use crate::metrics;
use crate::request_info::{RequestInfo, parameter};

pub struct Observed {
    start: Instant,
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: &'static str,
    long: bool,
}

const COMPONENT: &str = "apiserver";

impl Observed {
    pub fn begin(info: &RequestInfo, method: &Method, query: &str) -> Observed {
        let verb = match info.verb.as_str() {
            _ if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => {
                "CONNECT"
            }
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
        };
        let known = info.is_resource_request
            && api::tables::resource(&info.group, &info.version, &info.resource).is_some();
        let text =
            |value: &String| if known || !info.is_resource_request { value.clone() } else { String::new() };
        let scope = match (info.is_resource_request, info.name.is_empty(), info.namespace.is_empty()) {
            (false, _, _) => "",
            (true, false, _) => "resource",
            (true, true, false) => "namespace",
            (true, true, true) => "cluster",
        };
        let observed = Observed {
            start: Instant::now(),
            verb,
            group: text(&info.group),
            version: text(&info.version),
            resource: text(&info.resource),
            subresource: if info.is_resource_request { info.subresource.clone() } else { top_of(&info.path) },
            scope,
            dry_run: if parameter(query, "dryRun").is_some() { "All" } else { "" },
            long: long_running(info),
        };
        if observed.long {
            observed.gauge(1.0);
        }
        observed
    }

    fn gauge(&self, change: f64) {
        let Observed { group, resource, scope, subresource, verb, version, .. } = self;
        metrics::LONG_RUNNING
            .with(&[COMPONENT, group, resource, scope, subresource, verb, version])
            .add(change);
    }

    /// The answer's head is made.
    pub fn end(self, status: StatusCode) {
        let Observed { group, resource, scope, subresource, verb, version, dry_run, .. } = &self;
        let code = status.as_str();
        metrics::REQUESTS
            .with(&[code, COMPONENT, dry_run, group, resource, scope, subresource, verb, version])
            .inc();
        if !self.long {
            metrics::DURATION
                .with(&[COMPONENT, dry_run, group, resource, scope, subresource, verb, version])
                .observe(self.start.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if self.long {
            self.gauge(-1.0);
        }
    }
}

/// `/healthz` of `/healthz/etcd`: the metric has few values. What is not one of ours has none.
fn top_of(path: &str) -> String {
    let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match top {
        "healthz" | "livez" | "readyz" | "metrics" | "version" | "openapi" | "api" | "apis" => {
            format!("/{top}")
        }
        _ => String::new(),
    }
}
