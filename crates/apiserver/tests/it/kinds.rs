//! Kinds that come, change and go while the server runs and others are written to.

use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::json;
use api::model::{Field, Message, Model, Resource, Scope, Subresource, Type};
use apiserver::handlers::Server;
use futures::StreamExt as _;
use http::Method;
use http_body_util::BodyExt as _;
use registry::Kind;
use registry::profile::Profile;

use crate::core::Rig;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const MANY: usize = 1000;
const AT_ONCE: usize = 16;

/// A kind of its own model, whose spec has these fields.
fn kind(version: &'static str, index: usize, fields: &[(&'static str, Type)]) -> Kind {
    let field = |json: &'static str, ty| Field {
        json: json.into(),
        ty,
        omit_empty: true,
        optional: true,
        ..Field::default()
    };
    let metadata = api::tables::message("k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap().index;
    let (object, spec) = (Model::first_own(), Model::first_own() + 1);
    let messages = vec![
        Message {
            name: format!("com.example.v1.Thing{index}").into(),
            fields: vec![
                Field { json: "metadata".into(), ty: Type::Message(metadata), ..Field::default() },
                field("spec", Type::Message(spec)),
                field("status", Type::Message(spec)),
            ]
            .into(),
            ..Message::default()
        },
        Message {
            name: format!("com.example.v1.Thing{index}Spec").into(),
            fields: fields.iter().map(|(json, ty)| field(json, ty.clone())).collect::<Vec<_>>().into(),
            ..Message::default()
        },
    ];
    let row = Resource {
        group: "example.com".into(),
        version: version.into(),
        kind: format!("Thing{index}").into(),
        plural: format!("thing{index}s").into(),
        singular: format!("thing{index}").into(),
        scope: if index.is_multiple_of(2) { Scope::Namespaced } else { Scope::Cluster },
        verbs: VERBS.map(Into::into).to_vec().into(),
        subresources: vec![Subresource {
            name: "status".into(),
            verbs: ["get", "patch", "update"].map(Into::into).to_vec().into(),
            ..Subresource::default()
        }]
        .into(),
        storage_group: "example.com".into(),
        storage_version: "v1".into(),
        storage_prefix: format!("example.com/thing{index}s").into(),
        storage_json: true,
        storage_hash: "hash".into(),
        enabled: true,
        ..Resource::default()
    };
    let profile = Profile { status: true, ..Profile::new("example.com", "things") };
    Kind::new(row, Arc::new(Model::with(messages)), object, profile)
}

fn collection(index: usize) -> String {
    let namespace = if index.is_multiple_of(2) { "namespaces/default/" } else { "" };
    format!("/apis/example.com/v1/{namespace}thing{index}s")
}

/// Every verb, form and media type.
async fn lives(rig: &Rig, index: usize) {
    let all = collection(index);
    let one = format!("{all}/a");
    let mut watch = rig.watch(&format!("{all}?watch=1")).await;
    let object = json!({"metadata": {"name": "a"}, "spec": {"size": 1, "unknown": 2}, "status": {"size": 9}});
    let created = rig.json(Method::POST, &all, object).await;
    assert_eq!(created.code, 201, "{}", created.tree);
    assert_eq!(created.tree["kind"], format!("Thing{index}"));
    assert_eq!(created.tree["spec"], json!({"size": 1}));
    assert_eq!(created.tree["status"], json!(null));
    assert_eq!(watch.next().await, ("ADDED".to_owned(), created.tree.clone()));
    let patched = rig.json(Method::PATCH, &one, json!({"spec": {"size": 2}})).await;
    assert_eq!((patched.code, &patched.tree["spec"]["size"]), (200, &json!(2)));
    assert_eq!(watch.next().await, ("MODIFIED".to_owned(), patched.tree.clone()));
    let status = rig
        .json(Method::PATCH, &format!("{one}/status"), json!({"spec": {"size": 3}, "status": {"size": 4}}))
        .await;
    assert_eq!((&status.tree["spec"]["size"], &status.tree["status"]["size"]), (&json!(2), &json!(4)));
    assert_eq!(watch.next().await.1, status.tree);
    let mut put = status.tree.clone();
    put["spec"]["size"] = 5.into();
    let put = rig.json(Method::PUT, &one, put).await;
    assert_eq!((put.code, &put.tree["spec"]["size"]), (200, &json!(5)));
    assert_eq!(rig.get(&one).await.tree, put.tree);
    let list = rig.get(&all).await.tree;
    assert_eq!(list["kind"], format!("Thing{index}List"));
    assert_eq!(list["items"][0]["metadata"], put.tree["metadata"]);
    assert_eq!(list["items"][0]["spec"], put.tree["spec"]);
    for (accept, kind) in [
        ("application/json;as=Table;g=meta.k8s.io;v=v1", "Table"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "PartialObjectMetadata"),
        ("application/yaml", "Thing"),
    ] {
        let answer = rig.send(Method::GET, &one, &[("accept", accept)], "").await;
        assert_eq!(answer.status(), 200, "{accept}");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&bytes).contains(kind), "{accept}");
    }
    let gone = rig.json(Method::DELETE, &one, json!(null)).await;
    assert_eq!(gone.code, 200, "{}", gone.tree);
    assert_eq!(rig.get(&one).await.code, 404);
    assert_eq!(rig.json(Method::POST, &all, json!({"metadata": {"name": "b"}})).await.code, 201);
    assert_eq!(rig.json(Method::DELETE, &all, json!(null)).await.code, 200);
    assert_eq!(rig.get(&all).await.tree["items"], json!([]));
}

#[tokio::test]
async fn a_thousand_kinds_come_change_and_go() {
    let rig = Rig::start().await;
    let server: &Server = &rig.server;
    let counter = format!("{}/counter", collection(2));
    let counted = Cell::new(0);
    let load = async {
        rig.create("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "busy"}})).await;
        for round in 0..i64::MAX {
            let change = json!({"data": {"round": round.to_string()}});
            let answer = rig.json(Method::PATCH, "/api/v1/namespaces/default/configmaps/busy", change).await;
            assert_eq!(answer.code, 200);
            // There between the first schema and the end of the second.
            if rig.json(Method::PATCH, &counter, json!({"spec": {"size": round}})).await.code == 200 {
                counted.set(round);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let before = rig.get("/apis").await.tree;
    let work = async {
        assert_eq!(rig.get(&collection(0)).await.code, 404);
        let first: Vec<Arc<Kind>> =
            (0..MANY).map(|index| Arc::new(kind("v1", index, &[("size", Type::Int64)]))).collect();
        let known: Vec<Weak<Kind>> = first.iter().map(Arc::downgrade).collect();
        for some in first.chunks(100) {
            server.serve(some).await.unwrap();
        }
        drop(first);
        futures::stream::iter(0..MANY).for_each_concurrent(AT_ONCE, |index| lives(&rig, index)).await;
        let listed = rig.get("/apis/example.com/v1").await.tree;
        assert_eq!(listed["resources"].as_array().map(Vec::len), Some(2 * MANY));

        // A schema with another field: what watched the old one ends, and what is stored stays.
        rig.json(Method::POST, &collection(0), json!({"metadata": {"name": "kept"}, "spec": {"size": 7}}))
            .await;
        rig.json(Method::POST, &collection(2), json!({"metadata": {"name": "counter"}})).await;
        let mut watch = rig.watch(&format!("{}?watch=1", collection(0))).await;
        assert_eq!(watch.next_name().await, ("ADDED".to_owned(), "kept".to_owned()));
        let fields = [("size", Type::Int64), ("color", Type::String)];
        let second: Vec<Arc<Kind>> = (0..MANY).map(|index| Arc::new(kind("v1", index, &fields))).collect();
        for some in second.chunks(100) {
            server.serve(some).await.unwrap();
        }
        drop(second);
        watch.ended().await;
        assert_eq!(rig.get(&collection(0)).await.tree["items"][0]["spec"], json!({"size": 7}));
        let least = counted.get();
        assert!(least > 0 && rig.get(&counter).await.tree["spec"]["size"].as_i64() >= Some(least));
        let changed = rig
            .json(Method::PATCH, &format!("{}/kept", collection(0)), json!({"spec": {"color": "red"}}))
            .await;
        assert_eq!(changed.tree["spec"], json!({"size": 7, "color": "red"}));
        drop(changed);
        assert_eq!(
            known.iter().filter(|kind| kind.strong_count() > 0).count(),
            0,
            "kinds of the first schema are kept"
        );

        let mut watch = rig.watch(&format!("{}?watch=1", collection(1))).await;
        server.withdraw(|kind| kind.group == "example.com");
        watch.ended().await;
        assert_eq!(rig.get(&collection(0)).await.code, 404);
        assert_eq!(rig.get("/apis").await.tree, before);
    };
    tokio::select! {
        () = work => {}
        () = load => unreachable!(),
    }
}

#[tokio::test]
async fn a_version_goes_without_the_objects_of_the_others() {
    let rig = Rig::start().await;
    let versions = ["v2", "v1"].map(|version| Arc::new(kind(version, 0, &[("size", Type::Int64)])));
    rig.server.serve(&versions).await.unwrap();
    let created = rig.create(&collection(0), json!({"metadata": {"name": "a"}, "spec": {"size": 1}})).await;
    assert_eq!(created["apiVersion"], "example.com/v1");
    rig.server.withdraw(|kind| kind.group == "example.com" && kind.version == "v2");
    assert_eq!(rig.get(&collection(0).replace("v1", "v2")).await.code, 404);
    let list = rig.get(&collection(0)).await;
    assert_eq!((list.code, &list.tree["items"][0]["spec"]), (200, &json!({"size": 1})));
}
