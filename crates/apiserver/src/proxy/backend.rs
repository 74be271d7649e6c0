//! One connection per proxied request: they are long, few, and end with what they carry.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Proxy;
use super::place::{Place, Transport};
use crate::body::Body;

const CONNECT: Duration = Duration::from_secs(30);

impl Proxy {
    /// The answer's head; errors are worded as Go's dialer words them, because users read them in kubectl.
    pub(super) async fn send(
        &self,
        place: &Place,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let authority = place.authority();
        // `--kubelet-timeout`: its kubelet is there or is not; how long an answer takes is the client's business
        let limit = match place.transport {
            Transport::Kubelet => self.kubelet_timeout,
            _ => CONNECT,
        };
        let connecting = async {
            match place.addresses.as_slice() {
                [] => TcpStream::connect((place.host.as_str(), place.port)).await,
                known => TcpStream::connect(known).await,
            }
        };
        let stream = match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("dial tcp {authority}: connect: {}", words(&error))),
            Err(_) => return Err(format!("dial tcp {authority}: i/o timeout")),
        };
        let _ = stream.set_nodelay(true);
        if place.transport == Transport::Plain {
            return self.exchange(stream, request).await;
        }
        let config = self.tls.config(place.transport == Transport::Kubelet)?;
        let name =
            rustls_pki_types::ServerName::try_from(place.host.clone()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(config);
        match tokio::time::timeout(limit, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => self.exchange(stream, request).await,
            Ok(Err(error)) => Err(format!("tls: {error}")),
            Err(_) => Err("net/http: TLS handshake timeout".to_owned()),
        }
    }

    async fn exchange<I>(&self, stream: I, request: Request<Body>) -> Result<Response<Incoming>, String>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "A proxied connection ended");
            }
        });
        sender.send_request(request).await.map_err(|error| error.to_string())
    }
}

/// As Go words a failed `connect`.
pub(crate) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}
