//! The verbs through the whole of the core: handler, write path, store, feed, watch cache.

use std::sync::Arc;
use std::time::Duration;

use access::request_info::RequestInfo;
use access::user::User;
use api::Tree;
use api::json;
use apiserver::body::Body;
use apiserver::handlers::{Server, handle};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use store::{Changes, Error, KeyValue, Memory, Range, Revision, Store, Written};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::resources::Resources;

/// A server over a memory store.
pub struct Rig {
    pub server: Arc<Server>,
    _tasks: JoinSet<()>,
}

pub struct Answer {
    pub code: u16,
    pub tree: Tree,
    pub warnings: Vec<String>,
}

impl Answer {
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::on(Arc::new(Memory::new())).await
    }

    pub async fn on(store: Arc<dyn Store>) -> Rig {
        let resources = Resources::new(store, CancellationToken::new());
        let mut tasks = JoinSet::new();
        let running = Arc::clone(&resources);
        tasks.spawn(async move { running.run().await });
        resources.synced().await;
        let rig = Rig { server: Server::new(resources, None, None, Vec::new()), _tasks: tasks };
        // there already where another server ran on the store before
        rig.json(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        rig
    }

    pub async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method.clone()).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let info = RequestInfo::of(&method, request.uri());
        handle(&self.server, info, User::apiserver(), request).await
    }

    pub async fn json(&self, method: Method, uri: &str, body: Tree) -> Answer {
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(method, uri, &[("content-type", content)], body).await;
        let warnings =
            answer.headers().get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned());
        let warnings = warnings.collect();
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let tree =
            api::decode::stored(&bytes).unwrap_or_else(|_| Tree::from(String::from_utf8_lossy(&bytes)));
        Answer { code, tree, warnings }
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.json(Method::GET, uri, Tree::Null).await
    }

    pub async fn create(&self, uri: &str, body: Tree) -> Tree {
        let answer = self.json(Method::POST, uri, body).await;
        assert_eq!(answer.code, 201, "{}", answer.tree);
        answer.tree
    }

    /// Frames of a watch as they come.
    pub async fn watch(&self, uri: &str) -> Watch {
        let answer = self.send(Method::GET, uri, &[], "").await;
        assert_eq!(answer.status().as_u16(), 200);
        Watch { body: answer.into_body(), rest: Vec::new() }
    }
}

pub struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    /// Waits until the server ends it.
    pub async fn ended(&mut self) {
        let end = async { while self.body.frame().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), end).await.expect("the watch ends");
    }

    pub async fn next(&mut self) -> (String, Tree) {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let event: Tree = serde_json::from_slice(&line).unwrap();
                return (event["type"].as_str().unwrap().to_owned(), event["object"].clone());
            }
            let frame =
                tokio::time::timeout(Duration::from_secs(5), self.body.frame()).await.expect("an event");
            self.rest.extend(frame.expect("the watch goes on").unwrap().into_data().unwrap());
        }
    }

    pub async fn next_name(&mut self) -> (String, String) {
        let (event, object) = self.next().await;
        (event, object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Tree {
    json!({"metadata": {"name": name, "labels": {"name": name}}, "data": {"a": "b"}})
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let rig = Rig::start().await;
    let created = rig.create(MAPS, map("a")).await;
    assert_eq!(created["kind"], "ConfigMap");
    assert_eq!(created["metadata"]["namespace"], "default");
    let got = rig.get(&format!("{MAPS}/a")).await;
    assert_eq!((got.code, &got.tree), (200, &created));
    let again = rig.json(Method::POST, MAPS, map("a")).await;
    assert_eq!((again.code, again.tree["message"].as_str()), (409, Some("configmaps \"a\" already exists")));

    let patched = rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"data": {"a": null, "c": "d"}})).await;
    assert_eq!((patched.code, &patched.tree["data"]), (200, &json!({"c": "d"})));
    let nothing = rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"data": {"c": "d"}})).await;
    assert_eq!(nothing.tree["metadata"]["resourceVersion"], patched.tree["metadata"]["resourceVersion"]);
    let stale = rig.json(Method::PUT, &format!("{MAPS}/a"), created.clone()).await;
    assert_eq!((stale.code, stale.tree["reason"].as_str()), (409, Some("Conflict")));
    let mut fresh = patched.tree.clone();
    fresh["data"] = json!({"e": "f"});
    assert_eq!(rig.json(Method::PUT, &format!("{MAPS}/a"), fresh).await.code, 200);

    let gone = rig.json(Method::DELETE, &format!("{MAPS}/a"), Tree::Null).await;
    assert_eq!((gone.code, gone.tree["status"].as_str()), (200, Some("Success")));
    assert_eq!(gone.tree["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(rig.get(&format!("{MAPS}/a")).await.code, 404);
    assert_eq!(rig.json(Method::DELETE, &format!("{MAPS}/a"), Tree::Null).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_a_delete() {
    let rig = Rig::start().await;
    rig.create(MAPS, map("a")).await;
    let waits =
        rig.json(Method::DELETE, &format!("{MAPS}/a"), json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(waits.tree["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(waits.tree["metadata"]["deletionGracePeriodSeconds"], 0);
    let last = rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(last.code, 200);
    assert_eq!(rig.get(&format!("{MAPS}/a")).await.code, 404);
}

#[tokio::test]
async fn lists_select_and_page() {
    let rig = Rig::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        rig.create(MAPS, map(name)).await;
    }
    let names = |tree: &Tree| -> Vec<String> {
        let items = tree["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = rig.get(MAPS).await.tree;
    assert_eq!((all["kind"].as_str(), names(&all).len()), (Some("ConfigMapList"), 5));
    assert!(all["items"][0].get("kind").is_none());
    assert_eq!(names(&rig.get(&format!("{MAPS}?labelSelector=name+in+(b,c)")).await.tree), ["b", "c"]);
    assert_eq!(names(&rig.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dd").await.tree), ["d"]);
    let first = rig.get(&format!("{MAPS}?limit=2")).await.tree;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(3))
    );
    rig.json(Method::DELETE, &format!("{MAPS}/c"), Tree::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = rig.get(&format!("{MAPS}?limit=2&continue={token}")).await.tree;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then = rig.get(&format!("{MAPS}?resourceVersion={exact}&resourceVersionMatch=Exact")).await.tree;
    assert_eq!(names(&then).len(), 5);
    // pages that name a version are of that version
    let page = rig.get(&format!("{MAPS}?resourceVersion={exact}&limit=2")).await.tree;
    assert_eq!((names(&page).len(), &page["metadata"]["remainingItemCount"]), (2, &json!(3)));
    assert_eq!(page["metadata"]["resourceVersion"], exact);
    assert_eq!(names(&rig.get(MAPS).await.tree).len(), 4);
    let newer = "resourceVersionMatch=NotOlderThan";
    let page = rig.get(&format!("{MAPS}?resourceVersion={exact}&limit=2&{newer}")).await.tree;
    assert_eq!(page["metadata"]["remainingItemCount"], 2);
    // a client that accepts any version gets everything at once
    for query in ["resourceVersion=0".to_owned(), format!("resourceVersion=0&continue={token}")] {
        let all = rig.get(&format!("{MAPS}?limit=1&{query}")).await.tree;
        assert!(names(&all).len() >= 3 && all["metadata"].get("continue").is_none(), "{all}");
    }
    let future = rig.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert_eq!((future.code, future.tree["reason"].as_str()), (504, Some("Timeout")));
}

#[tokio::test]
async fn a_request_authorized_by_name_reads_only_that_name() {
    let rig = Rig::start().await;
    for name in ["a", "b"] {
        rig.create(MAPS, map(name)).await;
    }
    let by_path = MAPS.replace("/v1/", "/v1/watch/");
    let mut one = rig.watch(&format!("{by_path}/b")).await;
    assert_eq!(one.next_name().await, ("ADDED".into(), "b".into()));
    rig.create(MAPS, map("c")).await;
    rig.json(Method::DELETE, &format!("{MAPS}/b"), Tree::Null).await;
    assert_eq!(one.next_name().await, ("DELETED".into(), "b".into()));
    let refused = rig.get(&format!("{by_path}/a?fieldSelector=metadata.name!%3Dx")).await;
    assert_eq!(refused.code, 400);
    assert_eq!(refused.tree["message"], "fieldSelector metadata.name doesn't match requested name");
    let twice =
        rig.get(&format!("{MAPS}?fieldSelector=metadata.name%3Da&fieldSelector=metadata.name!%3Dx")).await;
    assert_eq!(twice.tree["items"].as_array().unwrap().len(), 1);
}

/// A store whose pods are removed by somebody else just before they would be removed, as by a kubelet.
#[derive(Default)]
struct Overtaken(Memory);

#[async_trait::async_trait]
impl Store for Overtaken {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        self.0.get(key).await
    }
    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        self.0.range(start, end, limit, revision).await
    }
    async fn revision(&self) -> Result<Revision, Error> {
        self.0.revision().await
    }
    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        self.0.put(key, value, expected, ttl).await
    }
    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        if key.starts_with(b"/registry/pods/") {
            self.0.delete(key, expected).await?;
        }
        // and another takes its name
        if key == b"/registry/pods/default/mirror" {
            let (other, _) = self.0.get(b"/registry/pods/default/other").await?;
            self.0.put(key, other.unwrap().value, 0, None).await?;
        }
        self.0.delete(key, expected).await
    }
    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        self.0.watch(prefix, revision).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.0.compact(revision).await
    }
}

#[tokio::test]
async fn a_pod_that_somebody_else_removes_is_gone_as_asked() {
    let rig = Rig::on(Arc::new(Overtaken::default())).await;
    rig.create(&MAPS.replace("configmaps", "serviceaccounts"), json!({"metadata": {"name": "default"}}))
        .await;
    let pods = MAPS.replace("configmaps", "pods");
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    for name in ["p", "mirror", "other"] {
        rig.create(&pods, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    for (name, after) in [("p", 404), ("mirror", 200)] {
        let deleted =
            rig.json(Method::DELETE, &format!("{pods}/{name}?gracePeriodSeconds=0"), Tree::Null).await;
        assert_eq!((deleted.code, &deleted.tree["metadata"]["name"]), (200, &json!(name)));
        assert_eq!(rig.get(&format!("{pods}/{name}")).await.code, after, "{name}");
    }
}

#[tokio::test]
async fn events_wait_for_no_garbage_collector() {
    let rig = Rig::start().await;
    let events = MAPS.replace("configmaps", "events");
    let about = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    for policy in ["Foreground", "Orphan"] {
        rig.create(&events, json!({"metadata": {"name": "e"}, "involvedObject": about})).await;
        rig.json(Method::DELETE, &format!("{events}/e?propagationPolicy={policy}"), Tree::Null).await;
        assert_eq!(rig.get(&format!("{events}/e")).await.code, 404, "{policy}");
    }
}

#[tokio::test]
async fn no_number_is_too_large() {
    let rig = Rig::start().await;
    let mut long = rig.watch(&format!("{MAPS}?watch=1&timeoutSeconds={}", i64::MAX)).await;
    rig.create(MAPS, map("a")).await;
    assert_eq!(long.next_name().await.1, "a");
    rig.create(&MAPS.replace("configmaps", "serviceaccounts"), json!({"metadata": {"name": "default"}}))
        .await;
    let pods = MAPS.replace("configmaps", "pods");
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": i64::MAX});
    for (name, query) in [("own", String::new()), ("asked", format!("?gracePeriodSeconds={}", i64::MAX))] {
        rig.create(&pods, json!({"metadata": {"name": name}, "spec": spec})).await;
        let deleted = rig.json(Method::DELETE, &format!("{pods}/{name}{query}"), Tree::Null).await;
        assert_eq!(
            (deleted.code, &deleted.tree["metadata"]["deletionGracePeriodSeconds"]),
            (200, &json!(i64::MAX))
        );
        let again =
            rig.json(Method::DELETE, &format!("{pods}/{name}?gracePeriodSeconds=3"), Tree::Null).await;
        assert_eq!((again.code, &again.tree["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(3)));
    }
}

#[tokio::test]
async fn watches_start_anywhere() {
    let rig = Rig::start().await;
    let first = rig.create(MAPS, map("a")).await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut from_now = rig.watch(&format!("{MAPS}?watch=1")).await;
    let mut since = rig.watch(&format!("{MAPS}?watch=1&resourceVersion={version}")).await;
    let mut selected =
        rig.watch(&format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=on%3Dyes")).await;
    let marked = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut marked = rig.watch(&format!("{MAPS}?{marked}")).await;
    assert_eq!(from_now.next_name().await, ("ADDED".into(), "a".into()));
    assert_eq!(marked.next_name().await, ("ADDED".into(), "a".into()));
    let (event, object) = marked.next().await;
    assert_eq!(
        (event.as_str(), &object["metadata"]["annotations"]),
        ("BOOKMARK", &json!({"k8s.io/initial-events-end": "true"}))
    );
    rig.create(MAPS, map("b")).await;
    for watch in [&mut from_now, &mut since, &mut marked] {
        assert_eq!(watch.next_name().await, ("ADDED".into(), "b".into()));
    }
    let on = json!({"metadata": {"labels": {"on": "yes"}}});
    rig.json(Method::PATCH, &format!("{MAPS}/b"), on).await;
    let off = json!({"metadata": {"labels": {"on": null}}});
    rig.json(Method::PATCH, &format!("{MAPS}/b"), off).await;
    assert_eq!(since.next_name().await.0, "MODIFIED");
    let (event, added) = selected.next().await;
    assert_eq!((event.as_str(), &added["metadata"]["labels"]["on"]), ("ADDED", &json!("yes")));
    let (event, gone) = selected.next().await;
    assert_eq!((event.as_str(), &gone["metadata"]["labels"]["on"]), ("DELETED", &json!("yes")));
    let deleted = rig.json(Method::DELETE, &format!("{MAPS}/b"), Tree::Null).await;
    assert_eq!(deleted.code, 200);
    assert_eq!(since.next_name().await.0, "MODIFIED");
    let (event, last) = since.next().await;
    assert_eq!(event, "DELETED");
    assert!(last["metadata"]["resourceVersion"] != gone["metadata"]["resourceVersion"]);
    let mut old = rig.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let _ = old.next().await;
}

#[tokio::test]
async fn bad_requests_are_answered_as_upstream_does() {
    let rig = Rig::start().await;
    let check = async |method: Method, uri: &str, body: &str, code: u16, message: &str| {
        let headers = [(
            "content-type",
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" },
        )];
        let answer = rig.send(method, uri, &headers, body.to_owned()).await;
        let got = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let tree: Tree = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((got, tree["message"].as_str().unwrap_or_default()), (code, message), "{uri}");
    };
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    rig.create(MAPS, map("a")).await;
    check(get.clone(), "/api/v1/pods?limit=x", "", 400, "strconv.ParseInt: parsing \"x\": invalid syntax")
        .await;
    check(get.clone(), "/api/v1/pods?fieldSelector=a=b", "", 400, "field label not supported: a").await;
    check(get.clone(), "/api/v1/foo", "", 404, "the server could not find the requested resource").await;
    check(get.clone(), "/api/v1/pods?continue=abc", "", 400, "invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value").await;
    check(
        post.clone(),
        &format!("{MAPS}/a"),
        "{}",
        405,
        "the server does not allow this method on the requested resource",
    )
    .await;
    check(post.clone(), MAPS, "{", 400, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)").await;
    check(
        post.clone(),
        MAPS,
        "{\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"5\"}}",
        500,
        "resourceVersion should not be set on objects to be created",
    )
    .await;
    check(
        post.clone(),
        MAPS,
        "{\"metadata\":{\"name\":\"b\",\"namespace\":\"x\"}}",
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    )
    .await;
    check(
        put.clone(),
        &format!("{MAPS}/a"),
        "{\"metadata\":{\"name\":\"b\"}}",
        400,
        "the name of the object (b) does not match the name on the URL (a)",
    )
    .await;
    check(
        put.clone(),
        &format!("{MAPS}/no"),
        "{\"metadata\":{\"name\":\"no\"}}",
        404,
        "configmaps \"no\" not found",
    )
    .await;
    check(Method::PATCH, &format!("{MAPS}/a"), "{", 400, "invalid JSON patch").await;
    check(post, MAPS, &" ".repeat(4 << 20), 413, "Request entity too large: limit is 3145728").await;
    let warned = rig.json(Method::POST, MAPS, json!({"metadata": {"name": "w"}, "foo": 1})).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"foo\\\"\""]);
}

#[tokio::test]
async fn protobuf_goes_in_and_out() {
    let rig = Rig::start().await;
    rig.create(MAPS, map("a")).await;
    let accept = [("accept", "application/vnd.kubernetes.protobuf")];
    let one = rig
        .send(Method::GET, &format!("{MAPS}/a"), &accept, "")
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let message = api::tables::message("k8s.io.api.core.v1.ConfigMap").unwrap();
    let shown = |tree: &Tree| String::from_utf8(api::json::to_vec(tree)).unwrap();
    let decoded = |bytes: &[u8], message| shown(&api::wire::object_to_tree(bytes, message).unwrap());
    assert_eq!(decoded(&one, message), shown(&rig.get(&format!("{MAPS}/a")).await.tree));
    let list = rig.send(Method::GET, MAPS, &accept, "").await.into_body().collect().await.unwrap().to_bytes();
    let message = api::tables::message("k8s.io.api.core.v1.ConfigMapList").unwrap();
    assert_eq!(decoded(&list, message), shown(&rig.get(MAPS).await.tree));
}

#[tokio::test]
async fn openapi_comes_in_the_form_that_is_accepted() {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let rig = Rig::start().await;
    let asked = PROTOBUF.replace("v2.v1.0", "v2@v1.0");
    for (path, accept, code, media) in [
        ("/openapi/v2", asked.as_str(), 200, PROTOBUF),
        ("/openapi/v2", PROTOBUF, 200, PROTOBUF),
        ("/openapi/v2", "application/json", 200, "application/json"),
        ("/openapi/v2", "text/plain, */*;q=0.1", 200, "application/json"),
        ("/openapi/v2", "text/plain", 406, ""),
        ("/openapi/v3/apis/apps/v1", "*/*", 200, "application/json"),
        ("/openapi/v3/apis/apps/v1", "text/plain", 406, ""),
        ("/openapi/v3/apis/apps/v9", "*/*", 404, ""),
        ("/openapi/v3/apis/apps", "*/*", 200, "application/json"),
        ("/openapi/v3/.well-known/openid-configuration", "*/*", 200, "application/json"),
        ("/openapi/v3/apis/nope", "*/*", 404, ""),
    ] {
        let answer = rig.send(Method::GET, path, &[("accept", accept)], String::new()).await;
        let found = answer.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), found), (code, media), "{path} as {accept}");
    }
}

#[tokio::test]
async fn a_new_server_sees_what_an_old_one_wrote() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let first = Rig::on(Arc::clone(&store)).await;
    let created = first.create(MAPS, map("a")).await;
    let second = Rig::on(store).await;
    assert_eq!(second.get(&format!("{MAPS}/a")).await.tree, created);
    second.json(Method::DELETE, &format!("{MAPS}/a"), Tree::Null).await;
    assert_eq!(first.get(&format!("{MAPS}/a")).await.code, 404);
}

#[tokio::test]
async fn lists_by_label_follow_changes() {
    let rig = Rig::start().await;
    let labelled = |name: &str, colour: &str| json!({"metadata": {"name": name, "labels": {"colour": colour, "kind": "map"}}});
    let names = |tree: &Tree| -> Vec<String> {
        let items = tree["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    rig.json(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await;
    for (name, colour) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "red")] {
        rig.create(MAPS, labelled(name, colour)).await;
    }
    rig.create("/api/v1/namespaces/other/configmaps", labelled("e", "red")).await;
    let list = async |query: &str| names(&rig.get(query).await.tree);
    assert_eq!(list(&format!("{MAPS}?labelSelector=colour%3Dred")).await, ["a", "c", "d"]);
    assert_eq!(list("/api/v1/configmaps?labelSelector=colour%3Dred").await, ["a", "c", "d", "e"]);
    assert_eq!(list(&format!("{MAPS}?labelSelector=kind%3Dmap,colour!%3Dred")).await, ["b"]);

    rig.json(Method::PUT, &format!("{MAPS}/c"), labelled("c", "blue")).await;
    rig.json(Method::DELETE, &format!("{MAPS}/a"), Tree::Null).await;
    assert_eq!(list(&format!("{MAPS}?labelSelector=colour%20in%20(red)")).await, ["d"]);
    assert_eq!(list(&format!("{MAPS}?labelSelector=colour%3Dblue")).await, ["b", "c"]);

    let page = rig.get(&format!("{MAPS}?labelSelector=kind%3Dmap&limit=2")).await.tree;
    assert_eq!(names(&page), ["b", "c"]);
    let rest = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(list(&format!("{MAPS}?labelSelector=kind%3Dmap&limit=2&continue={rest}")).await, ["d"]);
    // what follows a page may or may not match
    let blue = format!("{MAPS}?labelSelector=colour%3Dblue&limit=2");
    let page = rig.get(&blue).await.tree;
    assert_eq!(names(&page), ["b", "c"]);
    let rest = page["metadata"]["continue"].as_str().unwrap();
    let page = rig.get(&format!("{blue}&continue={rest}")).await.tree;
    assert!(names(&page).is_empty() && page["metadata"]["continue"].is_null(), "{page}");
}

/// A store that counts the keys it reads.
#[derive(Default)]
struct Counted {
    memory: Memory,
    read: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Counted {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        self.memory.get(key).await
    }
    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        let range = self.memory.range(start, end, limit, revision).await?;
        self.read.fetch_add(range.items.len(), std::sync::atomic::Ordering::Relaxed);
        Ok(range)
    }
    async fn revision(&self) -> Result<Revision, Error> {
        self.memory.revision().await
    }
    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        self.memory.put(key, value, expected, ttl).await
    }
    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        self.memory.delete(key, expected).await
    }
    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        self.memory.watch(prefix, revision).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.memory.compact(revision).await
    }
}

#[tokio::test]
async fn a_page_of_an_old_revision_costs_the_page() {
    let store = Arc::new(Counted::default());
    let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>).await;
    let other = "/api/v1/namespaces/kube-public/configmaps";
    rig.json(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "kube-public"}})).await;
    for number in 0..30 {
        rig.create(MAPS, map(&format!("m{number:02}"))).await;
        rig.create(other, map(&format!("m{number:02}"))).await;
    }
    let old = rig.get(MAPS).await.tree["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for number in 0..30 {
        rig.json(Method::DELETE, &format!("{MAPS}/m{number:02}"), Tree::Null).await;
    }
    // a consistent list: from here on the cache has seen the deletes
    rig.get(MAPS).await;
    let read = || store.read.swap(0, std::sync::atomic::Ordering::Relaxed);
    read();
    let names = |tree: &Tree| -> Vec<String> {
        let items = tree["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut query = format!("resourceVersion={old}");
    for (first, left) in [(0, Some(20)), (10, Some(10)), (20, None)] {
        let page = rig.get(&format!("{MAPS}?limit=10&{query}")).await.tree;
        let expect: Vec<String> = (first..first + 10).map(|number| format!("m{number:02}")).collect();
        assert_eq!(names(&page), expect);
        assert_eq!(page["metadata"]["remainingItemCount"].as_i64(), left);
        assert_eq!(page["metadata"]["resourceVersion"], *old);
        let read = read();
        assert!(read <= 11, "{read} keys were read");
        query = format!("continue={}", page["metadata"]["continue"].as_str().unwrap_or_default());
    }
    let exact = format!("resourceVersion={old}&resourceVersionMatch=Exact");
    let selected = format!("{MAPS}?limit=1&labelSelector=name%3Dm17&{exact}");
    assert_eq!(names(&rig.get(&selected).await.tree), ["m17"]);
    assert_eq!(read(), 30);
    let named = format!("{MAPS}?fieldSelector=metadata.name%3Dm17&{exact}");
    assert_eq!((names(&rig.get(&named).await.tree), read()), (vec!["m17".to_owned()], 1));
    assert_eq!((names(&rig.get(&format!("/api/v1/configmaps?{exact}")).await.tree).len(), read()), (60, 60));
}

#[tokio::test]
async fn unreadable_objects_are_reported() {
    const CORRUPT: &str = "StorageError: corrupt object, Code: 7";
    let store = Arc::new(Memory::new());
    let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>).await;
    // cut off in the envelope's content; whole, with metadata that is not
    let cut = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\xff\xff\xff".to_vec();
    let within = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x06\x0a\x04\x0a\x7faa\x1a\0\x22\0".to_vec();
    let deep =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x06\x0a\x00\x12\x02\x0a\x7f\x1a\0\x22\0".to_vec();
    for (name, bytes) in [("cut", cut), ("within", within), ("deep", deep)] {
        let mut watches = Vec::new();
        for form in ["application/json", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"] {
            let watch = rig.send(Method::GET, &format!("{MAPS}?watch=1"), &[("accept", form)], "").await;
            watches.push(Watch { body: watch.into_body(), rest: Vec::new() });
        }
        rig.create(MAPS, map(name)).await;
        let key = format!("/registry/configmaps/default/{name}");
        let (before, _) = store.get(key.as_bytes()).await.unwrap();
        store.put(key.as_bytes(), bytes.into(), before.unwrap().mod_revision, None).await.unwrap();
        let one = rig.get(&format!("{MAPS}/{name}")).await;
        let text = one.tree["message"].as_str().unwrap_or_else(|| panic!("{name}: {}", one.tree));
        assert_eq!((one.code, one.tree["reason"].as_str()), (500, Some("InternalError")), "{text}");
        assert!(
            text.contains(CORRUPT) && text.contains(&format!("Key: /configmaps/default/{name},")),
            "{text}"
        );
        for list in [MAPS, "/api/v1/configmaps?limit=1"] {
            let list = rig.get(list).await;
            assert_eq!((list.code, list.tree["reason"].as_str()), (500, Some("StorageReadError")), "{name}");
        }
        let patched = rig.json(Method::PATCH, &format!("{MAPS}/{name}"), json!({"data": {"a": "b"}})).await;
        assert_eq!(patched.code, 500, "{}", patched.tree);
        assert_eq!(rig.json(Method::DELETE, &format!("{MAPS}/{name}"), Tree::Null).await.code, 500);
        assert_eq!(rig.get("/api/v1/namespaces/kube-system/configmaps").await.code, 200);
        let (now, _) = store.get(key.as_bytes()).await.unwrap();
        rig.create(MAPS, map("other")).await;
        store.delete(key.as_bytes(), now.unwrap().mod_revision).await.unwrap();
        assert_eq!(rig.get(MAPS).await.code, 200);
        assert_eq!(rig.json(Method::DELETE, &format!("{MAPS}/other"), Tree::Null).await.code, 200);
        for watch in &mut watches {
            assert_eq!(watch.next_name().await, ("ADDED".to_owned(), name.to_owned()));
            assert_eq!(watch.next_name().await, ("ADDED".to_owned(), "other".to_owned()));
            let (event, object) = watch.next().await;
            match event.as_str() {
                "DELETED" => assert_eq!(object["metadata"]["name"], name),
                _ => assert_eq!((event.as_str(), object["code"].as_i64()), ("ERROR", Some(410)), "{object}"),
            }
        }
        assert_eq!(rig.get(&format!("{MAPS}/{name}")).await.code, 404);
    }
}

#[tokio::test]
async fn bodies_in_odd_forms() {
    let rig = Rig::start().await;
    let send = async |method: Method, path: &str, media: &str, body: &str| {
        let answer = rig.send(method, path, &[("content-type", media)], body.to_owned()).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let tree: Tree = serde_json::from_slice(&bytes).unwrap();
        (code, tree["message"].as_str().unwrap_or_default().to_owned())
    };
    let made = send(Method::POST, MAPS, "application/JSON", r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let strategic = async |body: &str| {
        let patched =
            send(Method::PATCH, &format!("{MAPS}/a"), "application/strategic-merge-patch+json", body).await;
        assert_eq!(patched.0, 422, "{body}: {}", patched.1);
        patched.1.rsplit_once("\": ").map(|(_, words)| words.to_owned()).unwrap_or_default()
    };
    assert_eq!(strategic(r#"{"data":{"a":1}}"#).await, "cannot convert int64 to string");
    assert_eq!(strategic(r#"{"data":{"a":[]}}"#).await, "unrecognized type: string");
    assert_eq!(strategic(r#"{"immutable":"x"}"#).await, "unrecognized type: bool");
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"a": "b"});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": labels}, "template": template});
    rig.create(DEPLOYMENTS, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    for (number, replicas) in [("1.0", 1), ("1e3", 1000), ("4294967298", 2)] {
        let body = format!(r#"{{"spec":{{"replicas":{number}}}}}"#);
        let (path, media) = (format!("{DEPLOYMENTS}/a"), "application/strategic-merge-patch+json");
        let patched = send(Method::PATCH, &path, media, &body).await;
        assert_eq!(patched.0, 200, "{number}: {}", patched.1);
        assert_eq!(rig.get(&path).await.tree["spec"]["replicas"], replicas);
    }
    let path = format!("{MAPS}/a?fieldManager=x");
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","binaryData":{"a":"!"}}"#;
    let applied = send(Method::PATCH, &path, "application/apply-patch+yaml", body).await;
    assert!(
        applied.1.ends_with("error decoding from json: illegal base64 data at input byte 0"),
        "{}",
        applied.1
    );
}
