//! Logs for clients that can only read WebSockets, browsers above all: what comes is sent in messages, binary or base64.
//!
//! Implements the part of RFC 6455 that a sender needs. The client's messages are ignored, except for pings and closes.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::body::Body;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// What a client has to send is small: a longer frame ends the connection.
const LONGEST: u64 = 64 << 10;

const TEXT_FRAME: u8 = 1;
const BINARY_FRAME: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client that asks for a WebSocket.
pub struct Handshake {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<&'static str>,
}

/// The handshake that a request wants, if it wants one.
pub fn asked(request: &mut Request<Incoming>) -> Option<Handshake> {
    let headers = request.headers();
    let is = |name, value: &str| {
        headers.get(name).is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    if !super::upgrades(headers) || !is(UPGRADE, "websocket") || !is(SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let accept = accept(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())?;
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    let protocol = offered.find_map(|name| [BINARY, BASE64].into_iter().find(|own| *own == name));
    Some(Handshake { upgrade: hyper::upgrade::on(request), accept, protocol })
}

fn accept(key: &[u8]) -> Option<HeaderValue> {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

impl Handshake {
    /// The answer, and the sending of `body` once the connection is the socket's.
    pub fn serve(self, body: Body) -> (Response<Body>, impl Future<Output = ()> + Send + 'static) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        let (upgrade, base64) = (self.upgrade, self.protocol == Some(BASE64));
        let sending = async move {
            let Ok(connection) = upgrade.await else { return };
            if let Err(error) = send(TokioIo::new(connection), body, base64).await {
                tracing::debug!(%error, "A log's reader went away");
            }
        };
        (response, sending)
    }
}

async fn send<I>(mut socket: I, mut body: Body, base64: bool) -> std::io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = BytesMut::new();
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(frame) = frame.transpose()? else { break };
                let Ok(data) = frame.into_data() else { continue };
                let frame = match base64 {
                    true => framed(TEXT_FRAME, STANDARD.encode(&data).as_bytes()),
                    false => framed(BINARY_FRAME, &data),
                };
                socket.write_all(&frame).await?;
            }
            read = socket.read_buf(&mut received) => {
                if read? == 0 {
                    return Ok(());
                }
                while let Some((kind, payload)) = parsed(&mut received)? {
                    match kind {
                        CLOSE => {
                            socket.write_all(&framed(CLOSE, &payload)).await?;
                            return socket.shutdown().await;
                        }
                        PING => socket.write_all(&framed(PONG, &payload)).await?,
                        _ => {}
                    }
                }
            }
        }
    }
    socket.write_all(&framed(CLOSE, &1000u16.to_be_bytes())).await?;
    socket.shutdown().await
}

/// A whole message in one frame, as servers send them.
fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | kind);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Takes the next frame off what was received; `None` until it is there whole.
fn parsed(received: &mut BytesMut) -> std::io::Result<Option<(u8, Bytes)>> {
    let mut rest = &received[..];
    if rest.remaining() < 2 {
        return Ok(None);
    }
    let (kind, second) = (rest.get_u8() & 0x0f, rest.get_u8());
    let (masked, short) = (second & 0x80 != 0, second & 0x7f);
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask_length = if masked { 4 } else { 0 };
    if rest.remaining() < extended + mask_length {
        return Ok(None);
    }
    let length = match extended {
        2 => u64::from(rest.get_u16()),
        8 => rest.get_u64(),
        _ => u64::from(short),
    };
    if length > LONGEST {
        return Err(std::io::Error::other("the frame is too long"));
    }
    let mut mask = [0; 4];
    rest.copy_to_slice(&mut mask[..mask_length]);
    let (head, length) = (received.len() - rest.len(), length as usize);
    if rest.remaining() < length {
        return Ok(None);
    }
    received.advance(head);
    let mut payload = received.split_to(length);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some((kind, payload.freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_standard_says() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_there_and_back() {
        for length in [0, 1, 125, 126, 65535, 65536] {
            let payload = vec![b'x'; length];
            let mut received = BytesMut::from(&framed(BINARY_FRAME, &payload)[..]);
            assert_eq!(parsed(&mut received.clone().split_to(received.len() - 1)).unwrap(), None);
            assert_eq!(parsed(&mut received).unwrap(), Some((BINARY_FRAME, payload.into())));
            assert!(received.is_empty());
        }
        let mut masked = BytesMut::from(&[0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2, 0x88][..]);
        assert_eq!(parsed(&mut masked).unwrap(), Some((PING, Bytes::from_static(b"hi"))));
        assert_eq!(parsed(&mut masked).unwrap(), None);
        assert!(parsed(&mut BytesMut::from(&framed(TEXT_FRAME, &[0; 65537])[..])).is_err());
    }

    #[tokio::test]
    async fn a_log_is_sent_and_the_socket_closed() {
        let (mut client, server) = tokio::io::duplex(1024);
        send(server, "a line\n".into(), false).await.unwrap();
        let mut received = BytesMut::new();
        while client.read_buf(&mut received).await.unwrap() > 0 {}
        assert_eq!(parsed(&mut received).unwrap(), Some((BINARY_FRAME, Bytes::from_static(b"a line\n"))));
        assert_eq!(parsed(&mut received).unwrap().map(|(kind, _)| kind), Some(CLOSE));
    }
}
