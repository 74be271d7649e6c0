mod written;

use serde_json::json;

use super::*;

#[test]
fn addresses_come_from_the_upper_part_and_are_given_once() {
    let mut addresses = Addresses::new("10.96.0.0/28".parse().unwrap());
    assert_eq!(addresses.first().to_string(), "10.96.0.1");
    addresses.take("10.96.0.1".parse().unwrap()).unwrap();
    assert_eq!(addresses.take("10.96.0.1".parse().unwrap()).unwrap_err(), "provided IP is already allocated");
    for wrong in ["10.96.0.0", "10.96.0.15", "1.2.3.4"] {
        assert_eq!(
            addresses.take(wrong.parse().unwrap()).unwrap_err(),
            "the provided network does not match the current range"
        );
    }
    for _ in 0..13 {
        addresses.any().unwrap();
    }
    assert_eq!(addresses.any().unwrap_err(), "range is full");
    addresses.give_back("10.96.0.7".parse().unwrap());
    assert_eq!(addresses.any().unwrap().to_string(), "10.96.0.7");
    let mut wide = Addresses::new("10.96.0.0/16".parse().unwrap());
    for _ in 0..100 {
        assert!(wide.any().unwrap() > "10.96.1.0".parse::<std::net::IpAddr>().unwrap());
    }
}

#[test]
fn a_port_serves_two_protocols() {
    let mut ports = Ports::new(PortRange { first: 30000, last: 30020 });
    ports.take(("TCP".into(), 30000)).unwrap();
    ports.take(("UDP".into(), 30000)).unwrap();
    assert_eq!(ports.take(("TCP".into(), 30000)).unwrap_err(), "provided port is already allocated");
    assert_eq!(
        ports.take(("TCP".into(), 80)).unwrap_err(),
        "provided port is not in the valid range. The range of valid ports is 30000-30020"
    );
    for _ in 0..20 {
        ports.any("TCP").unwrap();
    }
    assert_eq!(ports.any("TCP"), None);
}

#[test]
fn families_of_a_single_stack_cluster() {
    let check = |spec: Tree, policy: &str, expect: Tree| {
        let mut service = json!({"spec": spec});
        assert!(families::complete(&mut service, &[true]).is_empty());
        assert_eq!(service["spec"]["ipFamilyPolicy"], policy);
        assert_eq!(service["spec"]["ipFamilies"], expect);
    };
    check(json!({"selector": {"a": "b"}}), "SingleStack", json!(["IPv4"]));
    check(
        json!({"selector": {"a": "b"}, "ipFamilyPolicy": "PreferDualStack"}),
        "PreferDualStack",
        json!(["IPv4"]),
    );
    check(json!({"clusterIP": "None"}), "RequireDualStack", json!(["IPv4", "IPv6"]));
    check(json!({"clusterIP": "None", "selector": {"a": "b"}}), "SingleStack", json!(["IPv4"]));
    let mut service = json!({"spec": {"ipFamilyPolicy": "RequireDualStack", "selector": {"a": "b"}}});
    assert!(!families::complete(&mut service, &[true]).is_empty());
}

#[test]
fn an_update_keeps_what_was_allocated() {
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
    let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}});
    families::carry_over(&mut new, &old);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.9"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
    assert!(new["spec"]["ports"][1]["nodePort"].is_null());
}
