//! The client: requests with credentials, retries and error statuses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::figures;
use crate::limits::Pace;
use crate::transport::Transport;
use crate::{
    Api, Body, Config, DeleteOptions, Error, Journal, LeaderHealth, List, ListOptions, Material, Patch,
    ResourceRef, Result, View, Watch, WatchOptions,
};

/// How often a request is tried that the server asked to send later.
const ATTEMPTS: u32 = 10;
/// A body of an error that is not a `Status` is quoted up to this length.
const QUOTED: usize = 2048;
const TOKEN_AGE: Duration = Duration::from_secs(60);

/// A connection to the API server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    pub(crate) journal: Option<Arc<dyn Journal>>,
}

struct Inner {
    config: Config,
    transport: Arc<Transport>,
    token: Mutex<Option<(HeaderValue, Instant)>>,
    requests: Arc<figures::Requests>,
    pace: Option<Pace>,
    turn: Turn,
}

/// When a request may be under way.
enum Turn {
    /// Among so many at a time.
    Bounded,
    AtOnce,
}

/// A request by path, for what the typed methods do not cover.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query, both encoded: `/api/v1/nodes?limit=1`.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// How long to wait for the head of the answer; the configuration's where not given.
    pub timeout: Option<Duration>,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Request {
        Request { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new(), timeout: None }
    }

    pub fn get(path: impl Into<String>) -> Request {
        Request::new(Method::GET, path)
    }

    /// A JSON body.
    pub fn json(mut self, body: &impl Serialize) -> Result<Request> {
        self.body = serde_json::to_vec(body).map_err(Error::Encode)?.into();
        Ok(self.content_type("application/json"))
    }

    pub fn content_type(mut self, value: &'static str) -> Request {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        self
    }

    pub fn accept(mut self, value: &'static str) -> Request {
        self.headers.insert(ACCEPT, HeaderValue::from_static(value));
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Sent twice, it does no more than sent once.
    fn safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

impl Client {
    pub fn new(config: Config) -> Result<Client> {
        let transport = Arc::new(Transport::new(config.clone())?);
        let requests = Arc::new(figures::Requests::of(&config.server));
        Ok(Client::over(config, transport, requests, Turn::Bounded))
    }

    /// A client that shows another token and otherwise is this one, whose connections it shares. This one should
    /// show no certificate: that would come along.
    pub fn with_token(&self, token: Material, user_agent: &str) -> Client {
        let mut config = self.inner.config.clone().with_user_agent(user_agent);
        config.credentials.token = Some(token);
        let transport = self.inner.transport.clone();
        let requests = self.inner.requests.clone();
        Client::over(config, transport, requests, Turn::Bounded)
    }

    fn over(
        config: Config,
        transport: Arc<Transport>,
        requests: Arc<figures::Requests>,
        turn: Turn,
    ) -> Client {
        let (pace, token) = (config.rate.map(Pace::new), Mutex::new(None));
        Client { inner: Arc::new(Inner { config, transport, token, requests, pace, turn }), journal: None }
    }

    /// This client, whose writes are reported to `journal`.
    pub fn with_journal(&self, journal: Arc<dyn Journal>) -> Client {
        Client { inner: self.inner.clone(), journal: Some(journal) }
    }

    /// A client for what must not wait: an answer comes in this time or not at all, and requests take their turn before
    /// all others. Otherwise it is this one, whose connections it shares.
    pub fn for_heartbeats(&self, timeout: Duration) -> Client {
        let config = Config { timeout, rate: None, ..self.inner.config.clone() };
        let (transport, requests) = (self.inner.transport.clone(), self.inner.requests.clone());
        Client::over(config, transport, requests, Turn::AtOnce)
    }

    /// This client, which writes only as long as the lease is ours: nothing that was begun before comes after another leads.
    pub fn while_leading(&self, lead: LeaderHealth) -> Client {
        let config = Config { while_leading: Some(lead), ..self.inner.config.clone() };
        let (transport, requests) = (self.inner.transport.clone(), self.inner.requests.clone());
        Client::over(config, transport, requests, Turn::Bounded)
    }

    /// Ends all connections, with the requests and watches under way on them: for who has seen that the server does
    /// not answer there any more. Clients that share the connections connect anew.
    pub fn close_connections(&self) {
        self.inner.transport.close();
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Requests on a resource known only at run time.
    pub fn at<'a>(&'a self, resource: &'a ResourceRef) -> Api<'a> {
        Api { client: self, resource, metadata_only: false }
    }

    pub async fn get<V: View>(&self, namespace: Option<&str>, name: &str) -> Result<V> {
        self.of::<V>(&ResourceRef::of::<V>()).get(namespace, name).await
    }

    /// One page, or everything where `options` set no limit.
    pub async fn list<V: View>(&self, namespace: Option<&str>, options: &ListOptions) -> Result<List<V>> {
        self.of::<V>(&ResourceRef::of::<V>()).list(namespace, options).await
    }

    pub async fn create<V: View>(&self, namespace: Option<&str>, object: &impl Serialize) -> Result<V> {
        self.of::<V>(&ResourceRef::of::<V>()).create(namespace, object).await
    }

    pub async fn update<V: View>(
        &self,
        namespace: Option<&str>,
        name: &str,
        object: &impl Serialize,
    ) -> Result<V> {
        self.of::<V>(&ResourceRef::of::<V>()).update(namespace, name, None, object).await
    }

    pub async fn update_status<V: View>(
        &self,
        namespace: Option<&str>,
        name: &str,
        object: &impl Serialize,
    ) -> Result<V> {
        self.of::<V>(&ResourceRef::of::<V>()).update(namespace, name, Some("status"), object).await
    }

    pub async fn patch<V: View>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<V> {
        self.of::<V>(&ResourceRef::of::<V>()).patch(namespace, name, subresource, patch).await
    }

    /// Asks for deletion; the object may outlive the answer (finalizers, grace).
    pub async fn delete<V: View>(
        &self,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.of::<V>(&ResourceRef::of::<V>()).delete(namespace, name, options).await
    }

    /// `POST …/{name}/{subresource}`, e.g. a `Binding` to a pod's `binding`, an `Eviction`, a
    /// `TokenRequest`. `V` names the parent resource, `R` is what the answer is decoded into.
    pub async fn create_subresource<V: View, R: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<R> {
        let resource = ResourceRef::of::<V>();
        self.at(&resource).create_subresource(namespace, name, subresource, object).await
    }

    /// One watch, without resumption; an [`Informer`](crate::Informer) is what a cache wants.
    pub async fn watch<V: View>(&self, namespace: Option<&str>, options: &WatchOptions) -> Result<Watch<V>> {
        self.of::<V>(&ResourceRef::of::<V>()).watch(namespace, options).await
    }

    fn of<'a, V: View>(&'a self, resource: &'a ResourceRef) -> Api<'a> {
        Api { client: self, resource, metadata_only: V::METADATA_ONLY }
    }

    /// Sends a request and decodes the JSON answer. An answer other than 2xx is [`Error::Status`].
    pub async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let what = format!("the answer to {} {}", request.method, request.path);
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode { what, source })
    }

    /// Sends a request and reads the whole answer, which must be 2xx.
    pub async fn bytes(&self, request: Request) -> Result<Bytes> {
        let (method, path) = (request.method.clone(), request.path.clone());
        let response = self.stream(request).await?;
        let collected = response.into_body().collect().await.map_err(|source| Error::Transport {
            method: method.to_string(),
            url: path,
            source: source.into(),
            sent: true,
        })?;
        Ok(collected.to_bytes())
    }

    /// Sends a request; the answer must be 2xx and its body is streamed, as long as it lasts.
    pub async fn stream(&self, request: Request) -> Result<Response<Body>> {
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(failure(response).await)
    }

    /// Sends a request and hands back any answer. A request that the server refused for now (429, and
    /// 503 where repeating is harmless) is sent again after the time it gave.
    pub async fn send(&self, request: Request) -> Result<Response<Body>> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = match self.once(&request).await {
                Ok(response) => response,
                Err((error, sent)) => {
                    // A pooled connection may have been closed under us: that one failure says nothing.
                    if attempt == 1 && (!sent || request.safe()) && matches!(error, Error::Transport { .. }) {
                        tracing::debug!(%error, "sending again");
                        continue;
                    }
                    return Err(error);
                }
            };
            let again = match response.status() {
                StatusCode::TOO_MANY_REQUESTS => true,
                StatusCode::SERVICE_UNAVAILABLE => request.safe(),
                StatusCode::UNAUTHORIZED if attempt == 1 => {
                    if self.forget_token() {
                        continue;
                    }
                    false
                }
                _ => false,
            };
            let wait = retry_after(response.headers());
            match wait {
                Some(wait) if again && attempt < ATTEMPTS => {
                    tracing::debug!(?wait, path = request.path, "the server asks to come back later");
                    tokio::time::sleep(wait).await;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends a request to be upgraded, on an HTTP/1.1 connection of its own: after a `101`, take the
    /// connection with `hyper::upgrade::on`.
    pub async fn upgrade(&self, request: Request) -> Result<Response<hyper::body::Incoming>> {
        let built = self.build(&request)?;
        let (method, uri) = (built.method().clone(), built.uri().clone());
        let timeout = request.timeout.unwrap_or(self.inner.config.timeout);
        match tokio::time::timeout(timeout, self.inner.transport.send_upgrade(built)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(failure)) => Err(Error::transport((&method, &uri), failure)),
            Err(_) => Err(timed_out(&method, &uri, timeout)),
        }
    }

    async fn once(&self, request: &Request) -> Result<Response<Body>, (Error, bool)> {
        let built = self.build(request).map_err(|error| (error, true))?;
        let (method, uri) = (built.method().clone(), built.uri().clone());
        let timeout = request.timeout.unwrap_or(self.inner.config.timeout);
        if let Some(pace) = &self.inner.pace {
            pace.wait().await;
        }
        // A watch would keep its place for as long as it lasts.
        let bounded = !request.path.contains("watch=");
        let _place = match self.inner.turn {
            Turn::Bounded if bounded => self.inner.transport.under_way.enter().await,
            _ => None,
        };
        let lead = self.inner.config.while_leading.as_ref();
        if !request.safe() && lead.is_some_and(|lead| !lead.leads()) {
            return Err((Error::NotLeading, false));
        }
        let started = Instant::now();
        let answer = tokio::time::timeout(timeout, self.inner.transport.send(built)).await;
        let code = match &answer {
            Ok(Ok(response)) => Some(response.status()),
            _ => None,
        };
        self.inner.requests.count(&method, code, bounded.then(|| started.elapsed()));
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(failure)) => {
                let sent = failure.sent;
                Err((Error::transport((&method, &uri), failure), sent))
            }
            Err(_) => Err((timed_out(&method, &uri, timeout), true)),
        }
    }

    fn build(&self, request: &Request) -> Result<http::Request<Full<Bytes>>> {
        let config = &self.inner.config;
        let prefix = config.server.path().trim_end_matches('/');
        let uri = Uri::builder()
            .scheme(config.server.scheme_str().unwrap_or("https"))
            .authority(config.server.authority().map(|authority| authority.as_str()).unwrap_or_default())
            .path_and_query(format!("{prefix}{}", request.path))
            .build()?;
        let mut built = http::Request::new(Full::new(request.body.clone()));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = uri;
        let headers = built.headers_mut();
        *headers = request.headers.clone();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        if let Ok(agent) = HeaderValue::from_str(&config.user_agent) {
            headers.entry(USER_AGENT).or_insert(agent);
        }
        if let Some(token) = self.token()? {
            headers.entry(AUTHORIZATION).or_insert(token);
        }
        if let Some(user) = &config.credentials.impersonate {
            let value = HeaderValue::from_str(user).map_err(http::Error::from)?;
            headers.insert(HeaderName::from_static("impersonate-user"), value);
        }
        Ok(built)
    }

    fn token(&self) -> Result<Option<HeaderValue>> {
        let Some(material) = &self.inner.config.credentials.token else {
            return Ok(None);
        };
        let mut cached = self.inner.token.lock();
        // A shared token is current by definition; making the header again costs little.
        if !matches!(material, Material::Shared(_))
            && let Some((value, read)) = &*cached
            && (matches!(material, Material::Inline(_)) || read.elapsed() < TOKEN_AGE)
        {
            return Ok(Some(value.clone()));
        }
        let bytes = match (material.read(), &*cached) {
            (Ok(bytes), _) => bytes,
            // A token file being replaced: the last one is good for a while.
            (Err(error), Some((value, _))) => {
                tracing::warn!(%error, "reading the token, using the previous one");
                return Ok(Some(value.clone()));
            }
            (Err(error), None) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", text.trim())).map_err(http::Error::from)?;
        value.set_sensitive(true);
        *cached = Some((value.clone(), Instant::now()));
        Ok(Some(value))
    }

    /// The server refused the token. Whether there is a token file that may have a newer one by now; who renews a
    /// shared token learns of it.
    fn forget_token(&self) -> bool {
        match &self.inner.config.credentials.token {
            Some(Material::File(_)) => self.inner.token.lock().take().is_some(),
            Some(Material::Shared(token)) => {
                token.refuse();
                false
            }
            Some(Material::Inline(_)) | None => false,
        }
    }
}

fn timed_out(method: &Method, uri: &Uri, after: Duration) -> Error {
    Error::Timeout { method: method.to_string(), url: uri.to_string(), after }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(60)))
}

/// The error an answer other than 2xx stands for.
async fn failure(response: Response<Body>) -> Error {
    let code = response.status();
    let retry = retry_after(response.headers());
    let bytes = match tokio::time::timeout(Duration::from_secs(10), response.into_body().collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    Error::from_status(status_of(code, retry, &bytes))
}

pub(crate) fn status_of(code: StatusCode, retry: Option<Duration>, body: &[u8]) -> api::Status {
    if let Ok(mut status) = serde_json::from_slice::<api::Status>(body)
        && (status.status == "Failure" || !status.reason.is_empty())
    {
        if status.code == 0 {
            status.code = code.as_u16();
        }
        return status;
    }
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        500.. => "InternalError",
        _ => "",
    };
    let text = String::from_utf8_lossy(&body[..body.len().min(QUOTED)]).trim().to_string();
    let message = if text.is_empty() { code.to_string() } else { format!("{code}: {text}") };
    let details = retry.map(|retry| api::status::Details {
        retry_after_seconds: retry.as_secs() as i32,
        ..Default::default()
    });
    api::Status {
        status: "Failure".into(),
        message,
        reason: reason.into(),
        details,
        code: code.as_u16(),
        metadata: Default::default(),
    }
}
