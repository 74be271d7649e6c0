use std::sync::Arc;

use client::Text;
use controllers::views::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::usage::{Objects, counted, used};

fn read<T: serde::de::DeserializeOwned>(tree: Value) -> T {
    serde_json::from_value(tree).unwrap()
}

fn pod(spec: Value) -> Arc<Pod> {
    Arc::new(read(json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Running"}})))
}

fn container(requests: Value, limits: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
}

fn check(spec: Value, pods: &[Arc<Pod>], expect: Value) {
    let services = [read::<Arc<Service>>(
        json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
    )];
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}});
    let claims = [read::<Arc<PersistentVolumeClaim>>(claim)];
    let numbers: FxHashMap<Text, i64> =
        [("count/jobs.batch".into(), 4), ("configmaps".into(), 2)].into_iter().collect();
    let quota: ResourceQuota = read(json!({"spec": spec}));
    let objects = Objects { pods, services: &services, claims: &claims, numbers: &numbers };
    let found = used(&quota, &objects, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(json!(found), expect, "{spec}");
}

#[test]
fn amounts() {
    let two =
        || container(json!({"cpu": "100m", "memory": "1Gi"}), json!({"cpu": "1", "example.com/gpu": "2"}));
    let pods = [
        pod(json!({"containers": [two(), two()]})),
        pod(json!({"containers": [two()], "initContainers": [container(json!({"cpu": "1"}), json!({}))]})),
        Arc::new(read(json!({"spec": {"containers": [two()]}, "status": {"phase": "Failed"}}))),
        Arc::new(read(
            json!({"metadata": {"deletionTimestamp": "2025-12-31T23:00:00Z", "deletionGracePeriodSeconds": 30}, "spec": {"containers": [two()]}}),
        )),
    ];
    let hard = |names: &[&str]| json!({"hard": names.iter().map(|name| (name.to_string(), json!("9"))).collect::<serde_json::Map<_, _>>()});
    check(
        hard(&[
            "pods",
            "cpu",
            "requests.cpu",
            "memory",
            "limits.cpu",
            "limits.example.com/gpu",
            "requests.ephemeral-storage",
        ]),
        &pods,
        json!({"cpu": "1200m", "limits.cpu": "3", "limits.example.com/gpu": "6", "memory": "3Gi", "pods": "2", "requests.cpu": "1200m", "requests.ephemeral-storage": "0"}),
    );
    check(
        hard(&[
            "services.nodeports",
            "services.loadbalancers",
            "count/jobs.batch",
            "configmaps",
            "unknown/thing",
        ]),
        &[],
        json!({"services.nodeports": "2", "services.loadbalancers": "1", "count/jobs.batch": "4", "configmaps": "2"}),
    );
    check(
        hard(&[
            "persistentvolumeclaims",
            "requests.storage",
            "fast.storageclass.storage.k8s.io/requests.storage",
            "slow.storageclass.storage.k8s.io/persistentvolumeclaims",
        ]),
        &[],
        json!({"fast.storageclass.storage.k8s.io/requests.storage": "2Gi", "persistentvolumeclaims": "1", "requests.storage": "2Gi", "slow.storageclass.storage.k8s.io/persistentvolumeclaims": "0"}),
    );
}

#[test]
fn scopes() {
    let plain = container(json!({"cpu": "1"}), json!({}));
    let pods = [
        pod(json!({"containers": [plain], "priorityClassName": "high"})),
        pod(json!({"containers": [container(json!({}), json!({}))], "activeDeadlineSeconds": 5})),
        pod(
            json!({"containers": [plain], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}),
        ),
    ];
    let scope = |name: &str| json!({"hard": {"pods": "9"}, "scopes": [name]});
    let selects = |operator: &str, values: Value| {
        json!({"hard": {"pods": "9"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values},
        ]}})
    };
    for (spec, count) in [
        (scope("Terminating"), "1"),
        (scope("NotTerminating"), "2"),
        (scope("BestEffort"), "1"),
        (scope("NotBestEffort"), "2"),
        (scope("CrossNamespacePodAffinity"), "1"),
        (selects("In", json!(["high", "low"])), "1"),
        (selects("NotIn", json!(["high"])), "2"),
        (selects("Exists", json!([])), "1"),
        (selects("DoesNotExist", json!([])), "2"),
    ] {
        check(spec, &pods, json!({"pods": count}));
    }
    check(json!({"hard": {"configmaps": "9"}, "scopes": ["BestEffort"]}), &pods, json!({"configmaps": "0"}));
}

#[test]
fn names_of_what_is_counted() {
    assert_eq!(counted("count/deployments.apps"), Some(("deployments", "apps")));
    assert_eq!(counted("count/widgets.example.com"), Some(("widgets", "example.com")));
    assert_eq!(counted("count/pods"), Some(("pods", "")));
    assert_eq!(counted("secrets"), Some(("secrets", "")));
    assert_eq!(counted("pods"), None);
}
