//! Tables of pods that are admitted or rejected.

use super::*;
use serde_json::json;

#[test]
fn refusals() {
    let pod = |spec: serde_json::Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    };
    let cpu = |amount: &str| {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}))
    };
    let port = pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]}));
    let allocatable = Amounts::from([("cpu".to_owned(), 2000)]);
    let run = |pod: &Pod, others: &[&Pod], most: i64| {
        resources(pod, others, &allocatable, most)
            .and_then(|()| ports(pod, others))
            .err()
            .map(|it| (it.reason, it.message))
    };
    assert_eq!(run(&cpu("1"), &[&cpu("500m")], 10), None);
    let expect = "Node didn't have enough resource: cpu, requested: 2000, used: 500, capacity: 2000";
    assert_eq!(run(&cpu("2"), &[&cpu("500m")], 10), Some(("OutOfcpu".into(), expect.into())));
    assert_eq!(run(&cpu("1"), &[&cpu("1")], 1).unwrap().0, "OutOfpods");
    assert_eq!(run(&port, &[&port], 10).unwrap().0, "NodePorts");
    let huge =
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"hugepages-2Mi": "4Mi"}}}]}));
    let expect = "Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 0, capacity: 0";
    assert_eq!(run(&huge, &[], 10), Some(("OutOfhugepages-2Mi".into(), expect.into())));
    let cluster_wide =
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/foo": "1"}}}]}));
    assert_eq!(run(&cluster_wide, &[], 10), None, "the node may not be the one who has it");
}

#[test]
fn features_the_node_lacks_are_refused() {
    let pod = |mut spec: serde_json::Value| -> Pod {
        spec["containers"] = json!([{"name": "c"}]);
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    };
    let reason = |it: Result<(), Refusal>| it.err().map(|it| it.reason);
    assert_eq!(reason(features(&pod(json!({"os": {"name": "linux"}})), false)), None);
    let windows = pod(json!({"os": {"name": "windows"}}));
    assert_eq!(reason(features(&windows, true)).as_deref(), Some("PodOSNotSupported"));
    let confined = |kind: &str| pod(json!({"securityContext": {"appArmorProfile": {"type": kind}}}));
    assert_eq!(reason(features(&confined("RuntimeDefault"), false)).as_deref(), Some("AppArmor"));
    assert_eq!(reason(features(&confined("RuntimeDefault"), true)), None);
    assert_eq!(reason(features(&confined("Unconfined"), false)), None);

    let setting = |name: &str, host: &str| {
        let context = json!({"sysctls": [{"name": name, "value": "1"}]});
        let refusal = sysctls(&pod(json!({"securityContext": context, host: true})), &["kernel.sem".into()]);
        refusal.err().map(|it| it.message)
    };
    assert_eq!(setting("net.ipv4.tcp_syncookies", "hostIPC"), None);
    assert_eq!(
        setting("net.ipv4.tcp_syncookies", "hostNetwork").as_deref(),
        Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled")
    );
    assert!(setting("kernel.sem", "hostIPC").is_some());
    assert_eq!(setting("kernel.sem", "hostPID"), None);
}

#[test]
fn pressure_rejects_pods_by_class_toleration_and_priority() {
    let pod = |spec: serde_json::Value| -> Pod {
        let metadata = json!({"name": "p", "annotations": {}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    };
    let plain = pod(json!({"containers": [{"name": "c"}]}));
    let asks = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}));
    let tolerates = pod(json!({"containers": [{"name": "c"}],
        "tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]}));
    let critical = pod(json!({"containers": [{"name": "c"}], "priority": 2_000_000_000}));
    let memory = Pressure { memory: true, ..Pressure::default() };
    let both = Pressure { memory: true, disk: true, ..Pressure::default() };
    let text = |pod: &Pod, now: &Pressure| pressure(pod, now).err().map(|it| (it.reason, it.message));
    let refused = |which: &str| Some(("Evicted".to_owned(), format!("The node had condition: [{which}]. ")));
    assert_eq!(text(&plain, &Pressure::default()), None);
    assert_eq!(text(&plain, &memory), refused("MemoryPressure"));
    assert_eq!(text(&plain, &both), refused("MemoryPressure DiskPressure"));
    for pod in [&asks, &tolerates] {
        assert_eq!(text(pod, &memory), None);
        assert_eq!(text(pod, &both), refused("MemoryPressure DiskPressure"));
    }
    assert_eq!(text(&critical, &both), None);
}

#[test]
fn features_that_a_node_declares() {
    let rule = |action: &str| -> Pod {
        let rules = json!([{"action": action, "exitCodes": {"operator": "In", "values": [1]}}]);
        let spec =
            json!({"containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}]});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    };
    let text = "Pod requires node features that are not available: RestartAllContainersOnContainerExits";
    let refusal = Refusal { reason: "PodFeatureUnsupported".into(), message: text.into() };
    assert_eq!(declared(&rule("RestartAllContainers")), Err(refusal));
    assert_eq!(declared(&rule("Restart")), Ok(()));
}
