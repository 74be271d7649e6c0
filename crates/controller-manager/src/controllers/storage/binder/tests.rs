use std::sync::Arc;

use controllers::views::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use serde_json::{Value, json};

use super::migrated;
use super::plan::{Facts, ForClaim, ForVolume, for_claim, for_volume};
use super::reclaim::{Reclaim, reclaim};

#[derive(Default)]
struct Cluster {
    volumes: Vec<Arc<PersistentVolume>>,
    classes: Vec<Arc<StorageClass>>,
    pods: Vec<String>,
}

impl Facts for Cluster {
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.metadata.name == name).cloned()
    }

    fn candidates(&self, _: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>> {
        self.volumes.clone()
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.iter().find(|class| class.metadata.name == name).cloned()
    }

    fn default_class(&self) -> Option<String> {
        let default = self.classes.iter().find(|class| class.is_default());
        default.map(|class| class.metadata.name.clone())
    }

    fn waiting_pods(&self, _: &PersistentVolumeClaim) -> Vec<String> {
        self.pods.clone()
    }

    fn provisions(&self) -> bool {
        true
    }
}

fn merged(mut base: Value, more: &Value) -> Value {
    json_patch::merge(&mut base, more);
    base
}

fn volume(name: &str, more: Value) -> Arc<PersistentVolume> {
    let base = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
        "status": {"phase": "Available"},
    });
    Arc::new(serde_json::from_value(merged(base, &more)).unwrap())
}

fn claim(more: Value) -> PersistentVolumeClaim {
    let base = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "own"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "", "volumeMode": "Filesystem"},
    });
    serde_json::from_value(merged(base, &more)).unwrap()
}

fn class(name: &str, provisioner: &str, mode: &str) -> Arc<StorageClass> {
    let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(class).unwrap())
}

fn reference(name: &str, uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": "d", "name": name, "uid": uid}}})
}

/// In short what is done: a word, and the volume, event or message.
fn outcome(claim: &PersistentVolumeClaim, cluster: &Cluster) -> String {
    match for_claim(claim, cluster) {
        Ok(ForClaim::Bind(volume)) => format!("bind {}", volume.metadata.name),
        Ok(ForClaim::Wait(None)) => "wait".to_owned(),
        Ok(ForClaim::Wait(Some(report))) => format!("wait, {}: {}", report.reason, report.message),
        Ok(ForClaim::Lose(report)) => format!("lose, {}", report.reason),
        Ok(ForClaim::Refuse(report, error)) => format!("refuse, {}: {error}", report.reason),
        Ok(ForClaim::AssignClass(class)) => format!("class {class}"),
        Ok(ForClaim::Provision { provisioner }) => format!("provision {provisioner}"),
        Ok(ForClaim::CannotProvision(report)) => report.map_or(String::new(), |report| report.message),
        Err(error) => format!("error {error}"),
    }
}

fn check(more: Value, volumes: &[Arc<PersistentVolume>], expect: &str) {
    let cluster = Cluster { volumes: volumes.to_vec(), ..Cluster::default() };
    assert_eq!(outcome(&claim(more), &cluster), expect);
}

#[test]
fn a_claim_takes_the_smallest_volume_that_serves_it() {
    const NONE: &str =
        "wait, FailedBinding: no persistent volumes available for this claim and no storage class is set";
    let sized = |name: &str, size: &str| volume(name, json!({"spec": {"capacity": {"storage": size}}}));
    check(json!({}), &[], NONE);
    check(
        json!({}),
        &[sized("large", "5Gi"), sized("small", "500Mi"), sized("middle", "2Gi")],
        "bind middle",
    );
    let modes = |name: &str, modes: Value| volume(name, json!({"spec": {"accessModes": modes}}));
    let rich = modes("a-rich", json!(["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]));
    check(json!({}), &[rich.clone(), sized("larger", "5Gi")], "bind larger");
    check(
        json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
        &[rich.clone(), sized("b", "1Gi")],
        "bind a-rich",
    );
    check(json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}), &[rich], NONE);
    for unfit in [
        json!({"status": {"phase": "Released"}}),
        json!({"status": {"phase": "Pending"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"storageClassName": "other"}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"volumeAttributesClassName": "gold"}}),
        reference("other", ""),
        reference("c", "another of that name"),
    ] {
        check(json!({}), &[volume("v", unfit)], NONE);
    }
    let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    let labelled =
        volume("z", json!({"metadata": {"labels": {"a": "b"}}, "spec": {"capacity": {"storage": "9Gi"}}}));
    check(selector.clone(), &[volume("v", json!({})), labelled], "bind z");
    // One that is reserved for it, whatever else there is.
    let reserved = volume(
        "y",
        merged(
            reference("c", ""),
            &json!({"spec": {"storageClassName": "other", "capacity": {"storage": "9Gi"}}}),
        ),
    );
    check(selector, &[volume("v", json!({})), reserved], "bind y");
}

#[test]
fn a_claim_may_name_its_volume() {
    let named = json!({"spec": {"volumeName": "v"}});
    let check = |volumes: &[Arc<PersistentVolume>], expect: &str| check(named.clone(), volumes, expect);
    check(&[], "wait");
    check(&[volume("v", json!({}))], "bind v");
    check(&[volume("v", reference("c", ""))], "bind v");
    check(&[volume("v", reference("c", "own"))], "bind v");
    let small = volume("v", json!({"spec": {"capacity": {"storage": "1Mi"}}}));
    check(&[small], "wait, VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small");
    let other = volume("v", reference("other", "x"));
    check(
        std::slice::from_ref(&other),
        "wait, FailedBinding: volume \"v\" already bound to a different claim.",
    );
    let ours =
        merged(named, &json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}));
    let cluster = Cluster { volumes: vec![other], ..Cluster::default() };
    let error = "refuse, FailedBinding: invalid binding of claim \"d/c\" to volume \"v\": volume already claimed by \"d/other\"";
    assert_eq!(outcome(&claim(ours), &cluster), error);
}

#[test]
fn a_claim_that_was_bound_may_lose_its_volume() {
    let completed = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}});
    let bound = merged(completed.clone(), &json!({"spec": {"volumeName": "v"}}));
    check(completed, &[], "lose, ClaimLost");
    check(bound.clone(), &[], "lose, ClaimLost");
    check(bound.clone(), &[volume("v", json!({}))], "bind v");
    check(bound.clone(), &[volume("v", reference("c", "own"))], "bind v");
    check(bound, &[volume("v", reference("c", "another of that name"))], "lose, ClaimMisbound");
}

#[test]
fn volumes_are_provisioned_as_the_class_says() {
    let mut default = (*class("standard", "csi.example.com", "Immediate")).clone();
    default.metadata.annotations.insert("storageclass.kubernetes.io/is-default-class".into(), "true".into());
    let mut cluster = Cluster {
        classes: vec![
            Arc::new(default),
            class("late", "csi.example.com", "WaitForFirstConsumer"),
            class("migrated", "kubernetes.io/aws-ebs", "Immediate"),
            class("none", "kubernetes.io/no-provisioner", "Immediate"),
            class("nfs", "kubernetes.io/nfs", "Immediate"),
        ],
        ..Cluster::default()
    };
    let of = |class: Value| claim(json!({"spec": {"storageClassName": class}}));
    assert_eq!(outcome(&of(Value::Null), &cluster), "class standard");
    assert_eq!(outcome(&of("standard".into()), &cluster), "provision csi.example.com");
    assert_eq!(outcome(&of("migrated".into()), &cluster), "provision ebs.csi.aws.com");
    assert_eq!(
        outcome(&of("none".into()), &cluster),
        "no volume plugin matched name: kubernetes.io/no-provisioner"
    );
    assert_eq!(outcome(&of("nfs".into()), &cluster), "no provisionable volume plugin matched");
    assert_eq!(outcome(&of("gone".into()), &cluster), "storageclass.storage.k8s.io \"gone\" not found");
    let late = of("late".into());
    let first = "wait, WaitForFirstConsumer: waiting for first consumer to be created before binding";
    assert_eq!(outcome(&late, &cluster), first);
    cluster.pods = vec!["p".into(), "q".into()];
    assert_eq!(outcome(&late, &cluster), "wait, WaitForPodScheduled: waiting for pods p,q to be scheduled");
    // The scheduler chooses among those that exist.
    cluster.volumes = vec![volume("v", json!({"spec": {"storageClassName": "late"}}))];
    cluster.pods.truncate(1);
    assert_eq!(outcome(&late, &cluster), "wait, WaitForPodScheduled: waiting for pod p to be scheduled");
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}, "spec": {"storageClassName": "late"}});
    assert_eq!(outcome(&claim(selected), &cluster), "provision csi.example.com");
    cluster.volumes = vec![volume("v", reference("c", "own"))];
    assert_eq!(outcome(&late, &cluster), "bind v");
}

#[test]
fn a_volume_follows_its_claim() {
    let check = |of_volume: Value, of_claim: Option<Value>, expect: &str| {
        let claim = of_claim.map(claim);
        let outcome = match for_volume(&volume("v", of_volume), claim.as_ref()) {
            ForVolume::Enter(phase) => phase.to_owned(),
            ForVolume::Mismatch { of_claim, .. } => of_claim.message,
            other => format!("{other:?}"),
        };
        assert_eq!(outcome, expect);
    };
    let bound = || reference("c", "own");
    let named = |name: &str| Some(json!({"spec": {"volumeName": name}}));
    check(json!({}), None, "Available");
    check(reference("c", ""), Some(json!({})), "Available");
    check(bound(), named("v"), "Bound");
    check(bound(), Some(json!({})), "Complete");
    let mismatch = "Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim due to incompatible volumeMode.";
    check(bound(), Some(json!({"spec": {"volumeMode": "Block"}})), mismatch);
    check(bound(), None, "Reclaim");
    check(bound(), named("other"), "Unbind");
    let provisioned =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "csi.example.com"}}});
    check(merged(bound(), &provisioned), named("other"), "Unbind");
    let deleted = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    check(merged(merged(bound(), &provisioned), &deleted), named("other"), "Reclaim");
}

#[test]
fn volumes_are_reclaimed_by_policy() {
    let check = |policy: &str, more: Value, expect: &str| {
        let policy = json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
        let outcome = match reclaim(&volume("v", merged(policy, &more))) {
            Reclaim::Nothing => String::new(),
            Reclaim::Delete(path) => format!("delete {path}"),
            Reclaim::Fail(report) => format!("{}: {}", report.reason, report.message),
        };
        assert_eq!(outcome, expect);
    };
    let host = || json!({"spec": {"hostPath": {"path": "/tmp/x"}}});
    let by = |provisioner: &str| json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": provisioner}}});
    check("Retain", host(), "");
    check("Recycle", host(), "VolumeFailedRecycle: No recycler plugin found for the volume!");
    check("Delete", host(), "delete /tmp/x");
    check("Delete", json!({"spec": {"csi": {"driver": "d", "volumeHandle": "h"}}}), "");
    check("Delete", by("csi.example.com"), "");
    check(
        "Delete",
        json!({"spec": {"nfs": {"server": "s"}}}),
        "VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched",
    );
    check(
        "Delete",
        json!({"spec": {"local": {"path": "/x"}}}),
        "VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no volume plugin matched",
    );
    check(
        "Delete",
        by("kubernetes.io/glusterfs"),
        "VolumeFailedDelete: no volume plugin matched name: kubernetes.io/glusterfs",
    );
    let migrated = json!({"metadata": {"annotations": {"pv.kubernetes.io/migrated-to": "ebs.csi.aws.com"}}});
    check("Delete", merged(by("kubernetes.io/aws-ebs"), &migrated), "");
}

#[test]
fn migrated_plugins_are_noted() {
    let of_claim = |annotations: &[(&str, &str)]| {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let new = migrated::of_claim(&annotations.collect());
        new.map(|new| new.get("pv.kubernetes.io/migrated-to").cloned())
    };
    let provisioner = "volume.kubernetes.io/storage-provisioner";
    assert_eq!(of_claim(&[]), None);
    assert_eq!(of_claim(&[(provisioner, "csi.example.com")]), None);
    assert_eq!(
        of_claim(&[(provisioner, "kubernetes.io/gce-pd")]),
        Some(Some("pd.csi.storage.gke.io".into()))
    );
    let both = [(provisioner, "csi.example.com"), ("pv.kubernetes.io/migrated-to", "x")];
    assert_eq!(of_claim(&both), Some(None));

    let of_volume = |provisioner: &str, policy: &str, finalizers: Value| {
        let volume = volume(
            "v",
            json!({
                "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": provisioner}, "finalizers": finalizers},
                "spec": {"persistentVolumeReclaimPolicy": policy},
            }),
        );
        migrated::of_volume(&volume).map(|new| new.finalizers)
    };
    let own = || vec![migrated::FINALIZER.to_owned()];
    assert_eq!(of_volume("csi.example.com", "Delete", json!([])), None);
    assert_eq!(of_volume("kubernetes.io/host-path", "Delete", json!([])), Some(own()));
    assert_eq!(of_volume("kubernetes.io/host-path", "Delete", json!(own())), None);
    assert_eq!(of_volume("kubernetes.io/host-path", "Retain", json!(own())), Some(Vec::new()));
    assert_eq!(of_volume("kubernetes.io/aws-ebs", "Delete", json!(own())), Some(Vec::new()));
}

#[tokio::test]
async fn only_folders_for_it_are_deleted() {
    for path in ["/etc", "/tmp", "/tmp/", "/tmp/../etc", "/x/tmp/y"] {
        let refused = format!("host_path deleter only supports /tmp/.+ but received provided {path}");
        assert_eq!(super::reclaim::delete(path).await, Err(refused));
    }
    let folder = format!("/tmp/binder-{}", std::process::id());
    std::fs::create_dir_all(format!("{folder}/a")).unwrap();
    assert_eq!(super::reclaim::delete(&folder).await, Ok(()));
    assert!(!std::path::Path::new(&folder).exists());
    assert_eq!(super::reclaim::delete(&folder).await, Ok(()));
}
