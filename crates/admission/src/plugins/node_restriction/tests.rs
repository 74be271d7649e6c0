//! What nodes may write, a row a request.

use std::collections::BTreeMap;

use super::*;
use crate::User;
use crate::tests::{Objects, Right, attributes, ready};
use api::json;

const SIGNER: &str = "example.com/signer";

fn objects() -> Objects {
    let pod = |name: &str, node: &str, spec: Tree| {
        let mut spec = spec;
        spec["nodeName"] = node.into();
        spec["serviceAccountName"] = "robot".into();
        json!({"metadata": {"name": name, "namespace": "t", "uid": format!("{name}-uid")}, "spec": spec})
    };
    let claim = json!({"metadata": {"name": "c", "namespace": "t"}, "spec": {"volumeName": "v"}});
    let mut mirror = pod("mirror", "n1", json!({}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    Objects::default()
        .with("nodes", json!({"metadata": {"name": "n1", "uid": "n1-uid"}}))
        .with(
            "serviceaccounts",
            json!({"metadata": {"name": "robot", "namespace": "t", "uid": "robot-uid"}}),
        )
        .with("pods", pod("p1", "n1", json!({})))
        .with("pods", pod("p2", "n2", json!({})))
        .with("pods", mirror)
        .with(
            "pods",
            pod(
                "wants",
                "n1",
                json!({"volumes": [
                    {"projected": {"sources": [
                        {"serviceAccountToken": {"audience": "vault"}}, {"podCertificate": {"signerName": SIGNER}}]}},
                    {"csi": {"driver": "driver.x"}}, {"awsElasticBlockStore": {"volumeID": "x"}},
                    {"persistentVolumeClaim": {"claimName": "c"}},
                ]}),
            ),
        )
        .with("pods", pod("lost", "n1", json!({"volumes": [{"persistentVolumeClaim": {"claimName": "none"}}]})))
        .with("persistentvolumeclaims", claim)
        .with("persistentvolumes", json!({"metadata": {"name": "v"}, "spec": {"csi": {"driver": "driver.y"}}}))
        .with("csidrivers", driver("driver.x", "of-x"))
        .with("csidrivers", driver("driver.y", "of-y"))
        .with("csidrivers", driver("ebs.csi.aws.com", "of-ebs"))
}

fn driver(name: &str, audience: &str) -> Tree {
    json!({"metadata": {"name": name}, "spec": {"tokenRequests": [{"audience": audience}]}})
}

/// `create pods/eviction`, with the object's group before a colon: what becomes of it; empty where it passes.
fn answer(request: &str, object: &Tree, old: Option<&Tree>, rights: &[Right]) -> String {
    let (verb, what) = request.split_once(' ').unwrap();
    let (group, resource) = what.rsplit_once(':').unwrap_or(("", what));
    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let operation = match verb {
        "create" => Operation::Create,
        "update" => Operation::Update,
        "delete" => Operation::Delete,
        _ => Operation::Connect,
    };
    let resource = registry::kind::built_in(group, "v1", plural).unwrap();
    let name = text(old.unwrap_or(object), "metadata.name").to_owned();
    let (extra, groups) = (BTreeMap::new(), vec!["system:nodes".to_owned()]);
    let namespace = text(old.unwrap_or(object), "metadata.namespace").to_owned();
    let user = User { name: "system:node:n1", uid: "", groups: &groups, extra: &extra };
    let attributes = Attributes {
        subresource,
        namespace: &namespace,
        name: if subresource == "token" { "robot" } else { &name },
        old,
        ..attributes(user, operation, resource)
    };
    let plugin = NodeRestriction::new(Arc::new(Objects { rights: rights.to_vec(), ..objects() }));
    if !plugin.mutates(&Point { resource, subresource, operation }) {
        return String::new();
    }
    match ready(plugin.admit(&attributes, &mut object.clone())) {
        Ok(()) => String::new(),
        Err(status) => match status.message.split_once(" is forbidden: ") {
            Some((_, why)) => why.to_owned(),
            None => status.message,
        },
    }
}

fn named(name: &str) -> Tree {
    json!({"metadata": {"name": name, "namespace": "t"}})
}

#[test]
fn nodes_may_not_write_subresources_and_others_objects() {
    let check = |request: &str, object: Tree, expect: &str| {
        assert_eq!(answer(request, &object, None, &[]), expect, "{request}")
    };
    for subresource in ["binding", "exec", "ephemeralcontainers", "resize", "log", "proxy"] {
        check(
            &format!("create pods/{subresource}"),
            named("p1"),
            &format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"),
        );
    }
    check("connect pods/exec", named("p1"), "");
    check("create pods/eviction", named("p1"), "");
    check(
        "create pods/eviction",
        named("p2"),
        "node n1 can only evict pods with spec.nodeName set to itself",
    );
    check("create pods/eviction", named("none"), "pod \"none\" not found");
    check("create pods/status", named("p1"), "unexpected operation \"CREATE\"");
    check("create persistentvolumeclaims", named("c"), "may only update PVC status");
    check("create nodes", named("n1"), "");
    check("create nodes", named("n2"), "node \"n1\" is not allowed to modify node \"n2\"");
    check(
        "create coordination.k8s.io:leases",
        named("n1"),
        "can only access leases in the \"kube-node-lease\" system namespace",
    );
    let not_own = "can only access CSINode with the same name as the requesting node";
    check("create storage.k8s.io:csinodes", named("n2"), not_own);
    let slices = "create resource.k8s.io:resourceslices";
    let others = "can only create ResourceSlice with the same NodeName as the requesting node";
    check(slices, json!({"spec": {"nodeName": "n1"}}), "");
    check(slices, json!({"spec": {"nodeName": "n2"}}), others);
    check(slices, json!({"spec": {"allNodes": true}}), others);
}

#[test]
fn deletes_are_checked_against_the_stored_object() {
    let check = |request: &str, old: Tree, expect: &str| {
        assert_eq!(answer(request, &Tree::Null, Some(&old), &[]), expect, "{request}");
    };
    let on = |node: &str| json!({"metadata": {"name": "x", "namespace": "t"}, "spec": {"nodeName": node}});
    let others = "node \"n1\" can only delete pods with spec.nodeName set to itself";
    check("delete pods", on("n1"), "");
    check("delete pods", on("n2"), others);
    let others = "can only delete ResourceSlice with the same NodeName as the requesting node";
    check("delete resource.k8s.io:resourceslices", on("n1"), "");
    check("delete resource.k8s.io:resourceslices", on("n2"), others);
    check("delete nodes", on(""), "node \"n1\" is not allowed to modify node \"x\"");
    check("delete persistentvolumeclaims", on(""), "may only update PVC status");
}

#[test]
fn mirror_pods_name_no_other_object() {
    let check = |spec: Tree, expect: &str| {
        let mut spec = spec;
        spec["nodeName"] = "n1".into();
        let owner =
            json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1-uid", "controller": true});
        let pod = json!({"spec": spec, "metadata": {"name": "p", "namespace": "t", "ownerReferences": [owner],
            "annotations": {"kubernetes.io/config.mirror": "x"}}});
        let expect = match expect {
            "" => String::new(),
            expect if expect.starts_with("unknown") => {
                format!("error checking mirror pod for API references: {expect}")
            }
            plural => format!("node \"n1\" can not create pods that reference {plural}"),
        };
        assert_eq!(answer("create pods", &pod, None, &[]), expect);
    };
    let volume = |source: Tree| json!({"volumes": [source]});
    check(json!({"containers": [{"name": "c"}]}), "");
    check(volume(json!({"name": "v", "hostPath": {"path": "/"}})), "");
    check(volume(json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}}]}})), "");
    check(json!({"serviceAccountName": "robot"}), "serviceaccounts");
    check(json!({"imagePullSecrets": [{"name": "pull"}]}), "secrets");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let env = |reference: Tree| json!({list: [{"env": [{"valueFrom": reference}]}]});
        check(env(json!({"secretKeyRef": {"name": "s"}})), "secrets");
        check(env(json!({"configMapKeyRef": {"name": "s"}})), "configmaps");
        check(json!({list: [{"envFrom": [{"configMapRef": {"name": "s"}}]}]}), "configmaps");
    }
    check(volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})), "secrets");
    check(volume(json!({"csi": {"driver": "d"}})), "csidrivers (via CSI volumes)");
    check(volume(json!({"rbd": {"secretRef": {"name": "s"}}})), "secrets");
    check(volume(json!({"configMap": {}})), "configmaps (via configmap volumes)");
    check(volume(json!({"glusterfs": {}})), "endpoints (via glusterFS volumes)");
    check(volume(json!({"persistentVolumeClaim": {"claimName": "c"}})), "persistentvolumeclaims");
    check(volume(json!({"ephemeral": {}})), "persistentvolumeclaims (via ephemeral volumes)");
    check(json!({"resourceClaims": [{"name": "r"}]}), "resourceclaims");
    let projected = |source: &str| volume(json!({"projected": {"sources": [{source: {}}]}}));
    check(projected("configMap"), "configmaps (via projected volumes)");
    check(projected("serviceAccountToken"), "serviceaccounts (via projected volumes)");
    check(projected("clusterTrustBundle"), "clustertrustbundles");
    check(projected("podCertificate"), "podcertificates");
    check(volume(json!({"name": "v", "novel": {}})), "unknown volume type for volume  \"v\"");
}

#[test]
fn a_status_is_not_all_the_nodes() {
    let old = json!({"metadata": {"name": "p1", "namespace": "t", "labels": {"a": "b"}}, "spec": {"nodeName": "n1"},
        "status": {"phase": "Pending", "resourceClaimStatuses": [{"name": "a", "resourceClaimName": "x"}]}});
    let check = |field: &str, value: Tree, expect: &str| {
        let mut new = old.clone();
        let (part, field) = field.split_once('.').unwrap();
        new[part][field] = value;
        assert_eq!(answer("update pods/status", &new, Some(&old), &[]), expect, "{field}");
    };
    check("status.phase", json!("Running"), "");
    check("metadata.labels", json!({"a": "c"}), "node \"n1\" cannot update labels through pod status");
    let claims = "node \"n1\" cannot update resource claim statues";
    check("status.resourceClaimStatuses", json!([{"name": "a", "resourceClaimName": "y"}]), claims);
    check("status.resourceClaimStatuses", Tree::Null, claims);
    let extended = "node \"n1\" cannot update extended resource claim status";
    check("status.extendedResourceClaimStatus", json!({"resourceClaimName": "y"}), extended);
    let allocatable = "node \"n1\" cannot update node allocatable resource claim statuses";
    check("status.nodeAllocatableResourceClaimStatuses", json!([{"resourceClaimName": "y"}]), allocatable);
    let mut others = old.clone();
    others["spec"]["nodeName"] = "n2".into();
    let why = "node \"n1\" can only update pod status for pods with spec.nodeName set to itself";
    assert_eq!(answer("update pods/status", &others, Some(&others), &[]), why);

    let claim = json!({"metadata": {"name": "c", "namespace": "t", "resourceVersion": "1"}, "spec": {"volumeName": "v"},
        "status": {"phase": "Bound"}});
    let check = |pointer: &str, value: Tree, passes: bool| {
        let mut new = claim.clone();
        let (part, field) = pointer.split_once('.').unwrap();
        new[part][field] = value;
        let said = answer("update persistentvolumeclaims/status", &new, Some(&claim), &[]);
        assert_eq!(said.is_empty(), passes, "{pointer}: {said}");
    };
    check("status.capacity", json!({"storage": "1Gi"}), true);
    check("status.conditions", json!([{"type": "Resizing"}]), true);
    check("metadata.resourceVersion", Tree::Null, true);
    check("status.phase", json!("Lost"), false);
    check("metadata.labels", json!({"a": "b"}), false);
    check("metadata.finalizers", json!(["a/b"]), false);
    check("spec.volumeName", json!("w"), false);
}

#[test]
fn tokens_are_of_the_nodes_pods_and_for_whom_these_say() {
    let check_with = |pod: &str, uid: &str, audiences: Tree, rights: &[_], expect: &str| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        let request = json!({"metadata": {"namespace": "t"}, "spec": {"boundObjectRef": reference, "audiences": audiences}});
        assert_eq!(answer("create serviceaccounts/token", &request, None, rights), expect, "{request}");
    };
    let check = |pod: &str, audiences: Tree, expect: &str| {
        check_with(pod, &format!("{pod}-uid"), audiences, &[], expect);
    };
    check_with("p1", "", json!([]), &[], "node requested token with a pod binding without a uid");
    check_with(
        "p1",
        "x",
        json!([]),
        &[],
        "the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated",
    );
    check("p2", json!([]), "node requested token bound to a pod scheduled on a different node");
    check("none", json!([]), "pod \"none\" not found");
    check("wants", json!(["vault"]), "");
    check("wants", json!(["of-x"]), "");
    check("wants", json!(["of-y"]), "");
    check("wants", json!(["of-ebs"]), "");
    check("wants", json!(["vault", "of-x"]), "node may only request 0 or 1 audiences");
    check(
        "wants",
        json!(["other"]),
        "system:node:n1 is not authorized to request tokens for audience \"other\"",
    );
    check("p1", Tree::Null, "system:node:n1 is not authorized to request tokens for audience \"\"");
    check(
        "lost",
        json!(["other"]),
        "error validating audience \"other\": persistentvolumeclaim \"none\" not found",
    );
    let right = [("request-serviceaccounts-token-audience", "other", "robot")];
    check_with("p1", "p1-uid", json!(["other"]), &right, "");
    for reference in [
        Tree::Null,
        json!({"apiVersion": "v1", "kind": "Secret", "name": "p1", "uid": "p1-uid"}),
        json!({"kind": "Pod", "name": "p1", "uid": "p1-uid"}),
        json!({"apiVersion": "v1", "kind": "Pod", "uid": "p1-uid"}),
    ] {
        let request = json!({"metadata": {"namespace": "t"}, "spec": {"boundObjectRef": reference}});
        let expect = "node requested token not bound to a pod";
        assert_eq!(answer("create serviceaccounts/token", &request, None, &[]), expect, "{request}");
    }
}

#[test]
fn certificates_are_of_the_nodes_pods() {
    let good = json!({"metadata": {"name": "r", "namespace": "t"}, "spec": {
        "nodeName": "n1", "nodeUID": "n1-uid", "podName": "wants", "podUID": "wants-uid",
        "serviceAccountName": "robot", "serviceAccountUID": "robot-uid", "signerName": SIGNER}});
    let check_with = |changes: &[(&str, &str)], rights: &[_], expect: &str| {
        let mut request = good.clone();
        for (field, value) in changes {
            request["spec"][*field] = (*value).into();
        }
        let said = answer("create certificates.k8s.io:podcertificaterequests", &request, None, rights);
        assert_eq!(said, expect, "{changes:?}");
    };
    let check = |changes: &[(&str, &str)], expect: &str| check_with(changes, &[], expect);
    check(&[], "");
    check(
        &[("nodeName", "n2")],
        "PodCertificateRequest.Spec.NodeName=\"n2\", which is not the requesting node \"n1\"",
    );
    check(
        &[("nodeUID", "x")],
        "PodCertificateRequest for pod \"t/wants\" names node UID \"x\", inconsistent with the running node (\"n1-uid\")",
    );
    check(
        &[("podName", "none")],
        "while retrieving pod \"t/none\" named in the PodCertificateRequest: pod \"none\" not found",
    );
    check(
        &[("podUID", "x")],
        "PodCertificateRequest for pod \"t/wants\" contains pod UID (\"x\") which differs from running pod \"wants-uid\"",
    );
    check(
        &[("podName", "p2"), ("podUID", "p2-uid")],
        "pod \"t/p2\" is not running on node \"n1\" named in the PodCertificateRequest",
    );
    check(&[("podName", "mirror"), ("podUID", "mirror-uid")], "pod \"t/mirror\" is a mirror pod");
    check(
        &[("serviceAccountName", "x")],
        "PodCertificateRequest for pod \"t/wants\" contains serviceAccountName (\"x\") that differs from running pod (\"robot\")",
    );
    check(
        &[("serviceAccountUID", "x")],
        "PodCertificateRequest for pod \"t/wants\" names service account UID \"x\", which differs from the running service account (\"robot-uid\")",
    );
    let other = [("podName", "p1"), ("podUID", "p1-uid")];
    check(
        &other,
        "pod \"t/p1\" does not mount a podCertificate projected volume for signer \"example.com/signer\"",
    );
    let right = [("request-serviceaccounts-podcertificate-signer", "example.com:signer", "robot")];
    check_with(&other, &right, "");
    let request = "update certificates.k8s.io:podcertificaterequests";
    assert_eq!(answer(request, &good, Some(&good), &[]), "unexpected operation UPDATE");
}
