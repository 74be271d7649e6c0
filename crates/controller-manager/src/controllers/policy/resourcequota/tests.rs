use std::sync::Arc;

use client::Text;
use controllers::views::{DeviceClass, PersistentVolumeClaim, Pod, ResourceClaim, ResourceQuota, Service};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::usage::{Objects, by_number, level, used, written};

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
    let classes: [Arc<DeviceClass>; 1] =
        [read(json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}))];
    let device_claims: [Arc<ResourceClaim>; 1] =
        [read(json!({"metadata": {"name": "r"}, "spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3}},
        {"name": "b", "firstAvailable": [{"deviceClassName": "nic", "allocationMode": "All"}]}]}}}))];
    let objects = Objects {
        pods,
        services: &services,
        volume_claims: &claims,
        device_claims: &device_claims,
        classes: &classes,
        numbers: &numbers,
    };
    let found = used(&quota, &objects, "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(json!(written(&found)), expect, "{spec}");
}

#[test]
fn amounts() {
    let two = || {
        container(
            json!({"cpu": "100m", "memory": "1Gi", "example.com/fpga": "2"}),
            json!({"cpu": "1", "example.com/fpga": "2"}),
        )
    };
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
            "limits.example.com/fpga",
            "requests.example.com/fpga",
            "requests.ephemeral-storage",
            "count/pods",
        ]),
        &pods,
        json!({"cpu": "1200m", "count/pods": "4", "limits.cpu": "3", "requests.example.com/fpga": "6", "memory": "3Gi", "pods": "2", "requests.cpu": "1200m", "requests.ephemeral-storage": "0"}),
    );
    check(
        hard(&[
            "services",
            "services.nodeports",
            "services.loadbalancers",
            "count/jobs.batch",
            "configmaps",
            "unknown/thing",
        ]),
        &[],
        json!({"services": "1", "services.nodeports": "2", "services.loadbalancers": "1", "count/jobs.batch": "4", "configmaps": "2"}),
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
fn devices() {
    check(
        json!({"hard": {
            "count/resourceclaims.resource.k8s.io": "9",
            "gpu.deviceclass.resource.k8s.io/devices": "9",
            "nic.deviceclass.resource.k8s.io/devices": "9",
            "requests.example.com/gpu": "9",
            "requests.deviceclass.resource.kubernetes.io/gpu": "9",
        }}),
        &[],
        json!({
            "count/resourceclaims.resource.k8s.io": "1",
            "gpu.deviceclass.resource.k8s.io/devices": "3",
            "nic.deviceclass.resource.k8s.io/devices": "32",
            "requests.example.com/gpu": "3",
            "requests.deviceclass.resource.kubernetes.io/gpu": "3",
        }),
    );
}

#[test]
fn less_is_said_only_of_what_has_settled() {
    let check = |known: Value, counted: &str, settled: Option<&str>, expect: (&str, bool)| {
        let quota: ResourceQuota =
            read(json!({"spec": {"hard": {"pods": "9"}}, "status": {"hard": {"pods": "9"}, "used": known}}));
        let counted = [("pods".to_owned(), counted.parse().unwrap())].into();
        let settled = settled.map(|text| [("pods".into(), text.into())].into());
        let level = level(&quota, &counted, settled.as_ref());
        assert_eq!((json!(written(&level.used))["pods"].as_str().unwrap(), level.again), expect);
    };
    let known = json!({"pods": "7"});
    check(known.clone(), "5", None, ("7", true));
    check(known.clone(), "5", Some("7"), ("5", false));
    // two were charged meanwhile, which may be counted or not
    check(known.clone(), "3", Some("5"), ("5", true));
    check(known.clone(), "6", Some("5"), ("7", true));
    check(known.clone(), "7", None, ("7", false));
    check(known.clone(), "8", None, ("8", false));
    check(json!({}), "8", None, ("8", true));
}

#[test]
fn names_of_what_is_counted() {
    assert_eq!(by_number("count/deployments.apps"), Some(("deployments", "apps")));
    assert_eq!(by_number("count/widgets.example.com"), Some(("widgets", "example.com")));
    assert_eq!(by_number("count/pods"), None);
    assert_eq!(by_number("secrets"), Some(("secrets", "")));
    assert_eq!(by_number("pods"), None);
}
