//! What flags change, seen by a client.

use std::sync::Arc;
use std::time::Duration;

use access::request_info::RequestInfo;
use access::user::User;
use api::Tree;
use api::json;
use apiserver::handlers::{Server, handle};
use apiserver::served::Served;
use apiserver::settings::Settings;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use store::{Memory, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::feed::Storage;
use watchcache::resources::Resources;

struct Rig {
    server: Arc<Server>,
    _tasks: JoinSet<()>,
}

impl Rig {
    async fn start(settings: Settings, storage: Storage, store: Arc<dyn Store>) -> Rig {
        let resources = Resources::with_storage(store, CancellationToken::new(), &storage);
        let mut tasks = JoinSet::new();
        let running = resources.clone();
        tasks.spawn(async move { running.run().await });
        resources.synced().await;
        let server = Server::with_settings(
            resources,
            Arc::new(access::authz::Authorizer::allowing_all()),
            None,
            None,
            Vec::new(),
            settings,
            admission::on_by_default,
        );
        let rig = Rig { server, _tasks: tasks };
        rig.ask(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        rig.ask(
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
        rig
    }

    async fn with(settings: Settings) -> Rig {
        Rig::start(settings, Storage::default(), Arc::new(Memory::new())).await
    }

    async fn ask(&self, method: Method, uri: &str, body: Tree) -> (u16, Tree) {
        self.ask_as(method, uri, body, "application/json").await
    }

    async fn ask_as(&self, method: Method, uri: &str, body: Tree, accept: &str) -> (u16, Tree) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header("content-type", "application/json")
            .header("accept", accept);
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let info = RequestInfo::of(&method, request.uri());
        let answer = handle(&self.server, info, User::apiserver(), request).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn get(&self, uri: &str) -> (u16, Tree) {
        self.ask(Method::GET, uri, Tree::Null).await
    }
}

fn served(pairs: &[&str]) -> Settings {
    let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    Settings { served: Served::parse(&pairs).unwrap(), ..Settings::default() }
}

fn pod(privileged: bool) -> Tree {
    json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": privileged}}]},
    })
}

#[tokio::test]
async fn runtime_config_turns_versions_on_and_off() {
    let rig = Rig::with(served(&["apps/v1=false"])).await;
    assert_eq!(rig.get("/apis/apps/v1/deployments").await.0, 404);
    let (_, groups) = rig.get("/apis").await;
    assert!(!groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "apps"));
    assert_eq!(rig.get("/api/v1/pods").await.0, 200);

    let settings = served(&["coordination.k8s.io/v1alpha2=true"]);
    let storage = Storage {
        resources: registry::kind::all().iter().filter(|kind| settings.served.includes(kind)).collect(),
        ..Storage::default()
    };
    let rig = Rig::start(settings, storage, Arc::new(Memory::new())).await;
    let (code, list) = rig.get("/apis/coordination.k8s.io/v1alpha2/leasecandidates").await;
    assert_eq!((code, &list["kind"]), (200, &json!("LeaseCandidateList")));
    let (_, group) = rig.get("/apis/coordination.k8s.io").await;
    assert!(group["versions"].as_array().unwrap().iter().any(|version| version["version"] == "v1alpha2"));
}

#[tokio::test]
async fn privileged_containers_are_refused_unless_allowed() {
    let pods = "/api/v1/namespaces/default/pods";
    let rig = Rig::with(Settings::default()).await;
    let (code, status) = rig.ask(Method::POST, pods, pod(true)).await;
    assert_eq!(code, 422, "{status}");
    assert_eq!(
        status["message"],
        "Pod \"p\" is invalid: spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy"
    );
    assert_eq!(rig.ask(Method::POST, pods, pod(false)).await.0, 201);

    let rig = Rig::with(Settings { allow_privileged: true, ..Settings::default() }).await;
    assert_eq!(rig.ask(Method::POST, pods, pod(true)).await.0, 201);
}

#[tokio::test]
async fn tolerations_follow_the_flags() {
    let admission = admission::Settings {
        not_ready_seconds: 7,
        unreachable_seconds: 8,
        ..admission::Settings::default()
    };
    let rig = Rig::with(Settings { admission, ..Settings::default() }).await;
    let (_, pod) = rig.ask(Method::POST, "/api/v1/namespaces/default/pods", pod(false)).await;
    let seconds: Vec<i64> = pod["spec"]["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|toleration| toleration["tolerationSeconds"].as_i64())
        .collect();
    assert_eq!(seconds, [7, 8]);
}

#[tokio::test]
async fn without_a_garbage_collector_nothing_waits_for_it() {
    let maps = "/api/v1/namespaces/default/configmaps";
    for (garbage_collector, after) in [(true, 200), (false, 404)] {
        let rig = Rig::with(Settings { garbage_collector, ..Settings::default() }).await;
        rig.ask(Method::POST, maps, json!({"metadata": {"name": "m"}})).await;
        rig.ask(Method::DELETE, &format!("{maps}/m"), json!({"propagationPolicy": "Foreground"})).await;
        assert_eq!(rig.get(&format!("{maps}/m")).await.0, after);
    }
}

#[tokio::test]
async fn many_workers_delete_a_collection() {
    let maps = "/api/v1/namespaces/default/configmaps";
    let rig = Rig::with(Settings { delete_collection_workers: 8, ..Settings::default() }).await;
    for number in 0..20 {
        rig.ask(Method::POST, maps, json!({"metadata": {"name": format!("m{number}")}})).await;
    }
    let (code, list) = rig.ask(Method::DELETE, maps, Tree::Null).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 20));
    assert_eq!(rig.get(maps).await.1["items"], json!([]));
}

#[tokio::test]
async fn a_watch_ends_when_its_least_time_has_passed() {
    let rig = Rig::with(Settings { min_request_timeout: 1, ..Settings::default() }).await;
    let started = std::time::Instant::now();
    rig.get("/api/v1/configmaps?watch=true").await;
    let lasted = started.elapsed();
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(10), "{lasted:?}");
}

#[tokio::test]
async fn objects_are_stored_as_json_where_that_is_asked_for() {
    let store = Arc::new(Memory::new());
    let storage = Storage { json: true, ..Storage::default() };
    let rig = Rig::start(Settings::default(), storage, store.clone()).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    rig.ask(Method::POST, maps, json!({"metadata": {"name": "m"}, "data": {"a": "b"}})).await;
    let (found, _) = store.get(b"/registry/configmaps/default/m").await.unwrap();
    let tree: Tree = serde_json::from_slice(&found.unwrap().value).unwrap();
    assert_eq!((&tree["kind"], &tree["data"]["a"]), (&json!("ConfigMap"), &json!("b")));
    // a server that writes protobuf reads it as well
    let rig = Rig::start(Settings::default(), Storage::default(), store).await;
    assert_eq!(rig.get(&format!("{maps}/m")).await.1["data"]["a"], "b");
}

#[tokio::test]
async fn component_statuses_name_every_part() {
    daemon::install_crypto();
    let options = apiserver::options::Options {
        etcd_servers: vec!["http://127.0.0.1:1".into()],
        ..clap::Parser::parse_from(["kube-apiserver"])
    };
    let components = apiserver::components::Component::all(&options);
    let rig = Rig::with(Settings { components, ..Settings::default() }).await;
    let (code, list) = rig.get("/api/v1/componentstatuses").await;
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!((code, names), (200, vec!["scheduler", "controller-manager", "etcd-0"]));
    let (_, etcd) = rig.get("/api/v1/componentstatuses/etcd-0").await;
    assert_eq!(
        (&etcd["kind"], &etcd["conditions"][0]["status"]),
        (&json!("ComponentStatus"), &json!("False"))
    );
    let (_, one) = rig.get("/api/v1/componentstatuses?fieldSelector=metadata.name%3Dscheduler").await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    assert_eq!(rig.get("/api/v1/componentstatuses/foo").await.0, 404);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (_, table) = rig.ask_as(Method::GET, "/api/v1/componentstatuses", Tree::Null, table).await;
    let rows = table["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["cells"][0]), (3, &json!("scheduler")));
}
