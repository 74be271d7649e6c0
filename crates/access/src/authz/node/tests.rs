use std::sync::Arc;

use api::Tree;
use api::json;
use tokio_util::sync::CancellationToken;
use watchcache::resources::Resources;

use super::Graph;
use super::graph::State;
use super::references::{Kind, of_pod};
use crate::authz::Attributes;
use crate::user::User;

#[test]
fn finds_the_objects_a_pod_uses() {
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"envFrom": [{"secretRef": {"name": "env"}}],
                            "env": [{"valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "projected": {"sources": [{"configMap": {"name": "root-ca"}}, {"secret": {"name": "s"}}]}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "e", "ephemeral": {}},
            ],
        },
    });
    let mut found = of_pod(&pod);
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let names: Vec<_> = found.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    assert_eq!(
        names,
        [
            (Kind::Claim, "c"),
            (Kind::ConfigMap, "cm"),
            (Kind::Secret, "env"),
            (Kind::Pod, "p"),
            (Kind::Claim, "p-e"),
            (Kind::Secret, "pull"),
            (Kind::ConfigMap, "root-ca"),
            (Kind::Secret, "s"),
            (Kind::ServiceAccount, "sa"),
        ]
    );
}

#[test]
fn a_mirror_pod_opens_nothing() {
    let pod = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}},
                     "spec": {"imagePullSecrets": [{"name": "s"}]}});
    assert_eq!(of_pod(&pod), [(Kind::Pod, "p".to_owned())]);
}

fn volume(claim: &str, source: Tree) -> Tree {
    let mut spec = source;
    spec["claimRef"] = json!({"namespace": "t", "name": claim});
    json!({"spec": spec})
}

#[test]
fn a_volume_is_reached_by_the_claim_that_it_names() {
    let mut state = State::default();
    let secret = json!({"csi": {"nodeStageSecretRef": {"namespace": "storage", "name": "stage"},
        "controllerExpandSecretRef": {"namespace": "storage", "name": "controller"}}});
    state.put_volume(&"v".into(), &volume("c", secret));
    let check = |state: &State, expect: [bool; 3]| {
        let found = [
            state.reaches("n", Kind::Volume, "", "v"),
            state.reaches("n", Kind::Secret, "storage", "stage"),
            state.reaches("n", Kind::Secret, "storage", "controller"),
        ];
        assert_eq!(found, expect);
    };
    check(&state, [false; 3]);
    state.put_pod("n", "t", "p", vec![(Kind::Claim, "c".into())]);
    check(&state, [true, true, false]);
    // of another claim now, whatever the claim says
    state.remove_volume("v");
    state.put_volume(&"v".into(), &volume("other", json!({})));
    check(&state, [false; 3]);
    state.put_pod("n", "t", "p", vec![(Kind::Claim, "other".into())]);
    check(&state, [true, false, false]);
}

/// What one node may ask, whatever there is.
#[test]
fn rights_of_every_node() {
    let resources = Resources::new(Arc::new(store::Memory::new()), CancellationToken::new());
    let graph = Graph::new(resources);
    let user = User {
        name: "system:node:n1".into(),
        groups: vec!["system:nodes".into(), "system:authenticated".into()],
        ..User::default()
    };
    let check = |verb: &str, what: &str, namespace: &str, name: &str, selector: &str, expect: bool| {
        let (group, resource) = what.rsplit_once(':').unwrap_or(("", what));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let ask = Attributes {
            subresource,
            field_selector: selector,
            ..Attributes::resource(&user, verb, group, resource, namespace, name)
        };
        assert_eq!(graph.authorize(&ask).allowed(), expect, "{verb} {what} {namespace}/{name} {selector}");
    };
    let own = "spec.nodeName=n1";
    for (verb, what, namespace, name, selector, expect) in [
        ("get", "nodes", "", "n1", "", true),
        ("get", "nodes", "", "n2", "", false),
        ("list", "nodes", "", "", "", false),
        ("delete", "nodes", "", "n1", "", false),
        ("get", "nodes/proxy", "", "n1", "", false),
        ("patch", "nodes/status", "", "n1", "", true),
        ("get", "nodes/status", "", "n1", "", false),
        ("create", "nodes", "", "", "", true),
        ("list", "pods", "", "", own, true),
        ("list", "pods", "", "", "spec.nodeName=n2", false),
        ("watch", "pods", "", "", "spec.nodeName!=n1", false),
        ("list", "pods", "", "", "", false),
        ("get", "pods", "t", "p", "", false),
        ("update", "pods", "t", "p", "", false),
        ("deletecollection", "pods", "t", "", "", false),
        ("create", "pods/eviction", "t", "p", "", true),
        ("create", "pods/binding", "t", "p", "", false),
        ("create", "pods/exec", "t", "p", "", false),
        ("update", "pods/ephemeralcontainers", "t", "p", "", false),
        ("get", "secrets", "t", "s", "", false),
        ("create", "secrets", "t", "s", "", false),
        ("list", "secrets", "", "", "", false),
        ("update", "persistentvolumeclaims/status", "t", "c", "", false),
        ("get", "persistentvolumeclaims/status", "t", "c", "", false),
        ("create", "serviceaccounts", "t", "a", "", false),
        ("create", "serviceaccounts/token", "t", "a", "", false),
        ("get", "serviceaccounts/token", "t", "a", "", false),
        ("get", "storage.k8s.io:volumeattachments", "", "a", "", false),
        ("list", "storage.k8s.io:volumeattachments", "", "", "", false),
        ("get", "storage.k8s.io:csinodes", "", "n1", "", true),
        ("get", "storage.k8s.io:csinodes", "", "n2", "", false),
        ("patch", "storage.k8s.io:csinodes/status", "", "n1", "", false),
        ("update", "coordination.k8s.io:leases", "kube-node-lease", "n1", "", true),
        ("update", "coordination.k8s.io:leases", "kube-node-lease", "n2", "", false),
        ("get", "coordination.k8s.io:leases", "kube-system", "n1", "", false),
        ("list", "coordination.k8s.io:leases", "kube-node-lease", "", "", false),
        ("get", "resource.k8s.io:resourceclaims", "t", "c", "", false),
        ("create", "resource.k8s.io:resourceslices", "", "", "", true),
        ("get", "resource.k8s.io:resourceslices", "", "s", "", false),
        ("update", "resource.k8s.io:resourceslices", "", "s", "", false),
        ("delete", "resource.k8s.io:resourceslices", "", "s", "", false),
        ("deletecollection", "resource.k8s.io:resourceslices", "", "", own, true),
        ("deletecollection", "resource.k8s.io:resourceslices", "", "", "", false),
        ("create", "certificates.k8s.io:podcertificaterequests", "t", "", "", true),
        ("get", "certificates.k8s.io:podcertificaterequests", "t", "r", "", false),
        ("list", "certificates.k8s.io:podcertificaterequests", "", "", own, true),
        ("list", "certificates.k8s.io:podcertificaterequests", "", "", "", false),
        ("update", "certificates.k8s.io:podcertificaterequests/status", "t", "r", "", false),
        ("delete", "certificates.k8s.io:podcertificaterequests", "t", "r", "", false),
        ("create", "certificates.k8s.io:certificatesigningrequests", "", "", "", true),
        ("update", "certificates.k8s.io:certificatesigningrequests/approval", "", "c", "", false),
        ("list", "services", "", "", "", true),
        ("create", "events", "t", "", "", true),
        ("create", "authentication.k8s.io:tokenreviews", "", "", "", true),
    ] {
        check(verb, what, namespace, name, selector, expect);
    }
}
