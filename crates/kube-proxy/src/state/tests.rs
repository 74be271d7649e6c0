use serde_json::json;

use super::*;
use crate::model::forwards;
use crate::model::tests::{http, service, slice};

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
    forwards(&service(http()), &[slice(json!(endpoints))], Family::Ip, "node-1")
}

#[test]
fn a_change_costs_its_own_size() {
    let mut table = table();
    let key = Key::new("default", "web");
    let script = table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2"]))]);
    assert!(script.starts_with("add table ip kube-proxy\ndelete table ip kube-proxy\n"));
    let script = table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
    assert!(!script.contains("10.244.0.2:8080"), "the endpoint that stays is left alone: {script}");
    assert!(script.contains("10.244.0.3:8080"));
    let script = table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
    assert_eq!(script, "");
    table.update(Ruleset::default(), vec![(key, Vec::new())]);
    assert!(table.is_empty());
}

#[test]
fn an_address_that_changes_hands_is_one_change() {
    let mut table = table();
    let (old, new) = (Key::new("default", "old"), Key::new("default", "web"));
    let mut first = web(&["10.244.0.2"]);
    first[0].name = "old".into();
    table.update(Ruleset::default(), vec![(old.clone(), first)]);
    let script = table.update(Ruleset::default(), vec![(new, web(&["10.244.0.2"])), (old, Vec::new())]);
    let position = |text: &str| script.find(text).unwrap_or_else(|| panic!("no {text} in {script}"));
    assert!(
        position("delete element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80 }")
            < position("add element ip kube-proxy service-ips { 10.96.0.7 . tcp . 80 :")
    );
}

#[test]
fn after_a_failure_the_table_is_made_anew() {
    let mut table = table();
    table.update(Ruleset::default(), vec![(Key::new("default", "web"), web(&["10.244.0.2"]))]);
    table.distrust();
    let script = table.update(Ruleset::default(), Vec::new());
    assert!(script.contains("delete table") && script.contains("10.244.0.2:8080"));
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
        let lines = script.lines().filter(|line| line.contains("{ 192.0.2.1 . tcp . 80"));
        lines
            .map(|line| (line.split(' ').next().unwrap().to_owned(), line.contains("default/old/")))
            .collect::<Vec<_>>()
    };
    let delete = ("delete".to_owned(), false);
    let add = |is_old| ("add".to_owned(), is_old);

    let mut table = table();
    let base = Ruleset::default;
    let script = table.update(base(), vec![old.clone()]);
    assert_eq!(contested(&script), [add(true)]);
    let script = table.update(base(), vec![young.clone()]);
    assert_eq!(contested(&script), [], "it is taken: {script}");
    assert!(script.contains("10.96.0.3 . tcp . 80"));
    let script = table.update(base(), gone(&young));
    assert_eq!(contested(&script), [], "it stays the other's: {script}");
    table.update(base(), vec![young.clone()]);
    let script = table.update(base(), gone(&old));
    assert_eq!(contested(&script), [delete.clone(), add(false)]);
    let script = table.update(base(), vec![old.clone()]);
    assert_eq!(contested(&script), [delete.clone(), add(true)]);
    table.distrust();
    let script = table.update(base(), Vec::new());
    assert_eq!(contested(&script), [add(true)], "made anew it is the same");
    table.update(base(), gone(&old));
    let script = table.update(base(), gone(&young));
    assert_eq!(contested(&script), [delete]);
    assert!(table.owners.is_empty());
}
