//! A small API server in memory, for tests of whole controllers: objects of any resource, with watches whose events can be
//! kept back, so that caches are behind as long as a test wants. Each [`Process`] is served on its own and has its own
//! faults ([`faults`]).
//!
//! Absent: validation, defaults, selectors, admission. Strategic patches are merged as plain ones, but for owner
//! references and lists of primitives.

pub mod faults;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config, Informers, ResourceRef, View};
use daemon::features::FeatureGates;
use futures::StreamExt;
pub use http::Method;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Context, Identities};
use faults::Faults;

/// `group/version/plural`, namespace, name.
pub type Place = (String, String, String);
/// Looks at each write, with the objects after it, and says what is wrong with it.
pub type Guard = Box<dyn Fn(&BTreeMap<Place, Value>, &Place, &Value, &str) -> Option<String> + Send>;
type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Default)]
struct State {
    objects: BTreeMap<Place, Value>,
    version: u64,
    /// Version, collection, line.
    history: Vec<(u64, String, String)>,
    requests: Vec<String>,
    /// What discovery names; everything else is served all the same.
    named: Vec<ResourceRef>,
    guard: Option<Guard>,
    wrong: Vec<String>,
    /// Whether pods that are deleted stay until their node lets them go.
    graceful: bool,
}

/// Ends with its last clone.
#[derive(Clone)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    process: Process,
}

/// An address of the cluster, for one process. Nobody is served there any more when its last clone is dropped.
#[derive(Clone)]
pub struct Process {
    address: String,
    pub faults: Faults,
    _end: Arc<DropGuard>,
}

impl Process {
    async fn start(state: Arc<Mutex<State>>, changes: watch::Sender<u64>) -> io::Result<Process> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let end = CancellationToken::new();
        let faults = Faults::new(changes.clone());
        let served = faults.clone();
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Time may be paused, and the system's own delays are not.
                let _ = stream.set_nodelay(true);
                let server =
                    Server { state: state.clone(), changes: changes.clone(), faults: served.clone() };
                let service = service_fn(move |request| server.clone().answer(request));
                let builder = hyper::server::conn::http1::Builder::new();
                connections.spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        };
        let stop = end.clone();
        tokio::spawn(async move { stop.run_until_cancelled(serve).await });
        Ok(Process { address, faults, _end: Arc::new(end.drop_guard()) })
    }

    pub fn client(&self) -> client::Result<Client> {
        Client::new(Config::new(&self.address)?)
    }

    /// What controllers are given; they run until `shutdown`.
    pub fn context(&self, shutdown: CancellationToken) -> client::Result<Context> {
        let client = self.client()?;
        let identities = Arc::new(Identities::new(client.clone(), false, None, shutdown.clone())?);
        let gates = Arc::new(FeatureGates::default());
        Ok(Context::new(Informers::new(client), identities, gates, shutdown))
    }
}

impl Cluster {
    pub async fn start() -> io::Result<Cluster> {
        let (state, changes) = (Arc::default(), watch::Sender::new(0));
        let process = Process::start(Arc::clone(&state), changes.clone()).await?;
        Ok(Cluster { state, changes, process })
    }

    /// Serves another process, with faults of its own.
    pub async fn process(&self) -> io::Result<Process> {
        Process::start(self.state.clone(), self.changes.clone()).await
    }

    pub fn client(&self) -> client::Result<Client> {
        self.process.client()
    }

    pub fn context(&self, shutdown: CancellationToken) -> client::Result<Context> {
        self.process.context(shutdown)
    }

    /// Has discovery name a resource.
    pub fn name<V: View>(&self) {
        self.state.lock().named.push(ResourceRef::of::<V>());
    }

    /// Keeps back what watches of these resources would bring.
    pub fn pause(&self, plural: &str) {
        self.process.faults.delay(plural, self.version());
    }

    pub fn resume(&self, plural: &str) {
        self.process.faults.resume(plural);
    }

    /// Does the next such request, and closes the connection in place of an answer.
    pub fn lose_answer(&self, method: Method, plural: &str) {
        self.process.faults.lose_answer(method, plural);
    }

    pub fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// The versions of the changes of a resource after one.
    pub fn versions_after(&self, plural: &str, version: u64) -> Vec<u64> {
        let state = self.state.lock();
        let after = state.history.iter().filter(|(at, of, _)| *at > version && last(of) == plural);
        after.map(|(at, ..)| *at).collect()
    }

    /// Has each write looked at.
    pub fn guard(&self, guard: Guard) {
        self.state.lock().guard = Some(guard);
    }

    /// What the guard found.
    pub fn wrong(&self) -> Vec<String> {
        self.state.lock().wrong.clone()
    }

    /// Has pods that are deleted stay until [`Cluster::remove`].
    pub fn delete_gracefully(&self) {
        self.state.lock().graceful = true;
    }

    /// Creates an object of a collection (`group/version/plural`) as some other client would.
    pub fn put(&self, collection: &str, namespace: &str, object: Value) {
        let mut state = self.state.lock();
        let created = create(&mut state, collection.to_owned(), namespace.to_owned(), object);
        assert!(created.is_ok(), "there is one of this name in {collection}");
        self.changes.send_replace(state.version);
    }

    /// Lets go of a deleted object, which stays for the sake of its finalizers.
    pub fn remove(&self, plural: &str, name: &str) {
        self.change(plural, name, |object| object["metadata"]["deletionGracePeriodSeconds"] = 0.into());
    }

    /// Method and path of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }

    /// The same, without reads.
    pub fn writes(&self) -> Vec<String> {
        self.requests().into_iter().filter(|request| !request.starts_with("GET ")).collect()
    }

    /// The objects of a resource, by name.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock();
        let of_it = state.objects.iter().filter(|((collection, ..), _)| last(collection) == plural);
        of_it.map(|(_, object)| object.clone()).collect()
    }

    /// Changes an object as some other client would.
    pub fn change(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        let found = state.objects.iter().find(|((of, _, own), _)| last(of) == plural && own == name);
        let Some((place, mut object)) = found.map(|(place, object)| (place.clone(), object.clone())) else {
            return;
        };
        change(&mut object);
        state.update(place, object);
        self.changes.send_replace(state.version);
    }

    /// Waits until this holds of the objects of a resource.
    pub async fn until(&self, plural: &str, holds: impl Fn(&[Value]) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !holds(&self.objects(plural)) {
                // The sender is this cluster's.
                let _ = changes.changed().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{plural} came to {:#?}", self.objects(plural));
    }

    /// Waits for a request, by method and path.
    pub async fn requested(&self, request: &str) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !self.requests().iter().any(|own| own == request) {
                // The sender is this cluster's.
                let _ = changes.changed().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "no {request} among {:#?}", self.requests());
    }

    /// Waits until nothing has been written for a while: what a controller would do by mistake it does at once.
    pub async fn quiet(&self) {
        let mut count = usize::MAX;
        while count != self.writes().len() {
            count = self.writes().len();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}

impl State {
    fn put(&mut self, place: Place, mut object: Value, kind: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.history.push((self.version, place.0.clone(), line));
        match kind {
            "DELETED" => drop(self.objects.remove(&place)),
            _ => drop(self.objects.insert(place.clone(), object.clone())),
        }
        let found = self.guard.as_ref().and_then(|guard| guard(&self.objects, &place, &object, kind));
        self.wrong.extend(found);
        object
    }

    /// Changes an object, which goes when it was deleted and nothing keeps it.
    fn update(&mut self, place: Place, object: Value) -> Value {
        let meta = &object["metadata"];
        let is_free = meta["finalizers"].as_array().is_none_or(Vec::is_empty);
        let is_gone = !meta["deletionTimestamp"].is_null() && is_free && !self.runs(&place, &object);
        self.put(place, object, if is_gone { "DELETED" } else { "MODIFIED" })
    }

    /// Whether an object is a pod that its node has not let go of.
    fn runs(&self, place: &Place, object: &Value) -> bool {
        let released = object["metadata"]["deletionGracePeriodSeconds"] == 0;
        self.graceful && last(&place.0) == "pods" && !released
    }
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    faults: Faults,
}

/// What a path names.
struct Target {
    collection: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

fn last(collection: &str) -> &str {
    collection.rsplit('/').next().unwrap_or_default()
}

fn target(path: &str) -> Option<Target> {
    let mut parts = path.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>().into_iter();
    let prefix = match parts.next()?.as_str() {
        "api" => parts.next()?,
        "apis" => format!("{}/{}", parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<String> = parts.collect();
    let (namespace, rest) = match rest.as_slice() {
        [first, namespace, rest @ ..] if first == "namespaces" && !rest.is_empty() => {
            (namespace.clone(), rest)
        }
        rest => (String::new(), rest),
    };
    // `namespaces/NAME/finalize` and `…/status` are the namespace's own.
    let own = matches!(rest, [sub] if !namespace.is_empty() && matches!(sub.as_str(), "finalize" | "status"));
    if own {
        let subresource = rest.first().cloned();
        let collection = format!("{prefix}/namespaces");
        return Some(Target { collection, namespace: String::new(), name: Some(namespace), subresource });
    }
    let [plural, rest @ ..] = rest else { return None };
    let (name, subresource) = (rest.first().cloned(), rest.get(1).cloned());
    Some(Target { collection: format!("{prefix}/{plural}"), namespace, name, subresource })
}

/// The aggregated form, a group for each resource.
fn discovery(named: &[ResourceRef], core: bool) -> Value {
    let group = |it: &ResourceRef| {
        let scope = if it.namespaced { "Namespaced" } else { "Cluster" };
        let resource = json!({"resource": it.plural, "responseKind": {"kind": it.kind}, "scope": scope,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]});
        json!({"metadata": {"name": it.group}, "versions": [{"version": it.version, "resources": [resource]}]})
    };
    let groups = named.iter().filter(|it| it.group.is_empty() == core).map(group);
    json!({"kind": "APIGroupDiscoveryList", "items": groups.collect::<Vec<_>>()})
}

impl Server {
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if self.faults.is_dead() {
            return Err(io::Error::other("the process is dead"));
        }
        self.state.lock().requests.push(format!("{} {path}", parts.method));
        if let "/api" | "/apis" = path.as_str() {
            return Ok(whole(200, &discovery(&self.state.lock().named, path == "/api")));
        }
        let Some(target) = target(&path) else { return Ok(status(404, "NotFound", "")) };
        if query.contains("watch=") {
            return Ok(self.watch(&target, &query));
        }
        let lost = self.faults.loses(&parts.method, last(&target.collection));
        let answer = self.act(&parts.method, target, body);
        self.changes.send_replace(self.state.lock().version);
        if lost {
            return Err(io::Error::other("the answer is lost"));
        }
        Ok(match answer {
            Ok(object) => whole(200, &object),
            Err((code, reason)) => status(code, reason, ""),
        })
    }

    fn watch(&self, target: &Target, query: &str) -> Response<Body> {
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let from: u64 = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        let plural = last(&target.collection).to_owned();
        if self.faults.takes_expiry(&plural) {
            let line = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}});
            let frame = Ok(Frame::data(Bytes::from(format!("{line}\n"))));
            return Response::new(BodyExt::boxed_unsync(StreamBody::new(futures::stream::iter([frame]))));
        }
        let epoch = self.faults.epoch(&plural);
        let start = (self.clone(), self.changes.subscribe(), target.collection.clone(), from);
        let events = futures::stream::unfold(start, move |(server, mut changes, collection, from)| {
            let plural = plural.clone();
            async move {
                loop {
                    changes.borrow_and_update();
                    if server.faults.is_dead() || server.faults.epoch(&plural) != epoch {
                        return None;
                    }
                    let (lines, to) = {
                        let state = server.state.lock();
                        let to = server.faults.limit(&plural).min(state.version);
                        let is_new = |at: u64, of: &str| at > from && at <= to && *of == collection;
                        let new = state.history.iter().filter(|(at, of, _)| is_new(*at, of));
                        let times = server.faults.times(&plural);
                        (new.map(|(.., line)| line.repeat(times)).collect::<String>(), to)
                    };
                    if !lines.is_empty() {
                        let frame = Ok(Frame::data(Bytes::from(lines)));
                        return Some((frame, (server, changes, collection, to)));
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(events.boxed())))
    }

    fn act(&self, method: &Method, target: Target, body: Value) -> Result<Value, (u16, &'static str)> {
        let Target { collection, namespace, name, subresource } = target;
        let mut state = self.state.lock();
        let Some(name) = name else {
            return match *method {
                Method::GET => Ok(list(&state, &collection, &namespace)),
                Method::POST => create(&mut state, collection, namespace, body),
                _ => Err((405, "MethodNotAllowed")),
            };
        };
        let place = (collection, namespace, name);
        let Some(current) = state.objects.get(&place).cloned() else { return Err((404, "NotFound")) };
        let meta = |object: &Value, field: &str| object["metadata"][field].clone();
        let differs = |field: &str, wanted: &Value| !wanted.is_null() && *wanted != meta(&current, field);
        match *method {
            Method::GET => Ok(current),
            Method::PUT | Method::PATCH => {
                if differs("resourceVersion", &meta(&body, "resourceVersion"))
                    || differs("uid", &meta(&body, "uid"))
                {
                    return Err((409, "Conflict"));
                }
                let mut new = current.clone();
                match (&*method.to_string(), subresource.as_deref()) {
                    ("PUT", Some("status")) => new["status"] = body["status"].clone(),
                    ("PUT", _) => {
                        let (uid, created) = (meta(&current, "uid"), meta(&current, "creationTimestamp"));
                        new = body;
                        (new["metadata"]["uid"], new["metadata"]["creationTimestamp"]) = (uid, created);
                    }
                    _ => patch(&mut new, &body),
                }
                if new == current {
                    return Ok(current);
                }
                Ok(state.update(place, new))
            }
            Method::DELETE => {
                let wanted = &body["preconditions"];
                if differs("uid", &wanted["uid"]) || differs("resourceVersion", &wanted["resourceVersion"]) {
                    return Err((409, "Conflict"));
                }
                let is_free = meta(&current, "finalizers").as_array().is_none_or(Vec::is_empty);
                if is_free && !state.runs(&place, &current) {
                    let uid = meta(&current, "uid");
                    state.put(place, current, "DELETED");
                    return Ok(json!({"kind": "Status", "status": "Success", "details": {"uid": uid}}));
                }
                let mut new = current.clone();
                if meta(&new, "deletionTimestamp").is_null() {
                    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    return Ok(state.put(place, new, "MODIFIED"));
                }
                Ok(new)
            }
            _ => Err((405, "MethodNotAllowed")),
        }
    }
}

fn list(state: &State, collection: &str, namespace: &str) -> Value {
    let of_it = state
        .objects
        .iter()
        .filter(|((of, space, _), _)| of == collection && (namespace.is_empty() || space == namespace));
    let items: Vec<&Value> = of_it.map(|(_, object)| object).collect();
    json!({"kind": "List", "metadata": {"resourceVersion": state.version.to_string()}, "items": items})
}

fn create(
    state: &mut State,
    collection: String,
    namespace: String,
    mut object: Value,
) -> Result<Value, (u16, &'static str)> {
    let next = state.version + 1;
    let name = match object["metadata"]["name"].as_str() {
        Some(name) => name.to_owned(),
        None => format!("{}{next:05}", object["metadata"]["generateName"].as_str().unwrap_or_default()),
    };
    let place = (collection, namespace.clone(), name.clone());
    if state.objects.contains_key(&place) {
        return Err((409, "AlreadyExists"));
    }
    let meta = &mut object["metadata"];
    meta["name"] = name.into();
    if !namespace.is_empty() {
        meta["namespace"] = namespace.into();
    }
    meta["uid"] = format!("uid-{next}").into();
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    Ok(state.put(place, object, "ADDED"))
}

fn patch(object: &mut Value, change: &Value) {
    let Some(fields) = change.as_object() else { return *object = change.clone() };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(items) = object[list].as_array_mut() {
                items.retain(|item| !gone.contains(item));
            }
        } else if key == "ownerReferences" && object[key].is_array() {
            object[key]
                .as_array_mut()
                .into_iter()
                .for_each(|own| own.extend(value.as_array().cloned().unwrap_or_default()));
        } else if value.is_null() {
            object.as_object_mut().map(|fields| fields.shift_remove(key));
        } else {
            patch(&mut object[key], value);
        }
    }
}

fn whole(code: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let body =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    whole(code, &body)
}
