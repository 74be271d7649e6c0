//! Bytes passed on as they are: between two connections, or between a connection and the binary messages of a
//! WebSocket that tunnels another protocol.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

/// How long the one direction may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(5);
const CHUNK: usize = 32 << 10;

/// Passes bytes both ways until both directions have ended, or one has and the other does not follow soon.
pub async fn join<A, B>(client: A, runtime: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut client_reader, mut client_writer) = tokio::io::split(client);
    let (mut runtime_reader, mut runtime_writer) = tokio::io::split(runtime);
    let up = async {
        copy(&mut client_reader, &mut runtime_writer).await?;
        runtime_writer.shutdown().await
    };
    let down = async {
        copy(&mut runtime_reader, &mut client_writer).await?;
        client_writer.shutdown().await
    };
    tokio::pin!(up, down);
    let rest = tokio::select! {
        result = &mut up => { result?; tokio::time::timeout(LINGER, down).await }
        result = &mut down => { result?; tokio::time::timeout(LINGER, up).await }
    };
    rest.unwrap_or(Ok(()))
}

async fn copy(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    while reader.read_buf(&mut buffer).await? != 0 {
        writer.write_all(&buffer).await?;
        writer.flush().await?;
        buffer.clear();
    }
    Ok(())
}

/// Unwraps what a WebSocket tunnels in its binary messages, and wraps the answers.
pub async fn tunnel<W, R>(websocket: WebSocketStream<W>, runtime: R) -> Result<(), tungstenite::Error>
where
    W: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(runtime);
    let (mut sink, mut source) = websocket.split();
    let up = async {
        while let Some(message) = source.next().await {
            match message? {
                Message::Binary(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok::<(), tungstenite::Error>(())
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        while reader.read_buf(&mut buffer).await? != 0 {
            sink.send(Message::Binary(buffer.split().freeze())).await?;
            buffer.reserve(CHUNK);
        }
        Ok::<(), tungstenite::Error>(())
    };
    {
        tokio::pin!(up, down);
        tokio::select! {
            result = &mut up => result?,
            result = &mut down => result?,
        }
    }
    let close = async {
        sink.send(super::channels::Protocol::goodbye()).await?;
        while let Some(message) = source.next().await {
            message?;
        }
        Ok::<(), tungstenite::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, close).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn join_passes_bytes_and_half_closes() {
        let (mut client, near) = tokio::io::duplex(16);
        let (far, mut runtime) = tokio::io::duplex(16);
        let joined = tokio::spawn(join(near, far));
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            runtime.read_to_end(&mut all).await.unwrap();
            runtime.write_all(&all).await.unwrap();
        });
        client.write_all(b"hello, and more than sixteen bytes").await.unwrap_or_default();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello, and more than sixteen bytes");
        echo.await.unwrap();
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn tunnel_wraps_and_unwraps() {
        let (client, server) = tokio::io::duplex(1000);
        let (near, mut runtime) = tokio::io::duplex(1000);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let tunnel = tokio::spawn(tunnel(server, near));
        client.send(Message::binary(&b"ping"[..])).await.unwrap();
        let mut got = [0; 4];
        runtime.read_exact(&mut got).await.unwrap();
        runtime.write_all(b"pong").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"pong"[..]));
        drop(runtime);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        assert!(client.next().await.is_none_or(|message| message.is_err()));
        tunnel.await.unwrap().unwrap();
    }
}
