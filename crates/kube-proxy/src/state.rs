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
mod tests;
