//! A body for clients that can only read WebSockets, browsers above all: what comes is sent in messages, binary or base64. What the
//! client says is ignored, except for its goodbye.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::channels::Protocol;
use super::upgrade::{self, Wanted};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// What a client has to send is small: a longer frame ends the connection.
const LONGEST: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the client's WebSocket: {0}")]
    WebSocket(#[from] tungstenite::Error),
    #[error("the body: {0}")]
    Body(std::io::Error),
}

/// A client that asks for a WebSocket.
pub struct Handshake {
    upgrade: OnUpgrade,
    answer: Response<()>,
    base64: bool,
}

/// The handshake that a request wants, if it wants one.
pub fn asked<B>(request: &mut Request<B>) -> Option<Handshake> {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !version || upgrade::wanted(headers) != Wanted::WebSocket {
        return None;
    }
    let offered = upgrade::offers(headers, SEC_WEBSOCKET_PROTOCOL);
    let protocol = offered.into_iter().find(|name| [BINARY, BASE64].contains(name));
    let base64 = protocol == Some(BASE64);
    let answer = upgrade::accept_websocket(headers, protocol, ())?;
    Some(Handshake { upgrade: hyper::upgrade::on(request), answer, base64 })
}

impl Handshake {
    /// The answer, and the sending of `body` once the connection is the socket's.
    pub fn serve<B>(self, body: B) -> (Response<()>, impl Future<Output = ()> + Send + 'static)
    where
        B: http_body::Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static,
    {
        let Handshake { upgrade, answer, base64 } = self;
        let sending = async move {
            let Ok(connection) = upgrade.await else { return };
            if let Err(error) = send(TokioIo::new(connection), body, base64).await {
                tracing::debug!(%error, "A reader of messages went away");
            }
        };
        (answer, sending)
    }
}

async fn send<I, B>(connection: I, mut body: B, base64: bool) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin,
{
    let limits = WebSocketConfig::default().max_frame_size(Some(LONGEST)).max_message_size(Some(LONGEST));
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(limits)).await;
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(frame) = frame.transpose().map_err(Error::Body)? else { break };
                let Ok(data) = frame.into_data() else { continue };
                let message = if base64 { Message::text(STANDARD.encode(&data)) } else { Message::Binary(data) };
                socket.send(message).await?;
            }
            // Pings and closes are answered by this.
            message = socket.next() => match message {
                Some(Ok(_)) => {}
                Some(Err(tungstenite::Error::ConnectionClosed)) | None => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
    socket.send(Protocol::goodbye()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    fn body(text: &'static str) -> impl http_body::Body<Data = Bytes, Error = std::io::Error> + Unpin {
        Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {})
    }

    #[test]
    fn a_handshake_is_recognised() {
        let check = |change: fn(&mut Request<()>), expect: Option<(Option<&str>, bool)>| {
            let mut request = Request::new(());
            for (name, value) in [
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "WebSocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", "chat, base64.binary.k8s.io, binary.k8s.io"),
            ] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            change(&mut request);
            let handshake = asked(&mut request);
            if let Some(Handshake { answer, .. }) = &handshake {
                assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            }
            let got = handshake.as_ref().map(|handshake| {
                let chosen = handshake.answer.headers().get("sec-websocket-protocol");
                (chosen.map(|chosen| chosen.to_str().unwrap()), handshake.base64)
            });
            assert_eq!(got, expect);
        };
        check(|_| (), Some((Some(BASE64), true)));
        check(|request| drop(request.headers_mut().remove("sec-websocket-protocol")), Some((None, false)));
        check(|request| drop(request.headers_mut().remove("sec-websocket-key")), None);
        check(|request| drop(request.headers_mut().remove("connection")), None);
        check(
            |request| drop(request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap())),
            None,
        );
    }

    #[tokio::test]
    async fn a_body_is_sent_and_the_socket_closed() {
        for (base64, expect) in
            [(false, Message::binary(&b"a line\n"[..])), (true, Message::text("YSBsaW5lCg=="))]
        {
            let (client, server) = tokio::io::duplex(1024);
            send(server, body("a line\n"), base64).await.unwrap();
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            assert_eq!(client.next().await.unwrap().unwrap(), expect);
            let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else {
                panic!("no close")
            };
            assert_eq!(close.code, CloseCode::Normal);
        }
    }

    #[tokio::test]
    async fn a_client_goes_when_it_likes_and_says_little() {
        let endless = || http_body_util::StreamBody::new(futures::stream::pending());
        let (client, server) = tokio::io::duplex(1024);
        let sending = tokio::spawn(send(server, endless(), false));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::Ping(Bytes::from_static(b"hi"))).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"hi")));
        client.close(None).await.unwrap();
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        sending.await.unwrap().unwrap();

        let (client, server) = tokio::io::duplex(1 << 20);
        let sending = tokio::spawn(send(server, endless(), false));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(Message::binary(vec![0; LONGEST + 1])).await.unwrap();
        assert!(sending.await.unwrap().is_err());
    }
}
