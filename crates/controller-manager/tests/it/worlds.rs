//! Small worlds for `histories.rs`: what is asked for, when it is reached, and what must never happen on the way.

use std::collections::BTreeMap;

use controllers::testing::{Cluster, Place};
use serde_json::{Value, json};

use crate::nodes::{has_ended, is_active};

type Objects = BTreeMap<Place, Value>;

pub struct World {
    pub name: &'static str,
    pub controllers: &'static [&'static str],
    /// Resources whose changes may come late.
    pub plurals: &'static [&'static str],
    pub begin: fn(&Cluster),
    /// Changes of what is asked for.
    pub changes: &'static [fn(&Cluster)],
    pub is_reached: fn(&Cluster) -> bool,
    /// What is wrong with a write.
    pub guard: fn(&Objects, &Place, &Value, &str) -> Option<String>,
}

pub static WORLDS: &[World] = &[
    World {
        name: "replica set",
        controllers: &["replicaset-controller"],
        plurals: &["pods", "replicasets"],
        begin: |cluster| cluster.put(REPLICA_SETS, "default", workload("r", json!({"replicas": 3}))),
        changes: &[
            |cluster| scale(cluster, "replicasets", "r", 1),
            |cluster| scale(cluster, "replicasets", "r", 3),
        ],
        is_reached: |cluster| active(cluster) == 3 && status(cluster, "replicasets", "readyReplicas") == 3,
        guard: |objects, place, pod, kind| {
            let is_new = kind == "ADDED" && plural(place) == "pods";
            (is_new && count(objects) > 3)
                .then(|| format!("{} pods with {}", count(objects), pod["metadata"]["name"]))
        },
    },
    World {
        name: "deployment",
        controllers: &["deployment-controller", "replicaset-controller"],
        plurals: &["pods", "replicasets", "deployments"],
        begin: |cluster| {
            let rolling =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
            let spec = json!({"replicas": 3, "strategy": rolling, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10});
            cluster.put(DEPLOYMENTS, "default", workload("d", spec));
        },
        changes: &[|cluster| roll(cluster, "deployments", "d")],
        is_reached: |cluster| {
            active(cluster) == 3
                && status(cluster, "deployments", "readyReplicas") == 3
                && status(cluster, "deployments", "updatedReplicas") == 3
                && cluster.objects("pods").iter().all(|pod| image(&pod["spec"]) == "new")
        },
        guard: |objects, place, object, kind| match (plural(place), kind) {
            ("replicasets", "ADDED" | "MODIFIED") => {
                let sets = of(objects, "replicasets");
                let sum: i64 = sets.map(|set| set["spec"]["replicas"].as_i64().unwrap_or(0)).sum();
                (sum > 4).then(|| format!("replica sets are to have {sum} pods"))
            }
            ("pods", "ADDED") => {
                let owner = &object["metadata"]["ownerReferences"][0]["uid"];
                let own =
                    of(objects, "pods").filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == *owner);
                let own = own.filter(|pod| is_active(pod)).count();
                (own > 3).then(|| format!("{own} pods of one replica set"))
            }
            _ => None,
        },
    },
    World {
        name: "stateful set",
        controllers: &["statefulset-controller"],
        plurals: &["pods", "statefulsets", "controllerrevisions", "persistentvolumeclaims"],
        begin: |cluster| {
            let spec = json!({
                "replicas": 3, "serviceName": "s", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain", "whenDeleted": "Retain"},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            });
            cluster.put(STATEFUL_SETS, "default", workload("s", spec));
        },
        changes: &[|cluster| roll(cluster, "statefulsets", "s")],
        is_reached: |cluster| {
            active(cluster) == 3
                && status(cluster, "statefulsets", "readyReplicas") == 3
                && status(cluster, "statefulsets", "updatedReplicas") == 3
                && cluster.objects("pods").iter().all(|pod| image(&pod["spec"]) == "new")
        },
        guard: |objects, place, pod, kind| {
            if (plural(place), kind) != ("pods", "ADDED") {
                return None;
            }
            // Each waits for those before it.
            let ordinal: usize = place.2.trim_start_matches("s-").parse().unwrap_or(99);
            let others: Vec<&str> =
                of(objects, "pods").filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
            let missing = (0..ordinal).find(|before| !others.contains(&&*format!("s-{before}")));
            match missing {
                _ if ordinal > 2 => Some(format!("{} of three", pod["metadata"]["name"])),
                Some(before) => Some(format!("{} without s-{before}", place.2)),
                None => None,
            }
        },
    },
    World {
        name: "daemon set",
        controllers: &["daemonset-controller"],
        plurals: &["pods", "daemonsets", "nodes", "controllerrevisions"],
        begin: |cluster| {
            for node in ["one", "two"] {
                let ready = json!([{"type": "Ready", "status": "True"}]);
                cluster.put("v1/nodes", "", json!({"metadata": {"name": node, "labels": {"n": node}}, "status": {"conditions": ready}}));
            }
            let rolling =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
            cluster.put(
                DAEMON_SETS,
                "default",
                workload("d", json!({"updateStrategy": rolling, "revisionHistoryLimit": 10})),
            );
        },
        changes: &[|cluster| roll(cluster, "daemonsets", "d")],
        is_reached: |cluster| {
            active(cluster) == 2
                && status(cluster, "daemonsets", "numberReady") == 2
                && status(cluster, "daemonsets", "updatedNumberScheduled") == 2
                && cluster.objects("pods").iter().all(|pod| image(&pod["spec"]) == "new")
        },
        guard: |objects, place, new, kind| {
            if (plural(place), kind) != ("pods", "ADDED") {
                return None;
            }
            let on_node =
                of(objects, "pods").filter(|pod| pod["spec"]["affinity"] == new["spec"]["affinity"]);
            let count = on_node.filter(|pod| is_active(pod)).count();
            (count > 1).then(|| format!("{count} pods on the node of {}", place.2))
        },
    },
    World {
        name: "job",
        controllers: &["job-controller"],
        plurals: &["pods", "jobs"],
        begin: |cluster| {
            let spec = json!({"parallelism": 2, "completions": 3, "backoffLimit": 6, "completionMode": "NonIndexed", "podReplacementPolicy": "TerminatingOrFailed"});
            cluster.put(JOBS, "default", workload("j", spec));
        },
        changes: &[],
        is_reached: |cluster| {
            is_complete(cluster) && status(cluster, "jobs", "succeeded") == 3 && pods_are_free(cluster)
        },
        guard: |objects, place, _, kind| {
            if (plural(place), kind) != ("pods", "ADDED") {
                return None;
            }
            let all = of(objects, "pods").count();
            (count(objects) > 2 || all > 3)
                .then(|| format!("{} pods, {all} with those that ended", count(objects)))
        },
    },
    World {
        name: "indexed job",
        controllers: &["job-controller"],
        plurals: &["pods", "jobs"],
        begin: |cluster| {
            let spec = json!({"parallelism": 2, "completions": 3, "backoffLimit": 6, "completionMode": "Indexed", "podReplacementPolicy": "TerminatingOrFailed"});
            cluster.put(JOBS, "default", workload("j", spec));
        },
        changes: &[],
        is_reached: |cluster| {
            let indexes = &cluster.objects("jobs")[0]["status"]["completedIndexes"];
            is_complete(cluster) && indexes == "0-2" && pods_are_free(cluster)
        },
        guard: |objects, place, new, kind| {
            if (plural(place), kind) != ("pods", "ADDED") {
                return None;
            }
            let index = |pod: &Value| {
                pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].clone()
            };
            let same = of(objects, "pods").filter(|pod| index(pod) == index(new)).count();
            (same > 1 || count(objects) > 2)
                .then(|| format!("{same} pods of index {}, {} in all", index(new), count(objects)))
        },
    },
];

const REPLICA_SETS: &str = "apps/v1/replicasets";
const DEPLOYMENTS: &str = "apps/v1/deployments";
const STATEFUL_SETS: &str = "apps/v1/statefulsets";
const DAEMON_SETS: &str = "apps/v1/daemonsets";
const JOBS: &str = "batch/v1/jobs";

fn workload(name: &str, mut spec: Value) -> Value {
    let is_job = !spec["completions"].is_null();
    let policy = if is_job { "Never" } else { "Always" };
    spec["selector"] = json!({"matchLabels": {"app": "a"}});
    spec["template"] = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "old"}], "restartPolicy": policy},
    });
    json!({"metadata": {"name": name, "generation": 1}, "spec": spec, "status": {}})
}

fn scale(cluster: &Cluster, plural: &str, name: &str, replicas: i64) {
    change(cluster, plural, name, |object| object["spec"]["replicas"] = replicas.into());
}

fn roll(cluster: &Cluster, plural: &str, name: &str) {
    change(cluster, plural, name, |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = "new".into()
    });
}

fn change(cluster: &Cluster, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
    cluster.change(plural, name, |object| {
        change(object);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        object["metadata"]["generation"] = (generation + 1).into();
    });
}

fn plural(place: &Place) -> &str {
    place.0.rsplit('/').next().unwrap_or_default()
}

fn of<'a>(objects: &'a Objects, name: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |(place, _)| plural(place) == name).map(|(_, object)| object)
}

/// Active pods.
fn count(objects: &Objects) -> usize {
    of(objects, "pods").filter(|pod| is_active(pod)).count()
}

fn active(cluster: &Cluster) -> usize {
    let pods = cluster.objects("pods");
    if pods.iter().all(is_active) { pods.len() } else { usize::MAX }
}

fn status(cluster: &Cluster, plural: &str, field: &str) -> i64 {
    let objects = cluster.objects(plural);
    objects.iter().map(|object| object["status"][field].as_i64().unwrap_or(0)).max().unwrap_or(0)
}

fn image(spec: &Value) -> &str {
    spec["containers"][0]["image"].as_str().unwrap_or_default()
}

fn is_complete(cluster: &Cluster) -> bool {
    cluster.objects("jobs")[0]["status"]["conditions"].to_string().contains("\"Complete\"")
}

/// Pods that ended, which their job lets go.
fn pods_are_free(cluster: &Cluster) -> bool {
    let is_free = |pod: &Value| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    cluster.objects("pods").iter().all(|pod| has_ended(pod) && is_free(pod))
}
