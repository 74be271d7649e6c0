//! Aggregation: requests for a group and version whose APIService names a Service are answered by the server behind that, and discovery
//! and OpenAPI show its resources beside our own.
//!
//! Who answers for what is a value beside the kinds of the catalog ([`Delegated`]), which `controller` makes of the APIServices and of
//! what their servers say. A server that is slow or gone costs its own requests only: it has its own connections and limits, and
//! nothing waits for it but who asked.

pub mod api_service;
mod availability;
mod certificate;
mod connections;
mod controller;
mod delegated;
mod discovery;
mod fetch;
mod headers;
mod openapi;
pub mod priorities;
pub mod registration;
mod until;

use std::sync::Arc;
use std::time::Duration;

use access::request_info::RequestInfo;
use api::Status;
use daemon::serving::Peer;
use http::header::{CONTENT_TYPE, LOCATION, VIA, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::options::Options;
use crate::proxy;
use crate::request::Request as Asked;
use crate::service_routing::ServiceRouter;
use certificate::Certificate;
pub use certificate::Identity;
pub use controller::Controller;
pub use delegated::{Delegated, Target};
pub use openapi::merged;
use until::Until;
use watchcache::resources::Resources;

/// What a discovery document of a version may take: clients ask for many.
const DISCOVERY: Duration = Duration::from_secs(5);

/// Marks the answer of another server.
#[derive(Clone, Copy)]
pub struct PassedOn;

/// Passes requests to other servers.
pub struct Aggregator {
    resources: Arc<Resources>,
    services: ServiceRouter,
    certificate: Arc<Certificate>,
    /// Requests to one server at once that read, and that write.
    seats: (usize, usize),
    reject_redirects: bool,
    /// Names this server in what it passes on, so that it knows what comes back.
    mark: HeaderValue,
    tasks: TaskTracker,
}

impl Aggregator {
    pub fn new(
        resources: Arc<Resources>,
        services: ServiceRouter,
        options: &Options,
        tasks: TaskTracker,
    ) -> Result<Aggregator, String> {
        let files = options.proxy_client_cert_file.clone().zip(options.proxy_client_key_file.clone());
        let mark = format!("1.1 kube-aggregator-{}", uuid::Uuid::new_v4());
        Ok(Aggregator {
            resources,
            services,
            certificate: Arc::new(Certificate::new(files)?),
            seats: (options.max_requests_inflight, options.max_mutating_requests_inflight),
            reject_redirects: options.aggregator_reject_forwarding_redirect,
            mark: HeaderValue::try_from(mark).map_err(|error| error.to_string())?,
            tasks,
        })
    }

    /// The server's answer to a client's request. Both bodies pass as they come; `deadline` ends that of the answer.
    pub async fn answer(
        &self,
        target: &Target,
        request: Asked,
        body: Incoming,
        audit_id: &HeaderValue,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, Status> {
        let Asked { info, user, parts, .. } = request;
        let mut request = Request::from_parts(parts, body);
        if request.headers().get_all(VIA).iter().any(|via| is_marked(via, &self.mark)) {
            return Ok(text(StatusCode::LOOP_DETECTED, "the request has been here before"));
        }
        if !target.is_available() {
            return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
        }
        let address = match self.address(target) {
            Ok(address) => address,
            Err(error) => {
                let backend = &target.backend;
                tracing::error!(service = %backend.service, namespace = %backend.namespace, %error, "Cannot find an aggregated API");
                return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
            }
        };
        let short = is_discovery(&info).then(|| Instant::now() + DISCOVERY);
        let upgrade = proxy::upgrades(request.headers());
        let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
        let path = headers::path_of(request.uri());
        let client = request.extensions().get::<Peer>().map(|peer| peer.address().ip());
        let (audit_id, address_) = (Some(audit_id), address.as_str());
        let sent = headers::Sent { user: &user, client, path: &path, address: address_, audit_id, upgrade };
        let headers = headers::headers(request.headers(), &sent);
        let method = request.method().clone();
        let out = Request::builder().method(method).uri(&path).body(Body::wrap(request.into_body()));
        let (Ok(mut out), Ok(mut headers)) = (out, headers) else {
            return Ok(text(
                StatusCode::SERVICE_UNAVAILABLE,
                "error trying to reach service: net/http: invalid request",
            ));
        };
        headers.append(VIA, self.mark.clone());
        *out.headers_mut() = headers;
        let answering = async {
            if !upgrade {
                let answer = target.connections.send(&address, out).await?;
                return Ok(proxy::answered(answer, None, &self.tasks));
            }
            let answer = target.connections.upgrade(&address, out).await?;
            let status = answer.status();
            if status != StatusCode::SWITCHING_PROTOCOLS && status < StatusCode::BAD_REQUEST {
                let why = format!("invalid upgrade response: status code {}", status.as_u16());
                return Ok(Ok(text(StatusCode::SERVICE_UNAVAILABLE, &why)));
            }
            Ok(proxy::answered(answer, client_side, &self.tasks))
        };
        let answered: Result<_, String> = match short {
            Some(deadline) => tokio::time::timeout_at(deadline, answering)
                .await
                .unwrap_or_else(|_| Err("context deadline exceeded".to_owned())),
            None => answering.await,
        };
        let mut answer = match answered {
            Ok(answer) => answer?,
            Err(error) => {
                return Ok(text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("error trying to reach service: {error}"),
                ));
            }
        };
        if self.reject_redirects
            && answer.status().is_redirection()
            && answer.headers().contains_key(LOCATION)
        {
            return Ok(redirected());
        }
        remove_cors(answer.headers_mut());
        answer.extensions_mut().insert(PassedOn);
        Ok(match [short, deadline].into_iter().flatten().min() {
            Some(deadline) => answer.map(|body| Body::wrap(Until::new(body, deadline))),
            None => answer,
        })
    }

    fn address(&self, target: &Target) -> Result<String, String> {
        let backend = &target.backend;
        self.services.resolve(&backend.namespace, &backend.service, backend.port)
    }
}

fn is_marked(via: &HeaderValue, mark: &HeaderValue) -> bool {
    via.as_bytes().windows(mark.len()).any(|part| part == mark.as_bytes())
}

/// Whether the document of a version is asked for, `/apis/GROUP/VERSION`.
fn is_discovery(info: &RequestInfo) -> bool {
    !info.is_resource_request && info.path.trim_matches('/').split('/').count() == 3
}

/// Go's `http.Error`.
fn text(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn redirected() -> Response<Body> {
    let why = "the backend attempted to redirect this request, which is not permitted";
    let mut response = Response::new(Body::from(why));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Who may read our answers in a browser is for this server to say.
fn remove_cors(headers: &mut HeaderMap) {
    for name in ["credentials", "headers", "methods", "origin"] {
        headers.remove(format!("access-control-allow-{name}"));
    }
}
