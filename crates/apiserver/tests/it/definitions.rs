//! Custom resources from their definition to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Tree, json};
use apiserver::extensions::Extensions;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::core::Rig;

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

pub async fn follow(rig: &Rig) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (server, resources) = (Arc::clone(&rig.server), Arc::clone(&rig.server.resources));
    let (ready, waiting) = tokio::sync::oneshot::channel();
    let extensions = Extensions::new(server, resources);
    tasks.spawn(extensions.run(CancellationToken::new(), || _ = ready.send(())));
    waiting.await.unwrap();
    tasks
}

pub fn definition(plural: &str, kind: &str, versions: Tree) -> Tree {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind, "shortNames": ["w"], "categories": ["all"]}},
    })
}

pub fn version(name: &str, storage: bool, spec: Tree) -> Tree {
    json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": spec},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
}

pub fn widget(name: &str, spec: Tree) -> Tree {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// Waits for a condition of a definition.
pub async fn condition(rig: &Rig, name: &str, ty: &str, status: &str) -> Tree {
    let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1&fieldSelector=metadata.name={name}")).await;
    loop {
        let (_, object) = watch.next().await;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if let Some(own) = conditions.iter().find(|own| own["type"] == *ty && own["status"] == *status) {
            return own.clone();
        }
    }
}

#[tokio::test]
async fn a_definition_is_served_and_goes_with_its_objects() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    assert_eq!(rig.get(WIDGETS).await.code, 404);
    let spec = json!({"size": {"type": "integer", "default": 1, "minimum": 0}, "color": {"type": "string"}});
    let began = Instant::now();
    let created =
        rig.create(DEFINITIONS, definition("widgets", "Widget", json!([version("v1", true, spec)]))).await;
    assert_eq!(created["spec"]["names"]["listKind"], "WidgetList");
    let established = condition(&rig, "widgets.example.com", "Established", "True").await;
    assert_eq!(established["reason"], "InitialNamesAccepted");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    let group = rig.get("/apis/example.com/v1").await.tree;
    assert_eq!(group["resources"][0]["shortNames"], json!(["w"]));
    assert_eq!(group["resources"][1]["name"], "widgets/status");
    let mut watch = rig.watch(&format!("{WIDGETS}?watch=1")).await;
    let made = rig.create(WIDGETS, widget("a", json!({"color": "red", "odd": 1}))).await;
    assert_eq!(made["spec"], json!({"color": "red", "size": 1}));
    assert_eq!(made["metadata"]["generation"], 1);
    let keys: Vec<&str> = made.as_object().unwrap().keys().map(|key| key.as_str()).collect();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "spec"]);
    assert!(made["metadata"].as_object().unwrap().keys().is_sorted());
    assert_eq!(watch.next().await, ("ADDED".to_owned(), made.clone()));
    let refused = rig.json(Method::POST, WIDGETS, widget("b", json!({"size": -1}))).await;
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.tree["message"],
        "Widget.example.com \"b\" is invalid: spec.size: Invalid value: -1: spec.size in body should be greater than or equal to 0"
    );
    let strict = rig
        .json(Method::POST, &format!("{WIDGETS}?fieldValidation=Strict"), widget("b", json!({"odd": 1})))
        .await;
    assert_eq!(strict.code, 400, "{}", strict.tree);
    let status = rig
        .json(
            Method::PATCH,
            &format!("{WIDGETS}/a/status"),
            json!({"spec": {"size": 9}, "status": {"any": {"x": 1}}}),
        )
        .await;
    assert_eq!(
        (&status.tree["spec"]["size"], &status.tree["status"]),
        (&json!(1), &json!({"any": {"x": 1}}))
    );
    assert_eq!(status.tree["metadata"]["generation"], 1);
    let list = rig.get(WIDGETS).await.tree;
    assert_eq!(list["kind"], "WidgetList");
    assert_eq!(list["items"][0], status.tree);
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table =
        rig.send(Method::GET, WIDGETS, &accept, "").await.into_body().collect().await.unwrap().to_bytes();
    let table: Tree = serde_json::from_slice(&table).unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Age");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let strategic = rig.send(Method::PATCH, &format!("{WIDGETS}/a"), &strategic, "{}").await;
    assert_eq!(strategic.status(), 415);

    // Something holds an object, and so the definition.
    let kept = json!({"metadata": {"finalizers": ["example.com/kept"]}});
    assert_eq!(rig.json(Method::PATCH, &format!("{WIDGETS}/a"), kept).await.code, 200);
    let gone = rig.json(Method::DELETE, &format!("{DEFINITIONS}/widgets.example.com"), Tree::Null).await;
    assert_eq!(gone.tree["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    let terminating = condition(&rig, "widgets.example.com", "Terminating", "True").await;
    assert!(
        ["InstanceDeletionPending", "InstanceDeletionInProgress"]
            .contains(&terminating["reason"].as_str().unwrap())
    );
    let late = rig.json(Method::POST, WIDGETS, widget("late", json!({}))).await;
    assert_eq!((late.code, &late.tree["reason"]), (403, &json!("Forbidden")), "{}", late.tree);
    let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1")).await;
    let free = json!({"metadata": {"finalizers": null}});
    rig.json(Method::PATCH, &format!("{WIDGETS}/a"), free).await;
    while watch.next().await.0 != "DELETED" {}
    while rig.get(WIDGETS).await.code != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn names_are_accepted_once_they_are_free() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let versions = json!([version("v1", true, json!({}))]);
    rig.create(DEFINITIONS, definition("widgets", "Widget", versions.clone())).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(DEFINITIONS, definition("gadgets", "Widget", versions)).await;
    let refused = condition(&rig, "gadgets.example.com", "NamesAccepted", "False").await;
    assert_eq!(refused["reason"], "ListKindConflict");
    assert_eq!(rig.get(&WIDGETS.replace("widgets", "gadgets")).await.code, 404);
    rig.json(Method::DELETE, &format!("{DEFINITIONS}/widgets.example.com"), Tree::Null).await;
    condition(&rig, "gadgets.example.com", "Established", "True").await;
    assert_eq!(rig.get(&WIDGETS.replace("widgets", "gadgets")).await.code, 200);
}

#[tokio::test]
async fn versions_differ_in_their_schemas_alone() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (one, two) = (
        json!({"size": {"type": "integer"}}),
        json!({"size": {"type": "integer"}, "color": {"type": "string"}}),
    );
    let versions = json!([version("v1", true, two.clone()), version("v1beta1", false, one)]);
    rig.create(DEFINITIONS, definition("widgets", "Widget", versions)).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, widget("a", json!({"size": 1, "color": "red"}))).await;
    let beta = rig.get(&format!("{}/a", WIDGETS.replace("v1", "v1beta1"))).await.tree;
    assert_eq!((&beta["apiVersion"], &beta["spec"]), (&json!("example.com/v1beta1"), &json!({"size": 1})));

    // Another version is stored from now on, and the watches of the former schemas end.
    let mut watch = rig.watch(&format!("{WIDGETS}?watch=1")).await;
    let mut third = version("v2", true, two.clone());
    third["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["new"] =
        json!({"type": "string", "default": "x"});
    let versions = json!([version("v1", false, two), third]);
    let change = json!({"spec": {"versions": versions}});
    let changed = rig.json(Method::PATCH, &format!("{DEFINITIONS}/widgets.example.com"), change).await;
    assert_eq!(changed.code, 200, "{}", changed.tree);
    assert_eq!(changed.tree["status"]["storedVersions"], json!(["v1", "v2"]));
    watch.ended().await;
    while rig.get(&WIDGETS.replace("v1", "v1beta1")).await.code != 404 {
        tokio::task::yield_now().await;
    }
    let second = rig.get(&format!("{}/a", WIDGETS.replace("v1", "v2"))).await.tree;
    assert_eq!(second["spec"], json!({"color": "red", "new": "x", "size": 1}));
}

#[tokio::test]
async fn definitions_come_and_go_without_a_trace() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let before = rig.get("/apis").await.tree;
    for _ in 0..10 {
        rig.create(DEFINITIONS, definition("widgets", "Widget", json!([version("v1", true, json!({}))])))
            .await;
        condition(&rig, "widgets.example.com", "Established", "True").await;
        rig.create(WIDGETS, widget("a", json!({}))).await;
        let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1")).await;
        rig.json(Method::DELETE, &format!("{DEFINITIONS}/widgets.example.com"), Tree::Null).await;
        while watch.next().await.0 != "DELETED" {}
    }
    while rig.get("/apis").await.tree != before {
        tokio::task::yield_now().await;
    }
    assert!(rig.server.resources.feed.cache("example.com/widgets").is_none());
}

fn of_group(group: &str, plural: &str, kind: &str, versions: Tree) -> Tree {
    let mut made = definition(plural, kind, versions);
    made["metadata"] = json!({"name": format!("{plural}.{group}"),
        "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}});
    made["spec"]["group"] = group.into();
    made["spec"]["names"]["shortNames"] = json!([]);
    made
}

#[tokio::test]
async fn no_definition_takes_the_place_of_a_built_in_kind() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (v1, v7) = (version("v1", true, json!({})), version("v7", false, json!({})));
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([v1.clone()]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, widget("a", json!({}))).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "own"}, "spec": {"holderIdentity": "me"}});
    rig.create(leases, lease).await;
    let (before, discovered) =
        (rig.get(leases).await.tree, rig.get("/apis/coordination.k8s.io/v1").await.tree);

    let versions = json!([v1, v7]);
    for (group, plural, kind) in [
        ("coordination.k8s.io", "leases", "Lease"),
        ("coordination.k8s.io", "foos", "Foo"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition"),
    ] {
        let name = format!("{plural}.{group}");
        rig.create(DEFINITIONS, of_group(group, plural, kind, versions.clone())).await;
        condition(&rig, &name, "Established", "True").await;
        assert_eq!(rig.get(&format!("/apis/{group}/v7/{plural}")).await.code, 404, "{name}");
        assert_eq!(rig.get(leases).await.tree["items"], before["items"]);
        assert_eq!(rig.get("/apis/coordination.k8s.io/v1").await.tree, discovered);
        assert_eq!(rig.get(&format!("{DEFINITIONS}/widgets.example.com")).await.code, 200, "{name}");
        let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1&fieldSelector=metadata.name={name}")).await;
        assert_eq!(rig.json(Method::DELETE, &format!("{DEFINITIONS}/{name}"), Tree::Null).await.code, 200);
        while watch.next().await.0 != "DELETED" {}
        while rig.get(&format!("{DEFINITIONS}/{name}")).await.code != 404 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(rig.get(&format!("{WIDGETS}/a")).await.code, 200);
    assert_eq!(rig.get(leases).await.tree["items"], before["items"]);
    assert_eq!(rig.get(&format!("{DEFINITIONS}/widgets.example.com")).await.code, 200);
    let (server, feed) = (&rig.server, &rig.server.resources.feed);
    assert!(feed.cache("apiextensions.k8s.io/customresourcedefinitions").is_some());
    // Nobody reads what is not served any more.
    while feed.cache("coordination.k8s.io/leases").is_some() {
        tokio::task::yield_now().await;
    }
    assert!(server.catalog().has_built_in("coordination.k8s.io"));
}

#[tokio::test]
async fn columns_end_before_one_without_a_path() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let mut v1 = version("v1", true, json!({"a": {"type": "string"}}));
    v1["additionalPrinterColumns"] = json!([
        {"name": "A", "type": "string", "jsonPath": r".spec.a\"},
        {"name": "B", "type": "string", "jsonPath": ".spec.a[?(@[?(@.b)])]"},
        {"name": "C", "type": "string", "jsonPath": ".spec.c"},
    ]);
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([v1]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, widget("a", json!({"a": "x"}))).await;
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table =
        rig.send(Method::GET, WIDGETS, &accept, "").await.into_body().collect().await.unwrap().to_bytes();
    let table: Tree = serde_json::from_slice(&table).unwrap();
    assert_eq!(table["rows"][0]["cells"], json!(["a", "x"]));
}

#[tokio::test]
async fn who_scales_owns_the_field_that_the_scale_has() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let integer = json!({"type": "integer"});
    let mut v1 = version("v1", true, json!({"size": integer, "replicas": integer}));
    v1["subresources"]["scale"] =
        json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"});
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([v1]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, widget("a", json!({"size": 1, "replicas": 7}))).await;
    let scaled =
        rig.json(Method::PATCH, &format!("{WIDGETS}/a/scale"), json!({"spec": {"replicas": 3}})).await;
    assert_eq!((scaled.code, &scaled.tree["spec"]["replicas"]), (200, &json!(3)), "{}", scaled.tree);
    let owned = rig.get(&format!("{WIDGETS}/a")).await.tree;
    let entries = owned["metadata"]["managedFields"].as_array().unwrap();
    let scale: Vec<&Tree> = entries.iter().filter(|entry| entry["subresource"] == "scale").collect();
    assert_eq!(scale.len(), 1, "{owned}");
    assert_eq!(scale[0]["fieldsV1"], json!({"f:spec": {"f:size": {}}}));
}

#[tokio::test]
async fn deep_objects_are_read_as_they_are_written() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let kept = json!({"any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([version("v1", true, kept)]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let mut deep = json!({"end": "here"});
    for _ in 0..300 {
        deep = json!({"d": deep});
    }
    rig.create(WIDGETS, widget("deep", json!({"any": deep}))).await;
    let list = rig.get(WIDGETS).await.tree;
    let found = (0..300).fold(&list["items"][0]["spec"]["any"], |tree, _| &tree["d"]);
    assert_eq!(found["end"], "here");
    let deleted = rig.json(Method::DELETE, &format!("{WIDGETS}/deep"), json!({})).await;
    assert_eq!(deleted.code, 200);
}
