//! Asks webhooks over HTTPS. Connections that are idle are kept for the next question; nothing runs between questions.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use admission::{CallError, ClientConfig};
use api::Tree;
use bytes::Bytes;
use daemon::aside::{LARGE_BODY, aside};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig as TlsConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::trust::{self, tls};
use crate::proxy::dial_error;
use crate::service_routing::{ServiceRouter, joined};
use crate::turn;

/// Idle connections that are kept to one webhook.
const IDLE: usize = 16;
/// Webhooks that connections are kept to.
const KNOWN: usize = 256;

pub struct Client {
    services: ServiceRouter,
    known: Mutex<HashMap<ClientConfig, Arc<Backend>>>,
}

/// One webhook's server.
struct Backend {
    tls: Arc<TlsConfig>,
    idle: Mutex<Vec<Connection>>,
}

/// What came back.
struct Answered {
    status: StatusCode,
    /// Whether the body is text for people, as far as its type says.
    is_text: bool,
    body: Bytes,
}

/// What a webhook is asked.
pub struct Question {
    pub review: Vec<u8>,
    pub timeout: Duration,
    /// Bytes of an answer that are read.
    pub longest: usize,
}

/// A connection with what keeps it going, which is done while it is used.
struct Connection {
    /// Where it leads.
    address: String,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

/// A webhook's place: how it is called, and where it is.
struct Place {
    host: String,
    port: u16,
    path: String,
    /// Of a Service, its address.
    address: Option<String>,
}

impl Client {
    pub fn new(services: ServiceRouter) -> Client {
        Client { services, known: Mutex::default() }
    }

    /// Posts a review and reads the answer.
    pub async fn call(&self, webhook: &ClientConfig, question: Question) -> Result<Tree, CallError> {
        let Question { review, timeout, longest } = question;
        let failed = |reason: String| CallError::Failed { reason, code: 503 };
        let mut place = place(webhook).map_err(failed)?;
        let shown = format!(
            "https://{}{}?timeout={}s",
            joined(&place.host, place.port),
            place.path,
            timeout.as_secs()
        );
        let posted = |why: String| failed(format!("Post {shown:?}: {why}"));
        let backend = self.backend(webhook).map_err(posted)?;
        if let Some(service) = &webhook.service {
            place.address =
                Some(self.services.resolve(&service.namespace, &service.name, service.port).map_err(posted)?);
        }
        let exchange = async {
            let request = || request(&place, timeout, &review);
            backend.exchange(&place, request, longest).await.map_err(posted)
        };
        let whom = joined(&place.host, place.port);
        let answered = match turn::away(&whom, tokio::time::timeout(timeout, exchange)).await {
            Ok(answered) => answered.map_err(|_| posted("context deadline exceeded".to_owned()))??,
            Err(crowded) => return Err(CallError::Refused(Box::new(crowded.into()))),
        };
        // read within the turn: a tree takes many times as much as its bytes
        aside(answered.body.len() > LARGE_BODY, || answer(&answered))
    }

    fn backend(&self, webhook: &ClientConfig) -> Result<Arc<Backend>, String> {
        let mut known = self.known.lock();
        if let Some(backend) = known.get(webhook) {
            return Ok(Arc::clone(backend));
        }
        let backend = Arc::new(Backend { tls: tls(&webhook.authority)?, idle: Mutex::default() });
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(webhook.clone(), Arc::clone(&backend));
        Ok(backend)
    }
}

fn place(webhook: &ClientConfig) -> Result<Place, String> {
    let rooted = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if let Some(service) = &webhook.service {
        return Ok(Place {
            host: format!("{}.{}.svc", service.name, service.namespace),
            port: service.port,
            path: rooted(&service.path),
            address: None,
        });
    }
    if webhook.url.is_empty() {
        return Err("webhook configuration must have either service or URL".to_owned());
    }
    let uri: Uri = webhook.url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
    Ok(Place {
        host: uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(443),
        path: rooted(uri.path()),
        address: None,
    })
}

fn request(place: &Place, timeout: Duration, review: &[u8]) -> Result<Request<Full<Bytes>>, String> {
    Request::post(format!("{}?timeout={}s", place.path, timeout.as_secs()))
        .header(HOST, joined(&place.host, place.port))
        .header(ACCEPT, "application/json, */*")
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::copy_from_slice(review)))
        .map_err(|error| error.to_string())
}

impl Backend {
    /// One question, over a connection that is there or else a new one.
    async fn exchange(
        &self,
        place: &Place,
        request: impl Fn() -> Result<Request<Full<Bytes>>, String>,
        longest: usize,
    ) -> Result<Answered, String> {
        let authority = joined(&place.host, place.port);
        let address = place.address.clone().unwrap_or(authority);
        loop {
            let kept = self.idle.lock().pop();
            let Some(mut connection) = kept.filter(|kept| kept.address == address) else { break };
            // one that its server has closed meanwhile shows it here
            if let Ok(answer) = connection.ask(request()?, longest).await {
                self.keep(connection);
                return Ok(answer);
            }
        }
        let mut connection = self.connect(place, address).await?;
        let answer = connection.ask(request()?, longest).await?;
        self.keep(connection);
        Ok(answer)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE && connection.sender.is_ready() {
            idle.push(connection);
        }
    }

    async fn connect(&self, place: &Place, address: String) -> Result<Connection, String> {
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|error| format!("dial tcp {address}: connect: {}", dial_error(&error)))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, stream).await.map_err(|error| trust::words(&error))?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        Ok(Connection { address, sender, driver: Box::pin(driver) })
    }
}

impl Connection {
    async fn ask(&mut self, request: Request<Full<Bytes>>, longest: usize) -> Result<Answered, String> {
        let Connection { sender, driver, .. } = self;
        let asking = async {
            sender.ready().await.map_err(|error| error.to_string())?;
            let answer: Response<_> =
                sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let media = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let is_text = media.is_none_or(|media| media.starts_with("text/"));
            let body = Limited::new(answer.into_body(), longest).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            // until the connection can take the next one
            let _ = sender.ready().await;
            Ok(Answered { status, is_text, body })
        };
        tokio::select! {
            biased;
            answer = asking => answer,
            ended = driver => Err(ended.err().map_or_else(|| "EOF".to_owned(), |error| error.to_string())),
        }
    }
}

/// The review in an answer; or what upstream's client says of such an answer.
fn answer(answered: &Answered) -> Result<Tree, CallError> {
    let Answered { status, is_text, body } = answered;
    let code = status.as_u16();
    if (200..=206).contains(&code) {
        let unreadable = |error: String| format!("couldn't get version/kind; json parse error: {error}");
        return api::decode::untyped(body)
            .map_err(|error| CallError::Failed { reason: unreadable(error), code: 503 });
    }
    let text = match is_text {
        true => String::from_utf8_lossy(&body[..body.len().min(2048)]).trim().to_owned(),
        false => "unknown".to_owned(),
    };
    let said = api::decode::untyped(body).ok().filter(|tree| tree["kind"] == "Status");
    let reason = match said.as_ref().and_then(|status| status["message"].as_str()) {
        Some(message) => message.to_owned(),
        None => match code {
            400 => "the server rejected our request for an unknown reason".to_owned(),
            401 => "the server has asked for the client to provide credentials".to_owned(),
            403 => text,
            404 => "the server could not find the requested resource".to_owned(),
            405 => "the server does not allow this method on the requested resource".to_owned(),
            429 => "the server has received too many requests and has asked us to try again later".to_owned(),
            503 => "the server is currently unable to handle the request".to_owned(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned(),
            500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
            _ => format!("the server responded with the status code {code} but did not return more information"),
        },
    };
    Err(CallError::Failed { reason, code })
}
