//! Volumes that are attached to nodes.

use super::*;

async fn create_node(cluster: &Cluster, name: &str) {
    let annotations = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let node = json!({"metadata": {"name": name, "annotations": annotations}, "status": ready});
    cluster.client().unwrap().create::<Node>(None, &node).await.unwrap();
}

async fn create_user(cluster: &Cluster, name: &str, node: &str) {
    let spec =
        json!({"nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    create::<Pod>(cluster, json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}}))
        .await;
}

fn attached(node: &Value) -> usize {
    node["status"]["volumesAttached"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn a_volume_is_attached_for_its_pods_and_follows_them() {
    const NAME: &str = "kubernetes.io/csi/csi.example.com^h";
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-attach-detach-controller");
    create_claim(&cluster, "c", "").await;
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    let bound = json!({"spec": {"claimRef": {"namespace": "default", "name": "c", "uid": uid},
        "csi": {"driver": "csi.example.com", "volumeHandle": "h"}}});
    create_volume(&cluster, "v", "Retain", bound).await;
    for node in ["a", "b"] {
        create_node(&cluster, node).await;
    }
    create_user(&cluster, "p", "a").await;
    cluster.quiet().await;
    assert!(cluster.objects("volumeattachments").is_empty(), "its claim is not bound yet");
    cluster.change("persistentvolumeclaims", "c", |claim| {
        claim["spec"]["volumeName"] = "v".into();
        claim["status"]["phase"] = "Bound".into();
    });
    let on = |node: &'static str| move |all: &[Value]| all.len() == 1 && all[0]["spec"]["nodeName"] == node;
    cluster.until("volumeattachments", on("a")).await;
    let attach = || {
        let name = cluster.objects("volumeattachments")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.change("volumeattachments", &name, |own| own["status"] = json!({"attached": true}));
    };
    attach();
    cluster.until("nodes", |nodes| attached(&nodes[0]) == 1).await;
    assert_eq!(
        cluster.objects("nodes")[0]["status"]["volumesAttached"],
        json!([{"name": NAME, "devicePath": ""}])
    );
    let reason =
        |reason: &'static str| move |all: &[Value]| all.iter().any(|event| event["reason"] == reason);
    cluster.until("events", reason("SuccessfulAttachVolume")).await;
    cluster.change("nodes", "a", |node| node["status"]["volumesInUse"] = json!([NAME]));

    // Another node has to wait until the first releases it.
    create_user(&cluster, "q", "b").await;
    cluster.until("events", reason("FailedAttachVolume")).await;
    let client = cluster.client().unwrap();
    client.delete::<Pod>(Some("default"), "p", &Default::default()).await.unwrap();
    cluster.quiet().await;
    assert!(on("a")(&cluster.objects("volumeattachments")) && attached(&cluster.objects("nodes")[0]) == 1);
    cluster.change("nodes", "a", |node| node["status"]["volumesInUse"] = json!([]));
    cluster.until("volumeattachments", on("b")).await;
    assert_eq!(attached(&cluster.objects("nodes")[0]), 0);
    attach();
    cluster.until("nodes", |nodes| attached(&nodes[1]) == 1).await;
    let patch = cluster.writes().iter().rposition(|write| write.starts_with("PATCH /api/v1/nodes/a/status"));
    let delete = cluster
        .writes()
        .iter()
        .position(|write| write.starts_with("DELETE /apis/storage.k8s.io/v1/volumeattachments"));
    assert!(patch < delete, "{:?}", cluster.writes());

    // A node that is out of service keeps nothing.
    cluster.change("nodes", "b", |node| node["status"]["volumesInUse"] = json!([NAME]));
    client.delete::<Pod>(Some("default"), "q", &Default::default()).await.unwrap();
    cluster.quiet().await;
    assert_eq!(cluster.objects("volumeattachments").len(), 1);
    cluster.change("nodes", "b", |node| {
        node["spec"]["taints"] = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
    });
    cluster.until("volumeattachments", <[Value]>::is_empty).await;
}

#[tokio::test]
async fn a_driver_that_attaches_nothing_gets_no_attachments() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-attach-detach-controller");
    let driver = json!({"metadata": {"name": "csi.example.com"}, "spec": {"attachRequired": false}});
    cluster.client().unwrap().create::<CsiDriver>(None, &driver).await.unwrap();
    create_claim(&cluster, "c", "").await;
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    let bound = json!({"spec": {"claimRef": {"namespace": "default", "name": "c", "uid": uid},
        "csi": {"driver": "csi.example.com", "volumeHandle": "h"}}});
    create_volume(&cluster, "v", "Retain", bound).await;
    create_node(&cluster, "a").await;
    create_user(&cluster, "p", "a").await;
    cluster.change("persistentvolumeclaims", "c", |claim| {
        claim["spec"]["volumeName"] = "v".into();
        claim["status"]["phase"] = "Bound".into();
    });
    cluster.quiet().await;
    assert!(cluster.objects("volumeattachments").is_empty());
    cluster
        .change("csidrivers", "csi.example.com", |driver| driver["spec"] = json!({"attachRequired": true}));
    cluster.until("volumeattachments", |all| all.len() == 1).await;
}

const ATTACHER: &str = "persistentvolume-attach-detach-controller";

/// A claim and its volume, which is of a driver.
async fn create_bound(cluster: &Cluster, claim: &str, volume: &str, handle: &str) {
    create_claim(cluster, claim, "").await;
    let claims = cluster.objects("persistentvolumeclaims");
    let of_name = |own: &&Value| own["metadata"]["name"] == claim;
    let uid = claims.iter().find(of_name).unwrap()["metadata"]["uid"].clone();
    let bound = json!({"spec": {"claimRef": {"namespace": "default", "name": claim, "uid": uid},
        "csi": {"driver": "csi.example.com", "volumeHandle": handle}}});
    create_volume(cluster, volume, "Retain", bound).await;
    cluster.change("persistentvolumeclaims", claim, |claim| {
        claim["spec"]["volumeName"] = volume.into();
        claim["status"]["phase"] = "Bound".into();
    });
}

async fn create_user_of(cluster: &Cluster, name: &str, node: &str, volume: Value) {
    let spec = json!({"nodeName": node, "volumes": [volume]});
    create::<Pod>(cluster, json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}}))
        .await;
}

fn of_claim(name: &str) -> Value {
    json!({"name": "v", "persistentVolumeClaim": {"claimName": name}})
}

async fn delete_pod(cluster: &Cluster, name: &str) {
    cluster.client().unwrap().delete::<Pod>(Some("default"), name, &Default::default()).await.unwrap();
}

/// What attachers do.
async fn attach_all(cluster: &Cluster, count: usize) {
    cluster.until("volumeattachments", |all| all.len() == count).await;
    for own in cluster.objects("volumeattachments") {
        let name = own["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.change("volumeattachments", &name, |own| own["status"] = json!({"attached": true}));
    }
}

#[tokio::test]
async fn a_volume_for_one_node_is_attached_to_one_of_two() {
    let cluster = Cluster::start().await.unwrap();
    for node in ["a", "b"] {
        create_node(&cluster, node).await;
    }
    create_bound(&cluster, "c", "v", "h").await;
    create_user(&cluster, "p", "a").await;
    create_user(&cluster, "q", "b").await;
    let _running = run(&cluster, ATTACHER);
    let is_blocked = |events: &[Value]| {
        events.iter().any(|event| {
            event["message"].as_str().is_some_and(|text| text.starts_with("Waiting for detach for volume"))
        })
    };
    cluster.until("events", is_blocked).await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("volumeattachments").len(), 1);
}

#[tokio::test]
async fn volumes_that_others_attached_stay_listed() {
    let cluster = Cluster::start().await.unwrap();
    create_node(&cluster, "a").await;
    let other = json!({"name": "kubernetes.io/csi/ebs.csi.aws.com^vol-1", "devicePath": "/dev/x"});
    cluster.change("nodes", "a", |node| node["status"]["volumesAttached"] = json!([other]));
    create_bound(&cluster, "c", "v", "h").await;
    create_user(&cluster, "p", "a").await;
    create_claim(&cluster, "d", "").await;
    let uid = cluster.objects("persistentvolumeclaims")[1]["metadata"]["uid"].clone();
    let migrated = json!({"spec": {"claimRef": {"namespace": "default", "name": "d", "uid": uid},
        "awsElasticBlockStore": {"volumeID": "vol-2"}}});
    create_volume(&cluster, "w", "Retain", migrated).await;
    cluster.change("persistentvolumeclaims", "d", |claim| {
        claim["spec"]["volumeName"] = "w".into();
        claim["status"]["phase"] = "Bound".into();
    });
    create_user_of(&cluster, "q", "a", of_claim("d")).await;
    let _running = run(&cluster, ATTACHER);
    attach_all(&cluster, 1).await;
    cluster.until("nodes", |nodes| attached(&nodes[0]) == 2).await;
    assert_eq!(cluster.objects("nodes")[0]["status"]["volumesAttached"][0], other);
    let is_reported = |events: &[Value]| {
        let of_it =
            |event: &Value| event["message"].as_str().is_some_and(|text| text.contains("ebs.csi.aws.com"));
        events.iter().any(|event| event["reason"] == "FailedAttachVolume" && of_it(event))
    };
    cluster.until("events", is_reported).await;
    delete_pod(&cluster, "p").await;
    cluster.until("volumeattachments", <[Value]>::is_empty).await;
    assert_eq!(cluster.objects("nodes")[0]["status"]["volumesAttached"], json!([other]));
}

#[tokio::test]
async fn a_volume_that_is_mounted_outlasts_its_node() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, ATTACHER);
    for (node, claim, volume, pod) in [("a", "c", "v", "p"), ("b", "d", "w", "q")] {
        create_node(&cluster, node).await;
        create_bound(&cluster, claim, volume, volume).await;
        create_user_of(&cluster, pod, node, of_claim(claim)).await;
    }
    attach_all(&cluster, 2).await;
    cluster.until("nodes", |nodes| nodes.iter().all(|node| attached(node) == 1)).await;
    cluster.change("nodes", "a", |node| {
        node["status"]["volumesInUse"] = json!(["kubernetes.io/csi/csi.example.com^v"]);
    });
    cluster.quiet().await;
    let client = cluster.client().unwrap();
    for (node, pod) in [("a", "p"), ("b", "q")] {
        client.delete::<Node>(None, node, &Default::default()).await.unwrap();
        delete_pod(&cluster, pod).await;
    }
    cluster.until("volumeattachments", |all| all.len() == 1).await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("volumeattachments")[0]["spec"]["nodeName"], "a");
}

#[tokio::test]
async fn two_volumes_with_one_handle_are_attached_as_one() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, ATTACHER);
    create_node(&cluster, "a").await;
    for (claim, volume, pod) in [("c", "v", "p"), ("d", "w", "q")] {
        create_bound(&cluster, claim, volume, "h").await;
        create_user_of(&cluster, pod, "a", of_claim(claim)).await;
    }
    attach_all(&cluster, 1).await;
    cluster.until("nodes", |nodes| attached(&nodes[0]) == 1).await;
    delete_pod(&cluster, "p").await;
    cluster.quiet().await;
    assert_eq!((cluster.objects("volumeattachments").len(), attached(&cluster.objects("nodes")[0])), (1, 1));
    delete_pod(&cluster, "q").await;
    cluster.until("volumeattachments", <[Value]>::is_empty).await;
    assert_eq!(attached(&cluster.objects("nodes")[0]), 0);
}

#[tokio::test]
async fn a_volume_whose_object_is_gone_is_detached_when_nothing_uses_it() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, ATTACHER);
    create_node(&cluster, "a").await;
    create_bound(&cluster, "c", "v", "h").await;
    create_user(&cluster, "p", "a").await;
    attach_all(&cluster, 1).await;
    cluster.until("nodes", |nodes| attached(&nodes[0]) == 1).await;
    let mounted = json!(["kubernetes.io/csi/csi.example.com^h"]);
    cluster.change("nodes", "a", |node| node["status"]["volumesInUse"] = mounted);
    let other = json!({"metadata": {"name": "other"}, "spec": {"attacher": "csi.example.com",
        "nodeName": "a", "source": {"persistentVolumeName": "none"}}});
    let client = cluster.client().unwrap();
    client.create::<VolumeAttachment>(None, &other).await.unwrap();
    client.delete::<PersistentVolume>(None, "v", &Default::default()).await.unwrap();
    cluster.quiet().await;
    delete_pod(&cluster, "p").await;
    cluster.quiet().await;
    assert_eq!((cluster.objects("volumeattachments").len(), attached(&cluster.objects("nodes")[0])), (2, 1));
    cluster.change("nodes", "a", |node| node["status"]["volumesInUse"] = json!([]));
    cluster.until("volumeattachments", |all| all.len() == 1 && all[0]["metadata"]["name"] == "other").await;
    assert_eq!(attached(&cluster.objects("nodes")[0]), 0);
}

#[tokio::test]
async fn an_ephemeral_claim_that_is_not_the_pods_is_not_attached_for_it() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, ATTACHER);
    create_node(&cluster, "a").await;
    let ephemeral = json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {}}});
    create_bound(&cluster, "p-data", "v", "h").await;
    create_user_of(&cluster, "p", "a", ephemeral).await;
    cluster.quiet().await;
    assert!(cluster.objects("volumeattachments").is_empty());
}
