//! Upgraded HTTP/1.1 connections, from both ends: asking a server for one, and recognising what a client asks for.

use http::header::{
    CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::AbortOnDropHandle;

/// The header by which SPDY clients and servers agree on the streams' meaning.
pub const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
/// The prefix of a WebSocket subprotocol that tunnels SPDY.
pub const TUNNEL_PREFIX: &str = "SPDY/3.1+";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unusable streaming address {0}")]
    Address(Uri),
    #[error("dial {address}: {source}")]
    Dial { address: String, source: std::io::Error },
    #[error("streaming request: {0}")]
    Http(#[from] hyper::Error),
    #[error("streaming request: {0}")]
    Request(#[from] http::Error),
}

/// What a client that wants to stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Spdy,
    WebSocket,
    Nothing,
}

/// Reads the request's `Connection` and `Upgrade` headers.
pub fn wanted(headers: &HeaderMap) -> Wanted {
    let has = |name, word: &str| {
        headers.get_all(name).iter().any(|value: &HeaderValue| {
            value
                .to_str()
                .is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        })
    };
    match () {
        () if !has(CONNECTION, "upgrade") => Wanted::Nothing,
        () if has(UPGRADE, "websocket") => Wanted::WebSocket,
        () if has(UPGRADE, "SPDY/3.1") => Wanted::Spdy,
        () => Wanted::Nothing,
    }
}

/// The values of a header that may be repeated and may hold comma-separated lists.
pub fn offers(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Vec<&str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect()
}

/// The answer that turns a WebSocket client's request into a WebSocket; `None` if the request is not a handshake.
pub fn accept_websocket<B>(headers: &HeaderMap, protocol: Option<&str>, body: B) -> Option<Response<B>> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()).parse().ok()?);
    if let Some(protocol) = protocol {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, protocol.parse().ok()?);
    }
    Some(response)
}

/// The headers that ask for SPDY with one of these stream protocols.
pub fn spdy_headers(protocols: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    for protocol in protocols {
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    headers
}

/// What a server made of the request for an upgrade.
pub enum Answer {
    Upgraded(HeaderMap, TokioIo<Upgraded>, AbortOnDropHandle<()>),
    /// It answered as plain HTTP; the handle keeps the connection alive while the body is read.
    Refused(Response<Incoming>, AbortOnDropHandle<()>),
}

/// Asks the server at `uri` (plain http) to upgrade.
pub async fn dial(method: Method, uri: &Uri, headers: HeaderMap) -> Result<Answer, Error> {
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
    let authority = authority.ok_or_else(|| Error::Address(uri.clone()))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await.map_err(|source| Error::Dial { address, source })?;
    let _ = stream.set_nodelay(true);
    ask(stream, method, uri, headers).await
}

/// The same over a connection that stands already.
pub async fn ask<IO>(io: IO, method: Method, uri: &Uri, headers: HeaderMap) -> Result<Answer, Error>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "streaming connection");
        }
    }));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new())?;
    *request.headers_mut() = headers;
    if let Some(host) = uri.authority().and_then(|authority| authority.as_str().parse().ok()) {
        request.headers_mut().insert(HOST, host);
    }
    let mut response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Refused(response, driver));
    }
    let upgraded = hyper::upgrade::on(&mut response).await?;
    Ok(Answer::Upgraded(std::mem::take(response.headers_mut()), TokioIo::new(upgraded), driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_protocol_a_client_wants() {
        let table = [
            ("Upgrade", "SPDY/3.1", Wanted::Spdy),
            ("keep-alive, Upgrade", "websocket", Wanted::WebSocket),
            ("upgrade", "WebSocket", Wanted::WebSocket),
            ("close", "websocket", Wanted::Nothing),
            ("upgrade", "h2c", Wanted::Nothing),
        ];
        for (connection, upgrade, want) in table {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, connection.parse().unwrap());
            headers.insert(UPGRADE, upgrade.parse().unwrap());
            assert_eq!(wanted(&headers), want, "{connection} / {upgrade}");
        }
    }
}
