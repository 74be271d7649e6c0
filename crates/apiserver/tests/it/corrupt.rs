//! What the store has and nobody can read; requests with members and parameters that have no meaning.

use std::sync::Arc;

use api::Tree;
use api::json;
use http::Method;
use store::{Memory, Store};

use crate::core::Rig;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

fn map(name: &str) -> Tree {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn only_what_cannot_be_read_is_deleted_unread() {
    let store = Arc::new(Memory::new());
    let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>).await;
    let cut = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\xff\xff\xff".to_vec();
    let deep =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x06\x0a\x00\x12\x02\x0a\x7f\x1a\0\x22\0".to_vec();
    for (name, bytes) in [("cut", cut), ("deep", deep)] {
        rig.create(MAPS, map(name)).await;
        let path = format!("{MAPS}/{name}");
        let delete = async |options: Tree| rig.json(Method::DELETE, &path, options).await;
        let refused = delete(json!({OPTION: true})).await;
        let why = format!(
            "Operation cannot be fulfilled on configmaps {name:?}: StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/{name}, ResourceVersion: 0, AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable from storage"
        );
        assert_eq!((refused.code, &refused.tree["message"]), (409, &json!(why)));
        let key = format!("/registry/configmaps/default/{name}");
        let (before, _) = store.get(key.as_bytes()).await.unwrap();
        store.put(key.as_bytes(), bytes.into(), before.unwrap().mod_revision, None).await.unwrap();
        assert_eq!(delete(Tree::Null).await.code, 500);
        let beside =
            delete(json!({OPTION: true, "gracePeriodSeconds": 0, "propagationPolicy": "Orphan"})).await;
        let why = format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: [{OPTION}: Invalid value: true: cannot be set together with .propagationPolicy, {OPTION}: Invalid value: true: cannot be set together with .gracePeriodSeconds]"
        );
        assert_eq!((beside.code, &beside.tree["message"]), (422, &json!(why)));
        assert_eq!(rig.json(Method::DELETE, MAPS, json!({OPTION: true})).await.code, 422);
        let done = rig.json(Method::DELETE, &format!("{path}?{OPTION}=true"), Tree::Null).await;
        assert_eq!((done.code, &done.tree["status"]), (200, &json!("Success")), "{}", done.tree);
        assert!(store.get(key.as_bytes()).await.unwrap().0.is_none());
        assert_eq!(delete(json!({OPTION: true})).await.code, 404);
    }
}

#[tokio::test]
async fn a_get_for_export_is_refused() {
    let rig = Rig::start().await;
    rig.create(MAPS, map("a")).await;
    for (query, code) in
        [("export=", 400), ("export=true", 400), ("export=x", 400), ("export=False", 200), ("export=0", 200)]
    {
        let answer = rig.get(&format!("{MAPS}/a?{query}")).await;
        assert_eq!(answer.code, code, "{query}");
        if code == 400 {
            let why = "the export parameter, deprecated since v1.14, is no longer supported";
            assert_eq!(answer.tree["message"], why);
        }
        assert_eq!(rig.get(&format!("{MAPS}?{query}")).await.code, 200);
    }
}

#[tokio::test]
async fn members_that_no_operation_has_are_reported() {
    let rig = Rig::start().await;
    rig.create(MAPS, map("a")).await;
    let patch = json!([{"op": "add", "path": "/data", "value": {"q": "1"}, "extra": 1, "PATH": "/x"},
        {"op": "test", "path": "/data/q", "value": "1", "from": "", "x": 1}])
    .to_string();
    for (validation, code, warned) in [("Warn", 200, 3), ("Ignore", 200, 0), ("Strict", 422, 0)] {
        let path = format!("{MAPS}/a?fieldValidation={validation}");
        let headers = [("content-type", "application/json-patch+json")];
        let answer = rig.send(Method::PATCH, &path, &headers, patch.clone()).await;
        assert_eq!(answer.status().as_u16(), code, "{validation}");
        let mut warnings = answer.headers().get_all("warning").iter();
        if warned > 0 {
            let first = warnings.next().unwrap().to_str().unwrap();
            assert_eq!(first, "299 - \"json patch unknown field \\\"[0].extra\\\"\"");
            assert_eq!(warnings.count(), warned - 1);
        }
    }
}

#[tokio::test]
async fn webhooks_that_cannot_be_read_are_not_passed_over() {
    let key = b"/registry/validatingwebhookconfigurations/a";
    let store = Arc::new(Memory::new());
    let cut = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\xff\xff\xff".to_vec();
    store.put(key, cut.into(), 0, None).await.unwrap();
    // a server that begins with it knows nobody whom it could ask
    let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>).await;
    let make =
        async || rig.json(Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "b"}})).await;
    let refused = make().await;
    assert_eq!(refused.code, 403, "{}", refused.tree);
    assert!(refused.tree["message"].as_str().unwrap().ends_with("not yet ready to handle request"));
    let path =
        format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a?{OPTION}=true");
    let gone = rig.json(Method::DELETE, &path, Tree::Null).await;
    assert_eq!(gone.code, 200, "{}", gone.tree);
    // a list waits for the cache
    assert_eq!(
        rig.get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations").await.code,
        200
    );
    let made = make().await;
    assert_eq!(made.code, 201, "{}", made.tree);
}
