use serde_json::json;

use super::references::{Kind, of_pod};

#[test]
fn what_a_pod_uses() {
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"envFrom": [{"secretRef": {"name": "env"}}],
                            "env": [{"valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}],
            "volumes": [
                {"name": "a", "projected": {"sources": [{"configMap": {"name": "root-ca"}}, {"secret": {"name": "s"}}]}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "e", "ephemeral": {}},
            ],
        },
    });
    let mut found = of_pod(&pod);
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let names: Vec<_> = found.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    assert_eq!(
        names,
        [
            (Kind::Claim, "c"),
            (Kind::ConfigMap, "cm"),
            (Kind::Secret, "env"),
            (Kind::Pod, "p"),
            (Kind::Claim, "p-e"),
            (Kind::Secret, "pull"),
            (Kind::ConfigMap, "root-ca"),
            (Kind::Secret, "s"),
            (Kind::ServiceAccount, "sa"),
        ]
    );
}

#[test]
fn a_mirror_pod_opens_nothing() {
    let pod = json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}},
                     "spec": {"imagePullSecrets": [{"name": "s"}]}});
    assert_eq!(of_pod(&pod), [(Kind::Pod, "p".to_owned())]);
}
