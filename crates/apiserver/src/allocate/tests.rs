mod written;

use api::json;

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
fn ports_are_given_once() {
    let mut ports = Ports::new(PortRange { first: 30000, last: 30020 });
    ports.take(30000).unwrap();
    assert_eq!(ports.take(30000).unwrap_err(), "provided port is already allocated");
    assert_eq!(
        ports.take(80).unwrap_err(),
        "provided port is not in the valid range. The range of valid ports is 30000-30020"
    );
    for _ in 0..20 {
        ports.any().unwrap();
    }
    assert_eq!(ports.any(), None);
}

#[test]
fn a_service_may_have_a_node_port_for_several_protocols() {
    let spec = |ports: Tree| json!({"spec": {"type": "NodePort", "ports": ports}});
    let port = |port: u16, protocol: &str, node_port: u16| match node_port {
        0 => json!({"port": port, "protocol": protocol}),
        _ => json!({"port": port, "protocol": protocol, "nodePort": node_port}),
    };
    let mut all = Ports::new(PortRange { first: 30000, last: 32767 });
    let mut create = |ports: Tree| {
        let mut service = spec(ports);
        let plan = ports::allocate(&mut service, None, "s", &mut all).map_err(|status| status.message)?;
        Ok::<_, String>((ports::of(&service), plan.taken))
    };
    let both = json!([port(80, "TCP", 0), port(80, "UDP", 30103)]);
    assert_eq!(create(both), Ok((vec![30103, 30103], vec![30103])));
    let differ = json!([port(80, "TCP", 30110), port(80, "UDP", 30111)]);
    assert_eq!(create(differ), Ok((vec![30110, 30111], vec![30110, 30111])));
    let refused = "Service \"s\" is invalid: spec.ports[1].nodePort: Invalid value: 30102: provided port is already allocated";
    let other_port = json!([port(80, "TCP", 30102), port(81, "UDP", 30102)]);
    assert_eq!(create(other_port), Err(refused.to_owned()));
    let (given, taken) = create(json!([port(80, "TCP", 0), port(80, "UDP", 0), port(81, "TCP", 0)])).unwrap();
    assert!(given[0] == given[1] && taken == [given[0], given[2]]);

    let old = spec(json!([port(80, "TCP", 30103), port(80, "UDP", 30103)]));
    let mut update = |ports: Tree| {
        let mut service = spec(ports);
        let plan =
            ports::allocate(&mut service, Some(&old), "s", &mut all).map_err(|status| status.message)?;
        Ok::<_, String>((ports::of(&service), plan))
    };
    let moved = json!([port(80, "TCP", 30120), port(80, "UDP", 30120)]);
    let plan = ports::Plan { taken: vec![30120], released: vec![30103, 30103] };
    assert_eq!(update(moved), Ok((vec![30120, 30120], plan)));
    let twice = json!([port(80, "TCP", 30103), port(81, "TCP", 30103)]);
    assert_eq!(update(twice), Err("duplicate nodePort: {TCP 30103}".to_owned()));
    let (given, plan) = update(json!([port(80, "TCP", 30103), port(80, "UDP", 0)])).unwrap();
    assert!(given[1] != 30103 && plan.taken == [given[1]] && plan.released.is_empty());
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
    let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
    families::carry_over(&mut new, &old);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.9"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
}

#[test]
fn node_ports_are_kept_by_the_name_of_their_port() {
    const PLAIN: &str = "LoadBalancer without node ports";
    let service = |kind: &str, ports: &[(&str, u16)]| {
        let ports: Vec<Tree> = ports
            .iter()
            .map(|(name, node_port)| match node_port {
                0 => json!({"name": name, "port": 80}),
                _ => json!({"name": name, "port": 80, "nodePort": node_port}),
            })
            .collect();
        match kind {
            PLAIN => {
                json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}})
            }
            kind => json!({"spec": {"type": kind, "ports": ports}}),
        }
    };
    type Ports<'a> = &'a [(&'a str, u16)];
    let cases: [(&str, Ports<'_>, &str, Ports<'_>, &[u16]); 9] = [
        ("NodePort", &[("a", 30001)], "NodePort", &[("a", 0)], &[30001]),
        ("NodePort", &[("a", 30001)], "LoadBalancer", &[("a", 0)], &[30001]),
        ("LoadBalancer", &[("a", 30001)], "NodePort", &[("a", 0)], &[30001]),
        ("NodePort", &[("a", 30001)], PLAIN, &[("a", 0)], &[]),
        (PLAIN, &[("a", 30001)], PLAIN, &[("a", 0)], &[]),
        (PLAIN, &[("a", 30001)], PLAIN, &[("a", 30001)], &[30001]),
        ("NodePort", &[("a", 30001)], "ClusterIP", &[("a", 0)], &[]),
        ("NodePort", &[("a", 30001), ("b", 30002)], "NodePort", &[("c", 0), ("b", 0)], &[30002]),
        // what another port asks for is not given back to its former owner
        ("NodePort", &[("a", 30001), ("b", 30002)], "NodePort", &[("a", 0), ("b", 30001)], &[30001]),
    ];
    for (before, had, now, asked, expect) in cases {
        let mut new = service(now, asked);
        ports::carry_over(&mut new, &service(before, had));
        assert_eq!(ports::of(&new), expect, "{before} {had:?} -> {now} {asked:?}");
    }
}
