//! `grpc.health.v1.Health/Check`, over plain HTTP/2. The two messages are small enough to write by hand.

use super::check::Outcome;
use super::http::{authority, connect};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// `HealthCheckResponse.status`.
const SERVING: u8 = 1;
const UNIMPLEMENTED: usize = 12;

/// The codes of gRPC, in their order.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = authority(host, port);
    let limit = daemon::flags::Duration(timeout).to_string();
    // Upstream's client goes on trying to connect until the time is over; a server of another protocol is none.
    let no_server = || {
        Outcome::Failure(format!(
            "timeout: failed to connect service {address:?} within {limit}: context deadline exceeded"
        ))
    };
    let Ok(stream) = connect(host, port, timeout).await else { return no_server() };
    match tokio::time::timeout(timeout, check(stream, &address, service)).await {
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {limit}")),
        Ok(Err(Problem::Connection)) => no_server(),
        Ok(Err(Problem::Call(text))) => Outcome::Failure(format!("error: health rpc probe failed: {text}")),
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

enum Problem {
    /// Nobody there speaks HTTP/2.
    Connection,
    Call(String),
}

impl From<hyper::Error> for Problem {
    fn from(_: hyper::Error) -> Self {
        Problem::Connection
    }
}

/// A message in the header that holds it, where bytes other than printable ones are `%41`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a status other than success is called.
fn rpc_error(code: &str, words: &str) -> String {
    let name = code.parse().ok().and_then(|code: usize| CODES.get(code).copied());
    let name = name.map_or_else(|| format!("Code({code})"), str::to_owned);
    format!("rpc error: code = {name} desc = {words}")
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

async fn check(stream: tokio::net::TcpStream, address: &str, service: &str) -> Result<Answer, Problem> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let frame = question(service).map_err(|error| Problem::Call(error.to_string()))?;
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", format!("kube-probe/{}.{}", daemon::version::MAJOR, daemon::version::MINOR))
        .body(Full::<Bytes>::new(frame))
        .map_err(|error| Problem::Call(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let find = |name: &str| {
            let value = trailers.get(name).or_else(|| head.headers.get(name));
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (code, words) = (find("grpc-status"), find("grpc-message"));
        let words = decoded(&words);
        match code.as_str() {
            "0" | "" => {}
            code if code.parse() == Ok(UNIMPLEMENTED) => return Ok(Answer::Unimplemented(words)),
            code => return Err(Problem::Call(rpc_error(code, &words))),
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
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_errors() {
        let expect = "rpc error: code = NotFound desc = unknown service";
        assert_eq!(rpc_error("5", "unknown service"), expect);
        assert_eq!(rpc_error("99", ""), "rpc error: code = Code(99) desc = ");
        assert_eq!(CODES[UNIMPLEMENTED], "Unimplemented");
        assert_eq!(decoded("no %22a%22: 100%, %c3%bc"), "no \"a\": 100%, ü");
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_is_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    .await;
            }
        });
        let outcome = probe("127.0.0.1", port, "", Duration::from_secs(1)).await;
        let text = format!(
            "timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded"
        );
        assert_eq!(outcome, Outcome::Failure(text));
        server.abort();
    }

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
