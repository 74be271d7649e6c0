//! Connections that fail without a word.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config, Election, Error, Informers, LeaderElector, ListOptions, Outcome, Request};
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// A way to a server that swallows what comes on the connections it has when it fails.
async fn way_to(server: &str) -> (String, Arc<AtomicBool>) {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let failed = Arc::new(AtomicBool::new(false));
    let of = failed.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (server, failed) = (server.clone(), of.clone());
            // A new connection takes a way that works.
            failed.store(false, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                let mut buffers = (vec![0; 4096], vec![0; 4096]);
                loop {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let (bytes, to) = tokio::select! {
                        length = near.read(&mut buffers.0) => (&buffers.0[..length.unwrap()], &mut far),
                        length = far.read(&mut buffers.1) => (&buffers.1[..length.unwrap()], &mut near),
                    };
                    if failed.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    if bytes.is_empty() || to.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, failed)
}

#[tokio::test]
async fn a_way_that_swallows_everything_is_left() {
    let fake = Fake::start().await;
    fake.put("a", 1).await;
    let (address, failed) = way_to(&fake.address).await;
    let client = Client::new(Config::new(&address).unwrap()).unwrap();
    let informers = Informers::new(client.clone());
    let cache = informers.all::<ConfigMap>();
    tokio::time::timeout(Duration::from_secs(10), cache.synced()).await.unwrap();
    let impatient = client.for_heartbeats(Duration::from_millis(200));
    let list = async || impatient.list::<ConfigMap>(Some("ns"), &ListOptions::default()).await;
    list().await.unwrap();

    failed.store(true, Ordering::Relaxed);
    fake.put("b", 1).await;
    let error = list().await.unwrap_err();
    assert!(error.is_unanswered(), "{error}");
    assert!(cache.get(Some("ns"), "b").is_none());
    client.close_connections();
    list().await.unwrap();
    let seen = async {
        while cache.get(Some("ns"), "b").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("the watch begins anew");
    informers.shutdown().await;
}

/// A client of a server that answers what has this in its path and nothing else, with as many requests that wait for an answer
/// as may be under way.
async fn stuck_but_for(part: &'static str) -> (Client, tokio::task::JoinSet<client::Result<Bytes>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(Config::new(&listener.local_addr().unwrap().to_string()).unwrap()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                if !request.uri().path().contains(part) {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"{}"))))
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        stuck.spawn(async move { client.bytes(Request::get("/")).await });
    }
    tokio::task::yield_now().await;
    (client, stuck)
}

#[tokio::test]
async fn heartbeats_do_not_wait_behind_requests_without_an_answer() {
    let (client, _stuck) = stuck_but_for("/heartbeat").await;
    let heartbeat = client.for_heartbeats(Duration::from_secs(10));
    heartbeat.bytes(Request::get("/heartbeat")).await.unwrap();
}

#[tokio::test]
async fn a_lead_is_not_lost_behind_requests_without_an_answer() {
    let (client, _stuck) = stuck_but_for("/leases/").await;
    let elector = LeaderElector::new(client, Election::new("ns", "lead"));
    let leads = elector.run(CancellationToken::new(), |_| async {});
    let outcome = tokio::time::timeout(Duration::from_secs(10), leads).await;
    assert_eq!(outcome.expect("it leads"), Outcome::Shutdown);
}

/// What is sent comes back.
#[derive(Clone, Default)]
struct Echo {
    /// Of all but leases.
    writes: Arc<AtomicUsize>,
    /// Another has the lease.
    taken: Arc<AtomicBool>,
}

impl Echo {
    async fn client(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let echo = echo.clone();
                let service = service_fn(move |request| echo.clone().answer(request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Client::new(Config::new(&address.to_string()).unwrap()).unwrap()
    }

    async fn answer(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, Infallible> {
        let is_lease = request.uri().path().contains("/leases/");
        let taken = is_lease && self.taken.load(Ordering::Relaxed);
        let (code, body): (u16, Bytes) = match *request.method() {
            Method::GET if taken => {
                (200, r#"{"spec":{"holderIdentity":"other","leaseDurationSeconds":15}}"#.into())
            }
            Method::GET => (200, "{}".into()),
            _ if taken => (409, r#"{"kind":"Status","reason":"Conflict","code":409}"#.into()),
            _ => {
                self.writes.fetch_add(usize::from(!is_lease), Ordering::Relaxed);
                (200, request.into_body().collect().await.unwrap().to_bytes())
            }
        };
        Ok(http::Response::builder().status(code).body(Full::new(body)).unwrap())
    }
}

#[tokio::test]
async fn a_leader_that_sees_another_lead_ends_at_once() {
    let echo = Echo::default();
    let mut election = Election::new("ns", "lead");
    election.retry_period = Duration::from_millis(20);
    let elector = LeaderElector::new(echo.client().await, election);
    let leads = elector.run(CancellationToken::new(), |_| {
        echo.taken.store(true, Ordering::Relaxed);
        std::future::pending()
    });
    let outcome = tokio::time::timeout(Duration::from_secs(5), leads).await;
    assert_eq!(outcome.expect("well before it gives up renewing"), Outcome::Lost);
}

#[tokio::test]
async fn a_leader_that_was_stopped_writes_nothing_after_its_lease() {
    let echo = Echo::default();
    let client = echo.client().await;
    let mut election = Election::new("ns", "lead");
    election.lease_duration = Duration::from_millis(300);
    let elector = LeaderElector::new(client.clone(), election);
    let leading = client.while_leading(elector.health());
    let post = || Request::new(Method::POST, "/things");
    assert!(matches!(leading.bytes(post()).await, Err(Error::NotLeading)), "it does not lead yet");
    let lead = |_| async {
        leading.bytes(post()).await.unwrap();
        // As after SIGSTOP: nothing of this process has run meanwhile, the elector neither.
        std::thread::sleep(Duration::from_millis(400));
        assert!(matches!(leading.bytes(post()).await, Err(Error::NotLeading)));
        leading.bytes(Request::get("/things")).await.unwrap();
    };
    elector.run(CancellationToken::new(), lead).await;
    assert_eq!(echo.writes.load(Ordering::Relaxed), 1);
}
