//! Claims and volumes.

use controllers::testing::Cluster;
use controllers::views::{
    CsiDriver, Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass, VolumeAttachment,
};
use serde_json::{Value, json};

use crate::{create, run};

mod attachments;

async fn create_volume(cluster: &Cluster, name: &str, policy: &str, more: Value) {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": policy},
        "status": {"phase": "Pending"},
    });
    json_patch::merge(&mut volume, &more);
    cluster.client().unwrap().create::<PersistentVolume>(None, &volume).await.unwrap();
}

async fn create_claim(cluster: &Cluster, name: &str, class: &str) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}});
    create::<PersistentVolumeClaim>(cluster, claim).await;
}

async fn create_class(cluster: &Cluster, name: &str, mode: &str) {
    let class =
        json!({"metadata": {"name": name}, "provisioner": "csi.example.com", "volumeBindingMode": mode});
    cluster.client().unwrap().create::<StorageClass>(None, &class).await.unwrap();
}

async fn delete_claim(cluster: &Cluster, name: &str) {
    let client = cluster.client().unwrap();
    client.delete::<PersistentVolumeClaim>(Some("default"), name, &Default::default()).await.unwrap();
}

fn all_in(phase: &str, objects: &[Value]) -> bool {
    !objects.is_empty() && objects.iter().all(|object| object["status"]["phase"] == phase)
}

async fn until_phase(cluster: &Cluster, plural: &str, phase: &str) {
    cluster.until(plural, |objects| all_in(phase, objects)).await;
}

#[tokio::test]
async fn a_claim_is_bound_to_a_volume_which_is_released_with_it() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    create_volume(&cluster, "v", "Retain", json!({})).await;
    until_phase(&cluster, "persistentvolumes", "Available").await;
    create_claim(&cluster, "c", "").await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    let (volume, claim) =
        (&cluster.objects("persistentvolumes")[0], &cluster.objects("persistentvolumeclaims")[0]);
    assert_eq!(volume["status"]["phase"], "Bound");
    let reference = &volume["spec"]["claimRef"];
    assert_eq!((&reference["name"], &reference["uid"]), (&"c".into(), &claim["metadata"]["uid"]));
    assert_eq!(
        (&reference["kind"], &reference["apiVersion"]),
        (&"PersistentVolumeClaim".into(), &"v1".into())
    );
    assert_eq!(volume["metadata"]["annotations"], json!({"pv.kubernetes.io/bound-by-controller": "yes"}));
    assert_eq!(claim["spec"]["volumeName"], "v");
    let annotations =
        json!({"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"});
    assert_eq!(claim["metadata"]["annotations"], annotations);
    assert_eq!(
        claim["status"],
        json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}})
    );
    cluster.quiet().await;
    let writes = cluster.writes().len();
    cluster.quiet().await;
    assert_eq!(cluster.writes().len(), writes);
    delete_claim(&cluster, "c").await;
    until_phase(&cluster, "persistentvolumes", "Released").await;
    // Another claim of that name does not get the data.
    create_claim(&cluster, "c", "").await;
    cluster.quiet().await;
    until_phase(&cluster, "persistentvolumes", "Released").await;
}

#[tokio::test]
async fn claims_take_volumes_of_their_own_when_the_cache_is_behind() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    for name in ["v", "w"] {
        create_volume(&cluster, name, "Retain", json!({})).await;
    }
    until_phase(&cluster, "persistentvolumes", "Available").await;
    cluster.quiet().await;
    cluster.pause("persistentvolumes");
    for name in ["c", "d"] {
        create_claim(&cluster, name, "").await;
    }
    until_phase(&cluster, "persistentvolumes", "Bound").await;
    assert_eq!(
        cluster.writes().iter().filter(|write| *write == "PUT /api/v1/persistentvolumes/v").count(),
        1
    );
    cluster.resume("persistentvolumes");
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    let names: Vec<Value> = cluster
        .objects("persistentvolumes")
        .iter()
        .map(|volume| volume["spec"]["claimRef"]["name"].clone())
        .collect();
    assert!(names.contains(&"c".into()) && names.contains(&"d".into()), "{names:?}");
}

#[tokio::test]
async fn a_driver_is_asked_for_a_volume_and_its_volume_is_bound() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    create_claim(&cluster, "c", "fast").await;
    let provisioner = |claims: &[Value]| {
        claims[0]["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "csi.example.com"
    };
    cluster
        .until("events", |events| events.iter().any(|event| event["reason"] == "ProvisioningFailed"))
        .await;
    create_class(&cluster, "fast", "Immediate").await;
    cluster.until("persistentvolumeclaims", provisioner).await;
    cluster
        .until("events", |events| events.iter().any(|event| event["reason"] == "ExternalProvisioning"))
        .await;
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    let provisioned = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "csi.example.com"}},
        "spec": {"storageClassName": "fast", "csi": {"driver": "csi.example.com", "volumeHandle": "h"},
            "claimRef": {"namespace": "default", "name": "c", "uid": uid}},
    });
    create_volume(&cluster, "pvc-1", "Delete", provisioned).await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    until_phase(&cluster, "persistentvolumes", "Bound").await;
    let annotations = &cluster.objects("persistentvolumes")[0]["metadata"]["annotations"];
    assert_eq!(*annotations, json!({"pv.kubernetes.io/provisioned-by": "csi.example.com"}));
    delete_claim(&cluster, "c").await;
    until_phase(&cluster, "persistentvolumes", "Released").await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("persistentvolumes").len(), 1, "its driver deletes it");
}

#[tokio::test]
async fn a_claim_waits_for_its_first_consumer() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    create_class(&cluster, "late", "WaitForFirstConsumer").await;
    create_volume(&cluster, "v", "Retain", json!({"spec": {"storageClassName": "late"}})).await;
    until_phase(&cluster, "persistentvolumes", "Available").await;
    create_claim(&cluster, "c", "late").await;
    cluster
        .until("events", |events| events.iter().any(|event| event["reason"] == "WaitForFirstConsumer"))
        .await;
    until_phase(&cluster, "persistentvolumeclaims", "Pending").await;
    // The scheduler reserves the volume.
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    cluster.change("persistentvolumes", "v", |volume| {
        volume["spec"]["claimRef"] = json!({"namespace": "default", "name": "c", "uid": uid});
        volume["metadata"]["annotations"] = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
    });
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    until_phase(&cluster, "persistentvolumes", "Bound").await;
}

#[tokio::test]
async fn a_volume_that_is_lost_is_reported() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    create_volume(&cluster, "v", "Retain", json!({})).await;
    create_claim(&cluster, "c", "").await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    let client = cluster.client().unwrap();
    client.delete::<PersistentVolume>(None, "v", &Default::default()).await.unwrap();
    until_phase(&cluster, "persistentvolumeclaims", "Lost").await;
    cluster.until("events", |events| events.iter().any(|event| event["reason"] == "ClaimLost")).await;
}

#[tokio::test]
async fn volumes_are_deleted_by_policy_where_that_can_be_done() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    let folder = format!("/tmp/volume-{}", std::process::id());
    std::fs::create_dir_all(format!("{folder}/data")).unwrap();
    create_volume(&cluster, "v", "Delete", json!({"spec": {"hostPath": {"path": folder}}})).await;
    create_claim(&cluster, "c", "").await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    delete_claim(&cluster, "c").await;
    cluster.until("persistentvolumes", <[Value]>::is_empty).await;
    assert!(!std::path::Path::new(&folder).exists());
    create_volume(&cluster, "w", "Recycle", json!({"spec": {"hostPath": {"path": "/x"}}})).await;
    create_claim(&cluster, "d", "").await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    delete_claim(&cluster, "d").await;
    until_phase(&cluster, "persistentvolumes", "Failed").await;
}

#[tokio::test]
async fn a_volume_that_was_made_for_a_claim_which_has_another_is_deleted() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-binder-controller");
    create_volume(&cluster, "v", "Retain", json!({})).await;
    create_claim(&cluster, "c", "").await;
    until_phase(&cluster, "persistentvolumeclaims", "Bound").await;
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    let folder = format!("/tmp/spare-volume-{}", std::process::id());
    std::fs::create_dir_all(&folder).unwrap();
    let spare = json!({
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "kubernetes.io/host-path"}},
        "spec": {"hostPath": {"path": folder}, "claimRef": {"namespace": "default", "name": "c", "uid": uid}},
    });
    create_volume(&cluster, "w", "Delete", spare).await;
    cluster.until("persistentvolumes", |all| all.len() == 1).await;
    assert_eq!(cluster.objects("persistentvolumes")[0]["metadata"]["name"], "v");
    assert!(!std::path::Path::new(&folder).exists());
}

#[tokio::test]
async fn a_claim_that_grows_waits_for_its_driver() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "persistentvolume-expander-controller");
    create_claim(&cluster, "c", "").await;
    let uid = cluster.objects("persistentvolumeclaims")[0]["metadata"]["uid"].clone();
    let bound = json!({"spec": {"claimRef": {"namespace": "default", "name": "c", "uid": uid}, "azureDisk": {"diskName": "x"}}});
    create_volume(&cluster, "v", "Retain", bound).await;
    cluster.change("persistentvolumeclaims", "c", |claim| {
        claim["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        claim["spec"]["volumeName"] = "v".into();
    });
    cluster.quiet().await;
    assert!(cluster.objects("events").is_empty());
    cluster.change("persistentvolumeclaims", "c", |claim| {
        claim["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    });
    cluster.until("events", |events| events.iter().any(|event| event["reason"] == "ExternalExpanding")).await;
    let resizer = |claims: &[Value]| {
        claims[0]["metadata"]["annotations"]["volume.kubernetes.io/storage-resizer"] == "disk.csi.azure.com"
    };
    cluster.until("persistentvolumeclaims", resizer).await;
}
