//! Nobody becomes more than they are: what roles, nodes and subresources refuse, through the whole server.

use std::time::Duration;

use api::Tree;
use api::json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};

use crate::rig::{Credentials, Rig};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const DEFAULT: &str = "/api/v1/namespaces/default";

/// A rule of the RBAC group.
fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Tree {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names})
}

/// Gives a user these rights, everywhere or in one namespace, and waits until the last of them holds.
async fn grant(rig: &Rig, user: &str, namespace: &str, rules: &[Tree]) -> Credentials {
    let admin = rig.admin();
    let (role, place) = match namespace {
        "" => ("ClusterRole", RBAC.to_owned()),
        namespace => ("Role", format!("{RBAC}/namespaces/{namespace}")),
    };
    let plural = role.to_lowercase();
    let (code, made) = rig
        .post(&admin, &format!("{place}/{plural}s"), json!({"metadata": {"name": user}, "rules": rules}))
        .await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    bind(rig, user, &format!("{place}/{plural}bindings"), role, user).await;
    let credentials = rig.certificate(user, &[]);
    let last = rules.last().unwrap();
    let one = |field: &str| last[field][0].as_str().unwrap_or_default().to_owned();
    holds(
        rig,
        &credentials,
        &one("verbs"),
        &one("apiGroups"),
        &one("resources"),
        namespace,
        &one("resourceNames"),
    )
    .await;
    credentials
}

async fn bind(rig: &Rig, name: &str, path: &str, kind: &str, role: &str) {
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}]});
    let (code, made) = rig.post(&rig.admin(), path, binding).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
}

async fn holds(
    rig: &Rig,
    who: &Credentials,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({"spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource,
        "subresource": subresource, "namespace": namespace, "name": name}}});
    for _ in 0..250 {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (_, review) = rig.post(who, path, review.clone()).await;
        if review["status"]["allowed"] == true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never allowed to {verb} {resource}");
}

fn refused(answer: &(StatusCode, Tree), why: &str) {
    assert_eq!(answer.0, StatusCode::FORBIDDEN, "{}", answer.1);
    let message = answer.1["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{message}");
}

const NOT_GRANTED: &str = "is attempting to grant RBAC permissions not currently held";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_cannot_grant_rights_they_lack() {
    let rig = Rig::start().await;
    rig.ready().await;
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);

    // a user who may write the roles of one namespace; one of the roles is being deleted
    let (group, verbs) = ("rbac.authorization.k8s.io", ["get", "create", "patch", "update", "delete"]);
    let pods = rule(&["get"], "", &["pods"], &[]);
    let nina = grant(&rig, "nina", "default", &[pods.clone(), rule(&verbs, group, &["roles"], &[])]).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let mut role = json!({"metadata": {"name": "mine", "finalizers": ["example.com/stay"]},
        "rules": [rule(&["get"], "", &["pods"], &[])]});
    assert_eq!(rig.post(&nina, &roles, role.clone()).await.0, StatusCode::CREATED);
    let own = format!("{roles}/mine");
    assert_eq!(rig.send(&nina, Method::DELETE, &own, None).await.0, StatusCode::OK);
    role["rules"] = everything.clone();
    refused(&rig.send(&nina, Method::PUT, &own, Some(role)).await, NOT_GRANTED);
    refused(&rig.patch(&nina, &own, json!({"rules": everything})).await, NOT_GRANTED);
    assert_eq!(rig.patch(&nina, &own, json!({"metadata": {"finalizers": null}})).await.0, StatusCode::OK);

    // a user who may write cluster roles and has few other rights
    let rules = [
        pods,
        rule(&["escalate"], group, &["clusterroles"], &["named"]),
        rule(&verbs, group, &["clusterroles", "clusterrolebindings"], &[]),
    ];
    let bob = grant(&rig, "bob", "", &rules).await;
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let strong = format!("{RBAC}/clusterroles/cluster-admin");
    refused(&rig.patch(&bob, &strong, label.clone()).await, NOT_GRANTED);
    assert_eq!(rig.patch(&bob, &strong, json!({"metadata": {"finalizers": null}})).await.0, StatusCode::OK);
    let binding = format!("{RBAC}/clusterrolebindings/cluster-admin");
    refused(&rig.patch(&bob, &binding, json!({"metadata": {"labels": {"a": "b"}}})).await, NOT_GRANTED);

    // aggregation may gather anything, whether it comes or goes
    let roles = format!("{RBAC}/clusterroles");
    let gathering = json!({"metadata": {"name": "gathering"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let why = "must have cluster-admin privileges to use the aggregationRule";
    refused(&rig.post(&bob, &roles, gathering.clone()).await, why);
    assert_eq!(rig.post(&rig.admin(), &roles, gathering).await.0, StatusCode::CREATED);
    refused(&rig.patch(&bob, &format!("{roles}/gathering"), json!({"aggregationRule": null})).await, why);
    refused(&rig.patch(&bob, &format!("{roles}/gathering"), label).await, why);

    // the right to escalate counts for the name in the path
    let named = json!({"metadata": {"name": "named"}, "rules": everything});
    refused(&rig.post(&bob, &roles, named.clone()).await, NOT_GRANTED);
    assert_eq!(
        rig.send(&bob, Method::PUT, &format!("{roles}/named"), Some(named)).await.0,
        StatusCode::CREATED
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_creates_needs_both_rights() {
    let rig = Rig::start().await;
    rig.ready().await;
    let group = "coordination.k8s.io";
    let carl = grant(&rig, "carl", "default", &[rule(&["update", "get"], group, &["leases"], &[])]).await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let put = |who| rig.send(who, Method::PUT, path, Some(lease.clone()));
    let why = "leases.coordination.k8s.io \"l\" is forbidden: User \"carl\" cannot create resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"default\"";
    refused(&put(&carl).await, why);
    let dora = grant(&rig, "dora", "default", &[rule(&["update", "create"], group, &["leases"], &[])]).await;
    let (code, mut made) = put(&dora).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    made["spec"]["holderIdentity"] = "another".into();
    assert_eq!(rig.send(&carl, Method::PUT, path, Some(made)).await.0, StatusCode::OK);
    rig.stop().await;
}

async fn pod(rig: &Rig, name: &str, node: &str, changes: &[(&str, Tree)]) -> Tree {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"nodeName": node,
        "serviceAccountName": "robot", "containers": [{"name": "c", "image": "x"}]}});
    for (field, value) in changes {
        pod["spec"][*field] = value.clone();
    }
    let (code, made) = rig.post(&rig.admin(), &format!("{DEFAULT}/pods"), pod).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    made
}

/// A server with two nodes and an account.
async fn cluster() -> Rig {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();
    for node in ["n1", "n2"] {
        rig.post(&admin, "/api/v1/nodes", json!({"metadata": {"name": node}})).await;
    }
    rig.post(&admin, &format!("{DEFAULT}/serviceaccounts"), json!({"metadata": {"name": "robot"}})).await;
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_tokens_are_those_of_its_pods() {
    let rig = cluster().await;
    let node = rig.certificate("system:node:n1", &["system:nodes"]);
    let vault = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]}}]);
    let own = pod(&rig, "own", "n1", &[("volumes", vault.clone())]).await;
    let other = pod(&rig, "other", "n2", &[("volumes", vault)]).await;
    holds(&rig, &node, "create", "", "serviceaccounts/token", "default", "robot").await;
    let path = format!("{DEFAULT}/serviceaccounts/robot/token");
    let request = |pod: &Tree, audience: &str| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        json!({"spec": {"boundObjectRef": reference, "audiences": [audience]}})
    };
    refused(&rig.post(&node, &path, json!({"spec": {}})).await, "node requested token not bound to a pod");
    let elsewhere = "node requested token bound to a pod scheduled on a different node";
    refused(&rig.post(&node, &path, request(&other, "vault")).await, elsewhere);
    let audience = "system:node:n1 is not authorized to request tokens for audience \"anyone\"";
    refused(&rig.post(&node, &path, request(&own, "anyone")).await, audience);
    let (code, issued) = rig.post(&node, &path, request(&own, "vault")).await;
    assert_eq!(code, StatusCode::CREATED, "{issued}");
    let (_, account) = rig.get(&rig.admin(), &format!("{DEFAULT}/serviceaccounts/robot")).await;
    assert_eq!(issued["metadata"]["uid"], account["metadata"]["uid"]);
    let mut of_another = request(&own, "vault");
    of_another["metadata"] = json!({"uid": "another"});
    assert_eq!(rig.post(&node, &path, of_another).await.0, StatusCode::CONFLICT);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_writes_of_its_pods_what_it_sees() {
    let rig = cluster().await;
    let node = rig.certificate("system:node:n1", &["system:nodes"]);
    pod(&rig, "other", "n2", &[]).await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let admin = rig.admin();
    rig.post(&admin, budgets, budget).await;
    let status = json!({"status": {"disruptionsAllowed": 1, "observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 0, "expectedPods": 1}});
    assert_eq!(rig.patch(&admin, &format!("{budgets}/b/status"), status).await.0, StatusCode::OK);
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(rig.patch(&admin, &format!("{DEFAULT}/pods/other/status"), running).await.0, StatusCode::OK);
    let eviction = json!({"metadata": {"name": "other"}});
    let answer = rig.post(&node, &format!("{DEFAULT}/pods/other/eviction"), eviction).await;
    refused(&answer, "node n1 can only evict pods with spec.nodeName set to itself");
    let (_, budget) = rig.get(&admin, &format!("{budgets}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 1, "a refused eviction takes nothing");

    let template = json!([{"name": "r", "resourceClaimTemplateName": "t"}]);
    pod(&rig, "own", "n1", &[("resourceClaims", template)]).await;
    let claims =
        json!({"status": {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "another's"}]}});
    let answer = rig.patch(&node, &format!("{DEFAULT}/pods/own/status"), claims).await;
    refused(&answer, "node \"n1\" cannot update resource claim statues");

    // a mirror pod opens nothing, and remains one
    let (_, stored) = rig.get(&admin, "/api/v1/nodes/n1").await;
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": stored["metadata"]["uid"], "controller": true});
    let mut mirror = json!({"metadata": {"name": "mirror", "ownerReferences": [owner],
        "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}], "imagePullSecrets": [{"name": "pull"}]}});
    refused(
        &rig.post(&node, &format!("{DEFAULT}/pods"), mirror.clone()).await,
        "a mirror pod may not reference secrets",
    );
    mirror["spec"]["imagePullSecrets"] = Tree::Null;
    let (code, made) = rig.post(&node, &format!("{DEFAULT}/pods"), mirror).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let bare = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": null}}});
    for path in ["pods/mirror/status", "pods/mirror"] {
        let (code, answer) = rig.patch(&admin, &format!("{DEFAULT}/{path}"), bare.clone()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(
            answer["message"].as_str().unwrap().contains("may not remove or update mirror pod annotation")
        );
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_other_nodes_are_not_a_nodes() {
    let rig = cluster().await;
    let node = rig.certificate("system:node:n1", &["system:nodes"]);
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let slice = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"driver": "d.example.com", "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}, "devices": []}})
    };
    assert_eq!(rig.post(&node, slices, slice("own", "n1")).await.0, StatusCode::CREATED);
    let why = "can only create ResourceSlice with the same NodeName as the requesting node";
    refused(&rig.post(&node, slices, slice("other", "n2")).await, why);
    assert_eq!(rig.post(&rig.admin(), slices, slice("other", "n2")).await.0, StatusCode::CREATED);
    holds(&rig, &node, "get", "resource.k8s.io", "resourceslices", "", "own").await;
    let why = "no relationship found between node 'n1' and this object";
    refused(&rig.get(&node, &format!("{slices}/other")).await, why);
    refused(
        &rig.patch(&node, &format!("{slices}/other"), json!({"metadata": {"labels": {"a": "b"}}})).await,
        why,
    );
    refused(&rig.send(&node, Method::DELETE, &format!("{slices}/other"), None).await, why);
    assert_eq!(rig.send(&node, Method::DELETE, &format!("{slices}/own"), None).await.0, StatusCode::OK);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_evicted_as_it_was_seen() {
    let rig = cluster().await;
    let admin = rig.admin();
    let made = pod(&rig, "p", "n1", &[]).await;
    let path = format!("{DEFAULT}/pods/p/eviction");
    let evict = |field: &str, value: &Tree| json!({"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {field: value}}});
    rig.patch(&admin, &format!("{DEFAULT}/pods/p"), json!({"metadata": {"labels": {"b": "c"}}})).await;
    let (code, answer) =
        rig.post(&admin, &path, evict("resourceVersion", &made["metadata"]["resourceVersion"])).await;
    assert_eq!(code, StatusCode::CONFLICT, "{answer}");
    let (code, answer) = rig.post(&admin, &path, evict("uid", &json!("another"))).await;
    assert_eq!(code, StatusCode::CONFLICT, "{answer}");
    let (_, now) = rig.get(&admin, &format!("{DEFAULT}/pods/p")).await;
    assert!(
        now["status"]["conditions"].as_array().is_none_or(Vec::is_empty),
        "a refused eviction leaves no mark: {now}"
    );
    let (code, answer) =
        rig.post(&admin, &path, evict("resourceVersion", &now["metadata"]["resourceVersion"])).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approving_a_certificate_is_a_right_of_its_own() {
    let rig = Rig::start().await;
    rig.ready().await;
    let (admin, requests) = (rig.admin(), "/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let group = "certificates.k8s.io";
    let approval = rule(&["update", "patch"], group, &["certificatesigningrequests/approval"], &[]);
    let eve = grant(&rig, "eve", "", std::slice::from_ref(&approval)).await;
    let named = rule(&["approve"], group, &["signers"], &["example.com/*"]);
    let finn = grant(&rig, "finn", "", &[approval, named]).await;
    let request = json!({"metadata": {"name": "r"}, "spec": {"signerName": "example.com/any", "usages": ["client auth"], "request": REQUEST}});
    let (code, made) = rig.post(&admin, requests, request).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x"}]}});
    let path = format!("{requests}/r/approval");
    let why = "user not permitted to approve requests with signerName \"example.com/any\"";
    refused(&rig.patch(&eve, &path, approved.clone()).await, why);
    let (code, answer) = rig.patch(&finn, &path, approved).await;
    assert_eq!(code, StatusCode::OK, "{answer}");

    let masters = json!({"metadata": {"name": "m"}, "spec": {"signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"], "request": REQUEST}});
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    refused(&rig.post(&admin, requests, masters).await, why);
    rig.stop().await;
}

fn invalid(answer: &(StatusCode, Tree), why: &str) {
    assert_eq!(answer.0, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.1);
    let message = answer.1["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_status_are_rights_of_their_own() {
    let rig = Rig::start().await;
    rig.ready().await;
    let admin = rig.admin();

    let (group, plural) = ("certificates.k8s.io", "podcertificaterequests");
    let requests = format!("/apis/{group}/v1/namespaces/default/{plural}");
    let report = rule(&["update", "patch"], group, &["podcertificaterequests/status"], &[]);
    let gina = grant(&rig, "gina", "", std::slice::from_ref(&report)).await;
    let hans =
        grant(&rig, "hans", "", &[report, rule(&["sign"], group, &["signers"], &["example.com/*"])]).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let signed = STANDARD.encode(signed.der());
    let request = json!({"metadata": {"name": "r", "labels": {"a": "b"}}, "spec": {"signerName": "example.com/any",
        "podName": "p", "podUID": "u", "serviceAccountName": "s", "serviceAccountUID": "u", "nodeName": "n", "nodeUID": "u",
        "stubPKCS10Request": signed}});
    let (code, made) = rig.post(&admin, &requests, request).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let denied = json!({"type": "Denied", "status": "True", "reason": "Policy", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let answered = json!({"metadata": {"labels": {"a": "c"}}, "status": {"conditions": [denied]}});
    let path = format!("{requests}/r/status");
    let why = "spec.signerName: Forbidden: User \"gina\" is not permitted to \"sign\" for signer \"example.com/any\"";
    invalid(&rig.patch(&gina, &path, answered.clone()).await, why);
    let (code, answer) = rig.patch(&hans, &path, answered).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["metadata"]["labels"]["a"], &answer["status"]["conditions"][0]["type"]),
        (&json!("b"), &json!("Denied"))
    );

    let group = "resource.k8s.io";
    let claims = format!("/apis/{group}/v1/namespaces/default/resourceclaims");
    let report = rule(&["update", "patch"], group, &["resourceclaims/status"], &[]);
    let ida = grant(&rig, "ida", "", std::slice::from_ref(&report)).await;
    let bind = rule(&["update", "patch"], group, &["resourceclaims/binding"], &[]);
    let jan = grant(&rig, "jan", "", &[report.clone(), bind]).await;
    let speak = rule(&["arbitrary-node:patch"], group, &["resourceclaims/driver"], &["d.example.com"]);
    let kim = grant(&rig, "kim", "", &[report, speak]).await;
    let request =
        |admin: bool| json!({"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": admin}});
    let claim = |name: &str, admin: bool| json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [request(admin)]}}});
    let shared = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    invalid(&rig.post(&admin, &claims, claim("shared", true)).await, shared);
    let (code, made) = rig.post(&admin, &claims, claim("c", false)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let path = format!("{claims}/c/status");
    let result = json!({"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"});
    let allocated = json!({"status": {"allocation": {"devices": {"results": [result]}}}});
    let why = "status.allocation: Forbidden: changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"patch\" permission: resourceclaims.resource.k8s.io is forbidden: User \"ida\" cannot patch resource \"resourceclaims/binding\" in API group \"resource.k8s.io\" at the cluster scope";
    invalid(&rig.patch(&ida, &path, allocated.clone()).await, why);
    let (code, answer) = rig.patch(&jan, &path, allocated).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    let device =
        |driver: &str| json!({"status": {"devices": [{"driver": driver, "pool": "p", "device": "x"}]}});
    let why = "status.devices: Forbidden: changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:patch]\" permission: ";
    invalid(&rig.patch(&jan, &path, device("d.example.com")).await, why);
    invalid(&rig.patch(&kim, &path, device("e.example.com")).await, why);
    let (code, answer) = rig.patch(&kim, &path, device("d.example.com")).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resize_labels_nothing() {
    let rig = cluster().await;
    let resize = rule(&["patch"], "", &["pods/resize"], &[]);
    let lea = grant(&rig, "lea", "default", &[resize]).await;
    let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let containers = |cpu: &str| json!([{"name": "c", "image": "x", "resources": amounts(cpu)}]);
    pod(&rig, "p", "", &[("containers", containers("1"))]).await;
    let larger = json!({"metadata": {"labels": {"app": "b"}, "finalizers": ["a/b"]}, "spec": {"containers": containers("2")}});
    let (code, resized) = rig.patch(&lea, &format!("{DEFAULT}/pods/p/resize"), larger).await;
    assert_eq!(code, StatusCode::OK, "{resized}");
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    assert_eq!(resized["metadata"]["labels"], json!({"app": "a"}));
    assert!(resized["metadata"]["finalizers"].is_null());
    rig.stop().await;
}

/// A certificate request for `/O=system:masters/CN=m`.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIZ01JR0hBZ0VBTUNVeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRwdFlYTjBaWEp6TVFvd0NBWURWUVFEREFGdApNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVPWjlIM1RtdTAwT3R5eDh0RXNsWlR5MHB1SGtRCjZSZ2l1dFNheXlZdEtEM2xXWGVCSU1yemE4bWgzS0VSYW1vc3l1NWJ2cFpEYVNOQ1VMOTBwK1owTmFBQU1Bb0cKQ0NxR1NNNDlCQU1DQTBnQU1FVUNJUURsaDB1UWxRS3ZkUDdMKzd4M3pkRjZWb3ZyZENhOU9VWUtRcmxqY1lCUgpRd0lnZnBYNDBoWUtxZmJIR25JQ2FKNStMOG9mT3crVEtkSFlCWjVCS1lMckZFND0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
