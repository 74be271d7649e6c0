//! APIs of other servers behind this one.

mod backend;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Tree, json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::rig::Rig;
use backend::{Backend, Seen};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1alpha1.wardle.example.com";
const BASE: &str = "/apis/wardle.example.com/v1alpha1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A server with a backend behind it that it knows by its certificate.
async fn aggregated() -> (Rig, Arc<Backend>, CancellationToken) {
    let rig = Rig::start().await;
    rig.ready().await;
    let (backend, stop) = Backend::start(&rig, "wardle.default.svc", true).await;
    let admin = rig.admin();
    let service = json!({"metadata": {"name": "wardle"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert_eq!(rig.post(&admin, "/api/v1/namespaces/default/services", service).await.0, 201);
    let bundle = STANDARD.encode(rig.authority_pem());
    let (code, made) = rig.post(&admin, SERVICES, backend.service(json!({"caBundle": bundle}))).await;
    assert_eq!(code, 201, "{made}");
    says(&rig, "Passed", "all checks passed").await;
    (rig, backend, stop)
}

/// Waits until the APIService says this of itself.
async fn says(rig: &Rig, reason: &str, message: &str) {
    eventually(|| async {
        let (_, service) = rig.get(&rig.admin(), &format!("{SERVICES}/{NAME}")).await;
        let condition = service["status"]["conditions"][0].clone();
        let matches = condition["reason"] == reason
            && condition["message"].as_str().unwrap_or_default().contains(message);
        if matches { Ok(()) } else { Err(service.to_string()) }
    })
    .await;
}

async fn eventually<F: Future<Output = Result<(), String>>>(mut check: impl FnMut() -> F) {
    let mut last = String::new();
    for _ in 0..1000 {
        match check().await {
            Ok(()) => return,
            Err(why) => last = why,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{last}");
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_the_server_of_their_group() {
    let (rig, backend, _stop) = aggregated().await;
    let admin = rig.admin();
    let (code, list) = rig.get(&admin, &format!("{BASE}/namespaces/a%20b/../flunders")).await;
    assert_eq!((code, list["code"].as_u64()), (StatusCode::NOT_FOUND, Some(404)));
    let forged: &[(&str, &[u8])] = &[
        ("x-remote-user", b"root"),
        ("x-remote-group", b"everybody"),
        ("x-remote-extra-scopes", b"all"),
        ("impersonate-user", b"bob"),
        ("impersonate-group", b"carpenters"),
        ("impersonate-extra-acme.com%2fproject", b"x"),
        ("content-type", b"application/json"),
    ];
    let path = format!("{BASE}/echo?b=2&a=1+1");
    // what bob may do is asked here, before the other server is
    let (code, refused) = rig.with_headers(&admin, Method::POST, &path, forged, Some(json!({"a": 1}))).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{refused}");
    let role = json!({"metadata": {"name": "echo"}, "rules": [{"apiGroups": ["wardle.example.com"], "resources": ["echo"], "verbs": ["*"]}]});
    let binding = json!({"metadata": {"name": "echo"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "echo"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(rig.post(&admin, &format!("{rbac}/clusterroles"), role).await.0, 201);
    assert_eq!(rig.post(&admin, &format!("{rbac}/clusterrolebindings"), binding).await.0, 201);
    backend.asked();
    eventually(|| async {
        match rig.with_headers(&admin, Method::POST, &path, forged, Some(json!({"a": 1}))).await {
            (StatusCode::CREATED, echo) if echo == json!({"a": 1}) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let asked = backend.asked();
    let [Seen { line, version, headers, body, client, .. }] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(line, &format!("POST {BASE}/echo?a=1+1&b=2"));
    assert_eq!(*version, http::Version::HTTP_2);
    assert_eq!((body.as_ref(), client.as_str()), (br#"{"a":1}"#.as_slice(), "front-proxy"));
    assert_eq!(texts(headers, "x-remote-user"), ["bob"]);
    assert_eq!(texts(headers, "x-remote-group"), ["carpenters", "system:authenticated"]);
    assert_eq!(texts(headers, "x-remote-extra-acme.com%2fproject"), ["x"]);
    assert_eq!(texts(headers, "x-forwarded-for"), ["127.0.0.1"]);
    assert!(!headers.contains_key("x-remote-extra-scopes") && !headers.contains_key("impersonate-user"));
    assert!(!headers.contains_key("authorization") && headers.contains_key("audit-id"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_tunnels_pass_both_ways() {
    let (rig, backend, _stop) = aggregated().await;
    let admin = rig.admin();
    assert_eq!(rig.tunnel(&admin, &format!("{BASE}/tunnel"), b"ping").await, "ping");
    let seen = backend.asked().pop().unwrap();
    assert_eq!((seen.version, seen.client.as_str()), (http::Version::HTTP_11, "front-proxy"));
    assert_eq!(texts(&seen.headers, "x-remote-user"), ["admin"]);
    // more watches than one connection takes, and another request is still answered
    let mut watches = Vec::new();
    for _ in 0..100 {
        let mut watch = rig.stream(&admin, &format!("{BASE}/flunders?watch=true")).await;
        assert_eq!(watch.next().await.unwrap(), "{\"tick\":0}\n");
        watches.push(watch);
    }
    assert_eq!(rig.get(&admin, &format!("{BASE}/flunders")).await.1["kind"], "FlunderList");
    let connections: std::collections::HashSet<u16> =
        backend.asked().iter().map(|seen| seen.connection).collect();
    assert!((2..=4).contains(&connections.len()), "{connections:?}");
    drop(watches);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_and_openapi_show_what_others_serve() {
    let (rig, backend, stop) = aggregated().await;
    let admin = rig.admin();
    let (_, groups) = rig.get(&admin, "/apis").await;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|own| own["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("apiregistration.k8s.io", "wardle.example.com"));
    let (_, group) = rig.get(&admin, "/apis/wardle.example.com").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    assert_eq!(rig.get(&admin, BASE).await.1["resources"][0]["name"], "flunders");
    let shown = || async {
        let (_, document) = rig.get_with(&admin, "/apis", &[("accept", AGGREGATED.as_bytes())]).await;
        let items = document["items"].as_array().unwrap().clone();
        let own = items.into_iter().find(|own| own["metadata"]["name"] == "wardle.example.com");
        own.map(|own| own["versions"][0].clone()).unwrap_or_default()
    };
    let becomes = |expect: (&'static str, &'static str)| {
        let shown = &shown;
        eventually(move || async move {
            let version = shown().await;
            let got = (version["resources"][0]["resource"].clone(), version["freshness"].clone());
            if got == (expect.0.into(), expect.1.into()) { Ok(()) } else { Err(version.to_string()) }
        })
    };
    becomes(("flunders", "Current")).await;
    eventually(|| async {
        let (_, swagger) = rig.get(&admin, "/openapi/v2").await;
        let index = rig.get(&admin, "/openapi/v3").await.1;
        let entry = &index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"];
        let paths = &swagger["paths"];
        let all = entry == "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=1"
            && !paths[format!("{BASE}/flunders").as_str()].is_null()
            && paths["/theirs/"].is_null()
            && swagger["definitions"]["Flunder"]["description"] == "of the test";
        if all { Ok(()) } else { Err(index.to_string()) }
    })
    .await;
    let (_, document) = rig.get(&admin, "/openapi/v3/apis/wardle.example.com/v1alpha1").await;
    assert_eq!(document["openapi"], "3.0.0");

    // one that does not answer is shown as it was
    stop.cancel();
    // a change makes the server look at once
    let change = json!({"metadata": {"labels": {"changed": "yes"}}});
    assert_eq!(rig.patch(&admin, &format!("{SERVICES}/{NAME}"), change).await.0, 200);
    says(&rig, "FailedDiscoveryCheck", "connect: connection refused").await;
    let (code, text) = rig.text(&admin, &format!("{BASE}/flunders")).await;
    assert_eq!((code.as_u16(), text.as_str()), (503, "service unavailable\n"));
    let (_, all) = rig.get(&admin, "/api/v1/namespaces").await;
    assert_eq!(all["kind"], "NamespaceList");
    // and is found when it is back
    backend.modern.store(true, Ordering::Relaxed);
    let _stop = backend.serve(&rig, "wardle.default.svc", backend.port.load(Ordering::Relaxed));
    says(&rig, "Passed", "all checks passed").await;
    becomes(("fischers", "Current")).await;

    assert_eq!(rig.send(&admin, Method::DELETE, &format!("{SERVICES}/{NAME}"), None).await.0, 200);
    eventually(|| async {
        let (code, text) = rig.text(&admin, &format!("{BASE}/flunders")).await;
        if code == 404 && shown().await.is_null() { Ok(()) } else { Err(text) }
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_server_costs_its_own_requests() {
    let flags = ["--max-requests-inflight=2", "--max-mutating-requests-inflight=2", "--request-timeout=2s"];
    let rig = Rig::with(&flags).await;
    rig.ready().await;
    let (backend, _stop) = Backend::start(&rig, "somebody", false).await;
    let admin = rig.admin();
    // there is no such Service yet
    let service = backend.service(json!({"insecureSkipTLSVerify": true}));
    assert_eq!(rig.post(&admin, SERVICES, service).await.0, 201);
    says(&rig, "ServiceNotFound", "service/wardle in \"default\" is not present").await;
    let service = json!({"metadata": {"name": "wardle"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert_eq!(rig.post(&admin, "/api/v1/namespaces/default/services", service).await.0, 201);
    says(&rig, "Passed", "").await;
    // its name is not that of the Service
    let trust =
        json!({"spec": {"insecureSkipTLSVerify": null, "caBundle": STANDARD.encode(rig.authority_pem())}});
    assert_eq!(rig.patch(&admin, &format!("{SERVICES}/{NAME}"), trust).await.0, 200);
    says(&rig, "FailedDiscoveryCheck", "tls: failed to verify certificate").await;
    let trust = json!({"spec": {"insecureSkipTLSVerify": true, "caBundle": null}});
    assert_eq!(rig.patch(&admin, &format!("{SERVICES}/{NAME}"), trust).await.0, 200);
    says(&rig, "Passed", "").await;

    let (code, text) = rig.text(&admin, &format!("{BASE}/redirect")).await;
    assert_eq!(
        (code.as_u16(), text.as_str()),
        (502, "the backend attempted to redirect this request, which is not permitted")
    );
    let user = rig.certificate("user", &["users"]);
    let role = json!({"metadata": {"name": "all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "users"}]});
    assert_eq!(rig.post(&admin, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", role).await.0, 201);
    let (slow, endless) = (format!("{BASE}/slow"), format!("{BASE}/endless"));
    let (first, second, endless) = tokio::join!(rig.get(&user, &slow), rig.get(&user, &slow), async {
        // while all seats of that server are taken, ours are free
        let namespaces = rig.get(&user, "/api/v1/namespaces").await.0;
        let mut endless = rig.stream(&admin, &endless).await;
        let mut bytes = 0;
        while let Some(part) = endless.next().await {
            bytes += part.len();
        }
        (namespaces, bytes)
    });
    assert_eq!((first.0, second.0), (StatusCode::GATEWAY_TIMEOUT, StatusCode::GATEWAY_TIMEOUT));
    assert_eq!(first.1["message"], "Timeout: request did not complete within the allotted timeout");
    assert_eq!(endless.0, StatusCode::OK);
    assert!(endless.1 > 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_answers_for_api_services_but_this_server() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let service = json!({"metadata": {"name": "v1.apiregistration.k8s.io"}, "spec": {"group": "apiregistration.k8s.io", "version": "v1",
        "groupPriorityMinimum": 1, "versionPriority": 1, "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "kubernetes"}}});
    assert_eq!(rig.post(&admin, SERVICES, service).await.0, 201);
    // a server that is behind itself
    let service = json!({"metadata": {"name": NAME}, "spec": {"group": "wardle.example.com", "version": "v1alpha1",
        "groupPriorityMinimum": 1, "versionPriority": 1, "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "kubernetes"}}});
    assert_eq!(rig.post(&admin, SERVICES, service).await.0, 201);
    says(&rig, "FailedDiscoveryCheck", "bad status from https://127.0.0.1:").await;
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "a", "message": "b"}]}});
    let path = format!("{SERVICES}/{NAME}/status");
    assert_eq!(rig.patch(&admin, &path, available.clone()).await.0, 200);
    eventually(|| async {
        // it says what it found in the meantime, so that the moment must be caught
        rig.patch(&admin, &path, available.clone()).await;
        let (code, text) = rig.text(&admin, BASE).await;
        if code == 508 { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(rig.get(&admin, SERVICES).await.0, 200);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_have_api_services_of_their_own() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
            {"name": "v2", "served": false, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(rig.post(&admin, definitions, definition).await.0, 201);
    let path = format!("{SERVICES}/v1.example.com");
    let is = |expect: Option<i64>| {
        let (rig, admin, path) = (&rig, &admin, &path);
        eventually(move || async move {
            let (_, service) = rig.get(admin, path).await;
            let found = service["spec"]["groupPriorityMinimum"].as_i64();
            if found == expect { Ok(()) } else { Err(service.to_string()) }
        })
    };
    is(Some(1000)).await;
    assert_eq!(rig.get(&admin, &format!("{SERVICES}/v2.example.com")).await.0, 404);
    let (_, service) = rig.get(&admin, &path).await;
    assert_eq!(service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!(service["spec"]["versionPriority"], 100);
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    // what somebody makes of it is put back
    assert_eq!(rig.patch(&admin, &path, json!({"spec": {"groupPriorityMinimum": 7}})).await.0, 200);
    is(Some(1000)).await;
    assert_eq!(rig.send(&admin, Method::DELETE, &path, None).await.0, 200);
    is(Some(1000)).await;
    // unless it is theirs
    let theirs = json!({"metadata": {"labels": null}, "spec": {"groupPriorityMinimum": 7}});
    assert_eq!(rig.patch(&admin, &path, theirs).await.0, 200);
    assert_eq!(
        rig.send(&admin, Method::DELETE, &format!("{definitions}/widgets.example.com"), None).await.0,
        200
    );
    eventually(|| async {
        let (code, _) = rig.get(&admin, &format!("{definitions}/widgets.example.com")).await;
        if code == 404 { Ok(()) } else { Err(code.to_string()) }
    })
    .await;
    is(Some(7)).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_write_api_services_says_who_answers_for_what_is_built_in() {
    let (rig, backend, _stop) = aggregated().await;
    let admin = rig.admin();
    let path = format!("{SERVICES}/v1.apps");
    let port = backend.port.load(Ordering::Relaxed);
    let elsewhere = json!({"spec": {"insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "wardle", "port": port}}});
    assert_eq!(rig.patch(&admin, &path, elsewhere).await.0, 200);
    // that server has no such group, so that it is not asked
    let becomes = |expect: &'static str| {
        let (rig, admin) = (&rig, &admin);
        eventually(move || async move {
            let (_, text) = rig.text(admin, "/apis/apps/v1/deployments").await;
            if text.contains(expect) { Ok(()) } else { Err(text) }
        })
    };
    becomes("service unavailable").await;
    let back = json!({"spec": {"insecureSkipTLSVerify": null, "service": null}});
    assert_eq!(rig.patch(&admin, &path, back).await.0, 200);
    becomes("DeploymentList").await;
    let (_, service) = rig.get(&admin, &path).await;
    assert_eq!(service["spec"]["service"], Tree::Null);
    rig.stop().await;
}
