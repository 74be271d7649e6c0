//! What nodes do for the worlds of `histories.rs`: pods begin, end, and are let go.

use controllers::testing::Cluster;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::histories::name;

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|own| own["type"] == "Ready" && own["status"] == "True")
}

pub fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

pub fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !has_ended(pod)
}

/// Whether the pod's containers come to an end by themselves.
fn ends(pod: &Value) -> bool {
    pod["spec"]["restartPolicy"] == "Never"
}

/// The next thing that happens to a pod on its node; false if nothing does.
fn advance(cluster: &Cluster, pod: &Value) -> bool {
    let released = pod["metadata"]["deletionGracePeriodSeconds"] == 0;
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        if !released {
            cluster.remove("pods", name(pod));
        }
        return !released;
    }
    if has_ended(pod) {
        return false;
    }
    let ready =
        |yes: &str| json!([{"type": "Ready", "status": yes, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let change = if !is_ready(pod) {
        json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": ready("True")})
    } else if ends(pod) {
        json!({"phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z", "conditions": ready("False")})
    } else {
        return false;
    };
    cluster.change("pods", name(pod), |pod| pod["status"] = change);
    true
}

/// One thing happens.
pub fn work_one(cluster: &Cluster, rng: &mut StdRng) {
    if let Some(pod) = cluster.objects("pods").choose(rng) {
        advance(cluster, pod);
    }
}

/// Something happens to every pod.
pub fn work(cluster: &Cluster) {
    for pod in cluster.objects("pods") {
        advance(cluster, &pod);
    }
}

pub fn summary(cluster: &Cluster) -> String {
    let pods = cluster.objects("pods");
    let pod = |pod: &Value| {
        let state = (is_ready(pod), pod["status"]["phase"].as_str(), is_active(pod));
        format!("{} {state:?} {}", name(pod), pod["metadata"]["finalizers"])
    };
    let pods: Vec<String> = pods.iter().map(pod).collect();
    let kinds = ["replicasets", "deployments", "statefulsets", "daemonsets", "jobs"];
    let owners: Vec<String> = kinds
        .iter()
        .flat_map(|kind| cluster.objects(kind))
        .map(|own| format!("{} {} {}", name(&own), own["spec"]["replicas"], own["status"]))
        .collect();
    format!("pods {pods:#?}\nowners {owners:#?}")
}
