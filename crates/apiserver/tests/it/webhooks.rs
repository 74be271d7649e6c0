//! Admission webhooks, asked over HTTPS.

use std::net::SocketAddr;
use std::sync::Arc;

use api::{Tree, json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::core::{Answer, Rig};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A webhook's server: what it was asked, and how it answers by the path it is asked at.
pub struct Webhook {
    pub address: SocketAddr,
    pub authority: String,
    pub asked: Arc<Mutex<Vec<(String, Tree)>>>,
    _tasks: JoinSet<()>,
}

/// What stands in a review's response beside the uid.
fn response(path: &str) -> Tree {
    let patched = |patch: Tree| json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())});
    let label = |name: &str| {
        patched(json!([{"op": "add", "path": format!("/metadata/labels/{name}"), "value": "yes"}]))
    };
    match path {
        "/first" => label("first"),
        "/second" => label("second"),
        "/deny" => {
            json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"}})
        }
        "/mute" => json!({"allowed": false}),
        "/warn" => json!({"allowed": true, "warnings": ["take care"], "auditAnnotations": {"a": "b"}}),
        "/replicas" => patched(json!([{"op": "replace", "path": "/spec/maxReplicas", "value": 7}])),
        "/scale" => patched(json!([{"op": "replace", "path": "/spec/replicas", "value": 3}])),
        "/long" => json!({"allowed": true, "warnings": ["x".repeat(5 << 20)]}),
        "/wrong" => json!({"allowed": true, "patch": "W10="}),
        _ => json!({"allowed": true}),
    }
}

/// Makes the whole answer to a review that came to a path; null: there is none.
type Respond = dyn Fn(&str, &Tree) -> Tree + Send + Sync;

impl Webhook {
    pub async fn start() -> Webhook {
        Webhook::answering(|path, review| {
            let mut response = response(path);
            response["uid"] = review["request"]["uid"].clone();
            json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response})
        })
        .await
    }

    pub async fn answering(respond: impl Fn(&str, &Tree) -> Tree + Send + Sync + 'static) -> Webhook {
        let respond: Arc<Respond> = Arc::new(respond);
        // as many webhooks have one: it signs itself, and is an authority at that
        let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<(String, Tree)>>> = Arc::default();
        let seen = asked.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, respond) = (acceptor.clone(), seen.clone(), respond.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        answer(request, seen.clone(), respond.clone())
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let authority = STANDARD.encode(certificate.pem());
        Webhook { address, authority, asked, _tasks: tasks }
    }

    /// A webhook of a configuration, which is asked at this path about these resources.
    pub fn at(&self, path: &str, rule: Tree, rest: Tree) -> Tree {
        let mut hook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": format!("https://{}{path}", self.address), "caBundle": self.authority},
            "rules": [rule],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        });
        for (field, value) in rest.as_object().into_iter().flatten() {
            hook[field.as_str()] = value.clone();
        }
        hook
    }

    fn paths(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock()).into_iter().map(|(path, _)| path).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<(String, Tree)>>>,
    respond: Arc<Respond>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Tree = serde_json::from_slice(&body).unwrap();
    if path == "/broken" {
        let mut broken = Response::new(Full::new(Bytes::from("no idea")));
        *broken.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(broken);
    }
    let answer = if path == "/silent" { Tree::Null } else { respond(&path, &review) };
    seen.lock().push((path, review));
    if answer.is_null() {
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

pub fn rule(operation: &str, group: &str, version: &str, resource: &str) -> Tree {
    json!({"operations": [operation], "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

fn map(name: &str, labels: Tree) -> Tree {
    json!({"metadata": {"name": name, "labels": labels}})
}

/// A server with these webhooks, in force.
async fn rig(mutating: &[Tree], validating: &[Tree]) -> Rig {
    let rig = Rig::start().await;
    for (plural, hooks) in
        [("mutatingwebhookconfigurations", mutating), ("validatingwebhookconfigurations", validating)]
    {
        if !hooks.is_empty() {
            let uri = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
            rig.create(&uri, json!({"metadata": {"name": "hooks"}, "webhooks": hooks})).await;
        }
    }
    // a read of the latest state: the cache has them
    rig.get("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations").await;
    rig
}

fn message(answer: &Answer) -> &str {
    answer.tree["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_object_is_changed_and_then_seen() {
    let webhook = Webhook::start().await;
    let rule = rule("CREATE", "", "v1", "configmaps");
    let hooks =
        [webhook.at("/first", rule.clone(), json!({})), webhook.at("/second", rule.clone(), json!({}))];
    let rig = rig(&hooks, &[webhook.at("/look", rule, json!({}))]).await;
    let uri = format!("{MAPS}?fieldManager=me&fieldValidation=Strict");
    let created = rig.create(&uri, map("a", json!({"own": "1"}))).await;
    assert_eq!(created["metadata"]["labels"], json!({"first": "yes", "own": "1", "second": "yes"}));
    let asked = std::mem::take(&mut *webhook.asked.lock());
    assert_eq!(
        asked.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["/first", "/second", "/look"]
    );
    let request = &asked[0].1["request"];
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, expect) in [
        ("kind", &kind),
        ("requestKind", &kind),
        ("resource", &resource),
        ("requestResource", &resource),
        ("name", &json!("a")),
        ("namespace", &json!("default")),
        ("operation", &json!("CREATE")),
        ("oldObject", &Tree::Null),
        ("dryRun", &json!(false)),
        (
            "options",
            &json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me", "fieldValidation": "Strict"}),
        ),
        (
            "userInfo",
            &json!({"username": "system:apiserver", "groups": ["system:masters", "system:authenticated"]}),
        ),
    ] {
        assert_eq!(&request[field], expect, "{field}");
    }
    assert_eq!(request["object"]["metadata"]["labels"], json!({"own": "1"}));
    let last = &asked[2].1["request"]["object"];
    assert_eq!((&last["kind"], &last["metadata"]["labels"]["second"]), (&json!("ConfigMap"), &json!("yes")));

    // other operations and kinds are not its business
    rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"data": {"a": "b"}})).await;
    rig.create("/api/v1/namespaces/default/secrets", map("a", json!({}))).await;
    assert!(webhook.paths().is_empty());
}

#[tokio::test]
async fn refusals_are_the_webhooks_own() {
    let webhook = Webhook::start().await;
    let of = |plural: &str| rule("*", "", "v1", plural);
    let gone = json!({"clientConfig": {"url": "https://127.0.0.1:1/gone"}});
    let service =
        json!({"clientConfig": {"service": {"namespace": "default", "name": "none", "path": "/x"}}});
    let mut hidden = webhook.at("/hidden", of("podtemplates"), json!({}));
    hidden["clientConfig"]["caBundle"] =
        STANDARD.encode(rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.pem()).into();
    let hooks = [
        webhook.at("/deny", of("configmaps"), json!({})),
        webhook.at("/mute", of("secrets"), json!({})),
        webhook.at("/wrong", of("serviceaccounts"), json!({})),
        webhook.at("/gone", of("endpoints"), gone.clone()),
        webhook.at("/broken", of("limitranges"), json!({})),
        webhook.at("/long", of("services"), json!({})),
        webhook.at("/service", of("resourcequotas"), service),
        hidden,
        webhook.at("/silent", of("events"), json!({"timeoutSeconds": 1})),
        webhook.at(
            "/open",
            of("replicationcontrollers"),
            json!({"failurePolicy": "Ignore", "clientConfig": gone["clientConfig"].clone()}),
        ),
    ];
    let rig = rig(&[], &hooks).await;
    let url = |path: &str| format!("https://{}{path}?timeout=10s", webhook.address);
    for (plural, object, code, expect) in [
        ("configmaps", json!({}), 403, "admission webhook \"deny.example.com\" denied the request: not today".to_owned()),
        ("secrets", json!({}), 400, "admission webhook \"mute.example.com\" denied the request without explanation".to_owned()),
        (
            "serviceaccounts",
            json!({}),
            500,
            "Internal error occurred: failed calling webhook \"wrong.example.com\": received invalid webhook response: validating webhook may not return response.patch".to_owned(),
        ),
        (
            "endpoints",
            json!({}),
            500,
            "Internal error occurred: failed calling webhook \"gone.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/gone?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused".to_owned(),
        ),
        (
            "limitranges",
            json!({"spec": {"limits": []}}),
            500,
            "Internal error occurred: failed calling webhook \"broken.example.com\": failed to call webhook: an error on the server (\"no idea\") has prevented the request from succeeding".to_owned(),
        ),
        (
            "services",
            json!({"spec": {"ports": [{"port": 80}]}}),
            500,
            format!("Internal error occurred: failed calling webhook \"long.example.com\": failed to call webhook: Post {:?}: length limit exceeded", url("/long")),
        ),
        (
            "resourcequotas",
            json!({}),
            500,
            "Internal error occurred: failed calling webhook \"service.example.com\": failed to call webhook: Post \"https://none.default.svc:443/x?timeout=10s\": service \"none\" not found".to_owned(),
        ),
        (
            "podtemplates",
            json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}),
            500,
            format!("Internal error occurred: failed calling webhook \"hidden.example.com\": failed to call webhook: Post {:?}: tls: failed to verify certificate: x509: certificate signed by unknown authority", url("/hidden")),
        ),
        (
            "events",
            json!({"involvedObject": {"namespace": "default"}}),
            500,
            format!("Internal error occurred: failed calling webhook \"silent.example.com\": failed to call webhook: Post {:?}: context deadline exceeded", url("/silent").replace("10s", "1s")),
        ),
    ] {
        let mut object = object;
        object["metadata"] = json!({"name": "a"});
        let answer = rig.json(Method::POST, &format!("/api/v1/namespaces/default/{plural}"), object).await;
        assert_eq!((answer.code, message(&answer)), (code, expect.as_str()), "{plural}");
    }
    let controller = json!({"metadata": {"name": "a"}, "spec": {"selector": {"a": "b"}, "template": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    rig.create("/api/v1/namespaces/default/replicationcontrollers", controller).await;
}

#[tokio::test]
async fn selectors_and_dry_runs() {
    let webhook = Webhook::start().await;
    let of = |plural: &str| rule("*", "", "v1", plural);
    let selected = json!({"objectSelector": {"matchLabels": {"look": "yes"}}});
    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}});
    let here = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}});
    let effects = json!({"sideEffects": "NoneOnDryRun"});
    let hooks = [
        webhook.at("/selected", of("configmaps"), selected),
        webhook.at("/elsewhere", of("configmaps"), elsewhere),
        webhook.at("/here", of("configmaps"), here),
        webhook.at("/warn", of("secrets"), effects),
    ];
    let rig = rig(&[], &hooks).await;
    rig.create(MAPS, map("a", json!({}))).await;
    assert_eq!(webhook.paths(), ["/here"]);
    // either state of the object counts
    rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"metadata": {"labels": {"look": "yes"}}})).await;
    // a write starts from what the cache has, and anew where that was too old
    rig.get(&format!("{MAPS}/a")).await;
    rig.json(Method::PATCH, &format!("{MAPS}/a"), json!({"metadata": {"labels": {"look": null}}})).await;
    let mut paths = webhook.paths();
    paths.sort();
    assert_eq!(paths, ["/here", "/here", "/selected", "/selected"]);
    rig.get(&format!("{MAPS}/a")).await;
    rig.json(Method::DELETE, &format!("{MAPS}/a"), Tree::Null).await;
    let asked = std::mem::take(&mut *webhook.asked.lock());
    let request = &asked[0].1["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Tree::Null));
    assert_eq!(request["oldObject"]["metadata"]["name"], "a");
    assert_eq!(request["options"]["kind"], "DeleteOptions");

    let answer =
        rig.json(Method::POST, "/api/v1/namespaces/default/secrets?dryRun=All", map("s", json!({}))).await;
    assert_eq!(answer.code, 201);
    assert_eq!(answer.warnings(), ["299 - \"take care\""]);
    assert_eq!(webhook.asked.lock()[0].1["request"]["dryRun"], true);
}

#[tokio::test]
async fn webhooks_see_the_versions_and_the_forms_that_they_know() {
    let webhook = Webhook::start().await;
    let hooks = [
        webhook.at("/replicas", rule("CREATE", "autoscaling", "v2", "horizontalpodautoscalers"), json!({})),
        webhook.at("/scale", rule("UPDATE", "apps", "v1", "deployments/scale"), json!({})),
        webhook.at(
            "/exact",
            rule("CREATE", "autoscaling", "v2", "horizontalpodautoscalers"),
            json!({"matchPolicy": "Exact"}),
        ),
    ];
    let rig = rig(&hooks, &[]).await;
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let created =
        rig.create("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", scaler).await;
    assert_eq!(
        (&created["apiVersion"], &created["spec"]["maxReplicas"]),
        (&json!("autoscaling/v1"), &json!(7))
    );
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 50);
    let asked = std::mem::take(&mut *webhook.asked.lock());
    assert_eq!(asked.len(), 1);
    let request = &asked[0].1["request"];
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v2"), &json!("v1"))
    );
    assert_eq!(request["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);

    let pod =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}});
    rig.create("/apis/apps/v1/namespaces/default/deployments", deployment).await;
    let scale = "/apis/apps/v1/namespaces/default/deployments/d/scale";
    let scaled = rig.json(Method::PATCH, scale, json!({"spec": {"replicas": 9}})).await;
    assert_eq!((scaled.code, &scaled.tree["spec"]["replicas"]), (200, &json!(3)), "{}", scaled.tree);
    let asked = std::mem::take(&mut *webhook.asked.lock());
    let request = &asked[0].1["request"];
    assert_eq!(request["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(
        (&request["subResource"], &request["object"]["spec"]["replicas"]),
        (&json!("scale"), &json!(9))
    );
}

#[tokio::test]
async fn conditions_say_which_requests_a_webhook_sees() {
    let webhook = Webhook::start().await;
    let of = |path: &str, plural: &str, expressions: &[&str], policy: &str| {
        let conditions: Vec<Tree> = expressions
            .iter()
            .enumerate()
            .map(|(at, text)| json!({"name": format!("c{at}"), "expression": *text}))
            .collect();
        let rest = json!({"matchConditions": conditions, "failurePolicy": policy});
        webhook.at(path, rule("*", "", "v1", plural), rest)
    };
    let hooks = [
        of("/own", "configmaps", &["object.metadata.name == 'a'", "request.operation == 'CREATE'"], "Fail"),
        of("/who", "configmaps", &["request.userInfo.username.startsWith('system:node')"], "Fail"),
        of("/may", "configmaps", &["authorizer.group('').resource('pods').check('get').allowed()"], "Fail"),
        of("/open", "secrets", &["object.data.none == 'x'"], "Ignore"),
        of("/none", "secrets", &["object.data.none == 'x'", "false"], "Fail"),
        of("/fails", "podtemplates", &["object.data.none == 'x'"], "Fail"),
    ];
    let rig = rig(&[], &hooks).await;
    rig.create(MAPS, map("a", json!({}))).await;
    let mut paths = webhook.paths();
    paths.sort();
    assert_eq!(paths, ["/may", "/own"]);
    rig.create(MAPS, map("b", json!({}))).await;
    rig.create("/api/v1/namespaces/default/secrets", map("a", json!({}))).await;
    assert_eq!(webhook.paths(), ["/may"]);
    let template = json!({"metadata": {"name": "a"}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let answer = rig.json(Method::POST, "/api/v1/namespaces/default/podtemplates", template).await;
    let expect = "podtemplates \"a\" is forbidden: expression 'object.data.none == 'x'' resulted in error: no such key: data";
    assert_eq!((answer.code, message(&answer)), (403, expect));
}

#[tokio::test]
async fn those_who_want_to_see_later_changes_do() {
    let webhook = Webhook::start().await;
    let of = |policy: &str, path: &str| {
        webhook.at(path, rule("CREATE", "", "v1", "configmaps"), json!({"reinvocationPolicy": policy}))
    };
    let rig = rig(&[of("IfNeeded", "/look"), of("Never", "/other"), of("Never", "/first")], &[]).await;
    rig.create(MAPS, map("a", json!({"own": "1"}))).await;
    assert_eq!(webhook.paths(), ["/look", "/other", "/first", "/look"]);
    // nothing is changed that was not so before
    rig.create(MAPS, map("b", json!({"first": "yes"}))).await;
    assert_eq!(webhook.paths(), ["/look", "/other", "/first"]);
}
