//! The secure port: health, metrics, configuration, for whom the API server lets.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use client::delegated::{
    Attributes, Authentication, AuthenticationOptions, Authenticator, Authorization, AuthorizationOptions,
    Authorizer, FrontProxyOptions,
};
use client::{Client, Config, Material};
use daemon::health::Checks;
use daemon::serving::{self, Peer, TlsConfig};
use daemon::zpages::Pages;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::configz;
use crate::options::Options;

const PORT: u16 = 10257;

const PAGES: Pages =
    Pages { name: "kube-controller-manager", paths: &["/configz", "/flagz", "/healthz", "/metrics"] };

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to create listener: failed to listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error(transparent)]
    Tls(#[from] serving::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// The server's tasks.
pub struct Serving(TaskTracker);

impl Serving {
    pub async fn finish(self) {
        self.0.close();
        self.0.wait().await;
    }
}

struct Port {
    healthz: Checks,
    authentication: Authentication,
    authorization: Authorization,
    configuration: String,
}

/// What upstream's serves: there is no `/livez` and no `/readyz`. Listens, unless the port is 0.
pub async fn start(
    options: &Options,
    root: &Client,
    healthz: Checks,
    stop: CancellationToken,
) -> Result<Serving, Error> {
    let tasks = TaskTracker::new();
    let port = options.serving.secure_port.unwrap_or(PORT);
    daemon::flags::set_value("secure-port", &port);
    if port == 0 {
        return Ok(Serving(tasks));
    }
    let address = SocketAddr::new(options.serving.bind_address, port);
    let listener = serving::bind(address, options.serving.permit_port_sharing)
        .map_err(|error| Error::Listen(address, error))?;
    let loopback = [IpAddr::from([127, 0, 0, 1])];
    let tls = TlsConfig::from_flags(
        &options.serving,
        "kube-controller-manager",
        &["localhost".to_owned()],
        &loopback,
    )?;
    tasks.spawn(tls.clone().watch(stop.clone()));
    let authentication = AuthenticationOptions {
        client_ca: file(&options.client_ca_file),
        front_proxy: FrontProxyOptions::of_flags(&options.request_header),
        lookup: !options.authentication_skip_lookup,
        cache: *options.authentication_token_webhook_cache_ttl,
        ..Default::default()
    };
    authentication.check()?;
    let port = Arc::new(Port {
        configuration: configz::document(options).to_string(),
        healthz,
        authentication: Authentication::new(
            delegate(&options.authentication_kubeconfig, root)?,
            authentication,
        ),
        authorization: Authorization::new(
            delegate(&options.authorization_kubeconfig, root)?,
            AuthorizationOptions {
                always_allow_paths: options.authorization_always_allow_paths.clone(),
                cache_allowed: *options.authorization_webhook_cache_authorized_ttl,
                cache_denied: *options.authorization_webhook_cache_unauthorized_ttl,
                ..Default::default()
            },
        ),
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(answer(&port, request).await) }
    });
    tracing::info!(address = %address, "Serving securely");
    tasks.spawn(async move {
        serving::serve(listener, Some(tls), service, serving::Options::default(), stop).await;
    });
    Ok(Serving(tasks))
}

fn file(path: &std::path::Path) -> Option<Material> {
    (!path.as_os_str().is_empty()).then(|| Material::File(path.to_owned()))
}

fn delegate(kubeconfig: &str, root: &Client) -> Result<Client, Error> {
    if kubeconfig.is_empty() {
        return Ok(root.clone());
    }
    Ok(Client::new(Config::from_kubeconfig(kubeconfig)?)?)
}

async fn answer(port: &Port, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if !port.authorization.always_allowed(&path)
        && let Err(refusal) = permit(port, &request, &path).await
    {
        return refusal;
    }
    if let Some(answer) = PAGES.answer(&path, request.headers()) {
        return answer;
    }
    match path.as_str() {
        "/metrics" => typed(daemon::metrics::registry().text(), daemon::metrics::CONTENT_TYPE),
        "/metrics/slis" => typed(daemon::metrics::slis().text(), daemon::metrics::CONTENT_TYPE),
        "/configz" => json(port.configuration.clone()),
        "/version" => json(daemon::version::info().to_string()),
        _ if path == "/healthz" || path.starts_with("/healthz/") => {
            port.healthz.answer_uri(request.uri()).await
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    }
}

async fn permit(port: &Port, request: &Request<Incoming>, path: &str) -> Result<(), Response<Full<Bytes>>> {
    let peer = request.extensions().get::<Peer>();
    let certificates = peer.map(Peer::certificates).unwrap_or_default();
    let unavailable = |error: client::Error| {
        tracing::error!(%error, "asking the API server about a request");
        text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n".to_owned())
    };
    let user =
        port.authentication.authenticate(certificates, request.headers()).await.map_err(unavailable)?;
    let Some(user) = user else {
        return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned()));
    };
    let attributes = Attributes::path(request.method(), path);
    match port.authorization.authorize(&user, &attributes).await.map_err(unavailable)? {
        Ok(()) => Ok(()),
        Err(_) => {
            let verb = request.method().as_str().to_lowercase();
            let message = format!("forbidden: User {:?} cannot {verb} path {path:?}\n", user.name);
            Err(text(StatusCode::FORBIDDEN, message))
        }
    }
}

fn json(body: String) -> Response<Full<Bytes>> {
    typed(body, "application/json")
}

fn typed(body: String, media_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, body);
    let kind = http::HeaderValue::from_static(media_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_they_are() {
        let kind = |response: Response<Full<Bytes>>| response.headers()[http::header::CONTENT_TYPE].clone();
        assert_eq!(kind(text(StatusCode::NOT_FOUND, String::new())), "text/plain; charset=utf-8");
        assert_eq!(kind(json(String::new())), "application/json");
    }
}
