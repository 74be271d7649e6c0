use std::sync::Arc;

use controllers::views::{OwnerReference, PersistentVolumeClaim, Pod, StatefulSet};
use serde_json::{Value, json};

use super::claims::{self, Claims};
use super::plan::{Input, Plan, Revision, Step, plan};

fn set(spec: Value) -> StatefulSet {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "set"},
        "spec": {
            "replicas": 3,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": {"app": "web"}},
        },
    });
    json_patch::merge(&mut object["spec"], &spec);
    serde_json::from_value(object).unwrap()
}

/// `web-0 new ready`, `web-1 old`, `web-2 new ready leaving`, `web-0 old failed`.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let has = |word: &str| words.contains(&word);
    let phase = if has("failed") {
        "Failed"
    } else if has("pending") {
        "Pending"
    } else {
        "Running"
    };
    let ready = if has("ready") { "True" } else { "False" };
    let mut pod = json!({
        "metadata": {"name": words[0], "namespace": "d", "uid": words[0], "labels": {
            "controller-revision-hash": words[1], "statefulset.kubernetes.io/pod-name": words[0],
        }},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    if has("leaving") {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn planned(set: &StatefulSet, pods: &[&str]) -> Plan {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let revision = |name: &str| Revision { name: name.into(), template: Value::Null };
    plan(&Input {
        set,
        current: revision("old"),
        update: revision("new"),
        pods: &pods,
        claims: &|_| None,
        several_unavailable: true,
        now: "2026-01-01T01:00:00Z".parse().unwrap(),
    })
}

fn steps(plan: &Plan) -> Vec<String> {
    let text = |step: &Step| match step {
        Step::Create { ordinal, updated } => format!("+{ordinal}{}", if *updated { " new" } else { "" }),
        Step::Delete(pod) => format!("-{}", pod.metadata.name),
        Step::CreateClaims(pod, _) => format!("claims of {}", pod.metadata.name),
        Step::Repair(pod, _) => format!("repair {}", pod.metadata.name),
        Step::Retain(pod, _) => format!("retain {}", pod.metadata.name),
    };
    plan.stages.iter().flatten().map(text).collect()
}

#[test]
fn pods_in_order() {
    let check = |spec: Value, pods: &[&str], expect: &[&str]| {
        assert_eq!(steps(&planned(&set(spec.clone()), pods)), expect, "{spec} {pods:?}");
    };
    let none = || json!({});
    check(none(), &[], &["+0 new"]);
    check(none(), &["web-0 new"], &[]);
    check(none(), &["web-0 new pending"], &["claims of web-0"]);
    check(none(), &["web-0 new ready"], &["+1 new"]);
    check(none(), &["web-0 new ready", "web-2 new ready"], &["+1 new"]);
    check(none(), &["web-0 new ready leaving", "web-1 new ready", "web-2 new ready"], &[]);
    check(none(), &["web-0 new failed", "web-1 new ready"], &["-web-0"]);
    check(none(), &["web-0 new failed leaving", "web-1 new ready"], &[]);
    check(json!({"ordinals": {"start": 5}}), &["web-0 new ready"], &["+5 new"]);
    check(json!({"minReadySeconds": 7200}), &["web-0 new ready"], &[]);
    let all = ["web-0 new ready", "web-1 new ready", "web-2 new ready"];
    check(none(), &all, &[]);
    check(json!({"replicas": 1}), &all, &["-web-2"]);
    check(json!({"replicas": 1}), &[all[0], all[1], "web-2 new"], &["-web-2"]);
    check(json!({"replicas": 1}), &[all[0], "web-1 new", "web-2 new"], &[]);
    check(json!({"replicas": 1}), &[all[0], all[1], "web-2 new ready leaving"], &[]);
    check(json!({"replicas": 0}), &["other-1 new ready"], &[]);
}

#[test]
fn pods_at_once() {
    let check = |spec: Value, pods: &[&str], expect: &[&str]| {
        let mut spec = spec;
        spec["podManagementPolicy"] = "Parallel".into();
        assert_eq!(steps(&planned(&set(spec), pods)), expect, "{pods:?}");
    };
    check(json!({}), &[], &["+0 new", "+1 new", "+2 new"]);
    check(json!({}), &["web-1 new"], &["+0 new", "+2 new"]);
    check(
        json!({"replicas": 1}),
        &["web-0 new ready", "web-1 new", "web-2 new ready"],
        &["-web-2", "-web-1"],
    );
}

#[test]
fn updates() {
    let rolling = |update: Value| json!({"updateStrategy": {"rollingUpdate": update}});
    let check = |spec: Value, pods: &[&str], expect: &[&str]| {
        assert_eq!(steps(&planned(&set(spec.clone()), pods)), expect, "{spec} {pods:?}");
    };
    let old = ["web-0 old ready", "web-1 old ready", "web-2 old ready"];
    check(json!({}), &old, &["-web-2"]);
    check(json!({}), &[old[0], old[1], "web-2 new"], &[]);
    check(json!({}), &[old[0], old[1], "web-2 new ready"], &["-web-1"]);
    check(rolling(json!({"partition": 2})), &[old[0], old[1], "web-2 new ready"], &[]);
    check(rolling(json!({"partition": 2})), &[old[0], "web-2 new ready"], &["+1"]);
    check(rolling(json!({"maxUnavailable": 2})), &old, &["-web-2", "-web-1"]);
    check(rolling(json!({"maxUnavailable": "70%"})), &old, &["-web-2", "-web-1"]);
    check(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}), &old, &[]);
    // A pod that is of no use anyway is replaced first, where order does not matter.
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(parallel, &["web-0 old", old[1], old[2]], &["-web-0"]);
}

#[test]
fn statuses() {
    let plan = planned(&set(json!({})), &["web-0 old ready", "web-1 new ready", "web-2 new"]);
    let status = &plan.status;
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, 2, 2));
    assert_eq!((status.current_replicas, status.updated_replicas), (1, 2));
    assert_eq!((status.current_revision.as_str(), status.update_revision.as_str()), ("old", "new"));
    let done = planned(&set(json!({})), &["web-0 new ready", "web-1 new ready", "web-2 new ready"]).status;
    assert_eq!((done.current_revision.as_str(), done.current_replicas), ("new", 3));
}

#[test]
fn claims_stay_or_go_by_the_policy() {
    let policy = |deleted: &str, scaled: &str| {
        set(json!({
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        }))
    };
    let check = |set: &StatefulSet, ordinal: i32, expect: &[&str]| {
        let pod = pod(&format!("web-{ordinal} new"));
        let owners = Claims::of(set, ordinal, &pod.metadata);
        let mut claim = PersistentVolumeClaim::default().metadata;
        assert_eq!(owners.is_right(&claim), expect.is_empty());
        claim.owner_references = owners.owners(&claim);
        let names: Vec<_> = claim.owner_references.iter().map(|owner| owner.name.to_string()).collect();
        assert_eq!(names, expect);
        assert!(owners.is_right(&claim));
    };
    check(&policy("Retain", "Retain"), 0, &[]);
    check(&policy("Delete", "Retain"), 7, &["web"]);
    check(&policy("Retain", "Delete"), 0, &[]);
    check(&policy("Retain", "Delete"), 7, &["web-7"]);
    check(&policy("Delete", "Delete"), 0, &["web"]);
    check(&policy("Delete", "Delete"), 7, &["web-7"]);
    // Somebody else manages the claim.
    let (set, pod) = (policy("Delete", "Delete"), pod("web-0 new"));
    let owners = Claims::of(&set, 0, &pod.metadata);
    let mut claim = PersistentVolumeClaim::default().metadata;
    let other = OwnerReference { name: "x".into(), controller: Some(true), ..OwnerReference::default() };
    claim.owner_references = vec![other];
    assert!(owners.has_other_controller(&claim) && owners.is_right(&claim));
    assert_eq!(claims::names(&set, 0).collect::<Vec<_>>(), ["data-web-0"]);
}
