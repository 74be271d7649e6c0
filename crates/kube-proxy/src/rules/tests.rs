use serde_json::{Value, json};

use super::*;
use crate::model::forwards;
use crate::model::tests::{http, place, service, slice};

fn settings() -> Settings {
    Settings {
        family: Family::Ip,
        mark: 0x4000,
        masquerade_all: false,
        cluster_networks: vec!["10.244.0.0/16".parse().unwrap()],
    }
}

fn both() -> Value {
    json!([
        {"addresses": ["10.244.0.2"], "nodeName": "node-1"},
        {"addresses": ["10.244.1.2"], "nodeName": "node-2"},
    ])
}

fn rules(change: impl FnOnce(&mut Value), endpoints: Value) -> Ruleset {
    let mut spec = http();
    change(&mut spec);
    let mut rules = Ruleset::default();
    for forward in forwards(&service(spec), &[slice(endpoints)], Family::Ip, &place()) {
        add(&mut rules, &forward, &settings());
    }
    rules
}

fn chain<'a>(rules: &'a Ruleset, prefix: &str) -> &'a [String] {
    let mut found = rules.chains.iter().filter(|(name, _)| name.starts_with(prefix));
    let (_, lines) = found.next().unwrap_or_else(|| panic!("no chain {prefix}: {:?}", rules.chains.keys()));
    lines
}

fn element(rules: &Ruleset, set: &'static str, key: &str) -> Option<String> {
    rules.elements.get(&(set, key.to_owned())).cloned()
}

fn with(change: impl FnOnce(&mut Forward)) -> Ruleset {
    let mut forward = forwards(&service(http()), &[slice(both())], Family::Ip, &place()).remove(0);
    change(&mut forward);
    let mut rules = Ruleset::default();
    add(&mut rules, &forward, &settings());
    rules
}

#[test]
fn a_cluster_ip_is_spread_over_its_endpoints() {
    let rules = rules(|_| {}, both());
    assert_eq!(element(&rules, SERVICE_IPS, "10.96.0.7 . tcp . 80").unwrap(), "goto tcp-endpoints-2");
    for (number, expect) in ["10.244.0.2 . 8080", "10.244.1.2 . 8080"].into_iter().enumerate() {
        assert_eq!(element(&rules, "tcp-endpoints", &format!("10.96.0.7 . 80 . {number}")).unwrap(), expect);
    }
    assert_eq!(
        chain(&rules, "tcp-endpoints-2"),
        ["dnat ip addr . port to ip daddr . tcp dport . numgen random mod 2 map @tcp-endpoints"]
    );
    let hairpin = |address: &str| {
        element(&rules, HAIRPIN_CONNECTIONS, &format!("{address} . {address} . tcp . 8080")).is_some()
    };
    assert!(
        hairpin("10.244.0.2") && !hairpin("10.244.1.2"),
        "only pods of this node come back to themselves"
    );
    assert!(rules.chains.keys().all(|name| is_shared(name)) && rules.sets.is_empty());
}

#[test]
fn without_endpoints_it_is_refused() {
    let rules = rules(|spec| spec["ports"][0]["nodePort"] = json!(30080), json!([]));
    assert_eq!(element(&rules, NO_ENDPOINT_SERVICES, "10.96.0.7 . tcp . 80").unwrap(), "goto reject-chain");
    assert_eq!(element(&rules, NO_ENDPOINT_NODE_PORTS, "tcp . 30080").unwrap(), "goto reject-chain");
    assert_eq!(element(&rules, SERVICE_IPS, "10.96.0.7 . tcp . 80"), None);
    assert!(rules.chains.is_empty());
}

#[test]
fn a_node_port_is_masqueraded_unless_its_policy_is_local() {
    let cluster = rules(|spec| spec["ports"][0]["nodePort"] = json!(30080), both());
    assert_eq!(
        element(&cluster, SERVICE_NODE_PORTS, "tcp . 30080").unwrap(),
        "goto external-tcp-nodeport-endpoints-2"
    );
    assert_eq!(element(&cluster, "tcp-nodeport-endpoints", "30080 . 1").unwrap(), "10.244.1.2 . 8080");
    assert_eq!(
        chain(&cluster, "external-tcp-nodeport-endpoints-2"),
        ["jump mark-for-masquerade", "goto tcp-nodeport-endpoints-2"]
    );

    let local_policy = |spec: &mut Value| {
        spec["ports"][0]["nodePort"] = json!(30080);
        spec["externalTrafficPolicy"] = json!("Local");
    };
    let local = rules(local_policy, both());
    assert_eq!(
        chain(&local, "external-local-"),
        [
            "ip saddr 10.244.0.0/16 goto tcp-nodeport-endpoints-2",
            "fib saddr type local jump mark-for-masquerade",
            "fib saddr type local goto tcp-nodeport-endpoints-2",
            "goto local-tcp-nodeport-endpoints-1",
        ]
    );
    assert_eq!(element(&local, "tcp-nodeport-endpoints", "30080 . 65536").unwrap(), "10.244.0.2 . 8080");
    assert!(chain(&local, "local-tcp-nodeport-")[0].contains("numgen random mod 1 offset 65536 map"));

    let none_here = rules(local_policy, json!([{"addresses": ["10.244.1.2"], "nodeName": "node-2"}]));
    assert_eq!(chain(&none_here, "external-local-").last().unwrap(), "drop");
}

#[test]
fn internal_policy_local_keeps_to_this_node() {
    let here = rules(|spec| spec["internalTrafficPolicy"] = json!("Local"), both());
    assert_eq!(element(&here, SERVICE_IPS, "10.96.0.7 . tcp . 80").unwrap(), "goto local-tcp-endpoints-1");
    let elsewhere = rules(
        |spec| spec["internalTrafficPolicy"] = json!("Local"),
        json!([{"addresses": ["10.244.1.2"], "nodeName": "node-2"}]),
    );
    assert_eq!(element(&elsewhere, NO_ENDPOINT_SERVICES, "10.96.0.7 . tcp . 80").unwrap(), "drop");
}

#[test]
fn affinity_keeps_a_client_at_its_endpoint() {
    let rules = rules(|spec| spec["sessionAffinity"] = json!("ClientIP"), both());
    assert_eq!(rules.sets.len(), 2);
    assert!(rules.sets.values().all(|(_, definition)| definition.contains("timeout 10800s")));
    let lines = chain(&rules, "service-");
    assert!(lines[0].starts_with("ip saddr @affinity-10800-") && lines[0].contains(" goto endpoint-"));
    assert!(
        lines[2].starts_with("numgen random mod 2 0 goto endpoint-")
            && lines[3].starts_with("goto endpoint-")
    );
    assert!(chain(&rules, "endpoint-").iter().any(|line| line.starts_with("update @affinity-10800-")));
}

#[test]
fn a_load_balancers_source_ranges_are_kept() {
    let rules = with(|forward| {
        forward.load_balancer_ips = vec![[192, 0, 2, 1].into()];
        forward.source_ranges =
            ["198.51.100.0/24", "203.0.113.0/24"].map(|range| range.parse().unwrap()).into();
    });
    assert!(element(&rules, FIREWALL_IPS, "192.0.2.1 . tcp . 80").unwrap().starts_with("goto firewall-"));
    assert_eq!(chain(&rules, "firewall-"), ["ip saddr != { 198.51.100.0/24, 203.0.113.0/24 } drop"]);
    assert_eq!(
        element(&rules, SERVICE_IPS, "192.0.2.1 . tcp . 80").unwrap(),
        "goto external-tcp-endpoints-2"
    );
}

#[test]
fn names_are_as_long_as_the_kernel_takes_and_differ() {
    let long = |name: &str| name.repeat(63);
    let mut settings = settings();
    settings.family = Family::Ip6;
    let mut rules = Ruleset::default();
    for last in ["1", "2"] {
        let mut forward = forwards(&service(http()), &[slice(both())], Family::Ip, &place()).remove(0);
        (forward.namespace, forward.name, forward.port_name) = (long("n"), long("s"), long("p"));
        forward.affinity = Some(86400);
        forward.node_port = 30080;
        forward.cluster_ip = "fd00:1234:5678:9abc:def0:1234:5678:9abc".parse().unwrap();
        let address = format!("fd00:1234:5678:9abc:def0:1234:5678:9ab{last}").parse().unwrap();
        forward.cluster = BTreeSet::from([Target { address, port: 65535 }]);
        add(&mut rules, &forward, &settings);
    }
    assert!(rules.chains.keys().chain(rules.sets.keys()).all(|name| name.len() <= 255));
    assert_eq!(rules.sets.len(), 2, "{:?}", rules.sets.keys());
}
