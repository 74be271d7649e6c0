//! Folders stand in for the kernel's hierarchies.

use super::*;

fn pod(resources: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": resources}]}
    }))
    .unwrap()
}

#[test]
fn places_in_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let v1 = folder.path().join("v1");
    for controller in ["cpu,cpuacct", "memory"] {
        std::fs::create_dir_all(v1.join(controller)).unwrap();
        std::fs::write(v1.join(controller).join("cgroup.procs"), "").unwrap();
    }
    let cgroups = Cgroups::new(&v1, "/node/", true, true, 100_000);
    let pod = pod(serde_json::json!({"requests": {"cpu": "1"}}));
    assert_eq!(cgroups.parent(&pod), "/node/kubepods/burstable/podu");
    cgroups.ensure_top().unwrap();
    cgroups.ensure_pod(&pod, false).unwrap();
    assert!(v1.join("memory/node/kubepods/burstable/podu").is_dir());
    assert!(v1.join("cpu,cpuacct/node/kubepods/besteffort").is_dir());
    assert_eq!(cgroups.pods().len(), 1);
    cgroups.remove_pod(&pod).unwrap();
    assert!(cgroups.pods().is_empty());

    let v2 = folder.path().join("v2");
    std::fs::create_dir_all(&v2).unwrap();
    std::fs::write(v2.join("cgroup.controllers"), "cpu memory").unwrap();
    let cgroups = Cgroups::new(&v2, "", true, true, 100_000);
    assert!(cgroups.is_v2());
    cgroups.ensure_pod(&pod, false).unwrap();
    assert!(v2.join("kubepods/burstable/podu").is_dir());
}

#[test]
fn a_limit_that_cannot_be_read_is_set() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cgroup.controllers"), "cpu memory").unwrap();
    let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000);
    let pod = pod(
        serde_json::json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}),
    );
    cgroups.ensure_pod(&pod, false).unwrap();
    let limit = folder.path().join("kubepods/podu/memory.max");
    std::fs::write(&limit, [0xff, 0xfe]).unwrap();
    cgroups.ensure_pod(&pod, false).unwrap();
    assert_eq!(std::fs::read_to_string(&limit).unwrap(), "67108864");
}

#[test]
fn groups_above_pods_have_their_part_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
    let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000);
    cgroups.ensure_top().unwrap();
    for group in ["kubepods", "kubepods/burstable"] {
        for file in ["cpu.weight", "memory.max", "pids.max"] {
            std::fs::write(folder.path().join(group).join(file), "").unwrap();
        }
    }
    let read = |path: &str| std::fs::read_to_string(folder.path().join("kubepods").join(path)).unwrap();
    cgroups.limit_pods(2000, 1 << 30, Some(1000));
    assert_eq!((read("memory.max"), read("cpu.weight")), ("1073741824".into(), "79".into()));
    assert_eq!(read("pids.max"), "1000");
    cgroups.weigh_burstable(500);
    assert_eq!((read("burstable/memory.max"), read("burstable/cpu.weight")), (String::new(), "20".into()));
    cgroups.weigh_burstable(0);
    assert_eq!(read("burstable/cpu.weight"), "1");
}

#[test]
fn limits_of_pods_are_set_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let limited = serde_json::json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let (limited, free) = (pod(limited), pod(serde_json::json!({"requests": {"cpu": "100m"}})));
    let check = |cgroups: &Cgroups, at: &Path, files: &[(&str, &str, &str, &str)]| {
        // The kernel makes the files together with the folder; a kubelet that was killed has set none.
        std::fs::create_dir_all(at).unwrap();
        files.iter().for_each(|(file, first, ..)| std::fs::write(at.join(file), first).unwrap());
        for (pod, with_limits) in [(&limited, true), (&free, false), (&limited, true)] {
            assert!(!cgroups.ensure_pod(pod, false).unwrap());
            for (file, _, value, without) in files {
                let found = std::fs::read_to_string(at.join(file)).unwrap();
                assert_eq!(found, if with_limits { *value } else { *without }, "{file}");
            }
        }
    };
    let v2 = folder.path().join("v2");
    std::fs::create_dir_all(&v2).unwrap();
    std::fs::write(v2.join("cgroup.controllers"), "cpu memory").unwrap();
    let cgroups = Cgroups::new(&v2, "", true, true, 100_000);
    check(
        &cgroups,
        &v2.join("kubepods/burstable/podu"),
        &[
            ("cpu.weight", "100", "39", "4"),
            ("cpu.max", "max 100000", "200000 100000", "max 100000"),
            ("memory.max", "max", "1073741824", "max"),
        ],
    );
    let v1 = folder.path().join("v1");
    for controller in ["cpu", "memory"] {
        std::fs::create_dir_all(v1.join(controller)).unwrap();
        std::fs::write(v1.join(controller).join("cgroup.procs"), "").unwrap();
    }
    let cgroups = Cgroups::new(&v1, "", true, true, 100_000);
    std::fs::create_dir_all(v1.join("memory/kubepods/burstable/podu")).unwrap();
    let cpu = [("cpu.shares", "1024", "1024", "102"), ("cpu.cfs_quota_us", "-1", "200000", "-1")];
    check(&cgroups, &v1.join("cpu/kubepods/burstable/podu"), &cpu);
    let memory = [("memory.limit_in_bytes", "9223372036854771712", "1073741824", "-1")];
    check(&cgroups, &v1.join("memory/kubepods/burstable/podu"), &memory);
    assert!(is_same("9223372036854771712", "-1") && !is_same("1024", "-1"));
}

#[test]
fn a_pod_has_so_many_processes() {
    let folder = tempfile::tempdir().unwrap();
    let group = folder.path().join("kubepods/besteffort/podu");
    std::fs::write(folder.path().join("cgroup.controllers"), "pids").unwrap();
    let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000).with_pids_limit(100);
    // the kernel makes the file together with the folder
    std::fs::create_dir_all(group.parent().unwrap()).unwrap();
    cgroups.make("/kubepods/besteffort/podu").unwrap();
    std::fs::write(group.join("pids.max"), "max").unwrap();
    cgroups.limit_pids("/kubepods/besteffort/podu", cgroups.pids);
    assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "100");
    let cgroups = Cgroups::new(folder.path(), "", true, true, 100_000).with_pids_limit(-1);
    std::fs::write(group.join("pids.max"), "max").unwrap();
    cgroups.limit_pids("/kubepods/besteffort/podu", cgroups.pids);
    assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "max");
}
