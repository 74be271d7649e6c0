//! Who owns which fields after whole requests: updates, applies, statuses and scales.

use api::{Tree, json};
use http::{Method, StatusCode};

use crate::rig::Rig;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

struct Client {
    rig: Rig,
}

impl Client {
    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        agent: &str,
        body: Tree,
    ) -> (StatusCode, Tree) {
        let headers: &[(&str, &[u8])] =
            &[("content-type", kind.as_bytes()), ("user-agent", agent.as_bytes())];
        self.rig.with_headers(&self.rig.admin(), method, path, headers, Some(body)).await
    }

    async fn apply(&self, manager: &str, path: &str, body: Tree) -> (StatusCode, Tree) {
        let path = format!("{path}fieldManager={manager}");
        self.send(Method::PATCH, &path, "application/apply-patch+yaml", "test", body).await
    }

    async fn merge(&self, agent: &str, path: &str, body: Tree) -> Tree {
        self.send(Method::PATCH, path, "application/merge-patch+json", agent, body).await.1
    }
}

/// The entries of an object, one text each, without times.
fn owners(object: &Tree) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let entry = |entry: &Tree| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let fields = String::from_utf8(api::json::to_vec(&entry["fieldsV1"])).unwrap();
        format!("{} {} {} {fields}", text("manager"), text("operation"), text("subresource"))
    };
    entries.iter().map(entry).collect()
}

fn map(data: Tree) -> Tree {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_created_changed_and_pruned_by_apply() {
    let client = Client { rig: Rig::start().await };
    client.rig.ready().await;
    let path = &format!("{MAPS}/m?");
    let (code, _) =
        client.send(Method::PATCH, path, "application/apply-patch+yaml", "x", map(json!({}))).await;
    assert_eq!(code, 422);
    let (code, made) = client.apply("a", path, map(json!({"a": "1", "b": "2"}))).await;
    assert_eq!(code, 201);
    assert_eq!(owners(&made), [r#"a Apply  {"f:data":{"f:a":{},"f:b":{}}}"#]);
    // again: the same object, of the same version
    let (code, again) = client.apply("a", path, map(json!({"a": "1", "b": "2"}))).await;
    assert_eq!((code, &again), (StatusCode::OK, &made));
    let (code, status) = client.apply("b", path, map(json!({"a": "9"}))).await;
    assert_eq!(code, 409);
    assert_eq!(status["message"], "Apply failed with 1 conflict: conflict with \"a\": .data.a");
    let (_, forced) = client.apply("b", &format!("{path}force=true&"), map(json!({"a": "9"}))).await;
    assert_eq!(forced["data"], json!({"a": "9", "b": "2"}));
    let (_, pruned) = client.apply("a", path, map(json!({"c": "3"}))).await;
    assert_eq!(pruned["data"], json!({"a": "9", "c": "3"}));
    let changed = client.merge("tool/1.0", &format!("{MAPS}/m"), json!({"data": {"a": "10"}})).await;
    assert_eq!(
        owners(&changed),
        [r#"a Apply  {"f:data":{"f:c":{}}}"#, r#"tool Update  {"f:data":{"f:a":{}}}"#]
    );
    let reset =
        client.merge("tool/1.0", &format!("{MAPS}/m"), json!({"metadata": {"managedFields": []}})).await;
    assert_eq!(owners(&reset), [] as [String; 0]);
    client.rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_and_scales_have_owners_of_their_own() {
    let client = Client { rig: Rig::start().await };
    client.rig.ready().await;
    let path = &format!("{DEPLOYMENTS}/d?");
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let (code, _) = client.apply("a", path, deployment.clone()).await;
    assert_eq!(code, 201);
    let scale = format!("{DEPLOYMENTS}/d/scale");
    client.merge("scaler/1", &scale, json!({"spec": {"replicas": 3}})).await;
    let status = format!("{DEPLOYMENTS}/d/status");
    // what a status does not change is not owned by who sends it there
    let body = json!({"spec": {"replicas": 9}, "status": {"replicas": 3}});
    let object = client.merge("counter/1", &status, body).await;
    let owners = owners(&object);
    assert!(!owners[0].contains("f:replicas"), "{owners:?}");
    assert!(owners.contains(&r#"scaler Update scale {"f:spec":{"f:replicas":{}}}"#.to_owned()), "{owners:?}");
    assert!(
        owners.contains(&r#"counter Update status {"f:status":{"f:replicas":{}}}"#.to_owned()),
        "{owners:?}"
    );
    let (code, refused) = client.apply("a", path, deployment).await;
    assert_eq!(code, 409);
    let expect = "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert_eq!(refused["message"], expect);
    client.rig.stop().await;
}
