//! The server as clients meet it: TLS, who they are, what they may do, and what lies behind it.

use crate::rig::{Credentials, Rig, kubelet};
use crate::webhooks::{Webhook, rule};
use api::Tree;
use api::json;
use http::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_from_nothing() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    for (path, count) in [
        ("/api/v1/namespaces", 4),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", 73),
        ("/apis/rbac.authorization.k8s.io/v1/rolebindings", 7),
        ("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", 11),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", 2),
        ("/apis/apiregistration.k8s.io/v1/apiservices", 22),
    ] {
        let (code, list) = rig.get(&admin, path).await;
        assert_eq!((code, list["items"].as_array().map(Vec::len)), (StatusCode::OK, Some(count)), "{path}");
    }
    let (_, service) = rig.get(&admin, "/api/v1/namespaces/default/services/kubernetes").await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let (_, address) = rig.get(&admin, "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1").await;
    assert_eq!(address["spec"]["parentRef"]["name"], "kubernetes");
    let (_, endpoints) = rig.get(&admin, "/api/v1/namespaces/default/endpoints/kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.10");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_authorized() {
    let rig = Rig::start().await;
    rig.ready().await;
    let anonymous = Credentials::None;
    assert_eq!(rig.text(&anonymous, "/healthz").await, (StatusCode::OK, "ok".into()));
    let (code, status) = rig.get(&anonymous, "/api/v1/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(
        status["message"],
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    let (code, status) = rig.get(&Credentials::Token("nonsense".into()), "/healthz").await;
    assert_eq!((code, status["reason"].as_str()), (StatusCode::UNAUTHORIZED, Some("Unauthorized")));
    let (code, _) = rig.get(&rig.strangers_certificate(), "/healthz").await;
    assert_eq!(code, StatusCode::UNAUTHORIZED);

    // a certificate without a common name is nobody's, whatever groups it names
    let nameless = rig.certificate("", &["system:masters"]);
    let (code, status) = rig.get(&nameless, "/api/v1/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(status["message"].as_str().unwrap().contains("User \"system:anonymous\""), "{status}");

    let node = rig.certificate("system:node:n1", &["system:nodes"]);
    let (code, status) = rig.get(&node, "/api/v1/namespaces/default/secrets/x").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .ends_with("node: no relationship found between node 'n1' and this object")
    );

    // A user without rights grants none, even one who may write roles.
    let admin = rig.admin();
    let base = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "role-writer"}, "rules": [{"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]});
    rig.post(&admin, &format!("{base}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "bob"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "role-writer"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}]});
    rig.post(&admin, &format!("{base}/clusterrolebindings"), binding).await;
    let bob = rig.certificate("bob", &[]);
    let mut refused = json!(null);
    for _ in 0..100 {
        let wanted = json!({"metadata": {"name": "mine"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        refused = rig.post(&bob, &format!("{base}/clusterroles"), wanted).await.1;
        if !refused["message"].as_str().unwrap_or_default().contains("cannot create") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The rule that let him in is one he does hold; `escalate` is among its verbs, as `*`.
    assert_eq!(refused["metadata"]["name"], "mine", "{refused}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let base = "/api/v1/namespaces/default";
    rig.post(&admin, &format!("{base}/serviceaccounts"), json!({"metadata": {"name": "robot"}})).await;
    let request = json!({"spec": {"audiences": [], "expirationSeconds": 600}});
    let (code, issued) = rig.post(&admin, &format!("{base}/serviceaccounts/robot/token"), request).await;
    assert_eq!(code, StatusCode::CREATED, "{issued}");
    // a pod that runs as nobody gives its name to no account's token
    let mirror = json!({"metadata": {"name": "static", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "x"}]}});
    let (code, pod) = rig.post(&admin, &format!("{base}/pods"), mirror).await;
    assert_eq!(code, StatusCode::CREATED, "{pod}");
    let bound = json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "static"}}});
    let (code, refused) = rig.post(&admin, &format!("{base}/serviceaccounts/robot/token"), bound).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{refused}");
    assert_eq!(
        refused["message"],
        "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name."
    );
    let robot = Credentials::Token(issued["status"]["token"].as_str().unwrap().to_owned());
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let (_, who) = rig.post(&robot, "/apis/authentication.k8s.io/v1/selfsubjectreviews", review).await;
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:default:robot", "{who}");
    let (_, keys) = rig.get(&admin, "/openid/v1/jwks").await;
    assert_eq!(keys["keys"][0]["kty"], "EC");
    rig.send(&admin, Method::DELETE, &format!("{base}/serviceaccounts/robot"), None).await;
    let mut code = StatusCode::OK;
    for _ in 0..100 {
        code = rig.get(&robot, "/api").await.0;
        if code == StatusCode::UNAUTHORIZED {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code, StatusCode::UNAUTHORIZED);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_kept_in_a_secret_ends_with_it() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let base = "/api/v1/namespaces/default";
    let named = json!({"metadata": {"name": "robot"}});
    let (_, account) = rig.post(&admin, &format!("{base}/serviceaccounts"), named).await;
    let claims = |change: &dyn Fn(&mut api::Tree)| {
        let mut claims = json!({
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:default:robot",
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/secret.name": "robot-token",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": account["metadata"]["uid"],
        });
        change(&mut claims);
        rig.token(&claims)
    };
    let keep = async |token: &str| {
        let secret = json!({"metadata": {"name": "robot-token", "finalizers": ["test.example/kept"]},
            "stringData": {"token": token}});
        rig.post(&admin, &format!("{base}/secrets"), secret.clone()).await;
        let patch = json!({"stringData": secret["stringData"]});
        assert_eq!(rig.patch(&admin, &format!("{base}/secrets/robot-token"), patch).await.0, StatusCode::OK);
    };
    // Tokens are looked up in the cache, which hears of a write a moment later.
    let answers = async |token: &str, expect: u16, why: &str| {
        let asked = std::time::Instant::now();
        loop {
            let code = rig.get(&Credentials::Token(token.to_owned()), "/api").await.0.as_u16();
            if code == expect {
                return;
            }
            assert!(asked.elapsed() < std::time::Duration::from_secs(10), "{code}: {why}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let good = claims(&|_| {});
    keep(&good).await;
    answers(&good, 200, "it is kept").await;
    for audience in ["https://kubernetes.default.svc.cluster.local", "another"] {
        let spec = json!({"token": good, "audiences": [audience]});
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        let (_, review) = rig.post(&admin, "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
        assert_eq!(review["status"]["authenticated"] == true, audience != "another", "{review}");
    }
    for (name, value) in [
        ("sub", "system:serviceaccount:default:other"),
        ("sub", ""),
        ("kubernetes.io/serviceaccount/service-account.uid", "another"),
        ("kubernetes.io/serviceaccount/service-account.uid", ""),
        ("aud", "another"),
    ] {
        let bad = claims(&|claims| claims[name] = json!(value));
        keep(&bad).await;
        answers(&bad, 401, &format!("{name}: {value}")).await;
    }
    keep(&good).await;
    answers(&good, 200, "it is kept").await;
    let label = async |since: api::Tree| {
        let labels = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": since}}});
        rig.patch(&admin, &format!("{base}/secrets/robot-token"), labels).await;
    };
    label(json!("2026-01-01")).await;
    answers(&good, 401, "it ended").await;
    label(json!(null)).await;
    answers(&good, 200, "it is kept").await;
    rig.send(&admin, Method::DELETE, &format!("{base}/secrets/robot-token"), None).await;
    answers(&good, 401, "it ended").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_impersonation_is_refused() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let check = async |headers: &[(&str, &[u8])], expect: (u16, &str)| {
        let (code, answer) = rig.get_with(&admin, "/api/v1/secrets", headers).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(code.as_u16(), expect.0, "{headers:?} {answer}");
        assert!(message.contains(expect.1), "{headers:?} {message}");
    };
    check(&[], (200, "")).await;
    check(&[("impersonate-user", "jürgen".as_bytes())], (403, "User \"jürgen\" cannot list")).await;
    let user: (&str, &[u8]) = ("impersonate-user", b"someone");
    check(&[("impersonate-user", b"j\xfcrgen")], (400, "impersonate-user is not UTF-8")).await;
    for name in ["impersonate-group", "impersonate-uid", "impersonate-extra-a"] {
        check(&[user, (name, b"j\xfcrgen")], (400, "is not UTF-8")).await;
    }
    check(&[("authorization", b"Bearer \xff")], (200, "")).await;
    check(&[("accept", b"application/json\xff")], (406, "")).await;
    check(&[("accept", b"application/json, \xff")], (200, "")).await;
    let (code, _) = rig.get_with(&Credentials::None, "/api", &[("authorization", b"Bearer \xff")]).await;
    assert_eq!(code, StatusCode::UNAUTHORIZED);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_streams_go_through_the_kubelet() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let port = kubelet(&rig).await;
    rig.post(&admin, "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    let (code, node) = rig.patch(&admin, "/api/v1/nodes/n1/status", status).await;
    assert_eq!(code, StatusCode::OK, "{node}");
    let base = "/api/v1/namespaces/default";
    rig.post(&admin, &format!("{base}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "x"}]}});
    let (code, pod) = rig.post(&admin, &format!("{base}/pods"), pod).await;
    assert_eq!(code, StatusCode::CREATED, "{pod}");

    let (code, text) = rig.text(&admin, &format!("{base}/pods/p/log?tailLines=2")).await;
    assert_eq!(
        (code, text.as_str()),
        (StatusCode::OK, "GET /containerLogs/default/p/a?tailLines=2 by kubelet-client")
    );
    let (code, status) = rig.get(&admin, &format!("{base}/pods/p/log?previous=true")).await;
    assert_eq!((code, status["message"].as_str()), (StatusCode::BAD_REQUEST, Some("no previous container")));
    let (code, status) =
        rig.post(&admin, &format!("{base}/pods/p/exec?command=sh&stdout=true"), json!(null)).await;
    assert_eq!(
        (code, status["message"].as_str()),
        (StatusCode::BAD_REQUEST, Some("Upgrade request required"))
    );

    let echoed = rig.tunnel(&admin, &format!("{base}/pods/p/exec?command=sh&stdin=true"), b"ping").await;
    assert_eq!(echoed, "POST /exec/default/p/a?input=1&command=sh\nping");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_leads_to_pods_alone() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let base = "/api/v1/namespaces/default";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    rig.post(&admin, &format!("{base}/services"), service).await;
    rig.post(&admin, &format!("{base}/serviceaccounts"), json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    rig.post(&admin, &format!("{base}/pods"), pod).await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
    let (code, slice) = rig.post(&admin, slices, slice).await;
    assert_eq!(code, StatusCode::CREATED, "{slice}");
    let answer = async || {
        let (code, status) = rig.get(&admin, &format!("{base}/services/s/proxy/")).await;
        (code.as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
    };
    let nowhere = (503, "no endpoints available for service \"s\"".to_owned());
    assert_eq!(answer().await, nowhere, "an address of nobody's");
    let target = |namespace: &str, name: &str| {
        json!({"endpoints": [{"addresses": ["10.0.0.1"],
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": name}}]})
    };
    for (namespace, name) in [("kube-system", "p"), ("default", "other"), ("default", "p")] {
        rig.patch(&admin, &format!("{slices}/s"), target(namespace, name)).await;
        assert_eq!(answer().await, nowhere, "{namespace}/{name}");
    }
    let address = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    rig.patch(&admin, &format!("{base}/pods/p/status"), address).await;
    assert_eq!(answer().await, nowhere, "another address than the pod's");
    let own = json!({"endpoints": [{"addresses": ["127.0.0.2"],
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}}]});
    rig.patch(&admin, &format!("{slices}/s"), own).await;
    assert_eq!(answer().await, nowhere);
    assert_eq!(
        rig.get(&admin, &format!("{base}/services/s:81/proxy/")).await.1["message"],
        "no service port 81 found for service \"s\""
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_trickle_hold_no_seat() {
    let rig = Rig::with(&["--max-mutating-requests-inflight=2"]).await;
    rig.ready().await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let slow = rig.certificate("slow", &[]);
    let mut slowly = Vec::new();
    for _ in 0..20 {
        slowly.push(rig.trickle(&slow, reviews).await);
    }
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let quick = rig.certificate("quick", &[]);
    for _ in 0..5 {
        let (code, answer) = rig.post(&quick, reviews, review.clone()).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    // more at once than there are seats take turns
    let many = (0..16).map(|_| rig.post(&quick, reviews, review.clone()));
    for (code, answer) in futures::future::join_all(many).await {
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    drop(slowly);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_does_not_answer_delays_its_own_requests_alone() {
    let rig = Rig::with(&["--max-mutating-requests-inflight=1"]).await;
    rig.ready().await;
    let admin = rig.admin();
    // accepts connections and says nothing
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = json!({
        "metadata": {"name": "silent"},
        "webhooks": [{"name": "silent.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
            "clientConfig": {"url": format!("https://{}/", silent.local_addr().unwrap())},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]}],
    });
    let configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(rig.post(&admin, configurations, hook).await.0, StatusCode::CREATED);
    let user = rig.ruler("u").await;
    let namespace = "/api/v1/namespaces/default";
    let (maps, secrets) = (format!("{namespace}/configmaps"), format!("{namespace}/secrets"));
    let waits = futures::future::join_all((0..3).map(|number| {
        let map = json!({"metadata": {"name": format!("m{number}")}});
        rig.post(&user, &maps, map)
    }));
    let others = async {
        // all three are at the webhook
        let mut connections = Vec::new();
        for _ in 0..3 {
            connections.push(silent.accept().await.unwrap());
        }
        let began = std::time::Instant::now();
        for number in 0..3 {
            let secret = json!({"metadata": {"name": format!("s{number}")}});
            let (code, answer) = rig.post(&user, &secrets, secret).await;
            assert_eq!(code, StatusCode::CREATED, "{answer}");
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    };
    let (waited, ()) = tokio::join!(waits, others);
    for (code, answer) in waited {
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    }
    drop(silent);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_sees_quotas_does_not_hold_up_what_is_charged_to_them() {
    let rig = Rig::with(&["--max-mutating-requests-inflight=2"]).await;
    rig.ready().await;
    let admin = rig.admin();
    let user = rig.ruler("u").await;
    let namespace = "/api/v1/namespaces/default";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "50"}}});
    assert_eq!(rig.post(&admin, &format!("{namespace}/resourcequotas"), quota).await.0, StatusCode::CREATED);
    let status = json!({"status": {"hard": {"configmaps": "50"}, "used": {"configmaps": "0"}}});
    rig.patch(&admin, &format!("{namespace}/resourcequotas/q/status"), status).await;
    let webhook = Webhook::start().await;
    let hooks = [webhook.at("/quotas", rule("UPDATE", "", "v1", "resourcequotas/status"), json!({}))];
    let configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let hooks = json!({"metadata": {"name": "hooks"}, "webhooks": hooks});
    assert_eq!(rig.post(&admin, configurations, hooks).await.0, StatusCode::CREATED);
    let maps = format!("{namespace}/configmaps");
    let many = (0..32).map(|number| {
        let map = json!({"metadata": {"name": format!("m{number}")}});
        rig.post(&user, &maps, map)
    });
    for (code, answer) in futures::future::join_all(many).await {
        assert_eq!(code, StatusCode::CREATED, "{answer}");
    }
    assert!(!webhook.asked.lock().is_empty());
    let (_, quota) = rig.get(&admin, &format!("{namespace}/resourcequotas/q")).await;
    assert_eq!(quota["status"]["used"]["configmaps"], "32");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_name_their_flow() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let uid = |tree: Tree| tree["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let user = rig.certificate("somebody", &[]);
    let account = rig.certificate("system:serviceaccount:a:b", &["system:serviceaccounts"]);
    let node = rig.certificate("system:node:n", &["system:nodes"]);
    let cases: [(&Credentials, &str, &str, &str); 6] = [
        (&admin, "/api/v1/pods", "exempt", "exempt"),
        (&user, "/api/v1/pods", "global-default", "global-default"),
        (&account, "/api/v1/pods", "service-accounts", "workload-low"),
        (&node, "/api/v1/nodes/n", "system-node-high", "node-high"),
        (&Credentials::None, "/healthz", "probes", "exempt"),
        (&Credentials::None, "/api/v1/pods?watch=1", "global-default", "global-default"),
    ];
    for (credentials, path, schema, level) in cases {
        let headers = rig.headers(credentials, path).await;
        for (header, plural, name) in [
            ("x-kubernetes-pf-flowschema-uid", "flowschemas", schema),
            ("x-kubernetes-pf-prioritylevel-uid", "prioritylevelconfigurations", level),
        ] {
            let (_, object) = rig.get(&admin, &format!("{flows}/{plural}/{name}")).await;
            assert_eq!(headers[header].to_str().unwrap(), uid(object), "{path} {name}");
        }
    }
    let stranger = rig.headers(&Credentials::Token("nonsense".into()), "/api/v1/pods").await;
    assert!(!stranger.contains_key("x-kubernetes-pf-flowschema-uid"));
    let mut condition = Tree::Null;
    for _ in 0..200 {
        let (_, schema) = rig.get(&admin, &format!("{flows}/flowschemas/probes")).await;
        condition = schema["status"]["conditions"][0].clone();
        if !condition.is_null() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((&condition["type"], &condition["status"]), (&json!("Dangling"), &json!("False")));
    rig.stop().await;
}
