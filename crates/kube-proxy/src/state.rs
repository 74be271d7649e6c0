//! What is programmed, Service by Service, and the script that brings it up to date.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use client::Key;
use packetfilter::{Family, Ruleset};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::base::{Settings, TABLE};
use crate::model::Forward;
use crate::rules;

/// One family's table.
pub struct Table {
    pub settings: Settings,
    base: Ruleset,
    parts: FxHashMap<Key, Arc<Part>>,
    /// By an element's hash, the Services that want it.
    owners: FxHashMap<u64, Vec<Arc<Part>>>,
    /// What is in the kernel is not known: the next script makes the table anew.
    unknown: bool,
    /// UDP flows may go where they must not: to be seen to once the rules are in, and until that has worked.
    unclean: bool,
}

/// What one Service comes to.
struct Part {
    key: Key,
    rules: Ruleset,
    forwards: Vec<Forward>,
}

impl Part {
    /// Of Services that want the same address and port the oldest has it, then the first by name, so that nobody can
    /// take over what another has. (With upstream it is whichever its map yields last, anew with each start.)
    fn rank(&self) -> (Option<jiff::Timestamp>, &Key) {
        (self.forwards.first().and_then(|forward| forward.created), &self.key)
    }

    fn udp(&self) -> impl Iterator<Item = &Forward> {
        self.forwards.iter().filter(|forward| forward.protocol == "udp")
    }
}

/// An element's set and key.
type Place = (String, String);

impl Table {
    pub fn new(settings: Settings) -> Table {
        Table {
            settings,
            base: Ruleset::default(),
            parts: FxHashMap::default(),
            owners: FxHashMap::default(),
            unknown: true,
            unclean: false,
        }
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
        // Flows that began meanwhile went by no rules or old ones.
        self.unclean = true;
    }

    /// Whether UDP flows have to be compared with the endpoints.
    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// Says that they have been.
    pub fn cleaned(&mut self) {
        self.unclean = false;
    }

    /// Every port of every Service.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.parts.values().flat_map(|part| &part.forwards)
    }

    /// Takes in the base rules and the changed Services; returns the script, empty when nothing changed.
    /// The cost is that of the changed Services, unless the table has to be made anew.
    pub fn update(&mut self, base: Ruleset, services: Vec<(Key, Vec<Forward>)>) -> String {
        let mut old = std::mem::replace(&mut self.base, base.clone());
        let mut new = base;
        let changed: Vec<Part> =
            services.into_iter().map(|(key, forwards)| self.part(key, forwards)).collect();
        let mut touched: BTreeSet<Place> = BTreeSet::new();
        if !self.unknown {
            for part in &changed {
                let before =
                    self.parts.get(&part.key).into_iter().flat_map(|before| before.rules.elements.keys());
                touched.extend(part.rules.elements.keys().chain(before).cloned());
            }
            self.elements(&touched, &mut old);
        }
        for part in changed {
            let before = self.parts.remove(&part.key);
            self.unclean |= !before.iter().flat_map(|before| before.udp()).eq(part.udp());
            if let Some(before) = before {
                self.disown(&before);
                merge(&mut old, &before.rules);
            }
            if !part.forwards.is_empty() {
                if !self.unknown {
                    merge(&mut new, &part.rules);
                }
                self.own(part);
            }
        }
        let mut script = String::new();
        if self.unknown {
            let mut parts: Vec<&Part> = self.parts.values().map(Arc::as_ref).collect();
            // The last to write an element is the one who has it.
            parts.sort_unstable_by(|one, other| other.rank().cmp(&one.rank()));
            for part in parts {
                merge(&mut new, &part.rules);
                new.elements.extend(part.rules.elements.clone());
            }
            script = new.replace(self.family(), TABLE);
            self.unknown = false;
        } else {
            self.elements(&touched, &mut new);
            old.difference(&new, self.family(), TABLE, &mut script);
        }
        script
    }

    fn part(&self, key: Key, forwards: Vec<Forward>) -> Part {
        let mut rules = Ruleset::default();
        for forward in &forwards {
            rules::add(&mut rules, forward, &self.settings);
        }
        Part { key, rules, forwards }
    }

    /// Adds these elements as they are now.
    fn elements(&self, places: &BTreeSet<Place>, into: &mut Ruleset) {
        for place in places {
            let owners = self.owners.get(&hash(place)).into_iter().flatten();
            let values = owners.filter_map(|part| Some((part.rank(), part.rules.elements.get(place)?)));
            if let Some((_, value)) = values.min() {
                into.elements.insert(place.clone(), value.clone());
            }
        }
    }

    fn own(&mut self, part: Part) {
        let part = Arc::new(part);
        for place in part.rules.elements.keys() {
            self.owners.entry(hash(place)).or_insert_with(|| Vec::with_capacity(1)).push(part.clone());
        }
        self.parts.insert(part.key.clone(), part);
    }

    fn disown(&mut self, part: &Arc<Part>) {
        for place in part.rules.elements.keys() {
            if let Entry::Occupied(mut owners) = self.owners.entry(hash(place)) {
                owners.get_mut().retain(|owner| !Arc::ptr_eq(owner, part));
                if owners.get().is_empty() {
                    owners.remove();
                }
            }
        }
    }
}

fn hash(place: &Place) -> u64 {
    FxBuildHasher.hash_one(place)
}

/// What is a Service's own: all but the elements.
fn merge(into: &mut Ruleset, from: &Ruleset) {
    into.sets.extend(from.sets.clone());
    into.hooks.extend(from.hooks.clone());
    into.chains.extend(from.chains.clone());
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
        let script = table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2"]))]);
        assert!(script.starts_with("add table ip kube-proxy\ndelete table ip kube-proxy\n"));
        let script =
            table.update(Ruleset::default(), vec![(key.clone(), web(&["10.244.0.2", "10.244.0.3"]))]);
        assert!(!script.contains("10.244.0.2:8080"), "the endpoint that stays is left alone: {script}");
        assert!(script.contains("10.244.0.3:8080"));
        let script =
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
}
