//! An API server of config maps in one namespace: list in pages, watch with history, and faults on order.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, broadcast};

/// What to do with the next request instead of answering it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Answer this code, for 429 and 503 with `Retry-After: 0`.
    Code(u16),
    /// Close the connection without an answer.
    Close,
    Pass,
}

#[derive(Clone)]
enum Signal {
    Event(String),
    /// End every watch in the middle of a line.
    Cut,
    /// An error event with 410 in every watch.
    Gone,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    history: Vec<(u64, String)>,
    /// Watches from before this version get 410.
    compacted: u64,
    uid: u64,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
}

#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    signals: broadcast::Sender<Signal>,
    pub address: String,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Fake {
    pub async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake { state: Arc::default(), signals: broadcast::Sender::new(4096), address };
        fake.state.lock().await.version = 100;
        let server = fake.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = server.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| server.clone().answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    pub fn client(&self) -> client::Client {
        client::Client::new(client::Config::new(&self.address).unwrap()).unwrap()
    }

    pub async fn fault(&self, faults: &[Fault]) {
        self.state.lock().await.faults.extend(faults);
    }

    pub async fn requests(&self) -> Vec<String> {
        self.state.lock().await.requests.clone()
    }

    /// Creates the object or gives it new data.
    pub async fn put(&self, name: &str, data: u64) {
        let mut state = self.state.lock().await;
        state.version += 1;
        let kind = if state.objects.contains_key(name) { "MODIFIED" } else { "ADDED" };
        state.uid += 1;
        let uid = match state.objects.get(name) {
            Some(object) => object["metadata"]["uid"].clone(),
            None => state.uid.to_string().into(),
        };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": state.version.to_string()},
            "data": {"value": data.to_string()},
        });
        state.objects.insert(name.into(), object.clone());
        self.send_event(&mut state, kind, object);
    }

    pub async fn remove(&self, name: &str) {
        let mut state = self.state.lock().await;
        if let Some(mut object) = state.objects.remove(name) {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            self.send_event(&mut state, "DELETED", object);
        }
    }

    pub async fn cut(&self) {
        let _ = self.signals.send(Signal::Cut);
    }

    /// Forgets the history and ends every watch with 410.
    pub async fn compact(&self) {
        let mut state = self.state.lock().await;
        state.compacted = state.version;
        state.history.clear();
        let _ = self.signals.send(Signal::Gone);
    }

    /// The state, to go back to.
    pub async fn backup(&self) -> (BTreeMap<String, Value>, u64) {
        let state = self.state.lock().await;
        (state.objects.clone(), state.version)
    }

    /// Goes back to an earlier state, as a server does whose store is restored; watches break off.
    pub async fn restore(&self, (objects, version): (BTreeMap<String, Value>, u64)) {
        let mut state = self.state.lock().await;
        state.objects = objects;
        state.version = version;
        state.history.retain(|(at, _)| *at <= version);
        let _ = self.signals.send(Signal::Cut);
    }

    pub async fn objects(&self) -> BTreeMap<String, String> {
        let state = self.state.lock().await;
        let value = |object: &Value| object["data"]["value"].as_str().unwrap().to_string();
        state.objects.iter().map(|(name, object)| (name.clone(), value(object))).collect()
    }

    fn send_event(&self, state: &mut State, kind: &str, object: Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        state.history.push((state.version, line.clone()));
        let _ = self.signals.send(Signal::Event(line));
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let mut state = self.state.lock().await;
        let uri = request.uri().to_string();
        state.requests.push(format!("{} {uri}", request.method()));
        match state.faults.pop_front().unwrap_or(Fault::Pass) {
            Fault::Pass => {}
            Fault::Close => return Err(std::io::Error::other("closed by order")),
            Fault::Code(code) => {
                let mut response = status(code, "InternalError");
                response.headers_mut().insert("retry-after", "0".parse().unwrap());
                return Ok(response);
            }
        }
        let query: BTreeMap<&str, &str> =
            request.uri().query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')).collect();
        if !request.uri().path().ends_with("/configmaps") {
            return Ok(status(404, "NotFound"));
        }
        if query.contains_key("watch") {
            let from: u64 = query["resourceVersion"].parse().unwrap();
            if from < state.compacted {
                return Ok(status(410, "Expired"));
            }
            let missed: Vec<Signal> = state
                .history
                .iter()
                .filter(|(version, _)| *version > from)
                .map(|(_, line)| Signal::Event(line.clone()))
                .collect();
            let live = tokio_stream::wrappers::BroadcastStream::new(self.signals.subscribe());
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}});
            use tokio_stream::StreamExt;
            let signals = tokio_stream::iter(missed).chain(live.filter_map(Result::ok));
            let frames = signals.map(move |signal| match signal {
                Signal::Event(line) => Ok(Frame::data(Bytes::from(line))),
                Signal::Gone => Ok(Frame::data(Bytes::from(format!("{gone}\n")))),
                Signal::Cut => Err(std::io::Error::other("cut by order")),
            });
            return Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))));
        }
        // Pages of three, whatever the limit asked for; the token is version and last name.
        let token = query.get("continue").and_then(|token| token.split_once("."));
        if token.is_some_and(|(version, _)| version.parse::<u64>().unwrap() < state.version) {
            return Ok(status(410, "Expired"));
        }
        let after = token.map(|(_, name)| name.to_string()).unwrap_or_default();
        let size = if query.contains_key("limit") { 3 } else { usize::MAX };
        let rest: Vec<&Value> =
            state.objects.iter().filter(|(name, _)| **name > after).map(|(_, object)| object).collect();
        let page = &rest[..rest.len().min(size)];
        let next = match page.last() {
            Some(last) if rest.len() > page.len() => {
                format!("{}.{}", state.version, last["metadata"]["name"].as_str().unwrap())
            }
            _ => String::new(),
        };
        let list = json!({"kind": "ConfigMapList", "metadata": {"resourceVersion": state.version.to_string(), "continue": next}, "items": page});
        Ok(full(Response::new(list.to_string())))
    }
}

fn full(response: Response<String>) -> Response<Body> {
    response.map(|text| Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {}).boxed())
}

fn status(code: u16, reason: &str) -> Response<Body> {
    let body =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "by order"});
    full(Response::builder().status(code).body(body.to_string()).unwrap())
}
