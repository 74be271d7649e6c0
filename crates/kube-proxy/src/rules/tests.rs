use serde_json::{Value, json};

use super::*;
use crate::model::forwards;
use crate::model::tests::{http, service, slice};

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
    for forward in forwards(&service(spec), &[slice(endpoints)], Family::Ip, "node-1") {
        add(&mut rules, &forward, &settings());
    }
    rules
}

fn chain<'a>(rules: &'a Ruleset, prefix: &str) -> &'a [String] {
    let mut found = rules.chains.iter().filter(|(name, _)| name.starts_with(prefix));
    let (_, lines) = found.next().unwrap_or_else(|| panic!("no chain {prefix}: {:?}", rules.chains.keys()));
    lines
}

fn element(rules: &Ruleset, set: &str, key: &str) -> Option<String> {
    rules.elements.get(&(set.to_owned(), key.to_owned())).cloned()
}

#[test]
fn a_cluster_ip_is_spread_over_its_endpoints() {
    let rules = rules(|_| {}, both());
    assert!(element(&rules, SERVICE_IPS, "10.96.0.7 . tcp . 80").unwrap().starts_with("goto service-"));
    let lines = chain(&rules, "service-");
    assert_eq!(
        lines[0],
        "ip daddr 10.96.0.7 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade"
    );
    assert!(lines[1].starts_with("numgen random mod 2 vmap { 0 : goto endpoint-"));
    let lines = chain(&rules, "endpoint-");
    assert_eq!(
        lines,
        ["ip saddr 10.244.0.2 jump mark-for-masquerade", "meta l4proto tcp dnat to 10.244.0.2:8080"]
    );
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
    assert!(element(&cluster, SERVICE_NODE_PORTS, "tcp . 30080").unwrap().starts_with("goto external-"));
    assert_eq!(chain(&cluster, "external-")[0], "jump mark-for-masquerade");

    let local = rules(
        |spec| {
            spec["ports"][0]["nodePort"] = json!(30080);
            spec["externalTrafficPolicy"] = json!("Local");
        },
        both(),
    );
    let lines = chain(&local, "external-");
    assert!(lines[0].starts_with("ip saddr 10.244.0.0/16 goto service-"));
    assert!(lines.last().unwrap().starts_with("goto local-"));
    assert!(chain(&local, "local-").last().unwrap().starts_with("numgen random mod 1 "));

    let none_here = rules(
        |spec| {
            spec["ports"][0]["nodePort"] = json!(30080);
            spec["externalTrafficPolicy"] = json!("Local");
        },
        json!([{"addresses": ["10.244.1.2"], "nodeName": "node-2"}]),
    );
    assert_eq!(chain(&none_here, "external-").last().unwrap(), "drop");
}

#[test]
fn internal_policy_local_keeps_to_this_node() {
    let here = rules(|spec| spec["internalTrafficPolicy"] = json!("Local"), both());
    assert!(element(&here, SERVICE_IPS, "10.96.0.7 . tcp . 80").unwrap().starts_with("goto local-"));
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
    assert!(lines[1].starts_with("ip saddr @affinity-10800-") && lines[1].contains(" goto endpoint-"));
    assert!(chain(&rules, "endpoint-").iter().any(|line| line.starts_with("update @affinity-10800-")));
}

#[test]
fn a_load_balancers_source_ranges_are_kept() {
    let forward = |mut forward: Forward| {
        forward.load_balancer_ips = vec![[192, 0, 2, 1].into()];
        forward.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
        forward
    };
    let mut rules = Ruleset::default();
    let found = forwards(&service(http()), &[slice(both())], Family::Ip, "node-1").remove(0);
    add(&mut rules, &forward(found), &settings());
    assert!(element(&rules, SERVICE_IPS, "192.0.2.1 . tcp . 80").unwrap().starts_with("goto firewall-"));
    assert_eq!(chain(&rules, "firewall-").last().unwrap(), "drop");
}
