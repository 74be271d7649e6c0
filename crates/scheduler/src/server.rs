//! The secure port: health, metrics, configuration; who may see what is the API server's to say.

use std::convert::Infallible;
use std::sync::Arc;

use api::Status;
use bytes::Bytes;
use client::delegated::{Attributes, Authentication, Authenticator, Authorization, Authorizer};
use daemon::health::Checks;
use daemon::serving::Peer;
use daemon::zpages::Pages;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::driver::Scheduler;

const PAGES: Pages = Pages {
    name: "kube-scheduler",
    paths: &["/configz", "/flagz", "/healthz", "/livez", "/metrics", "/readyz"],
};

/// `/pending/NAMESPACE/POD` says why a pod is pending.
const PENDING: &str = "/pending/";

/// What the port serves.
pub struct Server {
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub healthz: Checks,
    pub livez: Checks,
    pub readyz: Checks,
    pub scheduler: Arc<Scheduler>,
    /// The answer to `/configz`.
    pub configuration: String,
}

impl Server {
    pub async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(match self.allow(&request).await {
            Ok(()) => self.route(&request).await,
            Err(status) => refuse(&status),
        })
    }

    async fn allow(&self, request: &Request<Incoming>) -> Result<(), Box<Status>> {
        let path = request.uri().path();
        if self.authorization.always_allowed(path) {
            return Ok(());
        }
        let certificates = request.extensions().get::<Peer>().map(Peer::certificates).unwrap_or_default();
        let user = match self.authentication.authenticate(certificates, request.headers()).await {
            Ok(Some(user)) => user,
            Ok(None) => return Err(Box::new(Status::unauthorized())),
            Err(error) => {
                tracing::error!(%error, "Unable to authenticate the request");
                return Err(Box::new(Status::unauthorized()));
            }
        };
        let attributes = Attributes::path(request.method(), path);
        let verb = request.method().as_str().to_lowercase();
        match self.authorization.authorize(&user, &attributes).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => {
                let mut message = format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name);
                if !reason.is_empty() {
                    message = format!("{message}: {reason}");
                }
                Err(Box::new(Status::failure(403, "Forbidden", message)))
            }
            Err(error) => Err(Box::new(Status::internal(error))),
        }
    }

    async fn route(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let checks = match path.split('/').nth(1).unwrap_or_default() {
            "healthz" => Some(&self.healthz),
            "livez" => Some(&self.livez),
            "readyz" => Some(&self.readyz),
            _ => None,
        };
        if let Some(checks) = checks {
            return checks.answer_uri(request.uri()).await;
        }
        if let Some(answer) = PAGES.answer(path, request.headers()) {
            return answer;
        }
        match path {
            "/metrics" => typed(daemon::metrics::registry().text(), daemon::metrics::CONTENT_TYPE),
            "/metrics/slis" => typed(daemon::metrics::slis().text(), daemon::metrics::CONTENT_TYPE),
            "/configz" => typed(self.configuration.clone(), "application/json"),
            _ if path.starts_with(PENDING) => self.pending(path),
            "/version" => typed(daemon::version::info().to_string(), "application/json"),
            _ => {
                let mut response = typed("404 page not found\n".into(), "text/plain; charset=utf-8");
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

impl Server {
    /// Why a pod is pending.
    fn pending(&self, path: &str) -> Response<Full<Bytes>> {
        let name = path.strip_prefix(PENDING).and_then(|name| name.split_once('/'));
        let explanation = name.and_then(|(namespace, name)| self.scheduler.explain(namespace, name));
        match explanation.and_then(|explanation| serde_json::to_string_pretty(&explanation).ok()) {
            Some(text) => typed(text, "application/json"),
            None => {
                let message = "there is no pending pod of this name that is for this scheduler";
                refuse(&Status::failure(404, "NotFound", message))
            }
        }
    }
}

fn typed(text: String, media_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn refuse(status: &Status) -> Response<Full<Bytes>> {
    let mut response = typed(String::new(), "application/json");
    *response.body_mut() = Full::new(Bytes::from(status.to_json()));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
