use super::*;
use crate::objects::Fake;
use serde_json::{Value, json};

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "tier": "a\"b"},
                     "annotations": {"note": "two\nlines"}},
        "spec": spec,
    }))
    .unwrap()
}

fn objects() -> Fake {
    let fake = Fake::default();
    fake.add_config_map(
        serde_json::from_value(json!({
            "metadata": {"name": "settings", "namespace": "shop"}, "data": {"colour": "red", "b=d": "x"}}))
        .unwrap(),
    );
    fake.add_secret(
        serde_json::from_value(json!({
            "metadata": {"name": "keys", "namespace": "shop"}, "data": {"password": "czNjcmV0", "raw": "/wAB/g=="}}))
        .unwrap(),
    );
    fake
}

fn service(namespace: &str, name: &str, address: &str, ports: Value) -> Arc<Service> {
    let service = json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": ports}});
    Arc::new(serde_json::from_value(service).unwrap())
}

async fn environment(container: Value, services: Vec<Arc<Service>>) -> Result<Vec<Variable>, String> {
    let pod = pod(json!({"nodeName": "node-1", "serviceAccountName": "robot", "containers": [container]}));
    let context = Context {
        pod_ips: &["10.0.0.7".to_owned(), "fd00::7".to_owned()],
        host_ips: &["192.168.0.1".to_owned()],
        services,
        allocatable: Allocatable { cpu_milli: 1900, memory_bytes: 1 << 30, ephemeral_storage_bytes: 5 << 30 },
        objects: &objects(),
    };
    let container = &pod.spec.as_ref().unwrap().containers[0];
    build(&pod, container, &context).await.map_err(|error| error.to_string())
}

#[test]
fn expansion() {
    let variables = [("A".to_owned(), b"1".to_vec()), ("B".to_owned(), b"$(A)".to_vec())];
    let table = [
        ("$(A)", "1"),
        ("$(A)$(B)", "1$(A)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(missing)-$(A)", "$(missing)-1"),
        ("$A $ $(A", "$A $ $(A"),
        ("cost: 5$", "cost: 5$"),
        ("$()", "$()"),
    ];
    for (text, want) in table {
        assert_eq!(expand(text, &variables).unwrap(), want, "{text}");
    }
    assert_eq!(expand_strict("x/$(A)", &variables).unwrap(), "x/1");
    assert_eq!(expand_strict("x/$(C)", &variables).unwrap_err().to_string(), "missing value for C");
}

#[tokio::test]
async fn every_kind_of_variable() {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resource = |name: &str, resource: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}});
    let container = json!({
        "name": "c",
        "resources": {"limits": {"memory": "100Mi"}, "requests": {"cpu": "250m"}},
        "envFrom": [
            {"configMapRef": {"name": "settings"}, "prefix": "P_"},
            {"secretRef": {"name": "keys"}},
            {"configMapRef": {"name": "absent", "optional": true}},
        ],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "REFERS", "value": "$(PLAIN)-$(P_colour)-$(DB_SERVICE_HOST)-$(LATER)"},
            {"name": "LATER", "value": "y"},
            {"name": "PLAIN", "value": "again $(PLAIN)"},
            {"name": "EMPTY"},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
            {"name": "RAW", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "raw"}}},
            {"name": "REFERS_RAW", "value": "<$(RAW)>"},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "no", "optional": true}}},
            field("NAME", "metadata.name"), field("LABEL", "metadata.labels['app']"), field("NODE", "spec.nodeName"),
            field("ACCOUNT", "spec.serviceAccountName"), field("IP", "status.podIP"), field("IPS", "status.podIPs"),
            field("HOST", "status.hostIP"), field("UID", "metadata.uid"),
            resource("CPU", "limits.cpu", "0"), resource("CPU_MILLI", "limits.cpu", "1m"),
            resource("MEMORY", "limits.memory", "1Mi"), resource("REQUEST", "requests.cpu", "1"),
            resource("STORAGE", "limits.ephemeral-storage", "1"), resource("NO_REQUEST", "requests.memory", "1"),
        ],
    });
    let services = vec![
        service("shop", "db", "10.96.0.9", json!([{"port": 5432, "name": "sql"}])),
        service("shop", "headless", "None", json!([{"port": 1}])),
        service("other", "far", "10.96.0.3", json!([{"port": 1}])),
        service("default", "kubernetes", "10.96.0.1", json!([{"port": 443, "name": "https"}])),
    ];
    let variables = environment(container, services).await.unwrap();
    let wants = [
        ("P_colour", "red"),
        ("password", "s3cret"),
        ("PLAIN", "again x"),
        ("REFERS", "x-red-10.96.0.9-$(LATER)"),
        ("EMPTY", ""),
        ("KEY", "red"),
        ("SECRET", "s3cret"),
        ("NAME", "web"),
        ("LABEL", "web"),
        ("NODE", "node-1"),
        ("ACCOUNT", "robot"),
        ("IP", "10.0.0.7"),
        ("IPS", "10.0.0.7,fd00::7"),
        ("HOST", "192.168.0.1"),
        ("UID", "u1"),
        ("CPU", "2"),
        ("CPU_MILLI", "1900"),
        ("MEMORY", "100"),
        ("REQUEST", "1"),
        ("STORAGE", "5368709120"),
        ("NO_REQUEST", "0"),
        ("DB_SERVICE_HOST", "10.96.0.9"),
        ("DB_SERVICE_PORT", "5432"),
        ("DB_SERVICE_PORT_SQL", "5432"),
        ("DB_PORT", "tcp://10.96.0.9:5432"),
        ("DB_PORT_5432_TCP", "tcp://10.96.0.9:5432"),
        ("DB_PORT_5432_TCP_PROTO", "tcp"),
        ("DB_PORT_5432_TCP_PORT", "5432"),
        ("DB_PORT_5432_TCP_ADDR", "10.96.0.9"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
    ];
    let got =
        |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
    for (name, want) in wants {
        assert_eq!(got(name), Some(want.as_bytes()), "{name}");
    }
    // What is no text stays as it is, and goes nowhere where only text goes.
    for (name, want) in
        [("raw", &b"\xff\0\x01\xfe"[..]), ("RAW", b"\xff\0\x01\xfe"), ("REFERS_RAW", b"<\xff\0\x01\xfe>")]
    {
        assert_eq!(got(name), Some(want), "{name}");
    }
    let refused = "string field contains invalid UTF-8";
    assert_eq!(expand("$(RAW)", &variables).unwrap_err().to_string(), refused);
    assert_eq!(expand_strict("$(RAW)", &variables).unwrap_err().to_string(), refused);
    for absent in ["NONE", "FAR_SERVICE_HOST", "HEADLESS_SERVICE_HOST", "P_b=d"] {
        assert_eq!(got(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn errors_read_as_upstreams() {
    let table = [
        (json!({"envFrom": [{"configMapRef": {"name": "nope"}}]}), "configmap \"nope\" not found"),
        (json!({"envFrom": [{"secretRef": {"name": "nope"}}]}), "secret \"nope\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}}]}),
            "couldn't find key k in ConfigMap shop/settings",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]}),
            "couldn't find key k in Secret shop/keys",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.zone"}}}]}),
            "unsupported fieldPath: spec.zone",
        ),
    ];
    for (mut container, want) in table {
        container["name"] = "c".into();
        assert_eq!(environment(container, Vec::new()).await.unwrap_err(), want);
    }
}

#[test]
fn whole_maps_are_lines_of_quoted_values() {
    let pod = pod(json!({"containers": []}));
    assert_eq!(fields::pod_field(&pod, "metadata.labels").unwrap(), "app=\"web\"\ntier=\"a\\\"b\"");
    assert_eq!(fields::pod_field(&pod, "metadata.annotations").unwrap(), "note=\"two\\nlines\"");
}
