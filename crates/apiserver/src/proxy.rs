//! Requests that are answered elsewhere: a pod's log, exec, attach and port-forward by its kubelet, and the `proxy`
//! subresources of nodes, pods and services.
//!
//! Bytes pass as they come, both ways; an upgraded connection (SPDY or WebSocket) is a tunnel whose contents are
//! the client's and the kubelet's business.

mod backend;
mod kubelet;
mod page;
mod place;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use access::request_info::RequestInfo;
use api::Status;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use streaming::messages;
use tokio_util::task::TaskTracker;
use watchcache::resources::Resources;

use crate::body::Body;
use crate::kinds;
use crate::negotiate::{self, Endpoint, JSON, OBJECTS, PROTOBUF, YAML};
use crate::options::Options;
pub(crate) use backend::words as dial_error;
use page::View;
use place::{Place, Transport};
pub(crate) use tls::{anyone, trusting_anyone};

/// Opens connections to kubelets, pods and services.
pub struct Proxy {
    resources: Arc<Resources>,
    address_types: Vec<String>,
    kubelet_timeout: Duration,
    tls: tls::Client,
    /// Connections and tunnels, ended with the server.
    tasks: TaskTracker,
}

impl Proxy {
    pub fn new(resources: Arc<Resources>, options: &Options, tasks: TaskTracker) -> Result<Proxy, String> {
        Ok(Proxy {
            resources,
            address_types: options.kubelet_preferred_address_types.clone(),
            kubelet_timeout: *options.kubelet_timeout,
            tls: tls::Client::new(options)?,
            tasks,
        })
    }

    /// Whether a request is for here.
    pub fn wants(info: &RequestInfo) -> bool {
        info.group.is_empty()
            && info.version == "v1"
            && !info.name.is_empty()
            && match info.resource.as_str() {
                "pods" => {
                    matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
                }
                "services" | "nodes" => info.subresource == "proxy",
                _ => false,
            }
    }

    pub async fn answer(
        &self,
        info: &RequestInfo,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        // the target may have been created a moment ago
        self.resources.catch_up().await;
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => {
                let headers = request.headers();
                negotiate::route(headers, &["text/plain", JSON, YAML, PROTOBUF])?;
                negotiate::choose(headers, Endpoint::Resource { table: false })
                    .ok_or_else(|| Status::representation_not_acceptable(&OBJECTS))?;
                let handshake = messages::asked(&mut request);
                let answer = self.log(info, &request).await?;
                let Some(handshake) = handshake else { return Ok(answer) };
                let (answer, sending) = handshake.serve(answer.into_body());
                self.tasks.spawn(sending);
                Ok(answer.map(|()| Body::empty()))
            }
            ("pods", "exec" | "attach" | "portforward") => {
                let place = self.stream_place(info, &request)?;
                if !upgrades(request.headers()) {
                    return Err(Status::bad_request("Upgrade request required"));
                }
                self.pass(place, request).await
            }
            (resource, _) => {
                let mut place = match resource {
                    "nodes" => self.node_place(&info.name)?,
                    "pods" => self.pod_place(&info.namespace, &info.name)?,
                    _ => self.service_place(&info.namespace, &info.name)?,
                };
                place.resolve().await?;
                let path = match path_behind(request.uri().path(), info) {
                    Some(path) => path,
                    // relative links of a page need the slash; other methods go to the root as they are
                    None if matches!(*request.method(), Method::GET | Method::HEAD)
                        && !upgrades(request.headers()) =>
                    {
                        return Ok(with_slash(&request));
                    }
                    None => "/".to_owned(),
                };
                let view = view_of(&request, &path, &place);
                place.path = path;
                if let Some(query) = request.uri().query() {
                    place.path = format!("{}?{query}", place.path);
                }
                self.show(place, view, request).await
            }
        }
    }

    /// Passes a request to a backend's pages: `X-Forwarded-Uri` names the path they are seen under, and their links are rewritten to it.
    async fn show(
        &self,
        place: Place,
        view: View,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let seen = place.path.split('?').next().unwrap_or_default();
        if let Ok(uri) = HeaderValue::from_str(&format!("{}{seen}", view.prefix)) {
            request.headers_mut().insert("x-forwarded-uri", uri);
        }
        let answer = self.pass(place, request).await?;
        let (mut parts, body) = answer.into_parts();
        if parts.headers.contains_key(LOCATION) {
            view.redirect(&mut parts.headers);
        } else if page::is_page(&parts.headers) {
            let body = page::rewritten(view, &mut parts.headers, body);
            return Ok(Response::from_parts(parts, body));
        }
        Ok(Response::from_parts(parts, body))
    }

    /// Sends the request there and hands the answer back, tunnelling when both sides upgrade.
    async fn pass(&self, place: Place, mut request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let upgrade = upgrades(request.headers());
        let client_side = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut out = Request::builder().method(parts.method).uri(&place.path);
        if let Some(headers) = out.headers_mut() {
            copy_headers(&parts.headers, headers, upgrade);
            headers.insert(http::header::HOST, place.host_header());
        }
        let out = out.body(Body::wrap(body)).map_err(Status::internal)?;
        let answer = self.send(&place, out).await.map_err(|error| unreachable(&place, &error))?;
        answered(answer, client_side, &self.tasks)
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<api::Tree, Status> {
        let pod = self.resources.read(kinds::pods(), namespace, name)?;
        pod.ok_or_else(|| Status::not_found("", "pods", name))
    }
}

/// A backend's answer for the client; a tunnel between them when both sides upgrade.
pub(crate) fn answered<B>(
    mut answer: Response<B>,
    client_side: Option<OnUpgrade>,
    tasks: &TaskTracker,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else {
            return Err(Status::internal("the backend upgraded a request that did not ask for it"));
        };
        let backend_side = hyper::upgrade::on(&mut answer);
        tasks.spawn(async move {
            let (Ok(client), Ok(backend)) = tokio::join!(client_side, backend_side) else { return };
            let mut client = hyper_util::rt::TokioIo::new(client);
            let mut backend = hyper_util::rt::TokioIo::new(backend);
            let _ =
                tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, 32 << 10, 32 << 10).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        copy_headers(answer.headers(), response.headers_mut(), true);
        return Ok(response);
    }
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::wrap(body));
    *response.status_mut() = parts.status;
    copy_headers(&parts.headers, response.headers_mut(), false);
    Ok(response)
}

/// The backend did not answer.
fn unreachable(place: &Place, error: &str) -> Status {
    match place.transport {
        Transport::Kubelet => {
            let mut status = Status::failure(500, "", format!("error dialing backend: {error}"));
            status.reason = String::new();
            status
        }
        _ => Status::failure(503, "ServiceUnavailable", format!("error trying to reach service: {error}")),
    }
}

pub(crate) fn upgrades(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade")))
}

/// Headers that belong to one connection.
const OF_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

pub(crate) fn copy_headers(from: &HeaderMap, to: &mut HeaderMap, upgrade: bool) {
    for (name, value) in from {
        let kept = upgrade && matches!(name.as_str(), "connection" | "upgrade");
        if name == http::header::HOST || (OF_CONNECTION.contains(&name.as_str()) && !kept) {
            continue;
        }
        to.append(HeaderName::clone(name), value.clone());
    }
}

/// The raw path after `…/<name>/proxy`; `None` when there is not even a slash. An escaped slash parts segments, too, as it does for
/// the router, so that what was authorized is what is asked for.
fn path_behind(path: &str, info: &RequestInfo) -> Option<String> {
    // `/api/v1`, the namespace where there is one, resource, name and `proxy`
    let before = if info.namespace.is_empty() { 5 } else { 7 };
    let escaped = |at: usize| path.get(at..at + 3).is_some_and(|text| text.eq_ignore_ascii_case("%2f"));
    let mut slashes = path.char_indices().filter(|(at, c)| *c == '/' || escaped(*at)).map(|(at, _)| at);
    let at = slashes.nth(before)?;
    let rest = &path[if path[at..].starts_with('/') { at + 1 } else { at + 3 }..];
    Some(format!("/{rest}"))
}

/// How the client sees a backend: `path` is what the backend is asked for.
fn view_of(request: &Request<Incoming>, path: &str, place: &Place) -> View {
    let asked = request.uri().path();
    let host = request.headers().get(http::header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    View {
        prefix: asked.strip_suffix(path).unwrap_or(asked).to_owned(),
        backend: place.authority(),
        host: host.unwrap_or_default().to_owned(),
    }
}

fn with_slash(request: &Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", request.uri().path())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn text_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
