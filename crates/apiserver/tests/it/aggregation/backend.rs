//! Another server for tests of aggregation: it notes what it was asked, and answers by the path.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use api::{Tree, json};
use bytes::Bytes;
use daemon::serving::{self, KeyPair, Peer, TlsConfig};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{AGGREGATED, BASE, NAME};
use crate::rig::Rig;

/// A request as the backend got it.
#[derive(Debug)]
pub struct Seen {
    pub line: String,
    pub version: http::Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Common name of the client's certificate.
    pub client: String,
    pub connection: u16,
}

/// Another server: what it was asked, and how it answers.
#[derive(Default)]
pub struct Backend {
    seen: Mutex<Vec<Seen>>,
    /// Whether it has the newer documents.
    pub modern: AtomicBool,
    pub port: AtomicU16,
    http2: bool,
}

type Sent = Response<BoxBody<Bytes, Infallible>>;

fn sent(code: u16, body: impl Into<Bytes>) -> Sent {
    let body = Full::new(body.into()).boxed();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

impl Backend {
    pub async fn start(rig: &Rig, host: &str, http2: bool) -> (Arc<Backend>, CancellationToken) {
        let backend = Arc::new(Backend { http2, ..Backend::default() });
        let stop = backend.serve(rig, host, 0);
        (backend, stop)
    }

    /// Serves on a port, until stopped.
    pub fn serve(self: &Arc<Backend>, rig: &Rig, host: &str, port: u16) -> CancellationToken {
        let (certificate, key) = rig.write_certificate(host);
        let tls = TlsConfig::from_files(KeyPair { certificate, key }).unwrap();
        let listener = serving::bind(([127, 0, 0, 1], port).into(), true).unwrap();
        self.port.store(listener.local_addr().unwrap().port(), Ordering::Relaxed);
        let (stop, backend) = (CancellationToken::new(), self.clone());
        let service = service_fn(move |request| {
            let backend = backend.clone();
            async move { Ok::<_, Infallible>(backend.answer(request).await) }
        });
        let options =
            serving::Options { drain: Duration::ZERO, http2: self.http2, ..serving::Options::default() };
        tokio::spawn(serving::serve(listener, Some(tls), service, options, stop.clone()));
        stop
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Sent {
        let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let client =
            peer.certificates().first().map(|own| serving::authority::subject(own).unwrap().common_name);
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let line = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
        if path == format!("{BASE}/endless") {
            // answers before it has read anything
            let ticks =
                futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 1 << 14]))));
            return sent(200, "").map(|_| BodyExt::boxed(StreamBody::new(ticks)));
        }
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        self.seen.lock().push(Seen {
            line,
            version: parts.version,
            headers: parts.headers.clone(),
            body: body.clone(),
            client: client.unwrap_or_default(),
            connection: peer.address().port(),
        });
        let modern = self.modern.load(Ordering::Relaxed);
        let resource = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"]});
        match path.strip_prefix(BASE).unwrap_or(&path) {
            "" => {
                let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [resource]});
                sent(200, list.to_string())
            }
            "/apis" if modern => {
                let rows = json!([{"resource": "fischers", "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Fischer"}, "scope": "Cluster", "singularResource": "fischer", "verbs": ["list"]}]);
                let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [
                    {"metadata": {"name": "wardle.example.com"}, "versions": [{"version": "v1alpha1", "resources": rows}]},
                ]});
                let mut answer = sent(200, document.to_string());
                answer.headers_mut().insert("content-type", AGGREGATED.parse().unwrap());
                answer
            }
            "/openapi/v2" => {
                let document = json!({"swagger": "2.0",
                    "paths": {format!("{BASE}/flunders"): {"get": {"schema": {"$ref": "#/definitions/Flunder"}}}, "/theirs/": {}},
                    "definitions": {"Flunder": {"type": "object", "description": "of the test"}}});
                sent(200, document.to_string())
            }
            "/openapi/v3" => {
                let path = BASE.trim_start_matches('/');
                sent(
                    200,
                    json!({"paths": {path: {"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")}}})
                        .to_string(),
                )
            }
            "/openapi/v3/apis/wardle.example.com/v1alpha1" => sent(200, r#"{"openapi":"3.0.0"}"#),
            "/flunders" if query.contains("watch") => {
                let ticks = futures::stream::unfold(0, |number| async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((Ok(Frame::data(Bytes::from(format!("{{\"tick\":{number}}}\n")))), number + 1))
                });
                sent(200, "").map(|_| BodyExt::boxed(StreamBody::new(ticks)))
            }
            "/flunders" => sent(200, r#"{"kind":"FlunderList"}"#),
            "/redirect" => {
                let mut answer = sent(302, "");
                answer.headers_mut().insert("location", "https://elsewhere/".parse().unwrap());
                answer
            }
            "/slow" => std::future::pending().await,
            "/tunnel" => {
                let upgrade = upgrade.unwrap();
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(upgrade.await.unwrap());
                    let mut ping = [0; 4];
                    stream.read_exact(&mut ping).await.unwrap();
                    stream.write_all(&ping).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
                let body = Full::default().boxed();
                let answer = Response::builder().status(101).header("connection", "Upgrade");
                answer.header("upgrade", "SPDY/3.1").body(body).unwrap()
            }
            "/echo" => sent(201, body),
            _ => sent(404, r#"{"kind":"Status","code":404}"#),
        }
    }

    pub fn service(&self, trust: Tree) -> Tree {
        let port = self.port.load(Ordering::Relaxed);
        let mut spec = json!({
            "group": "wardle.example.com",
            "version": "v1alpha1",
            "groupPriorityMinimum": 2000,
            "versionPriority": 200,
            "service": {"namespace": "default", "name": "wardle", "port": port},
        });
        for (field, value) in trust.as_object().into_iter().flatten() {
            spec[field.as_str()] = value.clone();
        }
        json!({"metadata": {"name": NAME}, "spec": spec})
    }

    /// What clients asked, without what the aggregator asks on its own account.
    pub fn asked(&self) -> Vec<Seen> {
        let seen = std::mem::take(&mut *self.seen.lock());
        let own =
            |seen: &Seen| seen.headers["x-remote-user"].as_bytes().starts_with(b"system:kube-aggregator");
        seen.into_iter()
            .filter(|seen| !own(seen) && seen.headers["x-remote-user"] != "system:aggregator")
            .collect()
    }
}
