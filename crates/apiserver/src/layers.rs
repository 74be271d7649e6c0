//! From a raw request to its handler: panic guard, request info, authentication, impersonation, limits,
//! authorization, deadline, metrics, and the headers that every answer has.

mod deadline;
mod delegated;
mod observe;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use access::authn::{self, Authenticator};
use access::authz::{Attributes, Authorizer};
use access::impersonation::Impersonation;
use access::refusal;
use access::request_info::{RequestInfo, well_escaped};
use access::tokens::Issuer;
use access::user::User;
use api::Status;
use bytes::Bytes;
use daemon::aside;
use daemon::health::Checks;
use daemon::serving::Peer;
use daemon::zpages::Pages;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;

use crate::aggregator::{Aggregator, PassedOn};
use crate::body::Body;
use crate::flow::{Flow, Flows};
use crate::handlers::{self, route::Route};
use crate::metrics;
use crate::negotiate::status_response;
use crate::proxy::Proxy;
use crate::request::Request;
use crate::turn::Turns;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// What a write may take, where neither its client nor a flag allows it less.
const WRITE: Duration = Duration::from_secs(34);

const PAGES: Pages = Pages {
    name: "apiserver",
    paths: &["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"],
};

/// Everything a request passes.
pub struct Front {
    pub server: Arc<handlers::Server>,
    pub authenticator: Arc<Authenticator>,
    pub authorizer: Arc<Authorizer>,
    pub impersonation: Impersonation,
    pub issuer: Arc<Issuer>,
    pub proxy: Proxy,
    pub aggregator: Arc<Aggregator>,
    pub healthz: Checks,
    pub livez: Checks,
    pub readyz: Checks,
    pub turns: Arc<Turns>,
    pub flows: Arc<Flows>,
    pub timeout: Duration,
    /// The gate `AuthorizePodWebsocketUpgradeCreatePermission`.
    pub streams_need_create: bool,
}

impl Front {
    /// Answers one request, whatever happens.
    pub async fn answer(&self, request: http::Request<Incoming>) -> Response<Body> {
        let audit_id = request.headers().get(AUDIT_ID).cloned().unwrap_or_else(new_audit_id);
        let head = request.method() == Method::HEAD;
        if !well_escaped(request.uri().path()) {
            return bad_request();
        }
        let info = RequestInfo::of(request.method(), request.uri());
        if info.parts.is_empty() && matches!(info.verb.as_str(), "watch" | "proxy") {
            return names_nothing(request.uri());
        }
        let observed =
            observe::Observed::begin(&info, request.method(), request.uri().query().unwrap_or_default());
        // The headers that decide the format of a refusal, should there be one.
        let kept = |name: HeaderName| request.headers().get(&name).cloned().map(|value| (name, value));
        let accept: HeaderMap = [ACCEPT, USER_AGENT].into_iter().filter_map(kept).collect();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let flow = OnceLock::new();
        let contained = daemon::panics::contained(self.admit(info, request, &flow, &audit_id)).await;
        let answer = contained.unwrap_or_else(|| Err(panicked()));
        let mut response = answer.unwrap_or_else(|refusal| refused(&query, &accept, &refusal));
        if head {
            // HTTP/2 takes what follows a HEAD's answer for an error
            *response.body_mut() = Body::empty();
        }
        let mut response = observed.end(response);
        let late = response.extensions().get::<OutOfTime>().is_some();
        let flow = flow.into_inner().filter(|_| !late).map(|Flow { schema, level, .. }| (schema, level));
        let (schema, level) = flow.unzip();
        let passed_on = response.extensions().get::<PassedOn>().is_some();
        let headers = response.headers_mut();
        let no_cache = passed_on || !headers.contains_key(CACHE_CONTROL);
        let cache = no_cache.then(|| HeaderValue::from_static("no-cache, private"));
        let own = [
            (AUDIT_ID, Some(audit_id)),
            (FLOW_SCHEMA, schema),
            (PRIORITY_LEVEL, level),
            (CACHE_CONTROL, cache),
        ];
        for (name, value) in own.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            match passed_on {
                // upstream shows those of an aggregated server beside ours
                true => delegated::put_first(headers, name, value),
                false => drop(headers.insert(name, value)),
            }
        }
        response
    }

    async fn admit(
        &self,
        info: RequestInfo,
        mut request: http::Request<Incoming>,
        flow: &OnceLock<Flow>,
        audit_id: &HeaderValue,
    ) -> Result<Response<Body>, Status> {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::internal("no connection behind the request"));
        };
        let long = long_running(&info);
        let limit = match long {
            true => None,
            false => Some(self.allotted(request.uri().query().unwrap_or_default())?),
        };
        let started = Instant::now();
        let user = match self.authenticator.authenticate(request.headers(), &info.path, &peer).await {
            Ok(user) => {
                metrics::AUTHENTICATION.count("success", started);
                metrics::user_seen(&user.name);
                expiry_seen(&user, &peer);
                user
            }
            Err(error) => {
                let result = if matches!(error, authn::Error::NoCredentials) { "failure" } else { "error" };
                metrics::AUTHENTICATION.count(result, started);
                tracing::info!(%error, path = info.path, "Unable to authenticate the request");
                return Err(Status::unauthorized());
            }
        };
        let other = self.impersonation.of(&user, &info, request.headers(), &self.authorizer).await?;
        let (user, impersonator) = match other {
            Some(other) => (other, Some(user)),
            None => (user, None),
        };
        self.authenticator.strip_credentials(request.headers_mut());
        if (!long || info.verb == "watch")
            && let Some(found) = self.flows.of(&user, &info)
        {
            let _ = flow.set(found);
        }
        let started = Instant::now();
        let answer = self.authorizer.authorize(&Attributes::of(&user, &info)).await;
        // None of the authorizers ever denies; they only have no opinion.
        metrics::AUTHORIZATION.count(if answer.allowed() { "allowed" } else { "no-opinion" }, started);
        if !answer.allowed() {
            return Err(refusal::denied(&Attributes::of(&user, &info), &answer.reason));
        }
        let (parts, body) = request.into_parts();
        let request = Request::new(self.server.catalog(), info, user, impersonator, parts);
        if let Some(target) = delegated::target(&request) {
            let exempt = flow.get().is_some_and(|flow| flow.exempt);
            return self.delegate(&target, request, body, exempt, audit_id).await;
        }
        let Some(limit) = limit else { return self.stream(request, body).await };
        let info = &request.info;
        let writes = info.is_resource_request && !matches!(info.verb.as_str(), "get" | "list");
        let (limit, of_write) = if writes && limit > WRITE { (WRITE, true) } else { (limit, false) };
        // A seat is taken when the body is there: whoever sends slowly keeps nobody else out.
        let answered = async {
            let body = match handlers::has_body(&request.info) {
                true => handlers::collected(body).await,
                false => Ok(Bytes::new()),
            };
            let exempt = flow.get().is_some_and(|flow| flow.exempt);
            let user = &request.user;
            let user = (!exempt && !user.in_group(access::user::MASTERS)).then_some(user.name.as_str());
            let bytes = handlers::bytes_of_work(&self.server, &request, body.as_ref());
            let turn = self.turns.begin(&request.info.verb, user, bytes).await;
            let Some(turn) = turn else { return Ok(too_many()) };
            if !turn.is_large() {
                return turn.with(self.dispatch(request, body)).await;
            }
            let server = self.server.clone();
            let answer =
                aside::request(turn.with(async move { handlers::answer(&server, request, body).await }));
            answer.await.ok_or_else(panicked)
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(response) => response,
            Err(_) if of_write => {
                let late = "request did not complete within requested timeout - context deadline exceeded";
                Err(Status::timeout(late, 0))
            }
            Err(_) => Ok(out_of_time()),
        }
    }

    /// Whoever opens a stream into a pod also writes to it: however it is asked for, that takes the right to `create` it.
    async fn may_stream(&self, request: &Request) -> Result<(), Status> {
        let Request { user, info, .. } = request;
        let stream = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward");
        if !self.streams_need_create || !stream || info.verb == "create" {
            return Ok(());
        }
        let create = Attributes { verb: "create", ..Attributes::of(user, info) };
        let answer = self.authorizer.authorize(&create).await;
        match answer.allowed() {
            true => Ok(()),
            false => Err(Status::forbidden(&info.group, &info.resource, &info.name, &answer.reason)),
        }
    }

    /// What lasts as long as its client likes.
    async fn stream(&self, request: Request, body: Incoming) -> Result<Response<Body>, Status> {
        if request.info.is_resource_request
            && Proxy::wants(&request.info)
            && let Ok(Route { resource, .. }) = Route::of(&request)
        {
            self.may_stream(&request).await?;
            // a log is read, not connected to
            if request.info.subresource != "log" {
                handlers::connect(&self.server, &request, resource).await?;
            }
            let Request { info, parts, .. } = request;
            return self.proxy.answer(&info, http::Request::from_parts(parts, body)).await;
        }
        self.dispatch(request, Ok(Bytes::new())).await
    }

    async fn dispatch(
        &self,
        request: Request,
        body: Result<Bytes, Status>,
    ) -> Result<Response<Body>, Status> {
        let Request { info, parts, .. } = &request;
        if info.is_resource_request {
            return Ok(handlers::answer(&self.server, request, body).await);
        }
        let endpoint = info.path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let checks = match endpoint {
            "healthz" => Some(&self.healthz),
            "livez" => Some(&self.livez),
            "readyz" => Some(&self.readyz),
            _ => None,
        };
        if let Some(checks) = checks {
            let mut answer = checks.answer_uri(&parts.uri).await.map(Body::wrap);
            let single = info.path.trim_matches('/').contains('/');
            if single && answer.status() == StatusCode::OK {
                answer.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
            }
            return Ok(answer);
        }
        if let Some(answer) = PAGES.answer(&info.path, &parts.headers) {
            return Ok(answer.map(Body::wrap));
        }
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        Ok(match info.path.as_str() {
            "/metrics" if read => {
                metrics::storage::read_size().await;
                content(daemon::metrics::CONTENT_TYPE, daemon::metrics::registry().text())
            }
            "/metrics/slis" if read => content(daemon::metrics::CONTENT_TYPE, daemon::metrics::slis().text()),
            "/.well-known/openid-configuration" if read => {
                let mut response = content("application/json", self.issuer.discovery().to_string());
                response
                    .headers_mut()
                    .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
                response
            }
            "/openid/v1/jwks" if read => {
                let mut response = content("application/jwk-set+json", self.issuer.jwks().to_string());
                response
                    .headers_mut()
                    .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
                response
            }
            _ => handlers::answer(&self.server, request, body).await,
        })
    }
}

/// A refusal by one of the layers: what it quotes is not to be taken for anything but text.
fn refused(query: &str, accept: &HeaderMap, status: &Status) -> Response<Body> {
    let mut response = crate::pretty::answer(query, accept, status_response(accept, status));
    let quotes = status.code == 403 || status.message.ends_with("without impersonating a user name");
    if quotes {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

fn panicked() -> Status {
    Status::internal("This request caused apiserver to panic. Look in the logs for details.")
}

/// How long the certificate is still good by which the user is known.
fn expiry_seen(user: &User, peer: &Peer) {
    let by_certificate = user
        .extra
        .get("authentication.kubernetes.io/credential-id")
        .is_some_and(|ids| ids.iter().any(|id| id.starts_with("X509SHA256=")));
    if by_certificate && let Some(end) = peer.certificate_end() {
        let left = end - jiff::Timestamp::now().as_second();
        metrics::CERTIFICATE_EXPIRATION.observe(left as f64);
    }
}

/// The answer to what is not HTTP.
fn bad_request() -> Response<Body> {
    let mut response = content("text/plain; charset=utf-8", "400 Bad Request".to_owned());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// The answer to a path that ends where it should go on, `/api/v1/watch`.
fn names_nothing(uri: &Uri) -> Response<Body> {
    let asked = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let asked = asked.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let why = "failed to create RequestInfo: unable to determine kind and namespace from url";
    let text = format!("Internal Server Error: {asked:?}: {why}, {asked}\n");
    let mut response = content("text/plain; charset=utf-8", text);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Not `Uuid::new_v4`, which asks the kernel for its bits: every request gets one.
fn new_audit_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    HeaderValue::from_str(&id.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Requests that last as long as the client likes: not limited in number nor time.
pub fn long_running(info: &RequestInfo) -> bool {
    matches!(info.verb.as_str(), "watch" | "proxy")
        || (info.is_resource_request
            && matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "log" | "proxy"))
}

fn content(media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Marks an answer that was given in the place of the one that took too long.
#[derive(Clone, Copy)]
struct OutOfTime;

/// The answer to a request whose time is over: upstream's says neither what it is nor how it is encoded.
fn out_of_time() -> Response<Body> {
    let mut status = Status::timeout("request did not complete within the allotted timeout", 0).to_tree();
    if let Some(members) = status.as_object_mut() {
        members.remove("kind");
        members.remove("apiVersion");
    }
    let mut response = content("text/plain; charset=utf-8", format!("{status}\n"));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.extensions_mut().insert(OutOfTime);
    response
}

fn too_many() -> Response<Body> {
    let mut response =
        content("text/plain; charset=utf-8", "Too many requests, please try again later.\n".to_owned());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_whose_time_is_over_is_answered_in_bare_json() {
        let (head, body) = out_of_time().into_parts();
        assert_eq!(head.status, 504);
        assert_eq!(head.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        let text = body.collect().await.unwrap().to_bytes();
        let expect = "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"Timeout: request did not complete within the allotted timeout\",\"reason\":\"Timeout\",\"details\":{},\"code\":504}\n";
        assert_eq!(text, expect);
    }
}
