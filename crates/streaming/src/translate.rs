//! A WebSocket client's channels, carried over SPDY streams to a runtime.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::channels::{self, Input, Protocol};
use super::spdy::{self, Connection, Receiver, Sender, Side};

/// The streams that the client's request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal has a resize stream, and its stderr comes through stdout.
    pub terminal: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the client's WebSocket: {0}")]
    WebSocket(#[from] tungstenite::Error),
    #[error("the runtime: {0}")]
    Runtime(#[from] spdy::Error),
}

/// How long a client may take to answer our close before the connection is cut.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Error text longer than this is no `Status`.
const STATUS_LIMIT: usize = 64 << 10;

/// Joins the two until the command has ended or either side has gone. `runtime` is a connection already
/// upgraded to SPDY/3.1 with `v4.channel.k8s.io`.
pub async fn translate<W, R>(
    websocket: WebSocketStream<W>,
    protocol: Protocol,
    runtime: R,
    streams: Streams,
) -> Result<(), Error>
where
    W: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let (connection, driver) = spdy::connect(runtime, Side::Client);
    let (mut sink, mut source) = websocket.split();
    let session = async {
        let (input, output) = open(&connection, streams).await?;
        let greeting = match streams {
            Streams { stdout: true, .. } => channels::STDOUT,
            Streams { stderr: true, .. } => channels::STDERR,
            _ => channels::ERROR,
        };
        // An empty message shows the client that the stream is open.
        sink.send(protocol.message(greeting, b"")).await?;
        tokio::select! {
            result = down(output, protocol, &mut sink) => result,
            result = up(&mut source, protocol, input) => result,
        }
    };
    {
        tokio::pin!(session, driver);
        tokio::select! {
            result = &mut session => result?,
            // The runtime closed: what has arrived from it must still reach the client.
            _ = &mut driver => session.await?,
        }
    }
    let close = async {
        sink.send(Protocol::goodbye()).await?;
        while let Some(message) = source.next().await {
            message?;
        }
        Ok::<(), tungstenite::Error>(())
    };
    // A client that does not answer the close is cut off, and one that has gone needs no answer.
    let _ = tokio::time::timeout(CLOSE_WAIT, close).await;
    Ok(())
}

/// What the client may write to.
#[derive(Default)]
struct Upward {
    stdin: Option<Sender>,
    resize: Option<Sender>,
    /// Kept open though nothing is sent: ending them would end the runtime's reader.
    _others: Vec<Sender>,
}

struct Downward {
    error: Receiver,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    _others: Vec<Receiver>,
}

async fn open(connection: &Connection, streams: Streams) -> Result<(Upward, Downward), Error> {
    let stream = |kind: &str| connection.open(vec![("streamtype".to_owned(), kind.to_owned())]);
    let (error_sender, error) = stream("error").await?;
    let mut input = Upward { _others: vec![error_sender], ..Upward::default() };
    let mut output = Downward { error, stdout: None, stderr: None, _others: Vec::new() };
    if streams.stdin {
        let (sender, receiver) = stream("stdin").await?;
        input.stdin = Some(sender);
        output._others.push(receiver);
    }
    if streams.stdout {
        let (sender, receiver) = stream("stdout").await?;
        input._others.push(sender);
        output.stdout = Some(receiver);
    }
    if streams.stderr && !streams.terminal {
        let (sender, receiver) = stream("stderr").await?;
        input._others.push(sender);
        output.stderr = Some(receiver);
    }
    if streams.terminal {
        let (sender, receiver) = stream("resize").await?;
        input.resize = Some(sender);
        output._others.push(receiver);
    }
    Ok((input, output))
}

/// From the client to the runtime; ends when the client has gone.
async fn up<W>(
    source: &mut SplitStream<WebSocketStream<W>>,
    protocol: Protocol,
    mut input: Upward,
) -> Result<(), Error>
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = source.next().await {
        match protocol.parse(message?) {
            Input::Data(channels::STDIN, bytes) => {
                if let Some(stdin) = &input.stdin {
                    quietly(stdin.send(bytes).await)?;
                }
            }
            Input::Data(channels::RESIZE, bytes) => {
                if let Some(resize) = &input.resize {
                    quietly(resize.send(bytes).await)?;
                }
            }
            Input::End(channels::STDIN) => {
                if let Some(stdin) = input.stdin.take() {
                    quietly(stdin.finish().await)?;
                }
            }
            Input::Close => break,
            Input::Data(..) | Input::End(_) | Input::Nothing => {}
        }
    }
    Ok(())
}

/// A command that has ended takes no more input; its output and status still count.
fn quietly(result: Result<(), spdy::Error>) -> Result<(), spdy::Error> {
    match result {
        Err(spdy::Error::Closed) => Ok(()),
        result => result,
    }
}

/// From the runtime to the client; ends when the runtime has ended all its streams.
async fn down<W>(
    mut output: Downward,
    protocol: Protocol,
    sink: &mut SplitSink<WebSocketStream<W>, Message>,
) -> Result<(), Error>
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    let mut status = Vec::new();
    let mut error_open = true;
    while error_open || output.stdout.is_some() || output.stderr.is_some() {
        tokio::select! {
            bytes = receive(&mut output.stdout) => match bytes {
                Some(bytes) => sink.send(protocol.message(channels::STDOUT, &bytes)).await?,
                None => output.stdout = None,
            },
            bytes = receive(&mut output.stderr) => match bytes {
                Some(bytes) => sink.send(protocol.message(channels::STDERR, &bytes)).await?,
                None => output.stderr = None,
            },
            bytes = output.error.receive(), if error_open => match bytes {
                Ok(Some(bytes)) if status.len() + bytes.len() <= STATUS_LIMIT => status.extend_from_slice(&bytes),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => error_open = false,
            },
        }
    }
    if let Some(text) = ending(protocol, &status) {
        sink.send(protocol.message(channels::ERROR, text.as_bytes())).await?;
    }
    Ok(())
}

/// Never ready for a stream that is not there; `None` when it has ended, in whatever way.
async fn receive(stream: &mut Option<Receiver>) -> Option<Bytes> {
    match stream {
        Some(receiver) => receiver.receive().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// What the error channel says at the end.
fn ending(protocol: Protocol, status: &[u8]) -> Option<String> {
    const LOST: &str = "the connection to the container runtime was lost before the command ended";
    let text = String::from_utf8_lossy(status).into_owned();
    if protocol.has_status() {
        return Some(if text.is_empty() { failure(LOST).to_string() } else { text });
    }
    if text.is_empty() {
        return Some(LOST.to_owned());
    }
    let parsed = serde_json::from_str::<serde_json::Value>(&text);
    match parsed {
        Ok(value) if value["status"] == "Success" => None,
        Ok(value) => Some(value["message"].as_str().unwrap_or(&text).to_owned()),
        Err(_) => Some(text),
    }
}

/// The `Status` of an internal error.
pub fn failure(message: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests;
