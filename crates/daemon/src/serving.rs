//! A TLS (or plain) HTTP/1.1 and HTTP/2 server: ALPN, upgrades, optional client certificates handed on to
//! the service, certificates reloaded from files, drain at the end.
//!
//! The client's certificate is asked for and its possession proved, but by whom it is signed is not checked here:
//! authentication does that per request against [`authority::Authority`], because a
//! certificate that nobody vouches for makes its bearer anonymous, not refused.

pub mod authority;
mod certificate;
pub mod identity;
mod listen;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::panics;
use authority::{Authority, Refusal, Subject};

pub use certificate::{Error, KeyPair};
pub use listen::bind;
pub use tls::TlsConfig;

/// The other end of a connection, in each of its requests' extensions as `Peer`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerInner>);

#[derive(Debug)]
struct PeerInner {
    address: SocketAddr,
    local: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    certificate_end: OnceLock<Option<i64>>,
    verified: Mutex<Vec<Verified>>,
}

/// What an authority's bundle said of a connection's certificate.
#[derive(Debug)]
struct Verified {
    authority: u64,
    generation: u64,
    subject: Result<Arc<Subject>, Refusal>,
}

impl Peer {
    pub fn new(address: SocketAddr, local: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Peer {
        let (certificate_end, verified) = (OnceLock::new(), Mutex::default());
        Peer(Arc::new(PeerInner { address, local, certificates, certificate_end, verified }))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Our own end.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Certificates that the client presented, leaf first; empty for none. The authority verifies them.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }

    /// When the client's certificate ends, in seconds since 1970; read out of it once.
    pub fn certificate_end(&self) -> Option<i64> {
        let read = || Some(authority::subject(self.0.certificates.first()?).ok()?.not_after);
        *self.0.certificate_end.get_or_init(read)
    }

    /// The certificate's subject, where the authority vouches for it and it is valid now. The signatures are checked once per
    /// connection and bundle, the end of the validity at every request.
    pub fn verified(&self, authority: &Authority) -> Result<Arc<Subject>, Refusal> {
        let generation = authority.generation();
        let mut verified = self.0.verified.lock();
        verified.retain(|own| own.authority != authority.number() || own.generation == generation);
        let known = verified.iter().find(|own| own.authority == authority.number());
        let subject = match known {
            Some(known) => known.subject.clone(),
            None => {
                let subject = authority.verify(&self.0.certificates).map(Arc::new);
                let kept = Verified { authority: authority.number(), generation, subject: subject.clone() };
                verified.push(kept);
                subject
            }
        }?;
        match subject.not_after < jiff::Timestamp::now().as_second() {
            true => Err(Refusal::Expired),
            false => Ok(subject),
        }
    }
}

/// Limits of a server. The defaults suit every daemon but the API server.
#[derive(Clone, Debug)]
pub struct Options {
    /// HTTP/2 streams per connection.
    pub max_streams: u32,
    pub http2: bool,
    /// How long running requests may go on after the shutdown.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { max_streams: 250, http2: true, drain: Duration::from_secs(10) }
    }
}

/// A client has this long for its handshake and for its request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(32);

/// Serves until `shutdown`, then lets running requests end for `options.drain`. `tls: None` is plain HTTP.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<TlsConfig>,
    service: S,
    options: Options,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    let acceptor = tls.as_ref().map(|tls| tls.acceptor(options.http2));
    loop {
        let (stream, address) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let local = listen::plain(stream.local_addr().unwrap_or(address));
        let address = listen::plain(address);
        let connection = Connection {
            service: service.clone(),
            options: options.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let acceptor = acceptor.clone();
        let kill = kill.clone();
        tasks.spawn(panics::contained(async move {
            let serve = async {
                let Some(acceptor) = acceptor else {
                    return connection.run(stream, Peer::new(address, local, Vec::new()), None).await;
                };
                match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let session = stream.get_ref().1;
                        let http2 = session.alpn_protocol() == Some(b"h2");
                        let certificates = session.peer_certificates().map(|chain| {
                            chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
                        });
                        let peer = Peer::new(address, local, certificates.unwrap_or_default());
                        connection.run(stream, peer, Some(http2)).await;
                    }
                    Ok(Err(error)) => tracing::info!("http: TLS handshake error from {address}: {error}"),
                    Err(_) => tracing::info!("http: TLS handshake error from {address}: timed out"),
                }
            };
            tokio::select! { () = kill.cancelled() => {}, () = serve => {} }
        }));
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(options.drain, tasks.wait()).await.is_err() {
        kill.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    }
}

struct Connection<S> {
    service: S,
    options: Options,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves one connection. `http2`: what ALPN chose; `None` on a plain connection, where the first bytes decide.
    async fn run<I>(self, stream: I, peer: Peer, http2: Option<bool>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(Tracked(self.tasks));
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(1 << 20);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.options.max_streams)
            .max_header_list_size(1 << 20)
            .initial_stream_window_size(1 << 18)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(1 << 18)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(15));
        let builder = match http2 {
            Some(true) => builder.http2_only(),
            Some(false) => builder.http1_only(),
            None if !self.options.http2 => builder.http1_only(),
            None => builder,
        };
        let service = WithPeer { service: self.service, peer };
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::trace!(error, "Connection ended");
        }
    }
}

/// Puts the peer into each request.
struct WithPeer<S> {
    service: S,
    peer: Peer,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}

/// HTTP/2 requests run as tasks of the server, so that the drain waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(panics::contained(future));
    }
}
