use serde_json::json;

use super::*;
use crate::directory::fixed::Fixed;

fn fixed() -> Fixed {
    let service = |name: &str, spec: serde_json::Value| {
        let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    Fixed {
        namespaces: vec!["default", "empty"],
        services: vec![
            service("web", json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"name": "http", "port": 80}]})),
            service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]})),
            service("out", json!({"type": "ExternalName", "externalName": "example.com"})),
            service("near", json!({"type": "ExternalName", "externalName": "DB.default.svc.cluster.local."})),
            service("farther", json!({"type": "ExternalName", "externalName": "out.default.svc.cluster.local"})),
            service("nearer", json!({"type": "ExternalName", "externalName": "near.default.svc.cluster.local"})),
            service("nowhere", json!({"type": "ExternalName", "externalName": "gone.default.svc.cluster.local"})),
            service("loop", json!({"type": "ExternalName", "externalName": "pool.default.svc.cluster.local"})),
            service("pool", json!({"type": "ExternalName", "externalName": "loop.default.svc.cluster.local"})),
            service("address", json!({"type": "ExternalName", "externalName": "192.0.2.1"})),
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
    let name = Name::from_ascii(prefix).unwrap().append_domain(&domain).unwrap();
    let answer = Responder { facts: &fixed(), domain: &domain }.resolve(&name, kind).unwrap();
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
    check("empty.svc", RecordType::A, true, &[]);
    check("empty.pod", RecordType::A, true, &[]);
    check("other.pod", RecordType::A, false, &[]);
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
    check("10-244-0-6.empty.pod", RecordType::A, true, &["10.244.0.6"]);
    check("10-244-0-6.empty.pod", RecordType::AAAA, true, &[]);
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

#[test]
fn aliases_are_followed_inside_the_domain() {
    let db = "DB.default.svc.cluster.local.";
    check("near.default.svc", RecordType::A, true, &[db, "10.244.0.5", "10.244.0.6"]);
    check("near.default.svc", RecordType::CNAME, true, &[db]);
    check("near.default.svc", RecordType::AAAA, true, &[]);
    let near = "near.default.svc.cluster.local.";
    check("nearer.default.svc", RecordType::A, true, &[near, db, "10.244.0.5", "10.244.0.6"]);
    check("farther.default.svc", RecordType::A, true, &["out.default.svc.cluster.local.", "example.com."]);
    for nowhere in ["nowhere", "loop"] {
        check(&format!("{nowhere}.default.svc"), RecordType::A, true, &[]);
    }
    check("address.default.svc", RecordType::A, false, &[]);
    check("_sql._tcp.near.default.svc", RecordType::SRV, false, &[]);
}

#[test]
fn ports_exist_or_not() {
    check("_http._tcp.web.default.svc", RecordType::A, true, &["10.96.0.7"]);
    check("_nope._tcp.web.default.svc", RecordType::A, false, &[]);
    check("_sql._tcp.db.default.svc", RecordType::A, true, &["10.244.0.5", "10.244.0.6"]);
    check("_sql._udp.db.default.svc", RecordType::AAAA, false, &[]);
}

#[test]
fn a_service_has_many_endpoints() {
    let mut facts = fixed();
    let endpoints: Vec<_> = (0..5000u32)
        .map(|number| json!({"addresses": [IpAddr::from((0x0a00_0000 + number % 4000).to_be_bytes())]}))
        .collect();
    facts.slices = vec![Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "sql", "port": 1}], "endpoints": endpoints,
        }))
        .unwrap(),
    )];
    let domain = Name::from_ascii("cluster.local.").unwrap();
    let responder = Responder { facts: &facts, domain: &domain };
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    assert_eq!(responder.resolve(&name, RecordType::A).unwrap().records.len(), 4000);
    let served = responder.resolve(&name, RecordType::SRV).unwrap();
    assert_eq!((served.records.len(), served.additional.len()), (4000, 4000));
}
