//! Connections: a few HTTP/2 connections shared by every request, opened when needed, replaced when
//! they break or when our certificate changes; HTTP/1.1 where the server speaks nothing else, and for
//! upgrades.
//!
//! A connection takes at most [`STREAMS`] requests at once. Watches live long, and servers bound the
//! streams of a connection: were all watches on one, the next request would wait behind them for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::UnderWay;
use crate::tls::{self, Stamp};
use crate::{Config, Result};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

/// Requests in flight on one HTTP/2 connection; upstream's API server allows 100 or more.
const STREAMS: usize = 90;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the files of the credentials are looked at, at most.
const RELOAD_CHECK: Duration = Duration::from_secs(5);
const IDLE_HTTP1: usize = 4;

pub(crate) struct Transport {
    config: Config,
    pub under_way: UnderWay,
    tls: Mutex<Tls>,
    connections: Mutex<Vec<Arc<Connection>>>,
    idle: Mutex<Vec<http1::SendRequest<Full<Bytes>>>>,
    /// One dial at a time: those who come meanwhile use its connection.
    dial: tokio::sync::Mutex<()>,
    /// Ends the connections of now, and those that are being made; the next ones have another.
    closing: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

struct Tls {
    connector: Option<TlsConnector>,
    stamp: Stamp,
    checked: Option<Instant>,
}

struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    streams: Arc<AtomicUsize>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Dialled {
    Http2(Arc<Connection>),
    Http1(http1::SendRequest<Full<Bytes>>),
}

/// A failed exchange: whether the request may have reached the server.
pub(crate) struct Failure {
    pub source: Boxed,
    pub sent: bool,
}

impl Failure {
    fn unsent(source: impl Into<Boxed>) -> Failure {
        Failure { source: source.into(), sent: false }
    }
}

impl Transport {
    pub fn new(config: Config) -> Result<Transport> {
        let mut tls = Tls { connector: None, stamp: Vec::new(), checked: None };
        if config.server.scheme_str() == Some("https") {
            tls.stamp = tls::stamp(&config);
            tls.connector = Some(connector(&config)?);
            tls.checked = Some(Instant::now());
        }
        Ok(Transport {
            config,
            under_way: UnderWay::default(),
            tls: Mutex::new(tls),
            connections: Mutex::default(),
            idle: Mutex::default(),
            dial: tokio::sync::Mutex::new(()),
            closing: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Sends a request, opening a connection where none is free. Its URI is absolute.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Failure> {
        self.reload();
        if let Some(connection) = self.free() {
            return exchange(&connection, request).await;
        }
        if let Some(sender) = self.idle() {
            return self.exchange_http1(sender, request).await;
        }
        let dialled = {
            let _one = self.dial.lock().await;
            match self.free() {
                Some(connection) => Dialled::Http2(connection),
                None => self.dial().await.map_err(Failure::unsent)?,
            }
        };
        match dialled {
            Dialled::Http2(connection) => exchange(&connection, request).await,
            Dialled::Http1(sender) => self.exchange_http1(sender, request).await,
        }
    }

    /// Ends all connections but upgraded ones, with the requests and watches that are under way on them.
    pub fn close(&self) {
        let closing = std::mem::take(&mut *self.closing.lock());
        self.connections.lock().clear();
        self.idle.lock().clear();
        closing.cancel();
    }

    /// Runs a connection until it ends or is closed.
    fn run<E: std::fmt::Display>(
        &self,
        connection: impl Future<Output = Result<(), E>> + Send + 'static,
        closing: CancellationToken,
    ) {
        self.tasks.spawn(async move {
            if let Some(Err(error)) = closing.run_until_cancelled(connection).await {
                tracing::debug!(%error, "connection to the API server ended");
            }
        });
    }

    /// Sends a request that asks for an upgrade, on an HTTP/1.1 connection of its own. After a `101`
    /// the caller takes the connection by `hyper::upgrade::on(response)`.
    pub async fn send_upgrade(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let (stream, _) = self.connect(&[b"http/1.1"]).await.map_err(Failure::unsent)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Failure::unsent)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upgraded connection to the API server ended");
            }
        });
        sender
            .send_request(origin_form(request))
            .await
            .map_err(|source| Failure { source: source.into(), sent: true })
    }

    fn free(&self) -> Option<Arc<Connection>> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        connections.iter().find(|connection| connection.streams.load(Ordering::Relaxed) < STREAMS).cloned()
    }

    fn idle(&self) -> Option<http1::SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        idle.retain(|sender| sender.is_ready());
        idle.pop()
    }

    /// Retires connections made under credentials that have changed since. Requests that run on them
    /// finish there.
    fn reload(&self) {
        let mut tls = self.tls.lock();
        match tls.checked {
            Some(checked) if checked.elapsed() >= RELOAD_CHECK => {}
            _ => return,
        }
        tls.checked = Some(Instant::now());
        let stamp = tls::stamp(&self.config);
        if stamp == tls.stamp {
            return;
        }
        match connector(&self.config) {
            Ok(connector) => {
                tracing::info!("client credentials changed, connecting anew");
                tls.connector = Some(connector);
                tls.stamp = stamp;
                self.connections.lock().clear();
                self.idle.lock().clear();
            }
            // A pair half written: the stamp stays, and so the next check tries again.
            Err(error) => tracing::warn!(%error, "changed client credentials cannot be used yet"),
        }
    }

    async fn connect(&self, protocols: &[&[u8]]) -> Result<(Box<dyn Stream>, bool), Boxed> {
        let server = &self.config.server;
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
        let secure = server.scheme_str() == Some("https");
        let port = server.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let dial = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let connector = self.tls.lock().connector.clone();
            let Some(connector) = connector else {
                return Ok((Box::new(stream) as Box<dyn Stream>, false));
            };
            let connector = if protocols == [b"http/1.1"] {
                let mut config = (**connector.config()).clone();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                TlsConnector::from(Arc::new(config))
            } else {
                connector
            };
            let stream = connector.connect(tls::server_name(&self.config)?, stream).await?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok::<_, Boxed>((Box::new(stream) as Box<dyn Stream>, http2))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
            Ok(result) => result,
            Err(_) => Err(format!("connecting took longer than {CONNECT_TIMEOUT:?}").into()),
        }
    }

    async fn dial(&self) -> Result<Dialled, Boxed> {
        let closing = self.closing.lock().clone();
        let connected = closing.run_until_cancelled(self.connect(&[b"h2", b"http/1.1"])).await;
        let (stream, http2) = connected.ok_or("connections are closed")??;
        let stream = TokioIo::new(stream);
        if !http2 {
            let (sender, connection) = http1::handshake(stream).await?;
            self.run(connection, closing);
            return Ok(Dialled::Http1(sender));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15))
            .keep_alive_while_idle(true)
            // One stream that is read slowly must not stop the others of its connection.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(STREAMS as u32 * (1 << 20))
            .handshake(stream)
            .await?;
        self.run(connection, closing);
        let connection = Arc::new(Connection { sender, streams: Arc::default() });
        self.connections.lock().push(connection.clone());
        Ok(Dialled::Http2(connection))
    }

    async fn exchange_http1(
        &self,
        mut sender: http1::SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Failure> {
        let response = sender.try_send_request(origin_form(request)).await.map_err(|mut failure| {
            let sent = failure.take_message().is_none();
            Failure { source: failure.into_error().into(), sent }
        })?;
        // The sender can be used again once the body has been read: it says so by being ready.
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_HTTP1 {
            idle.push(sender);
        } else if let Some(busy) = idle.iter().position(|sender| !sender.is_ready()) {
            idle[busy] = sender;
        }
        Ok(response.map(|body| Body { incoming: body, _stream: None }))
    }
}

fn connector(config: &Config) -> Result<TlsConnector> {
    Ok(TlsConnector::from(Arc::new(tls::build(config, &[b"h2", b"http/1.1"])?)))
}

/// HTTP/1.1 servers want the path in the request line and the authority in `Host`.
fn origin_form(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    if let Some(authority) = request.uri().authority().map(|authority| authority.as_str().to_string())
        && let Ok(value) = http::HeaderValue::from_str(&authority)
    {
        request.headers_mut().entry(http::header::HOST).or_insert(value);
    }
    let path = request.uri().path_and_query().cloned();
    if let Some(path) = path {
        *request.uri_mut() = http::Uri::from(path);
    }
    request
}

async fn exchange(
    connection: &Arc<Connection>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body>, Failure> {
    let slot = Slot::take(&connection.streams);
    let response = connection.sender.clone().try_send_request(request).await.map_err(|mut failure| {
        let sent = failure.take_message().is_none();
        Failure { source: failure.into_error().into(), sent }
    })?;
    Ok(response.map(|body| Body { incoming: body, _stream: Some(slot) }))
}

/// A place among a connection's streams, given back when the body is gone.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(streams: &Arc<AtomicUsize>) -> Slot {
        streams.fetch_add(1, Ordering::Relaxed);
        Slot(streams.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, streamed.
pub struct Body {
    incoming: Incoming,
    _stream: Option<Slot>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
