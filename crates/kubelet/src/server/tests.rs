//! The server as a whole over plain TCP, with a runtime whose streaming server is an SPDY echo.

use super::*;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use streaming::channels::{self, Input, Protocol};
use streaming::spdy::{self, Side};
use streaming::upgrade;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::runtime::{Container, RuntimePod, Sandbox, State};

struct Fixture {
    address: std::net::SocketAddr,
    host: Arc<Host>,
    server: tokio::task::JoinHandle<()>,
}

/// A runtime's streaming server: every stream is echoed, an `error` stream says that all went well.
async fn streaming_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|mut request: Request<Incoming>| async move {
                let protocol = request.headers().get(upgrade::STREAM_PROTOCOL).cloned();
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move { echo(upgraded.await.unwrap()).await });
                let mut response = Response::new(body(""));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                *response.headers_mut() = upgrade::spdy_headers(&[]);
                response.headers_mut().insert(upgrade::STREAM_PROTOCOL, protocol.unwrap());
                Ok::<_, Infallible>(response)
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    url
}

/// A command that copies its input to its output, and streams that come back as they are.
async fn echo(upgraded: hyper::upgrade::Upgraded) {
    let (mut connection, driver) = spdy::connect(hyper_util::rt::TokioIo::new(upgraded), Side::Server);
    let streams = async {
        let mut sessions = tokio::task::JoinSet::new();
        let mut command = std::collections::HashMap::new();
        while let Some(mut stream) = connection.accept().await {
            let kind = stream.header("streamtype").unwrap().to_owned();
            if matches!(kind.as_str(), "error" | "stdin" | "stdout") {
                command.insert(kind, stream);
            } else {
                sessions.spawn(async move {
                    while let Ok(Some(bytes)) = stream.receiver.receive().await {
                        stream.sender.send(bytes).await.unwrap();
                    }
                    let _ = stream.sender.finish().await;
                });
            }
            if command.len() == 3 {
                let mut stdin = command.remove("stdin").unwrap().receiver;
                let stdout = command.remove("stdout").unwrap().sender;
                let error = command.remove("error").unwrap().sender;
                sessions.spawn(async move {
                    while let Ok(Some(bytes)) = stdin.receive().await {
                        stdout.send(bytes).await.unwrap();
                    }
                    let _ = stdout.finish().await;
                    let _ = error.send(Bytes::from_static(b"{\"status\":\"Success\"}")).await;
                    let _ = error.finish().await;
                });
            }
        }
    };
    tokio::select! { () = streams => {}, _ = driver => {} }
}

async fn fixture() -> Fixture {
    let runtime = Arc::new(cri::fake::FakeRuntime::new());
    runtime.stream_at(&streaming_server().await);
    let pods = Arc::new(PodManager::new());
    let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                     "spec": {"containers": [{"name": "c"}]}});
    pods.put(Arc::new(serde_json::from_value(pod).unwrap()));
    let container =
        Container { id: "1".into(), name: "c".into(), state: State::Running, ..Container::default() };
    let sandbox = Sandbox { id: "s".into(), ready: true, ..Sandbox::default() };
    let runtime_pod = RuntimePod {
        uid: "u".into(),
        containers: vec![container],
        sandboxes: vec![sandbox],
        ..RuntimePod::default()
    };
    pods.set_runtime("u", Arc::new(runtime_pod));
    let host = Arc::new(Host {
        node_name: "node-1".into(),
        config: Arc::default(),
        pods,
        runtime,
        access: Access { node_name: "node-1".into(), authenticator: None, authorizer: None },
        sessions: TaskTracker::new(),
        shutdown: CancellationToken::new(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(host.clone(), listener, None));
    Fixture { address, host, server }
}

type Client = WebSocketStream<tokio::net::TcpStream>;

async fn connect(fixture: &Fixture, path: &str, protocol: &'static str) -> Result<Client, u16> {
    let mut request = format!("ws://{}{path}", fixture.address).into_client_request().unwrap();
    let name = http::header::SEC_WEBSOCKET_PROTOCOL;
    request.headers_mut().insert(name.clone(), HeaderValue::from_static(protocol));
    let stream = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((client, response)) => {
            assert_eq!(response.headers()[name], protocol);
            Ok(client)
        }
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// No session outlives its connection.
async fn end(fixture: Fixture) {
    tokio::time::timeout(Duration::from_secs(5), async {
        while !fixture.host.sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fixture.host.shutdown.cancel();
        fixture.server.await.unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn exec_over_websocket_reaches_an_spdy_runtime() {
    let fixture = fixture().await;
    let path = "/exec/ns/p/c?command=cat&input=1&output=1";
    let mut client = connect(&fixture, path, "v5.channel.k8s.io").await.unwrap();
    client.send(Protocol::V5.message(channels::STDIN, b"hello")).await.unwrap();
    client.send(Message::binary(vec![255, channels::STDIN])).await.unwrap();
    let mut seen = vec![Vec::new(); 5];
    let mut closed = None;
    while let Some(message) = client.next().await {
        match message.unwrap() {
            Message::Close(frame) => closed = frame.map(|frame| u16::from(frame.code)),
            message => {
                if let Input::Data(channel, bytes) = Protocol::V5.parse(message) {
                    seen[usize::from(channel)].extend_from_slice(&bytes);
                }
            }
        }
    }
    assert_eq!(closed, Some(1000));
    assert_eq!(seen[1], b"hello");
    assert_eq!(seen[3], b"{\"status\":\"Success\"}");
    end(fixture).await;
}

#[tokio::test]
async fn port_forward_is_tunnelled() {
    let fixture = fixture().await;
    let mut client = connect(&fixture, "/portForward/ns/p", "SPDY/3.1+portforward.k8s.io").await.unwrap();
    let (near, far) = tokio::io::duplex(1000);
    let (connection, driver) = spdy::connect(near, Side::Client);
    let wrap = async {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut buffer = [0; 500];
        loop {
            tokio::select! {
                count = tokio::io::AsyncReadExt::read(&mut reader, &mut buffer) => {
                    client.send(Message::binary(buffer[..count.unwrap()].to_vec())).await.unwrap();
                }
                message = client.next() => {
                    let bytes = message.unwrap().unwrap().into_data();
                    tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.unwrap();
                }
            }
        }
    };
    let exchange = async {
        let headers = |kind: &str| {
            vec![("streamtype".to_owned(), kind.to_owned()), ("port".to_owned(), "80".to_owned())]
        };
        let (sender, mut receiver) = connection.open(headers("data")).await.unwrap();
        sender.send(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
        sender.finish().await.unwrap();
        let mut total = 0;
        while let Some(bytes) = receiver.receive().await.unwrap() {
            total += bytes.len();
        }
        assert_eq!(total, 100_000);
    };
    tokio::select! {
        () = exchange => {}
        () = wrap => {}
        result = driver => panic!("{result:?}"),
    }
    drop(client);
    end(fixture).await;
}

#[tokio::test]
async fn an_spdy_client_is_joined_to_the_runtime() {
    let fixture = fixture().await;
    let uri = format!("http://{}/exec/ns/p/u/c?command=cat&stdin=true", fixture.address).parse().unwrap();
    let headers = upgrade::spdy_headers(&["v4.channel.k8s.io"]);
    let answer = upgrade::dial(Method::POST, &uri, headers).await.unwrap();
    let upgrade::Answer::Upgraded(headers, io, _driver) = answer else { panic!("refused") };
    assert_eq!(headers[upgrade::STREAM_PROTOCOL], "v4.channel.k8s.io");
    let (connection, driver) = spdy::connect(io, Side::Client);
    let driver = tokio::spawn(driver);
    let (sender, mut receiver) = connection.open(vec![("streamtype".into(), "resize".into())]).await.unwrap();
    sender.send(Bytes::from_static(b"ping")).await.unwrap();
    assert_eq!(receiver.receive().await.unwrap().unwrap(), "ping");
    assert_eq!(fixture.host.sessions.len(), 1);
    driver.abort();
    end(fixture).await;
}

#[tokio::test]
async fn refusals() {
    let fixture = fixture().await;
    let table = [
        ("/exec/ns/p/c?command=ls", "v5.channel.k8s.io", 400),
        ("/exec/ns/p/c?command=ls&output=1", "chat", 403),
        ("/exec/ns/p/none?command=ls&output=1", "v5.channel.k8s.io", 500),
        ("/exec/ns/none/c?command=ls&output=1", "v5.channel.k8s.io", 404),
        ("/exec/ns/p/other-uid/c?command=ls&output=1", "v5.channel.k8s.io", 404),
        ("/portForward/ns/none", "SPDY/3.1+portforward.k8s.io", 404),
        ("/nothing", "v5.channel.k8s.io", 404),
    ];
    for (path, protocol, status) in table {
        assert_eq!(connect(&fixture, path, protocol).await.unwrap_err(), status, "{path}");
    }
    // The shutdown ends a session that nobody else would.
    let client = connect(&fixture, "/exec/ns/p/c?command=cat&input=1", "v5.channel.k8s.io").await.unwrap();
    fixture.host.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(8), fixture.server).await.unwrap().unwrap();
    drop(client);
}

#[test]
fn queries_are_decoded() {
    let query = query("command=ls&command=a%20b+c&x=%zz&empty");
    let want = [("command", "ls"), ("command", "a b c"), ("x", "%zz"), ("empty", "")];
    assert_eq!(query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), want);
}

/// The answer to a plain request, head and body.
async fn get(fixture: &Fixture, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_pages_about_the_process() {
    let fixture = fixture().await;
    assert!(get(&fixture, "/statusz").await.contains("\r\n\r\n\nkubelet statusz\nWarning: "));
    assert!(get(&fixture, "/flagz").await.contains("\r\n\r\n\nkubelet flagz\nWarning: "));
    assert!(get(&fixture, "/metrics/slis").await.contains("\nprocess_start_time_seconds "));
    end(fixture).await;
}
