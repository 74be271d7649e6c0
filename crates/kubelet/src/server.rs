//! The kubelet's own port, 10250: logs, exec, attach and port-forward for the API server, statistics for whoever
//! may see them. Every request is authenticated and authorized as upstream's kubelet does it.

mod access;
mod cadvisor;
mod files;
mod log_reader;
mod logs;
mod pods;
mod remote;
mod stats;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use client::Material;
use client::delegated::{Authentication, AuthenticationOptions, Authorization, AuthorizationOptions};
use daemon::serving::{KeyPair, Options, Peer, TlsConfig};
use daemon::zpages::Pages;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KubeletConfiguration;
use crate::pods::PodManager;
use crate::run::Kubelet;
pub use access::Access;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

const PAGES: Pages = Pages {
    name: "kubelet",
    paths: &["/configz", "/flagz", "/healthz", "/metrics", "/pods", "/runningpods", "/stats/summary"],
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("serving certificate: {0}")]
    Certificate(#[from] daemon::serving::Error),
}

/// What the server answers from.
pub struct Host {
    pub node_name: String,
    pub config: Arc<KubeletConfiguration>,
    pub pods: Arc<PodManager>,
    pub runtime: Arc<dyn cri::RuntimeService>,
    pub access: Access,
    /// Sessions that outlive their request: upgraded connections.
    pub sessions: TaskTracker,
    /// Ends the sessions.
    pub shutdown: CancellationToken,
}

/// Serves the kubelet's port until the shutdown.
pub async fn run(kubelet: Arc<Kubelet>, listener: TcpListener, tls: TlsConfig, shutdown: CancellationToken) {
    let config = kubelet.config.clone();
    let host = Host {
        node_name: kubelet.node_name.clone(),
        access: access(&config, &kubelet.node_name, kubelet.client.as_ref()),
        config,
        pods: kubelet.pods.clone(),
        runtime: kubelet.runtime.clone(),
        sessions: TaskTracker::new(),
        shutdown,
    };
    serve(Arc::new(host), listener, Some(tls)).await;
}

/// Who may use the port, by the kubelet's configuration. Without an API server nobody can be asked: then only
/// `AlwaysAllow` lets anybody in.
pub fn access(config: &KubeletConfiguration, node_name: &str, client: Option<&client::Client>) -> Access {
    let authentication = &config.authentication;
    let ca = &authentication.x509.client_ca_file;
    let authenticator = client.map(|client| {
        let options = AuthenticationOptions {
            client_ca: (!ca.is_empty()).then(|| Material::File(ca.into())),
            front_proxy: None,
            lookup: false,
            anonymous: authentication.anonymous.enabled,
            cache: authentication.webhook.cache_ttl.0,
            tokens: authentication.webhook.enabled,
            audiences: Vec::new(),
        };
        Arc::new(Authentication::new(client.clone(), options)) as _
    });
    let webhook = &config.authorization.webhook;
    let authorizer = match (config.authorization.mode.as_str(), client) {
        ("AlwaysAllow", _) => None,
        (_, Some(client)) => {
            let options = AuthorizationOptions {
                always_allow_paths: Vec::new(),
                always_allow_groups: Vec::new(),
                cache_allowed: webhook.cache_authorized_ttl.0,
                cache_denied: webhook.cache_unauthorized_ttl.0,
            };
            Some(Arc::new(Authorization::new(client.clone(), options)) as _)
        }
        (_, None) => Some(Arc::new(access::Nobody) as _),
    };
    Access { node_name: node_name.to_owned(), authenticator, authorizer }
}

/// The certificate of the configuration, or one made and kept in `directory`.
pub fn certificate(
    config: &KubeletConfiguration,
    directory: &Path,
    node_name: &str,
    addresses: &[IpAddr],
) -> Result<TlsConfig, Error> {
    let named = KeyPair::named(Path::new(&config.tls_cert_file), Path::new(&config.tls_private_key_file))?;
    if let Some(pair) = named {
        let tls = TlsConfig::from_files(pair)?;
        return Ok(tls.restrict(&config.tls_min_version, &config.tls_cipher_suites)?);
    }
    let tls = TlsConfig::self_signed(directory, "kubelet", &[node_name.to_owned()], addresses)?;
    Ok(tls.restrict(&config.tls_min_version, &config.tls_cipher_suites)?)
}

/// Serves until the shutdown; running sessions are ended by it.
pub async fn serve(host: Arc<Host>, listener: TcpListener, tls: Option<TlsConfig>) {
    let shutdown = host.shutdown.clone();
    if let Some(tls) = &tls {
        host.sessions.spawn(tls.clone().watch(shutdown.clone()));
    }
    let of = host.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let host = of.clone();
        async move { Ok::<_, Infallible>(answer(&host, request).await) }
    });
    let options = Options { drain: std::time::Duration::from_secs(2), ..Options::default() };
    daemon::serving::serve(listener, tls, service, options, shutdown).await;
    host.sessions.close();
    host.sessions.wait().await;
}

async fn answer(host: &Arc<Host>, request: Request<Incoming>) -> Response<Body> {
    let peer = request.extensions().get::<Peer>();
    let certificates = peer.map(Peer::certificates).unwrap_or_default();
    let allowed =
        host.access.check(certificates, request.headers(), request.method(), request.uri().path()).await;
    if let Err((status, message)) = allowed {
        return text(status, message);
    }
    route(host, request).await
}

async fn route(host: &Arc<Host>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(answer) = PAGES.answer(&path, request.headers()) {
        return answer.map(|whole| whole.map_err(|never| match never {}).boxed_unsync());
    }
    match parts.as_slice() {
        ["healthz"] if read => text(StatusCode::OK, "ok"),
        ["healthz", "ping" | "log" | "syncloop"] if read => text(StatusCode::OK, "ok"),
        ["pods"] if read => pods::known(host),
        ["run" | "exec" | "attach" | "portForward" | "containerLogs" | "runningpods" | "logs", ..]
            if !host.config.enable_debugging_handlers =>
        {
            text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.")
        }
        ["runningpods"] if read => pods::running(host).await,
        ["metrics"] if read => metrics(&daemon::metrics::registry().text()),
        ["metrics", "resource"] if read => metrics(&stats::resource_metrics(host).await),
        ["metrics", "cadvisor"] if read => metrics(&cadvisor::metrics(host).await),
        ["metrics", "slis"] if read => metrics(&daemon::metrics::slis().text()),
        ["metrics", "probes"] if read => metrics(""),
        ["stats", "summary"] if read => stats::summary(host).await,
        ["configz"] if read => json(&serde_json::json!({"kubeletconfig": config_view(&host.config)})),
        ["logs", rest @ ..] if read => files::serve(Path::new(files::ROOT), rest, path.ends_with('/')).await,
        ["containerLogs", namespace, pod, container] if read => {
            logs::serve(host, namespace, pod, container, request.uri().query().unwrap_or_default()).await
        }
        ["exec", namespace, pod, container] => {
            remote::exec(host, (namespace, pod, None, container), request).await
        }
        ["exec", namespace, pod, uid, container] => {
            remote::exec(host, (namespace, pod, Some(uid), container), request).await
        }
        ["attach", namespace, pod, container] => {
            remote::attach(host, (namespace, pod, None, container), request).await
        }
        ["attach", namespace, pod, uid, container] => {
            remote::attach(host, (namespace, pod, Some(uid), container), request).await
        }
        ["portForward", namespace, pod] => remote::port_forward(host, (namespace, pod, None), request).await,
        ["portForward", namespace, pod, uid] => {
            remote::port_forward(host, (namespace, pod, Some(uid)), request).await
        }
        ["run", namespace, pod, container] if request.method() == Method::POST => {
            remote::run(host, (namespace, pod, None, container), request.uri().query().unwrap_or_default())
                .await
        }
        ["run", namespace, pod, uid, container] if request.method() == Method::POST => {
            let query = request.uri().query().unwrap_or_default();
            remote::run(host, (namespace, pod, Some(uid), container), query).await
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The configuration in force, without what is empty in it.
fn config_view(config: &KubeletConfiguration) -> serde_json::Value {
    let mut view = serde_json::to_value(config).unwrap_or_default();
    if let Some(fields) = view.as_object_mut() {
        fields.insert("kind".into(), crate::config::KIND.into());
        fields.insert("apiVersion".into(), crate::config::API_VERSION.into());
        fields.retain(|_, value| match value {
            serde_json::Value::Null => false,
            serde_json::Value::String(text) => !text.is_empty(),
            serde_json::Value::Array(items) => !items.is_empty(),
            serde_json::Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }
    view
}

fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn respond(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", message.into())
}

fn metrics(content: &str) -> Response<Body> {
    respond(StatusCode::OK, daemon::metrics::CONTENT_TYPE, content.to_owned())
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(StatusCode::OK, "application/json", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The parameters of a query, decoded, in order.
fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Percent-decoding; what is not an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let digits = bytes.get(index + 1..index + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| bytes[index] == b'%') {
            Some(byte) => {
                plain.push(byte);
                index += 3;
            }
            None => {
                plain.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
