use super::*;
use crate::objects::Fake;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

struct Fixture {
    folder: tempfile::TempDir,
    objects: Arc<Fake>,
    manager: Arc<Manager>,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let objects = Arc::new(Fake::default());
    let node = Node {
        name: "node-1".into(),
        allocatable: Allocatable { cpu_milli: 2000, memory_bytes: 1 << 30, ephemeral_storage_bytes: 0 },
    };
    // Without the right to mount, what would lie in memory lies on disk.
    let mut manager = Manager::make(
        Paths::below(folder.path()),
        objects.clone(),
        Arc::new(crate::events::Events::new(None)),
        node,
    );
    manager.in_memory = false;
    Fixture { folder, objects, manager: Arc::new(manager) }
}

fn pod(volumes: Value, mounts: Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": volumes},
        }))
        .unwrap(),
    )
}

fn config_map(value: &str) -> k8s_openapi::api::core::v1::ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "cm", "namespace": "ns"}, "data": {"key": value}}))
        .unwrap()
}

#[tokio::test]
async fn set_up_update_and_tear_down() {
    let fixture = fixture();
    fixture.objects.add_config_map(config_map("one"));
    let volumes = json!([
        {"name": "empty", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "cm", "items": [{"key": "key", "path": "etc/app.conf", "mode": 256}]}},
        {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "all", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "cm"}},
            {"secret": {"name": "none", "optional": true}}]}},
        {"name": "unused", "secret": {"secretName": "missing"}},
    ]);
    let mounts = json!([
        {"name": "empty", "mountPath": "/scratch", "mountPropagation": "Bidirectional"},
        {"name": "config", "mountPath": "config"},
        {"name": "down", "mountPath": "/down"},
        {"name": "all", "mountPath": "/all"},
    ]);
    let pod = pod(volumes, mounts);
    fixture.manager.mount(&pod).await.unwrap();
    fixture.manager.mount(&pod).await.unwrap();
    let root = fixture.folder.path().join("kubelet/pods/u/volumes");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(read("kubernetes.io~configmap/config/etc/app.conf"), "one");
    let mode = std::fs::metadata(root.join("kubernetes.io~configmap/config/etc/app.conf")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o400);
    assert_eq!(read("kubernetes.io~downward-api/down/labels"), "a=\"b\"");
    assert_eq!(read("kubernetes.io~projected/all/token"), "token-of-ns-default");
    assert_eq!(read("kubernetes.io~projected/all/key"), "one");
    let empty = root.join("kubernetes.io~empty-dir/empty");
    assert_eq!(std::fs::metadata(&empty).unwrap().mode() & 0o7777, 0o777);
    std::fs::write(empty.join("kept"), "x").unwrap();

    let container = &pod.spec.as_ref().unwrap().containers[0];
    let mounts = fixture
        .manager
        .container_mounts(&pod, container, &[], RecursiveReadOnly(false), &HashMap::new())
        .await
        .unwrap();
    let brief: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.container_path.as_str(), mount.readonly, mount.propagation))
        .collect();
    assert_eq!(brief, [("/scratch", false, 2), ("/config", true, 0), ("/down", true, 0), ("/all", true, 0)]);
    assert_eq!(mounts[0].host_path, empty.display().to_string());

    fixture.objects.add_config_map(config_map("two"));
    fixture.manager.refresh(&pod).await;
    assert_eq!(read("kubernetes.io~configmap/config/etc/app.conf"), "two");
    assert_eq!(std::fs::read_to_string(empty.join("kept")).unwrap(), "x");

    fixture.manager.unmount("u").await.unwrap();
    assert!(!root.exists());
    fixture.manager.unmount("u").await.unwrap();
}

#[tokio::test]
async fn failures_name_the_volume() {
    let table = [
        (
            json!({"configMap": {"name": "y"}}),
            "MountVolume.SetUp failed for volume \"x\" : configmap \"y\" not found",
        ),
        (
            json!({"secret": {"secretName": "y"}}),
            "MountVolume.SetUp failed for volume \"x\" : secret \"y\" not found",
        ),
        (
            json!({"configMap": {"name": "cm", "items": [{"key": "k", "path": "p"}]}}),
            "MountVolume.SetUp failed for volume \"x\" : configmap references non-existent config key: k",
        ),
        (
            json!({"hostPath": {"path": "/nowhere", "type": "Directory"}}),
            "MountVolume.SetUp failed for volume \"x\" : hostPath type check failed, /nowhere is not a directory, unable to determine its type: path \"/nowhere\" does not exist",
        ),
        (
            json!({"projected": {"sources": [{"configMap": {"name": "y"}}, {"secret": {"name": "z"}}]}}),
            "MountVolume.SetUp failed for volume \"x\" : [configmap \"y\" not found, secret \"z\" not found]",
        ),
        (
            json!({"nfs": {"server": "s", "path": "/"}}),
            "MountVolume.SetUp failed for volume \"x\" : nfs volumes are not supported by this kubelet",
        ),
    ];
    for (mut source, want) in table {
        let fixture = fixture();
        fixture.objects.add_config_map(config_map("one"));
        source["name"] = "x".into();
        let pod = pod(json!([source]), json!([{"name": "x", "mountPath": "/x"}]));
        assert_eq!(fixture.manager.mount(&pod).await.unwrap_err()[0].to_string(), want);
    }
}

#[tokio::test]
async fn every_volume_that_cannot_be_set_up_is_named() {
    let fixture = fixture();
    let volumes = json!([
        {"name": "a", "secret": {"secretName": "none"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "nothing"}},
    ]);
    let mounts = json!(["a", "b", "c"].map(|name| json!({"name": name, "mountPath": format!("/{name}")})));
    let pod = pod(volumes, mounts);
    let errors = fixture.manager.mount(&pod).await.unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "MountVolume.SetUp failed for volume \"a\" : secret \"none\" not found",
            "MountVolume.SetUp failed for volume \"c\" : configmap \"nothing\" not found"
        ]
    );
    let made = Paths::below(fixture.folder.path()).volumes_dir("u").join("kubernetes.io~empty-dir/b");
    assert!(made.is_dir(), "{}", made.display());
}

#[tokio::test]
async fn bad_mounts_are_refused() {
    let fixture = fixture();
    let table = [
        (
            json!({"name": "none", "mountPath": "/x"}),
            "cannot find volume \"none\" to mount into container \"c\"",
        ),
        (json!({"name": "v", "mountPath": "/x", "subPathExpr": "$(NOT)"}), "missing value for NOT"),
        (
            json!({"name": "v", "mountPath": "/x", "subPath": "/abs"}),
            "error SubPath `/abs` must not be an absolute path",
        ),
        (
            json!({"name": "v", "mountPath": "/x", "subPath": "a/../.."}),
            "unable to provision SubPath `a/../..`: must not contain '..'",
        ),
    ];
    for (mount, want) in table {
        let pod = pod(json!([{"name": "v", "emptyDir": {}}]), json!([mount]));
        fixture.manager.mount(&pod).await.unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let error = fixture
            .manager
            .container_mounts(&pod, container, &[], RecursiveReadOnly(false), &HashMap::new())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

#[tokio::test]
async fn a_refresh_that_waited_for_the_teardown_does_not_mount_again() {
    let fixture = fixture();
    fixture.objects.add_config_map(config_map("one"));
    let volumes = json!([{"name": "config", "configMap": {"name": "cm"}}]);
    let pod = pod(volumes, json!([{"name": "config", "mountPath": "/config"}]));
    fixture.manager.mount(&pod).await.unwrap();
    let volumes = fixture.folder.path().join("kubelet/pods/u/volumes");
    assert!(volumes.exists());

    let alone = fixture.manager.of_pod(&pod).alone().await;
    let mut unmount = std::pin::pin!(fixture.manager.unmount("u"));
    let mut refresh = std::pin::pin!(fixture.manager.refresh(&pod));
    // Both wait, in this order.
    assert!(futures::poll!(unmount.as_mut()).is_pending());
    assert!(futures::poll!(refresh.as_mut()).is_pending());
    drop(alone);
    let (unmounted, ()) = futures::join!(unmount, refresh);
    unmounted.unwrap();
    assert!(!volumes.exists());
}

#[tokio::test]
async fn work_whose_task_was_dropped_keeps_the_volumes_to_itself() {
    let of_pod = OfPod::default();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    {
        let alone = of_pod.alone().await;
        let mut work = std::pin::pin!(blocking(&alone, move || finished.recv().map_err(io::Error::other)));
        assert!(futures::poll!(work.as_mut()).is_pending());
    }
    assert!(of_pod.alone.try_lock().is_err(), "the thread still works");
    finish.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), of_pod.alone()).await.unwrap();
}

#[test]
fn volumes_in_memory_hold_what_their_pod_may() {
    let manager = fixture().manager;
    let limited = |limits: Value| -> Pod {
        let containers = json!([{"name": "c", "resources": {"limits": limits}}]);
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    };
    let size = |memory: Option<&str>, limit: Option<i64>| {
        manager.memory_size(&limited(memory.map_or(json!({}), |it| json!({"memory": it}))), limit)
    };
    assert_eq!(size(None, None), 1 << 30, "the node's");
    assert_eq!(size(Some("64Mi"), None), 64 << 20);
    assert_eq!(size(Some("64Mi"), Some(1 << 20)), 1 << 20);
    assert_eq!(size(Some("64Mi"), Some(1 << 40)), 64 << 20);
    assert_eq!(size(None, Some(0)), 1 << 30);
}
