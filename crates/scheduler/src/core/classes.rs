//! Unschedulable pods by what rejected them. Pods of one template that the same plugins rejected are one class: a change
//! could help all of them or none. An event asks the classes of plugins that listen to it, once each.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use client::Key;
use rustc_hash::{FxHashMap, FxHashSet};

use super::profile::Profile;
use crate::cluster::pod::{DeviceEntry, Labels};
use crate::cluster::{Needs, Pod, Shared, Symbol};
use crate::framework::Change;

/// What queueing hints read of a pod, and the bits of the plugins that rejected it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Class {
    namespace: Symbol,
    labels: Shared<Labels>,
    needs: Shared<Needs>,
    devices: Box<[DeviceEntry]>,
    plugins: u64,
}

impl Class {
    fn of(pod: &Pod, plugins: u64) -> Class {
        Class {
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            needs: pod.needs.clone(),
            devices: pod.devices.clone(),
            plugins,
        }
    }
}

/// Bits of a set, in ascending order.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

#[derive(Debug, Default)]
pub struct Classes {
    pods: FxHashMap<Class, FxHashMap<Box<str>, Arc<Pod>>>,
    /// By the scheduler's name and the place of a plugin that rejected the pods.
    by_plugin: FxHashMap<(Symbol, usize), FxHashSet<Class>>,
    /// By the claims of devices that the pods name.
    by_claim: FxHashMap<Key, FxHashSet<Class>>,
}

/// Adds a class to one of the sets, or takes it out.
fn enlist<K: std::hash::Hash + Eq>(
    sets: &mut FxHashMap<K, FxHashSet<Class>>,
    key: K,
    class: &Class,
    is_there: bool,
) {
    let set = sets.entry(key);
    match (is_there, set) {
        (true, set) => drop(set.or_default().insert(class.clone())),
        (false, Entry::Occupied(mut set)) => {
            set.get_mut().remove(class);
            if set.get().is_empty() {
                set.remove();
            }
        }
        (false, Entry::Vacant(_)) => {}
    }
}

impl Classes {
    pub fn insert(&mut self, pod: &Arc<Pod>, plugins: u64) {
        let class = Class::of(pod, plugins);
        let pods = self.pods.entry(class.clone()).or_default();
        let is_new = pods.is_empty();
        pods.insert(pod.uid.clone(), pod.clone());
        if is_new {
            self.index(pod, &class, true);
        }
    }

    fn index(&mut self, pod: &Pod, class: &Class, is_there: bool) {
        for bit in bits(class.plugins) {
            enlist(&mut self.by_plugin, (pod.needs.scheduler.clone(), bit), class, is_there);
        }
        for key in pod.device_claims() {
            enlist(&mut self.by_claim, key, class, is_there);
        }
    }

    pub fn remove(&mut self, pod: &Pod, plugins: u64) {
        let class = Class::of(pod, plugins);
        let Some(pods) = self.pods.get_mut(&class) else { return };
        pods.remove(&pod.uid);
        if pods.is_empty() {
            self.pods.remove(&class);
            self.index(pod, &class, false);
        }
    }

    /// Pods that a change could help.
    pub fn helped(&self, profiles: &FxHashMap<Symbol, Arc<Profile>>, change: &Change<'_>) -> Vec<Box<str>> {
        if self.pods.is_empty() {
            return Vec::new();
        }
        let mut helped: FxHashSet<&Class> = FxHashSet::default();
        let mut uids = Vec::new();
        for profile in profiles.values() {
            for (place, plugin) in profile.listeners(change.events()) {
                let rejected = self.by_plugin.get(&(profile.name.clone(), place));
                let Some(mut classes) = rejected else { continue };
                if let Some(claim) = change.of_users() {
                    let Some(users) = self.by_claim.get(&claim.key) else { continue };
                    classes = users;
                }
                for class in classes.iter().filter(|class| class.plugins & (1 << place) != 0) {
                    let Some(pods) = self.pods.get(class) else { continue };
                    let Some(one) = pods.values().next() else { continue };
                    if one.needs.scheduler != profile.name {
                        continue;
                    }
                    if !helped.contains(class) && plugin.hint(one, change) {
                        helped.insert(class);
                        uids.extend(pods.keys().cloned());
                    }
                }
            }
        }
        uids
    }

    /// How many pods each plugin of a profile rejected, by its place.
    pub fn rejected(&self, profile: &Profile) -> Vec<usize> {
        let count = |place| -> usize {
            let classes = self.by_plugin.get(&(profile.name.clone(), place)).into_iter().flatten();
            classes.filter_map(|class| self.pods.get(class)).map(FxHashMap::len).sum()
        };
        (0..profile.plugins.len()).map(count).collect()
    }
}
