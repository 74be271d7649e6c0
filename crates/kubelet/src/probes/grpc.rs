//! `grpc.health.v1.Health/Check`, over plain HTTP/2. The two messages are small enough to write by hand.

use super::check::Outcome;
use super::http::connect;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// `HealthCheckResponse.status`.
const SERVING: u8 = 1;
const UNIMPLEMENTED: &str = "12";

pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = format!("{host}:{port}");
    let limit = daemon::flags::Duration(timeout).to_string();
    let stream = match connect(host, port, timeout).await {
        Ok(stream) => stream,
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {limit}: context deadline exceeded"
            ));
        }
    };
    match tokio::time::timeout(timeout, check(stream, &address, service)).await {
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {limit}")),
        Ok(Err(text)) => Outcome::Failure(format!("error: health rpc probe failed: {text}")),
        Ok(Ok(Answer::Status(SERVING))) => Outcome::Success,
        Ok(Ok(Answer::Status(status))) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                _ => "SERVICE_UNKNOWN",
            };
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Ok(Ok(Answer::Unimplemented(text))) => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {text}"
        )),
    }
}

enum Answer {
    Status(u8),
    Unimplemented(String),
}

/// `HealthCheckRequest` in a frame: field 1 is the service's name.
fn question(service: &str) -> Result<Bytes, std::num::TryFromIntError> {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f)? | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length)?);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(&message);
    Ok(frame.freeze())
}

async fn check(stream: tokio::net::TcpStream, address: &str, service: &str) -> Result<Answer, String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(text)?;
    let frame = question(service).map_err(|error| error.to_string())?;
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", format!("kube-probe/{}.{}", daemon::version::MAJOR, daemon::version::MINOR))
        .body(Full::<Bytes>::new(frame))
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(text)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name: &str| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (code, words) = (find("grpc-status"), find("grpc-message"));
        match code.as_str() {
            "0" | "" => {}
            UNIMPLEMENTED => return Ok(Answer::Unimplemented(words)),
            code => return Err(format!("rpc error: code = {code} desc = {words}")),
        }
        let bytes = body.to_bytes();
        // A frame's head of five bytes, then field 1 as a varint; nothing at all is zero.
        Ok(Answer::Status(match bytes.get(5..) {
            Some([0x08, status, ..]) => *status,
            _ => 0,
        }))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_names() {
        let head = |length: usize| {
            let frame = question(&"n".repeat(length)).unwrap();
            let name = frame.iter().position(|byte| *byte == b'n').unwrap_or(frame.len());
            assert_eq!(frame.len() - name, length);
            frame[..name].to_vec()
        };
        assert_eq!(head(0), [0, 0, 0, 0, 0]);
        assert_eq!(head(127), [0, 0, 0, 0, 129, 0x0a, 127]);
        assert_eq!(head(128), [0, 0, 0, 0, 131, 0x0a, 0x80, 1]);
        assert_eq!(head(300), [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }
}
