//! Connections to an aggregated server: HTTP/2 ones that requests share, HTTP/1.1 where it speaks nothing else and for upgrades.
//!
//! A connection takes at most [`STREAMS`] requests at once. Watches live long, and servers bound the streams of a connection: were all
//! watches on one, the next request would wait behind them for ever.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use super::api_service::Backend;
use super::certificate::Certificate;
use crate::body::Body;
use crate::proxy::dial_error;
use crate::webhooks::trust;

/// Requests in flight on one HTTP/2 connection; servers allow 100 or more.
const STREAMS: usize = 90;
const CONNECT: Duration = Duration::from_secs(30);
/// Idle HTTP/1.1 connections that are kept.
const IDLE: usize = 16;

/// Those to one backend, wherever it is reached.
pub struct Connections {
    backend: Backend,
    certificate: Arc<Certificate>,
    state: Mutex<State>,
    /// Drives the connections, which end with the server.
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// Of this version of our certificate.
    number: u64,
    config: Option<Arc<ClientConfig>>,
    shared: Vec<Arc<Shared>>,
    idle: Vec<(String, Sender)>,
    /// One dial to an address at a time: those who come meanwhile share its connection.
    dials: HashMap<String, Weak<tokio::sync::Mutex<()>>>,
}

type Sender = http1::SendRequest<Body>;

struct Shared {
    address: String,
    sender: http2::SendRequest<Body>,
    streams: Arc<AtomicUsize>,
}

enum Connection {
    Shared(Arc<Shared>),
    Own(Sender),
}

impl Connections {
    pub fn new(backend: Backend, certificate: Arc<Certificate>, tasks: TaskTracker) -> Connections {
        Connections { backend, certificate, state: Mutex::default(), tasks }
    }

    /// The answer's head to a request whose URI is a path. Errors are worded as Go's.
    pub async fn send(&self, address: &str, mut request: Request<Body>) -> Result<Response<Answer>, String> {
        loop {
            let connection = match self.free(address)? {
                Some(connection) => connection,
                None => {
                    return self
                        .exchange(address, self.dial(address).await?, request)
                        .await
                        .map_err(|failed| failed.0);
                }
            };
            // One that its server has closed meanwhile shows it here, and the request is still ours.
            match self.exchange(address, connection, request).await {
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// The same for a request that asks for an upgrade, over a connection of its own.
    pub async fn upgrade(&self, address: &str, request: Request<Body>) -> Result<Response<Incoming>, String> {
        let (stream, _) = self.connect(address, &[b"http/1.1"]).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "An upgraded connection to an aggregated API ended");
            }
        });
        sender.send_request(request).await.map_err(|error| words(&error))
    }

    /// Closes what carries no request.
    pub fn close_idle(&self) {
        let mut state = self.state.lock();
        state.idle.clear();
        state.shared.retain(|shared| shared.streams.load(Ordering::Relaxed) > 0);
    }

    fn free(&self, address: &str) -> Result<Option<Connection>, String> {
        self.config()?;
        let mut state = self.state.lock();
        state.shared.retain(|shared| !shared.sender.is_closed());
        let mut all = state.shared.iter();
        let free = |shared: &&Arc<Shared>| {
            shared.address == address && shared.streams.load(Ordering::Relaxed) < STREAMS
        };
        if let Some(shared) = all.find(free) {
            return Ok(Some(Connection::Shared(Arc::clone(shared))));
        }
        state.idle.retain(|(_, sender)| !sender.is_closed());
        let place = state.idle.iter().position(|(own, sender)| own == address && sender.is_ready());
        Ok(place.map(|place| Connection::Own(state.idle.swap_remove(place).1)))
    }

    /// TLS as it is now. Connections of a former certificate take no more requests.
    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let version = self.certificate.current();
        let mut state = self.state.lock();
        if let Some(config) = &state.config
            && state.number == version.number
        {
            return Ok(Arc::clone(config));
        }
        let verifier = match self.backend.insecure {
            true => crate::proxy::anyone(),
            false => trust::verifier(&self.backend.authority)?,
        };
        let mut config = trust::config(verifier, version.identity.as_deref())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        (state.number, state.config) = (version.number, Some(Arc::clone(&config)));
        state.shared.clear();
        state.idle.clear();
        Ok(config)
    }

    async fn connect(
        &self,
        address: &str,
        protocols: &[&[u8]],
    ) -> Result<(TlsStream<TcpStream>, bool), String> {
        let mut config = self.config()?;
        if protocols.len() == 1 {
            let mut own = (*config).clone();
            own.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            config = Arc::new(own);
        }
        let dial = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| format!("dial tcp {address}: connect: {}", dial_error(&error)))?;
            let _ = stream.set_nodelay(true);
            let name = ServerName::try_from(self.backend.host()).map_err(|error| error.to_string())?;
            let connected = TlsConnector::from(config).connect(name, stream).await;
            let stream = connected.map_err(|error| trust::words(&error))?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((stream, http2))
        };
        let limited = tokio::time::timeout(CONNECT, dial).await;
        limited.unwrap_or_else(|_| Err(format!("dial tcp {address}: i/o timeout")))
    }

    async fn dial(&self, address: &str) -> Result<Connection, String> {
        let turn = {
            let mut state = self.state.lock();
            state.dials.retain(|_, turn| turn.strong_count() > 0);
            let known = state.dials.get(address).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            state.dials.insert(address.to_owned(), Arc::downgrade(&turn));
            turn
        };
        let _turn = turn.lock().await;
        if let Some(made) = self.free(address)? {
            return Ok(made);
        }
        let (stream, http2) = self.connect(address, &[b"h2", b"http/1.1"]).await?;
        let stream = TokioIo::new(stream);
        if !http2 {
            let (sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
            self.run(connection);
            return Ok(Connection::Own(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .keep_alive_while_idle(true)
            // One answer that its client reads slowly must not stop the others of its connection.
            .initial_stream_window_size(1 << 18)
            .initial_connection_window_size(STREAMS as u32 * (1 << 18))
            .handshake(stream)
            .await
            .map_err(|error| error.to_string())?;
        self.run(connection);
        let shared = Arc::new(Shared { address: address.to_owned(), sender, streams: Arc::default() });
        self.state.lock().shared.push(Arc::clone(&shared));
        Ok(Connection::Shared(shared))
    }

    fn run<E: std::fmt::Display>(&self, connection: impl Future<Output = Result<(), E>> + Send + 'static) {
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection to an aggregated API ended");
            }
        });
    }

    /// The request comes back where none of it was sent.
    async fn exchange(
        &self,
        address: &str,
        connection: Connection,
        request: Request<Body>,
    ) -> Result<Response<Answer>, (String, Option<Request<Body>>)> {
        let failed = |mut failure: hyper::client::conn::TrySendError<Request<Body>>| {
            let unsent = failure.take_message();
            (words(failure.error()), unsent)
        };
        match connection {
            Connection::Shared(shared) => {
                let slot = Slot::take(&shared.streams);
                let request = with_authority(address, request).map_err(|error| (error, None))?;
                let answer = shared.sender.clone().try_send_request(request).await.map_err(failed)?;
                Ok(answer.map(|body| Answer { body, _slot: Some(slot) }))
            }
            Connection::Own(mut sender) => {
                let request = without_authority(request);
                let answer = sender.try_send_request(request).await.map_err(failed)?;
                // It can be used again once the body has been read: it says so by being ready.
                let mut state = self.state.lock();
                if state.idle.len() >= IDLE {
                    state.idle.retain(|(_, sender)| sender.is_ready());
                }
                if state.idle.len() < IDLE {
                    state.idle.push((address.to_owned(), sender));
                }
                Ok(answer.map(|body| Answer { body, _slot: None }))
            }
        }
    }
}

/// HTTP/2 wants the whole address, HTTP/1.1 the path, with the host in a header that both have.
fn with_authority(address: &str, mut request: Request<Body>) -> Result<Request<Body>, String> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("https://{address}{path}").parse().map_err(|error| format!("{error}"))?;
    request.headers_mut().remove(http::header::HOST);
    Ok(request)
}

fn without_authority(mut request: Request<Body>) -> Request<Body> {
    if let Some(authority) = request.uri().authority().map(|own| own.as_str().to_owned())
        && let Ok(host) = http::HeaderValue::from_str(&authority)
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    request
}

fn words(error: &hyper::Error) -> String {
    match error {
        error if error.is_incomplete_message() || error.is_closed() => "EOF".to_owned(),
        error => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}

/// A place among a connection's streams, given back when the body is gone.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(streams: &Arc<AtomicUsize>) -> Slot {
        streams.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(streams))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, as it comes.
pub struct Answer {
    body: Incoming,
    _slot: Option<Slot>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
