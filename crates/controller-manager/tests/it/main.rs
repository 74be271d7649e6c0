//! Whole controllers against a small API server whose watches can be kept back.
#![allow(clippy::unwrap_used)]

mod devices;
mod histories;
mod nodes;
mod quotas;
mod storage;
mod worlds;

use std::sync::Arc;

use client::View;
use controller_manager::Options;
use controller_manager::registry::CONTROLLERS;
use controllers::testing::{Cluster, Method};
use controllers::views::{Job, Node, PersistentVolumeClaim, ReplicaSet, StatefulSet};
use controllers::{Context, Error};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Runs a controller until the guard is dropped.
fn run(cluster: &Cluster, name: &str) -> DropGuard {
    let shutdown = CancellationToken::new();
    let context: Context = cluster.context(shutdown.clone()).unwrap();
    let entry = CONTROLLERS.iter().find(|entry| entry.name == name).unwrap();
    // Nothing may have to wait for a round without cause.
    let hour = daemon::flags::Duration::seconds(3600);
    let options = Options { pvclaimbinder_sync_period: hour, ..Options::default() };
    let kinds = context.kinds.clone();
    let running: futures::future::BoxFuture<'static, Result<(), Error>> =
        (entry.run)(context, Arc::new(options));
    tokio::spawn(running);
    let until = shutdown.clone();
    tokio::spawn(async move { kinds.run(until).await });
    shutdown.drop_guard()
}

async fn create<V: View>(cluster: &Cluster, object: Value) {
    cluster.client().unwrap().create::<V>(Some("default"), &object).await.unwrap();
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn end(cluster: &Cluster, pod: &Value, phase: &str) {
    cluster.change("pods", pod["metadata"]["name"].as_str().unwrap(), |pod| {
        pod["status"]["phase"] = phase.into();
    });
}

#[tokio::test]
async fn a_job_whose_own_status_comes_late_runs_no_pod_too_many() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "job-controller");
    create::<Job>(
        &cluster,
        json!({"metadata": {"name": "j"}, "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        }}),
    )
    .await;
    cluster.until("pods", |pods| pods.len() == 1).await;
    cluster.quiet().await;
    cluster.pause("jobs");
    end(&cluster, &cluster.objects("pods")[0], "Succeeded");
    // The status counts the pod, whose finalizer goes: to a cache without that status it would count nowhere.
    cluster.until("pods", |pods| pods[0]["metadata"]["finalizers"] == json!([])).await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("pods").len(), 1);
    cluster.resume("jobs");
    let is_complete = |job: &Value| job["status"]["conditions"].to_string().contains("\"Complete\"");
    cluster.until("jobs", |jobs| is_complete(&jobs[0])).await;
    assert_eq!(cluster.objects("jobs")[0]["status"]["succeeded"], 1);
    assert_eq!(cluster.objects("pods").len(), 1);
}

#[tokio::test]
async fn a_replica_set_that_does_not_see_its_pods_makes_no_more() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "replicaset-controller");
    cluster.pause("pods");
    let selector = json!({"matchLabels": {"app": "a"}});
    let spec = json!({"replicas": 3, "selector": selector, "template": template()});
    create::<ReplicaSet>(&cluster, json!({"metadata": {"name": "r"}, "spec": spec})).await;
    cluster.until("pods", |pods| pods.len() == 3).await;
    for note in 0..3 {
        cluster.change("replicasets", "r", |set| {
            set["metadata"]["annotations"] = json!({"n": note.to_string()})
        });
        cluster.quiet().await;
    }
    assert_eq!(cluster.objects("pods").len(), 3);
    cluster.resume("pods");
    cluster.until("replicasets", |sets| sets[0]["status"]["replicas"] == 3).await;
    // One that comes and goes while nothing is seen is made again.
    cluster.pause("pods");
    let name = cluster.objects("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let pods = client::ResourceRef::of::<controllers::views::Pod>();
    let client = cluster.client().unwrap();
    client.at(&pods).delete(Some("default"), &name, &Default::default()).await.unwrap();
    cluster.resume("pods");
    cluster.until("pods", |pods| pods.len() == 3).await;
}

#[tokio::test]
async fn a_stateful_set_makes_its_pods_one_by_one() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "statefulset-controller");
    let spec = json!({
        "replicas": 3, "serviceName": "s", "podManagementPolicy": "OrderedReady",
        "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
    });
    create::<StatefulSet>(&cluster, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    for count in 1..=3 {
        cluster.until("pods", |pods| pods.len() == count).await;
        cluster.quiet().await;
        assert_eq!(cluster.objects("pods").len(), count, "the one before is not ready");
        let name = format!("web-{}", count - 1);
        cluster.change("pods", &name, |pod| pod["status"] = ready.clone());
    }
    cluster.until("statefulsets", |sets| sets[0]["status"]["readyReplicas"] == 3).await;
    let names: Vec<Value> = cluster
        .objects("persistentvolumeclaims")
        .iter()
        .map(|claim| claim["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["data-web-0", "data-web-1", "data-web-2"]);
    assert_eq!(cluster.objects("controllerrevisions").len(), 1);
}

#[tokio::test]
async fn a_pod_that_waits_for_the_claim_of_an_earlier_one_is_made_when_that_is_gone() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "statefulset-controller");
    let earlier = json!([{"apiVersion": "v1", "kind": "Pod", "name": "my-web-0", "uid": "earlier", "controller": true}]);
    create::<PersistentVolumeClaim>(
        &cluster,
        json!({"metadata": {"name": "the-data-my-web-0", "ownerReferences": earlier}}),
    )
    .await;
    let spec = json!({
        "replicas": 1, "serviceName": "s", "podManagementPolicy": "OrderedReady",
        "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete", "whenDeleted": "Retain"},
        "volumeClaimTemplates": [{"metadata": {"name": "the-data"}}],
    });
    create::<StatefulSet>(&cluster, json!({"metadata": {"name": "my-web"}, "spec": spec})).await;
    cluster.until("statefulsets", |sets| sets.len() == 1 && sets[0]["status"].is_object()).await;
    cluster.quiet().await;
    assert!(cluster.objects("pods").is_empty());
    let client = cluster.client().unwrap();
    let name = "the-data-my-web-0";
    client.delete::<PersistentVolumeClaim>(Some("default"), name, &Default::default()).await.unwrap();
    cluster.until("pods", |pods| pods.len() == 1).await;
    let owners = |claims: &[Value]| claims.len() == 1 && claims[0]["metadata"]["ownerReferences"].is_null();
    cluster.until("persistentvolumeclaims", owners).await;
}

#[tokio::test]
async fn a_job_whose_pod_was_made_without_an_answer_makes_no_other() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "job-controller");
    cluster.pause("pods");
    cluster.lose_answer(Method::POST, "pods");
    create::<Job>(
        &cluster,
        json!({"metadata": {"name": "j"}, "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        }}),
    )
    .await;
    cluster.until("pods", |pods| pods.len() == 1).await;
    cluster.requested("GET /api/v1/namespaces/default/pods").await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("pods").len(), 1);
    cluster.resume("pods");
    cluster.until("jobs", |jobs| jobs[0]["status"]["active"] == 1).await;
    assert_eq!(cluster.objects("pods").len(), 1);
}

#[tokio::test]
async fn nodes_learn_how_long_to_cache() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "ttl-controller");
    cluster.client().unwrap().create::<Node>(None, &json!({"metadata": {"name": "n"}})).await.unwrap();
    let ttl = |nodes: &[Value]| nodes[0]["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0";
    cluster.until("nodes", ttl).await;
}
