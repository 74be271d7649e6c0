use super::*;
use crate::spdy::Incoming;
use tokio_tungstenite::tungstenite::protocol::Role;

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;
const EXIT_3: &str =
    r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit 3"}"#;

/// A runtime that accepts the wanted streams by kind.
async fn accept(connection: &mut Connection, count: usize) -> std::collections::HashMap<String, Incoming> {
    let mut streams = std::collections::HashMap::new();
    for _ in 0..count {
        let stream = connection.accept().await.unwrap();
        streams.insert(stream.header("streamtype").unwrap().to_owned(), stream);
    }
    streams
}

struct Fixture {
    client: WebSocketStream<tokio::io::DuplexStream>,
    runtime: tokio::io::DuplexStream,
    session: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn start(protocol: Protocol, streams: Streams) -> Fixture {
    let (client, server) = tokio::io::duplex(1000);
    let (near, runtime) = tokio::io::duplex(1000);
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
    let session = tokio::spawn(translate(server, protocol, near, streams));
    Fixture { client, runtime, session }
}

/// Everything the client receives, by channel.
async fn collect(
    client: &mut WebSocketStream<tokio::io::DuplexStream>,
    protocol: Protocol,
) -> Vec<(u8, Vec<u8>)> {
    let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        match protocol.parse(message) {
            Input::Data(channel, bytes) => match seen.iter_mut().find(|(known, _)| *known == channel) {
                Some((_, all)) => all.extend_from_slice(&bytes),
                None => seen.push((channel, bytes.to_vec())),
            },
            Input::Close => break,
            _ => {}
        }
    }
    seen
}

#[tokio::test]
async fn exec_with_half_closed_stdin_and_exit_code() {
    let streams = Streams { stdin: true, stdout: true, stderr: true, terminal: false };
    let mut fixture = start(Protocol::V5, streams).await;
    let runtime = tokio::spawn(async move {
        let (mut connection, driver) = spdy::connect(fixture.runtime, Side::Server);
        let command = async {
            let mut streams = accept(&mut connection, 4).await;
            let mut stdin = streams.remove("stdin").unwrap();
            let stdout = streams.remove("stdout").unwrap().sender;
            let mut total = 0;
            while let Some(bytes) = stdin.receiver.receive().await.unwrap() {
                total += bytes.len();
                stdout.send(bytes).await.unwrap();
            }
            let stderr = streams.remove("stderr").unwrap().sender;
            stderr.send(Bytes::from(format!("{total} bytes"))).await.unwrap();
            stdout.finish().await.unwrap();
            stderr.finish().await.unwrap();
            let error = streams.remove("error").unwrap().sender;
            error.send(Bytes::from_static(EXIT_3.as_bytes())).await.unwrap();
            error.finish().await.unwrap();
            // Let the driver flush before the connection is dropped.
            connection.accept().await;
        };
        tokio::select! { () = command => {}, _ = driver => {} }
    });
    let (mut sink, source) = fixture.client.split();
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            sink.send(Protocol::V5.message(channels::STDIN, &[b'x'; 1000])).await.unwrap();
        }
        sink.send(Message::binary(vec![255, 0])).await.unwrap();
        sink
    });
    let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut source = source;
    while let Some(Ok(message)) = source.next().await {
        match Protocol::V5.parse(message) {
            Input::Data(channel, bytes) => match seen.iter_mut().find(|(known, _)| *known == channel) {
                Some((_, all)) => all.extend_from_slice(&bytes),
                None => seen.push((channel, bytes.to_vec())),
            },
            Input::Close => break,
            _ => {}
        }
    }
    let sink = writer.await.unwrap();
    fixture.client = sink.reunite(source).unwrap();
    let of =
        |channel| seen.iter().find(|(known, _)| *known == channel).map(|(_, bytes)| bytes.clone()).unwrap();
    assert_eq!(of(channels::STDOUT), vec![b'x'; 100_000]);
    assert_eq!(of(channels::STDERR), b"100000 bytes");
    assert_eq!(of(channels::ERROR), EXIT_3.as_bytes());
    drop(fixture.client);
    fixture.session.await.unwrap().unwrap();
    runtime.await.unwrap();
}

#[tokio::test]
async fn a_terminal_has_a_resize_stream_and_no_stderr() {
    let streams = Streams { stdin: true, stdout: true, stderr: false, terminal: true };
    let mut fixture = start(Protocol::V4, streams).await;
    let runtime = tokio::spawn(async move {
        let (mut connection, driver) = spdy::connect(fixture.runtime, Side::Server);
        let command = async {
            let mut streams = accept(&mut connection, 4).await;
            let size = streams.get_mut("resize").unwrap().receiver.receive().await.unwrap().unwrap();
            streams["stdout"].sender.send(size).await.unwrap();
            streams["error"].sender.send(Bytes::from_static(SUCCESS.as_bytes())).await.unwrap();
            // Ends without half-closing anything, as a runtime that closes its connection does.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        tokio::select! { () = command => {}, _ = driver => {} }
    });
    let size = br#"{"Width":80,"Height":25}"#;
    fixture.client.send(Protocol::V4.message(channels::RESIZE, size)).await.unwrap();
    let seen = collect(&mut fixture.client, Protocol::V4).await;
    assert_eq!(seen, [(channels::STDOUT, size.to_vec()), (channels::ERROR, SUCCESS.as_bytes().to_vec())]);
    drop(fixture.client);
    fixture.session.await.unwrap().unwrap();
    runtime.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_ends_the_session_and_the_runtimes_connection() {
    let streams = Streams { stdin: true, stdout: true, ..Streams::default() };
    let fixture = start(Protocol::V5, streams).await;
    let (mut connection, driver) = spdy::connect(fixture.runtime, Side::Server);
    let driver = tokio::spawn(driver);
    let streams = accept(&mut connection, 3).await;
    drop(fixture.client);
    let _ = fixture.session.await.unwrap();
    assert!(connection.accept().await.is_none());
    drop(streams);
    let _ = driver.await.unwrap();
}

#[test]
fn endings() {
    let lost = ending(Protocol::V5, b"").unwrap();
    assert!(lost.contains("InternalError"), "{lost}");
    assert_eq!(ending(Protocol::V4, EXIT_3.as_bytes()).unwrap(), EXIT_3);
    assert_eq!(ending(Protocol::Plain, SUCCESS.as_bytes()), None);
    assert_eq!(
        ending(Protocol::Plain, EXIT_3.as_bytes()).unwrap(),
        "command terminated with non-zero exit code: exit 3"
    );
}
