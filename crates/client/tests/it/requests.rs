//! Retries and errors of single requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config, ListOptions, Material, Renewed, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use tokio::net::TcpListener;

use crate::fake::{Fake, Fault};

#[tokio::test]
async fn asked_to_come_back_it_does() {
    let fake = Fake::start().await;
    fake.put("a", 1).await;
    fake.fault(&[Fault::Code(429), Fault::Code(503), Fault::Close]).await;
    let client = fake.client();
    let error = client.list::<ConfigMap>(None, &ListOptions::default()).await.unwrap_err();
    assert!(matches!(error, client::Error::Transport { .. }), "{error}");
    // The first broken connection of a request is tried again.
    fake.fault(&[Fault::Close]).await;
    let list = client.list::<ConfigMap>(Some("ns"), &ListOptions::labels("a in (b,c)")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let requests = fake.requests().await;
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[4], "GET /api/v1/namespaces/ns/configmaps?labelSelector=a%20in%20%28b%2Cc%29");
}

#[tokio::test]
async fn a_write_that_nobody_took_is_not_doubtful() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::new(Config::new(&address).unwrap()).unwrap();
    let error = client.create::<ConfigMap>(Some("ns"), &ConfigMap::default()).await.unwrap_err();
    assert!(error.is_unanswered() && !error.is_doubtful(), "{error:?}");
}

#[tokio::test]
async fn writes_are_not_retried() {
    let fake = Fake::start().await;
    fake.fault(&[Fault::Code(503), Fault::Pass]).await;
    let client = fake.client();
    let error = client.create::<ConfigMap>(Some("ns"), &ConfigMap::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(503));
    assert_eq!(fake.requests().await.len(), 1);
}

#[tokio::test]
async fn statuses_are_errors() {
    let fake = Fake::start().await;
    let error = fake.client().get::<Pod>(Some("ns"), "none").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "by order");
}

/// A server that notes the most requests it had at once, and never ends a watch. Returns its address.
async fn counting(most: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let now = Arc::new(AtomicUsize::new(0));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (now, most) = (now.clone(), most.clone());
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    if request.uri().query() == Some("watch=true") {
                        let endless =
                            tokio_stream::pending::<Result<hyper::body::Frame<Bytes>, Infallible>>();
                        return Ok::<_, Infallible>(http::Response::new(StreamBody::new(endless).boxed()));
                    }
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok(http::Response::new(Full::new(Bytes::from_static(b"{}")).boxed()))
                }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// An API server refuses what is beyond its seats, and a refused request waits a second.
#[tokio::test]
async fn a_burst_of_requests_is_under_way_in_part() {
    let most = Arc::new(AtomicUsize::new(0));
    let config = Config::new(&counting(most.clone()).await).unwrap();
    let client = Client::new(config).unwrap();
    // Other identities over the same connections are of the same daemon.
    let other = client.with_token(Material::Inline(b"token".to_vec()), "other");
    let mut watches = Vec::new();
    for _ in 0..70 {
        watches.push(client.stream(Request::get("/?watch=true")).await.unwrap());
    }
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..300 {
        let client = if number % 2 == 0 { client.clone() } else { other.clone() };
        requests.spawn(async move { client.bytes(Request::get("/")).await.unwrap() });
    }
    requests.join_all().await;
    assert!((2..=64).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[tokio::test]
async fn a_refused_token_is_reported_to_its_renewer() {
    let fake = Fake::start().await;
    let token = Arc::new(Renewed::new(b"old".to_vec()));
    let client = fake.client().with_token(Material::Shared(token.clone()), "test");
    let options = ListOptions::default();
    let get = || client.list::<ConfigMap>(Some("ns"), &options);
    get().await.unwrap();
    let soon = Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, token.refused()).await.is_err(), "it was not refused");
    fake.fault(&[Fault::Code(401)]).await;
    assert_eq!(get().await.unwrap_err().code(), Some(401));
    token.refused().await;
}
