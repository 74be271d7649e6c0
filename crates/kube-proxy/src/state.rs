//! What is programmed, Service by Service, and the script that brings it up to date.

use client::Key;
use packetfilter::{Family, Ruleset};
use rustc_hash::FxHashMap;

use crate::base::{Settings, TABLE};
use crate::model::Forward;
use crate::rules;

/// One family's table.
pub struct Table {
    pub settings: Settings,
    base: Ruleset,
    parts: FxHashMap<Key, Part>,
    /// What is in the kernel is not known: the next script makes the table anew.
    unknown: bool,
}

#[derive(Default)]
struct Part {
    rules: Ruleset,
    forwards: Vec<Forward>,
}

/// A change of one Service: what it was forwarded to, and is now.
pub struct Changed {
    pub old: Vec<Forward>,
    pub new: Vec<Forward>,
}

impl Table {
    pub fn new(settings: Settings) -> Table {
        Table { settings, base: Ruleset::default(), parts: FxHashMap::default(), unknown: true }
    }

    pub fn family(&self) -> Family {
        self.settings.family
    }

    /// How many chains there are, of Services.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Says that the kernel may hold something else: a script failed, or somebody else wrote.
    pub fn distrust(&mut self) {
        self.unknown = true;
    }

    /// Takes in the base rules and the changed Services; returns the script, empty when nothing changed, and what changed.
    /// The cost is that of the changed Services, unless the table has to be made anew.
    pub fn update(&mut self, base: Ruleset, services: Vec<(Key, Vec<Forward>)>) -> (String, Vec<Changed>) {
        let mut old = std::mem::replace(&mut self.base, base.clone());
        let mut new = base;
        let mut changes = Vec::new();
        for (key, forwards) in services {
            let before = self.parts.remove(&key).unwrap_or_default();
            let mut part = Part { rules: Ruleset::default(), forwards };
            for forward in &part.forwards {
                rules::add(&mut part.rules, forward, &self.settings);
            }
            changes.push(Changed { old: before.forwards, new: part.forwards.clone() });
            merge(&mut old, before.rules);
            merge(&mut new, part.rules.clone());
            if !part.forwards.is_empty() {
                self.parts.insert(key, part);
            }
        }
        let mut script = String::new();
        if self.unknown {
            let mut all = self.base.clone();
            for part in self.parts.values() {
                merge(&mut all, part.rules.clone());
            }
            script = all.replace(self.family(), TABLE);
            self.unknown = false;
        } else {
            old.difference(&new, self.family(), TABLE, &mut script);
        }
        (script, changes)
    }
}

fn merge(into: &mut Ruleset, from: Ruleset) {
    into.sets.extend(from.sets);
    into.elements.extend(from.elements);
    into.hooks.extend(from.hooks);
    into.chains.extend(from.chains);
}

#[cfg(test)]
mod tests {
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
        let (script, _) = table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2"]))]);
        assert!(script.starts_with("add table ip kube-proxy\ndelete table ip kube-proxy\n"));
        let (script, changes) =
            table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
        assert!(!script.contains("10.244.0.2:8080"), "the endpoint that stays is left alone: {script}");
        assert!(script.contains("10.244.0.3:8080"));
        assert_eq!(changes[0].old[0].cluster.len(), 1);
        let (script, _) =
            table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
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
        let (script, _) =
            table.update(Ruleset::default(), vec![(new, web(&["10.244.0.2"])), (old, Vec::new())]);
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
        let (script, _) = table.update(Ruleset::default(), Vec::new());
        assert!(script.contains("delete table") && script.contains("10.244.0.2:8080"));
    }
}
