use serde_json::json;

use super::*;
use crate::question;

struct Fixed {
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<Slice>>,
}

impl Facts for Fixed {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.iter().find(|s| s.metadata.namespace == namespace && s.metadata.name == name).cloned()
    }
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
        let key = format!("{namespace}/{service}");
        self.slices.iter().filter(|slice| slice.service().as_ref() == Some(&key)).cloned().collect()
    }
    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>> {
        self.services.iter().find(|service| service.addresses().contains(&address)).cloned()
    }
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>> {
        let has =
            |slice: &&Arc<Slice>| slice.endpoints.iter().flatten().any(|e| e.addresses.contains(&address));
        self.slices.iter().filter(has).cloned().collect()
    }
    fn has_namespace(&self, namespace: &str) -> bool {
        self.services.iter().any(|service| service.metadata.namespace == namespace)
    }
}

fn fixed() -> Fixed {
    let service = |name: &str, spec: serde_json::Value| {
        let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    Fixed {
        services: vec![
            service("web", json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"name": "http", "port": 80}]})),
            service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]})),
            service("out", json!({"type": "ExternalName", "externalName": "example.com"})),
        ],
        slices: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "db-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
                "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                    {"addresses": ["10.244.0.6"], "conditions": {}},
                    {"addresses": ["10.244.0.9"], "conditions": {"ready": false}},
                ],
            }))
            .unwrap(),
        )],
    }
}

/// Answers `prefix.cluster.local.` and gives existence and the records' data as text.
fn ask(prefix: &str, kind: RecordType) -> (bool, Vec<String>) {
    let domain = Name::from_ascii("cluster.local.").unwrap();
    let labels: Vec<&str> = prefix.split('.').filter(|label| !label.is_empty()).collect();
    let name = Name::from_ascii(prefix).unwrap().append_domain(&domain).unwrap();
    let answer =
        Responder { facts: &fixed(), domain: &domain }.answer(&name, &question::read(&labels), kind).unwrap();
    (answer.exists, answer.records.iter().map(|record| record.data.to_string()).collect())
}

fn check(prefix: &str, kind: RecordType, exists: bool, expect: &[&str]) {
    let (found, records) = ask(prefix, kind);
    assert_eq!(
        (found, records),
        (exists, expect.iter().map(|text| (*text).to_owned()).collect()),
        "{prefix} {kind}"
    );
}

#[test]
fn services_are_answered_by_the_specification() {
    check("web.default.svc", RecordType::A, true, &["10.96.0.7"]);
    check("web.default.svc", RecordType::AAAA, true, &[]);
    check("none.default.svc", RecordType::A, false, &[]);
    check("_http._tcp.web.default.svc", RecordType::SRV, true, &["0 100 80 web.default.svc.cluster.local."]);
    check("_ftp._tcp.web.default.svc", RecordType::SRV, false, &[]);
    check("out.default.svc", RecordType::A, true, &["example.com."]);
    check("default.svc", RecordType::A, true, &[]);
    check("other.svc", RecordType::A, false, &[]);
}

#[test]
fn headless_services_give_their_ready_endpoints() {
    check("db.default.svc", RecordType::A, true, &["10.244.0.5", "10.244.0.6"]);
    check("db-0.db.default.svc", RecordType::A, true, &["10.244.0.5"]);
    check("10-244-0-6.db.default.svc", RecordType::A, true, &["10.244.0.6"]);
    check("db-1.db.default.svc", RecordType::A, false, &[]);
    check(
        "_sql._tcp.db.default.svc",
        RecordType::SRV,
        true,
        &[
            "0 50 15432 db-0.db.default.svc.cluster.local.",
            "0 50 15432 10-244-0-6.db.default.svc.cluster.local.",
        ],
    );
}

#[test]
fn pods_and_reverse_names() {
    check("10-244-0-6.default.pod", RecordType::A, true, &["10.244.0.6"]);
    check("10-244-0-6.other.pod", RecordType::A, false, &[]);
    let domain = Name::from_ascii("cluster.local.").unwrap();
    let facts = fixed();
    let responder = Responder { facts: &facts, domain: &domain };
    let reverse = |address: &str| {
        let records = responder.reverse(&Name::root(), address.parse().unwrap()).unwrap();
        records.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(reverse("10.96.0.7"), ["web.default.svc.cluster.local."]);
    assert_eq!(reverse("10.244.0.5"), ["db-0.db.default.svc.cluster.local."]);
    assert!(reverse("10.244.0.6").is_empty());
}
