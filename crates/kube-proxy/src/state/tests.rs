use serde_json::json;

use super::*;
use crate::model::forwards;
use crate::model::tests::{http, place, service, slice};

fn table() -> Table {
    Table::new(Settings {
        family: Family::Ip,
        mark: 0x4000,
        masquerade_all: false,
        cluster_networks: Vec::new(),
    })
}

fn web(addresses: &[&str]) -> Vec<Forward> {
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    forwards(&service(http()), &[slice(json!(endpoints))], Family::Ip, &place())
}

/// The fixed content, which says what is a set and what a map.
fn base() -> Ruleset {
    crate::base::ruleset(&table().settings, &crate::base::Networks::default())
}

fn update(table: &mut Table, services: Services) -> String {
    let change = table.update(base(), services);
    let script = change.script.clone();
    table.applied(change);
    script
}

#[test]
fn a_change_costs_its_own_size() {
    let mut table = table();
    let key = Key::new("default", "web");
    let script = update(&mut table, vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
    assert!(script.starts_with("add table ip kube-proxy\ndelete table ip kube-proxy\n"));
    let script = update(&mut table, vec![(key.clone(), web(&["10.244.0.2", "10.244.0.4"]))]);
    assert_eq!(
        script.lines().collect::<Vec<_>>(),
        [
            "delete element ip kube-proxy tcp-endpoints { 10.96.0.7 . 80 . 1 }",
            "add element ip kube-proxy tcp-endpoints { 10.96.0.7 . 80 . 1 : 10.244.0.4 . 8080 }",
        ]
    );
    let script = update(&mut table, vec![(key.clone(), web(&["10.244.0.2", "10.244.0.4"]))]);
    assert_eq!(script, "");
    update(&mut table, vec![(key, Vec::new())]);
    assert!(table.is_empty() && table.owners.is_empty());
}

#[test]
fn a_chain_that_services_share_is_made_once() {
    let mut table = table();
    let service = |name: &str, addresses: &[&str]| {
        let mut forwards = web(addresses);
        forwards[0].name = name.into();
        forwards[0].cluster_ip = format!("10.96.1.{}", name.len()).parse().unwrap();
        (Key::new("default", name), forwards)
    };
    let made = |script: &str| script.matches("add chain").count();
    let before = update(&mut table, Vec::new());
    assert_eq!(made(&before), base().chains.len());
    assert_eq!(made(&update(&mut table, vec![service("a", &["10.244.0.2"])])), 1);
    let change = table.update(base(), vec![service("bb", &["10.244.0.2", "10.244.0.3"])]);
    assert_eq!(made(&change.script), 1);
    table.undo(change);
    let script = update(&mut table, vec![service("bb", &["10.244.0.2", "10.244.0.3"])]);
    assert_eq!(made(&script), 1, "the first time it was not made");
    assert_eq!(made(&update(&mut table, vec![service("ccc", &["10.244.0.2", "10.244.0.3"])])), 0);
    table.distrust();
    assert_eq!(made(&update(&mut table, Vec::new())), base().chains.len() + 2);
}

#[test]
fn an_element_that_several_services_want_stays_while_one_does() {
    let mut table = table();
    let local = |name: &str| {
        let mut forwards = web(&[]);
        forwards[0].name = name.into();
        forwards[0].cluster_ip = format!("10.96.1.{}", name.len()).parse().unwrap();
        let target = crate::model::Target { address: [10, 244, 0, 2].into(), port: 8080 };
        forwards[0].cluster.insert(target.clone());
        forwards[0].local.insert(target);
        (Key::new("default", name), forwards)
    };
    let hairpin = "hairpin-connections { 10.244.0.2 . 10.244.0.2 . tcp . 8080 }";
    let script = update(&mut table, vec![local("a"), local("bb")]);
    assert!(script.contains("hairpin-connections { 10.244.0.2 . 10.244.0.2 . tcp . 8080"));
    let gone = |name| vec![(Key::new("default", name), Vec::new())];
    assert!(!update(&mut table, gone("a")).contains(hairpin));
    assert!(update(&mut table, gone("bb")).contains(&format!("delete element ip kube-proxy {hairpin}")));
}

#[test]
fn an_address_that_changes_hands_is_one_change() {
    let mut table = table();
    let (old, new) = (Key::new("default", "old"), Key::new("default", "web"));
    let mut first = web(&["10.244.0.2"]);
    first[0].name = "old".into();
    update(&mut table, vec![(old.clone(), first)]);
    let script = update(&mut table, vec![(new, web(&["10.244.0.2", "10.244.0.3"])), (old, Vec::new())]);
    let position = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text} in {script}"));
    assert!(
        position("delete element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80 }")
            < position("add element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80 :")
    );
}

#[test]
fn chains_that_nothing_leads_to_are_emptied_and_wait() {
    let mut table = table();
    let key = Key::new("default", "web");
    let mut with_affinity = web(&["10.244.0.2"]);
    with_affinity[0].affinity = Some(60);
    update(&mut table, vec![(key.clone(), with_affinity.clone())]);
    let script = update(&mut table, vec![(key.clone(), web(&["10.244.0.2"]))]);
    assert!(script.contains("flush chain ip kube-proxy service-") && !script.contains("delete chain"));
    assert!(script.contains("delete set ip kube-proxy affinity-60-"));
    assert_eq!(table.unused().len(), 2);
    update(&mut table, vec![(key, with_affinity)]);
    assert!(table.unused().is_empty(), "they are in use again");
}

#[test]
fn a_replaced_table_keeps_the_clients_of_its_endpoints() {
    let mut table = table();
    let mut with_affinity = web(&["10.244.0.2"]);
    with_affinity[0].affinity = Some(60);
    let mut change = table.update(base(), vec![(Key::new("default", "web"), with_affinity)]);
    let set =
        change.script.lines().find_map(|line| line.strip_prefix("add set ip kube-proxy affinity-")).unwrap();
    let set = format!("affinity-{}", set.split(' ').next().unwrap());
    let client = |set: &str| Remembered { set: set.into(), element: "10.0.0.1 expires 5s".into() };
    table.remember(&[client(&set), client("affinity-60-of-another")], &mut change.script);
    let added: Vec<_> = change.script.lines().filter(|line| line.contains("expires")).collect();
    assert_eq!(added, [format!("add element ip kube-proxy {set} {{ 10.0.0.1 expires 5s }}")]);
}

#[test]
fn after_a_failure_the_table_is_as_it_was() {
    let mut table = table();
    let key = Key::new("default", "web");
    update(&mut table, vec![(key.clone(), web(&["10.244.0.2"]))]);
    let new = vec![(key, web(&["10.244.0.3"])), (Key::new("default", "gone"), Vec::new())];
    let change = table.update(base(), new.clone());
    let script = change.script.clone();
    assert_eq!(table.undo(change), new);
    assert_eq!(update(&mut table, new), script);
    table.distrust();
    let script = update(&mut table, Vec::new());
    assert!(script.contains("delete table") && script.contains("10.244.0.3 . 8080"));
}

/// A Service of its own endpoint at the external address that others want too.
fn shared(name: &str, created: &str, endpoint: &str) -> (Key, Vec<Forward>) {
    let mut forwards = web(&[endpoint]);
    forwards[0].name = name.into();
    forwards[0].created = Some(created.parse().unwrap());
    forwards[0].cluster_ip = endpoint.replace("10.244", "10.96").parse().unwrap();
    forwards[0].external_ips = vec!["192.0.2.1".parse().unwrap()];
    (Key::new("default", name), forwards)
}

#[test]
fn a_shared_address_is_the_oldest_ones_and_then_the_next_ones() {
    let old = shared("old", "2026-01-01T00:00:00Z", "10.244.0.2");
    let young = shared("a-young", "2026-02-01T00:00:00Z", "10.244.0.3");
    let gone = |service: &(Key, Vec<Forward>)| vec![(service.0.clone(), Vec::new())];
    let contested = |script: &str| {
        let place = "192.0.2.1 . 80 . 0";
        let has = |verb: &str, text: &str| {
            let verb = format!("{verb} element ip kube-proxy tcp-endpoints ");
            script.lines().any(|line| line.starts_with(&verb) && line.contains(text))
        };
        let endpoint = |address: &str| has("add", &format!("{place} : {address} . 8080"));
        (has("delete", place), endpoint("10.244.0.2"), endpoint("10.244.0.3"))
    };

    let mut table = table();
    let script = update(&mut table, vec![old.clone()]);
    assert_eq!(contested(&script), (false, true, false));
    let script = update(&mut table, vec![young.clone()]);
    assert_eq!(contested(&script), (false, false, false), "it is taken: {script}");
    assert!(script.contains("10.96.0.3 . tcp . 80"));
    let script = update(&mut table, gone(&young));
    assert_eq!(contested(&script), (false, false, false), "it stays the other's: {script}");
    update(&mut table, vec![young.clone()]);
    let script = update(&mut table, gone(&old));
    assert_eq!(contested(&script), (true, false, true));
    let script = update(&mut table, vec![old.clone()]);
    assert_eq!(contested(&script), (true, true, false));
    table.distrust();
    let script = update(&mut table, Vec::new());
    assert_eq!(contested(&script), (false, true, false), "made anew it is the same");
    update(&mut table, gone(&old));
    let script = update(&mut table, gone(&young));
    assert_eq!(contested(&script), (true, false, false));
    assert!(table.owners.is_empty());
}
