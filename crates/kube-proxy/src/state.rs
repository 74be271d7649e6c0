//! What is programmed, Service by Service, and the script that brings it up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use client::Key;
use packetfilter::{Family, Remembered, Ruleset, Script};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use crate::base::{Settings, TABLE};
use crate::conntrack::Former;
use crate::model::{Forward, Protocol};
use crate::rules;

/// Services and what is to be forwarded for them: nothing for one that is gone.
pub type Services = Vec<(Key, Vec<Forward>)>;

/// One family's table. Rules are a function of the forwards, and are computed again for the few Services that a change
/// concerns; only the forwards are stored.
pub struct Table {
    pub settings: Settings,
    base: Ruleset,
    parts: FxHashMap<Key, Arc<Part>>,
    /// By an element's hash, the Services that want it.
    owners: FxHashMap<u64, Vec<Arc<Part>>>,
    /// Chains that Services share, one for each number of endpoints. They stay until the table is replaced.
    shared: FxHashSet<String>,
    /// Chains that nothing leads to any more, which may be deleted by a later transaction.
    unused: BTreeSet<String>,
    /// The kernel's state is unknown: the next script replaces the table.
    unknown: bool,
    /// Stale UDP conntrack entries may exist: flushed after the next sync, and retried until that succeeds.
    unclean: bool,
    /// UDP forwards that were changed or removed since the last flush.
    former: Former,
}

/// The part of the table that belongs to one Service.
struct Part {
    key: Key,
    forwards: Vec<Forward>,
}

impl Part {
    /// Among Services that want the same address and port the oldest gets it, then the first by name, so that no Service can
    /// take it over from another. (With upstream it is whichever its map yields last, and may change with each start.)
    fn rank(&self) -> (Option<jiff::Timestamp>, &Key) {
        (self.forwards.first().and_then(|forward| forward.created), &self.key)
    }

    fn udp(&self) -> impl Iterator<Item = &Forward> {
        self.forwards.iter().filter(|forward| forward.protocol == Protocol::Udp)
    }

    fn rules(&self, settings: &Settings) -> Ruleset {
        let mut rules = Ruleset::default();
        for forward in &self.forwards {
            rules::add(&mut rules, forward, settings);
        }
        rules
    }
}

/// An element's set and key.
type Place = (&'static str, String);

/// The elements of Services, written while a change is made.
type Rendered = FxHashMap<Key, BTreeMap<Place, String>>;

/// A change that a script makes, until it is known whether the script has worked.
pub struct Change {
    /// Empty when nothing changes.
    pub script: String,
    /// What [`Table::undo`] brings back.
    base: Ruleset,
    before: Services,
    changed: Vec<Key>,
    made: Vec<String>,
    left: Vec<String>,
}

impl Table {
    pub fn new(settings: Settings) -> Table {
        Table {
            settings,
            base: Ruleset::default(),
            parts: FxHashMap::default(),
            owners: FxHashMap::default(),
            shared: FxHashSet::default(),
            unused: BTreeSet::new(),
            unknown: true,
            unclean: false,
            former: Former::default(),
        }
    }

    pub fn family(&self) -> Family {
        self.settings.family
    }

    /// How many Services there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Says that the kernel may have something else, because somebody else wrote.
    pub fn distrust(&mut self) {
        self.unknown = true;
        // Flows that began meanwhile went by no rules or old ones.
        self.unclean = true;
    }

    pub fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// Whether UDP flows have to be compared with the endpoints.
    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// Says that they have been.
    pub fn cleaned(&mut self) {
        self.unclean = false;
        self.former = Former::default();
    }

    /// Every port of every Service.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.parts.values().flat_map(|part| &part.forwards)
    }

    pub fn former(&self) -> &Former {
        &self.former
    }

    /// Chains to delete when the last transaction is a moment ago.
    pub fn unused(&self) -> &BTreeSet<String> {
        &self.unused
    }

    /// Says that they are deleted.
    pub fn deleted(&mut self) {
        self.unused.clear();
    }

    /// Removes and returns every Service, for a table that is to be replaced.
    pub fn take(&mut self) -> Services {
        self.owners = FxHashMap::default();
        self.shared.clear();
        self.unused.clear();
        let parts = std::mem::take(&mut self.parts);
        parts.into_iter().map(|(key, part)| (key, into_forwards(part))).collect()
    }

    /// Takes in the base rules and the changed Services; returns the script. The cost is that of the changed Services, unless
    /// the table has to be replaced.
    pub fn update(&mut self, base: Ruleset, services: Services) -> Change {
        let changed: Vec<Key> = services.iter().map(|(key, _)| key.clone()).collect();
        let mut change = Change {
            script: String::new(),
            base: std::mem::replace(&mut self.base, base),
            before: Services::new(),
            changed,
            made: Vec::new(),
            left: Vec::new(),
        };
        if self.unknown {
            change.before = self.exchange(services);
            change.script = self.whole();
            return change;
        }
        let (mut old, mut new) = (change.base.clone(), self.base.clone());
        let mut rendered = Rendered::default();
        let before = change.changed.iter().filter_map(|key| self.parts.get(key));
        let rules_before: Vec<Ruleset> = before.map(|part| part.rules(&self.settings)).collect();
        let parts: Vec<Part> = services.into_iter().map(|(key, forwards)| Part { key, forwards }).collect();
        let rules_after: Vec<Ruleset> = parts.iter().map(|part| part.rules(&self.settings)).collect();
        let both = rules_before.iter().chain(&rules_after);
        let touched: BTreeSet<Place> = both.flat_map(|rules| rules.elements.keys().cloned()).collect();

        self.elements(&touched, &mut old, &mut rendered);
        change.before = self.exchange(parts.into_iter().map(|part| (part.key, part.forwards)).collect());
        for key in &change.changed {
            rendered.remove(key);
        }
        self.elements(&touched, &mut new, &mut rendered);
        for rules in rules_before {
            old.sets.extend(rules.sets);
            old.chains.extend(rules.chains.into_iter().filter(|(name, _)| !rules::is_shared(name)));
        }
        for rules in rules_after {
            new.sets.extend(rules.sets);
            for (name, lines) in rules.chains {
                if !rules::is_shared(&name) {
                    self.unused.remove(&name);
                } else if !self.shared.insert(name.clone()) {
                    continue;
                } else {
                    change.made.push(name.clone());
                }
                new.chains.insert(name, lines);
            }
        }
        change.left = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).cloned().collect();
        self.unused.extend(change.left.iter().cloned());
        let mut script = Script::new(self.family(), TABLE);
        script.change(&old, &new);
        change.script = script.finish();
        change
    }

    /// Says that a change's script has worked.
    pub fn applied(&mut self, _: Change) {
        self.unknown = false;
    }

    /// Says that a change's script has not worked, and so has changed nothing. Returns what the change was of.
    pub fn undo(&mut self, change: Change) -> Services {
        self.base = change.base;
        if self.unknown {
            self.shared.clear();
        }
        for name in &change.made {
            self.shared.remove(name);
        }
        for name in &change.left {
            self.unused.remove(name);
        }
        self.exchange(change.before)
    }

    /// The script that replaces the table. It writes one Service at a time, so that only one Service's rules are in memory.
    fn whole(&mut self) -> String {
        let mut script = Script::replace(self.family(), TABLE);
        let nothing = Ruleset::default();
        script.change(&nothing, &self.base);
        self.shared.clear();
        self.unused.clear();
        let mut rendered = Rendered::default();
        for part in self.parts.values() {
            let mut rules = part.rules(&self.settings);
            rules.elements.retain(|place, value| {
                self.owners.get(&hash(place)).is_none_or(|owners| owners.len() == 1)
                    || self.element(place, &mut rendered).as_ref() == Some(value)
            });
            rules.chains.retain(|name, _| !rules::is_shared(name) || self.shared.insert(name.clone()));
            script.change(&nothing, &rules);
        }
        script.finish()
    }

    /// Appends the kernel's session affinity entries to a script that replaces the table, for endpoints that still exist.
    pub fn remember(&self, remembered: &[Remembered], script: &mut String) {
        let wanted: FxHashSet<String> = self
            .parts
            .values()
            .filter(|part| part.forwards.iter().any(|forward| forward.affinity.is_some()))
            .flat_map(|part| part.rules(&self.settings).sets.into_keys())
            .collect();
        let mut clients = Script::new(self.family(), TABLE);
        for client in remembered.iter().filter(|client| wanted.contains(&client.set)) {
            clients.add_element(&client.set, &client.element, "");
        }
        script.push_str(&clients.finish());
    }

    /// Puts Services in the place of what there was of them, which is returned.
    fn exchange(&mut self, services: Services) -> Services {
        let mut before = Services::new();
        for (key, forwards) in services {
            let old = self.parts.remove(&key);
            let part = Part { key: key.clone(), forwards };
            if !old.iter().flat_map(|old| old.udp()).eq(part.udp()) {
                self.unclean = true;
                old.iter().flat_map(|old| old.udp()).for_each(|forward| self.former.add(forward));
            }
            if let Some(old) = &old {
                self.disown(old);
            }
            if !part.forwards.is_empty() {
                self.own(part);
            }
            before.push((key, old.map(into_forwards).unwrap_or_default()));
        }
        before
    }

    /// Adds these elements as they are now.
    fn elements(&self, places: &BTreeSet<Place>, into: &mut Ruleset, rendered: &mut Rendered) {
        for place in places {
            if let Some(value) = self.element(place, rendered) {
                into.elements.insert(place.clone(), value);
            }
        }
    }

    /// The value of an element, which is that of the first Service that wants it.
    fn element(&self, place: &Place, rendered: &mut Rendered) -> Option<String> {
        let owners = self.owners.get(&hash(place))?;
        if self.base.sets.get(place.0).is_some_and(|(kind, _)| *kind == "set") {
            return Some(String::new());
        }
        // Hashes may be equal where elements are not.
        let values = owners.iter().filter_map(|part| {
            let elements =
                rendered.entry(part.key.clone()).or_insert_with(|| part.rules(&self.settings).elements);
            Some((part.rank(), elements.get(place)?.clone()))
        });
        values.min().map(|(_, value)| value)
    }

    fn own(&mut self, part: Part) {
        let part = Arc::new(part);
        for place in part.rules(&self.settings).elements.keys() {
            self.owners.entry(hash(place)).or_insert_with(|| Vec::with_capacity(1)).push(part.clone());
        }
        self.parts.insert(part.key.clone(), part);
    }

    fn disown(&mut self, part: &Arc<Part>) {
        for place in part.rules(&self.settings).elements.keys() {
            if let std::collections::hash_map::Entry::Occupied(mut owners) = self.owners.entry(hash(place)) {
                owners.get_mut().retain(|owner| !Arc::ptr_eq(owner, part));
                if owners.get().is_empty() {
                    owners.remove();
                }
            }
        }
    }
}

fn into_forwards(part: Arc<Part>) -> Vec<Forward> {
    Arc::try_unwrap(part).map_or_else(|part| part.forwards.clone(), |part| part.forwards)
}

fn hash(place: &Place) -> u64 {
    FxBuildHasher.hash_one(place)
}

#[cfg(test)]
mod tests;
