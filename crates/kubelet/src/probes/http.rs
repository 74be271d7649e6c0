//! HTTP(S) GET without verification, for probes and lifecycle hooks. Error texts are Go's, because they end
//! in events.

use super::check::Outcome;
use super::early::{Asking, FirstLine};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

#[derive(Clone, Debug)]
pub struct Request {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// What is read of a body at most.
const BODY_LIMIT: usize = 10 * 1024;
const REDIRECTS: usize = 10;

impl Request {
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }
}

pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub async fn probe(request: &Request, timeout: Duration) -> Outcome {
    let url = request.url();
    match tokio::time::timeout(timeout, follow(request.clone(), timeout)).await {
        Err(_) => Outcome::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        Ok(Err(text)) => Outcome::Failure(text),
        Ok(Ok(answer)) => match answer.status {
            200..300 => Outcome::Success,
            300..400 => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
            }
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        },
    }
}

pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

/// Follows redirects, on the same host only.
async fn follow(mut request: Request, timeout: Duration) -> Result<Answer, String> {
    for _ in 0..REDIRECTS {
        let answer = get(&request, timeout).await?;
        let Some(location) = answer.location.clone().filter(|_| (300..400).contains(&answer.status)) else {
            return Ok(answer);
        };
        let Some(next) = redirect(&request, &location) else { return Ok(answer) };
        request = next;
    }
    Err(format!("Get {:?}: stopped after {REDIRECTS} redirects", request.url()))
}

fn redirect(request: &Request, location: &str) -> Option<Request> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(Request { path: location.to_owned(), ..request.clone() });
    }
    let uri: http::Uri = location.parse().ok()?;
    if uri.host()? != request.host {
        return None;
    }
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
    Some(Request { tls, port, path, ..request.clone() })
}

/// A TCP connection, with Go's words where there is none.
pub async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = authority(host, port);
    let connecting = async {
        match host.parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, port)).await,
            Err(_) => TcpStream::connect((host, port)).await,
        }
    };
    match tokio::time::timeout(timeout, connecting).await {
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let text = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
                io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
                io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
                io::ErrorKind::TimedOut => "connect: connection timed out".into(),
                _ => error.to_string(),
            };
            Err(format!("dial tcp {address}: {text}"))
        }
    }
}

/// How long a TLS handshake may take, as Go's client has it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// As [`get`], with a limit for all of it, from the connection to the end of the answer.
pub async fn get_within(request: &Request, connect: Duration, limit: Duration) -> Result<Answer, String> {
    tokio::time::timeout(limit, get(request, connect)).await.unwrap_or_else(|_| {
        Err(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            request.url()
        ))
    })
}

/// One GET; `timeout` is for the connection alone. The error is what Go's client would say.
async fn get(request: &Request, timeout: Duration) -> Result<Answer, String> {
    let url = request.url();
    let wrap = |text: String| format!("Get {url:?}: {text}");
    let stream = connect(&request.host, request.port, timeout).await.map_err(wrap)?;
    if !request.tls {
        return exchange(request, stream).await.map_err(wrap);
    }
    let name = rustls::pki_types::ServerName::try_from(request.host.clone())
        .map_err(|error| wrap(error.to_string()))?;
    let handshake = TlsConnector::from(tls()).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| wrap("net/http: TLS handshake timeout".into()))?;
    let stream = stream.map_err(|error| {
        let text = error.to_string();
        // A plain HTTP server answers the handshake with text.
        if text.contains("corrupt message") {
            wrap("http: server gave HTTP response to HTTPS client".into())
        } else {
            wrap(text)
        }
    })?;
    exchange(request, stream).await.map_err(wrap)
}

fn go_text(error: &hyper::Error, first_line: &str) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        "EOF".into()
    } else if error.is_parse() {
        format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response {first_line:?}")
    } else {
        error.to_string()
    }
}

/// Asks once. The error is in Go's words.
async fn exchange<S>(request: &Request, stream: S) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let first_line = FirstLine::default();
    let stream = Asking { stream, asked: false, waits: None, first_line: first_line.clone() };
    converse(request, stream).await.map_err(|error| go_text(&error, &first_line.text()))
}

async fn converse<S>(request: &Request, stream: S) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = hyper::client::conn::http1::Builder::new();
    client.title_case_headers(true);
    let (mut sender, connection) = client.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let mut built = http::Request::get(request.path.as_str()).header("Connection", "close");
    let host = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map_or_else(|| authority(&request.host, request.port), |(_, value)| value.clone());
    built = built.header("Host", host);
    for (name, value) in request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
        built = built.header(name, value);
    }
    let built = built.body(Empty::new()).unwrap_or_default();
    let exchange = async {
        let response = sender.send_request(built).await?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|it| it.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map(|it| String::from_utf8_lossy(&it.to_bytes()).into_owned()).unwrap_or_default();
        Ok(Answer { status, location, body })
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end first with the answer already read.
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    }
}

fn tls() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// Probes ask whether a server answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn request(port: u16) -> Request {
        Request { tls: false, host: "127.0.0.1".into(), port, path: "/x".into(), headers: Vec::new() }
    }

    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn outcomes() {
        let second = Duration::from_secs(1);
        let port = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(probe(&request(port), second).await, Outcome::Success);
        let port = server("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
        let failure = Outcome::Failure("HTTP probe failed with statuscode: 500".into());
        assert_eq!(probe(&request(port), second).await, failure);
        let port =
            server("HTTP/1.1 302 Found\r\nlocation: http://example.org/\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(probe(&request(port), second).await, Outcome::Warning(_)));
        let Outcome::Failure(text) = probe(&request(1), second).await else { panic!("nobody listens there") };
        assert_eq!(text, "Get \"http://127.0.0.1:1/x\": dial tcp 127.0.0.1:1: connect: connection refused");
    }

    /// As `printf … | nc -l` does, which many use as a server.
    #[tokio::test]
    async fn an_answer_may_come_before_the_question() {
        let early = async |answer: &'static str| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
            // The answer is there before the client looks.
            let stream = connect("127.0.0.1", port, Duration::from_secs(1)).await.unwrap();
            stream.readable().await.unwrap();
            let answer = exchange(&request(port), stream).await.map(|answer| answer.status);
            server.await.unwrap();
            answer
        };
        assert_eq!(early("HTTP/1.1 200 OK\r\n\r\nhello").await, Ok(200));
        assert_eq!(early("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await, Ok(503));
        let malformed =
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response \"nonsense\"";
        assert_eq!(early("nonsense\r\n\r\n").await, Err(malformed.into()));
        assert_eq!(early("").await, Err("EOF".into()));
    }

    #[tokio::test]
    async fn a_silent_server_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        for tls in [false, true] {
            let request = Request { tls, ..request(port) };
            let limit = Duration::from_millis(50);
            let answer = get_within(&request, Duration::from_secs(30), limit).await.map(|it| it.status);
            assert_eq!(
                answer,
                Err(format!(
                    "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                    request.url()
                ))
            );
        }
        silent.abort();
    }
}
