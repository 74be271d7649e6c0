//! The objects of the benches.

use anyhow::Result;
use client::{Client, Patch, Request};
use http::Method;
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use serde_json::{Value, json};

use crate::load;

/// A namespace in which pods can be created though no controller runs.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let named = |kind, name| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    client.create::<Namespace>(None, &named("Namespace", name)).await?;
    match client.create::<ServiceAccount>(Some(name), &named("ServiceAccount", "default")).await {
        Err(error) if !error.is_already_exists() => Err(error.into()),
        _ => Ok(()),
    }
}

/// A pod of 2.8 KB as a Deployment's would be, on a node or still without one.
pub fn pod(name: &str, app: usize, node: Option<usize>) -> Value {
    let container = |name: &str| {
        let environment: Vec<Value> = (0..8)
            .map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("value-of-the-setting-number-{i}")}))
            .collect();
        json!({
            "name": name,
            "image": format!("registry.example.com/team/{name}:v1.27.3"),
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/server", "--listen=:8080", "--config=/etc/server/config.yaml"],
            "env": environment,
            "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
            "livenessProbe": {"httpGet": {"path": "/live", "port": 8080}, "initialDelaySeconds": 10},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/server"}, {"name": "data", "mountPath": "/data"}],
        })
    };
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": format!("app-{app}"), "tier": "backend", "pod-template-hash": "6d4cf56db6"},
            "annotations": {
                "example.com/checksum": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "prometheus.io/port": "9090",
                "prometheus.io/scrape": "true",
            },
        },
        "spec": {
            "containers": [container("server"), container("sidecar")],
            "volumes": [{"name": "config", "configMap": {"name": "server"}}, {"name": "data", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 30,
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node_name(node).into();
    }
    pod
}

/// A status as a kubelet would report it; `version` makes it differ from the one before.
pub fn status(version: usize) -> Value {
    let time = "2026-01-02T03:04:05Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time, "message": format!("{version}")});
    let container = |name: &str| {
        json!({
            "name": name, "ready": true, "started": true, "restartCount": version,
            "image": format!("registry.example.com/team/{name}:v1.27.3"), "imageID": "sha256:9f86d081884c7d65",
            "containerID": "containerd://5feceb66ffc86f38d952786c6d696c79", "state": {"running": {"startedAt": time}},
        })
    };
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    let containers = ["server", "sidecar"].map(container);
    json!({
        "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}], "startTime": time,
        "conditions": conditions,
        "containerStatuses": containers,
    })
}

pub fn pods_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

pub fn post(path: &str, object: &Value) -> client::Result<Request> {
    Request::new(Method::POST, path).json(object)
}

/// Creates pods, spread evenly over the nodes, ten with the same label.
pub async fn placed_pods(clients: &[Client], namespace: &str, count: usize, nodes: usize) -> Result<()> {
    let path = pods_path(namespace);
    load::send(clients, count, move |i| post(&path, &pod(&format!("pod-{i}"), i / 10, Some(i % nodes)))).await
}

/// Deletes all pods of a namespace at once.
pub async fn delete_pods(client: &Client, namespace: &str) -> Result<()> {
    let path = format!("{}?gracePeriodSeconds=0", pods_path(namespace));
    client.bytes(Request::new(Method::DELETE, path).timeout(std::time::Duration::from_secs(120))).await?;
    Ok(())
}

pub fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// Ready nodes without anybody behind them.
pub async fn nodes(clients: &[Client], count: usize) -> Result<()> {
    let capacity = json!({"cpu": "32", "memory": "128Gi", "pods": "250", "ephemeral-storage": "200Gi"});
    let labels = |i: usize| {
        json!({"kubernetes.io/hostname": node_name(i), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
               "topology.kubernetes.io/zone": format!("zone-{}", i % 3)})
    };
    let node = move |i: usize| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node_name(i), "labels": labels(i)},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": format!("10.0.{}.{}", i / 250, i % 250 + 1)}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.37.1",
                    "kernelVersion": "6.1", "osImage": "Debian", "containerRuntimeVersion": "containerd://2.0",
                    "bootID": "", "machineID": "", "systemUUID": "", "kubeProxyVersion": ""},
            },
        })
    };
    load::send(clients, count, move |i| post("/api/v1/nodes", &node(i))).await?;
    // Admission taints new nodes until their controller, which does not run here, finds them ready.
    for i in 0..count {
        client_untaint(&clients[i % clients.len()], &node_name(i)).await?;
    }
    Ok(())
}

async fn client_untaint(client: &Client, name: &str) -> Result<()> {
    client.patch::<Node>(None, name, None, Patch::Merge(json!({"spec": {"taints": null}}))).await?;
    Ok(())
}
