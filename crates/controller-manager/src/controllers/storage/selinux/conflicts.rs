//! Volumes with the pods that use them, and what these disagree on.

use std::collections::{BTreeMap, BTreeSet};

use client::Key;

pub const MOUNT: &str = "MountOption";
pub const RECURSIVE: &str = "Recursive";

/// How a pod has a volume labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// User, role, type and level, separated by colons; empty for none.
    pub label: String,
    pub policy: String,
}

/// What two pods disagree on, as one of them is informed of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    pub property: &'static str,
    pub pod: Key,
    pub value: String,
    pub other: Key,
    pub other_value: String,
}

impl Conflict {
    pub fn reason(&self) -> String {
        format!("{}Conflict", self.property)
    }

    /// Does not name what is in another namespace.
    pub fn message(&self) -> String {
        let Conflict { property, value, other, other_value, .. } = self;
        let end = "If both pods land on the same node, only one of them may access the volume.";
        if self.pod.namespace == other.namespace {
            let name = &other.name;
            format!(
                "{property} \"{value}\" conflicts with pod {name} that uses the same volume as this pod with {property} \"{other_value}\". {end}"
            )
        } else {
            format!(
                "{property}\"{value}\" conflicts with another pod that uses the same volume as this pod with a different {property}. {end}"
            )
        }
    }
}

/// The four parts of a label; colons in the last one are its own.
fn parts(label: &str) -> [&str; 4] {
    let mut parts = label.splitn(4, ':');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Nodes have defaults for parts that are not given, the level excepted.
fn differ(one: &str, other: &str) -> bool {
    let (one, other) = (parts(one), parts(other));
    one[3] != other[3]
        || (0..3).any(|part| one[part] != other[part] && !one[part].is_empty() && !other[part].is_empty())
}

#[derive(Default)]
pub struct Volumes {
    volumes: BTreeMap<String, Volume>,
    of_pod: BTreeMap<Key, BTreeSet<String>>,
}

#[derive(Default)]
struct Volume {
    driver: String,
    pods: BTreeMap<Key, Use>,
    conflicts: BTreeSet<Conflict>,
}

impl Volumes {
    /// Notes a use; the conflicts that come with it.
    pub fn put(&mut self, name: &str, driver: &str, pod: &Key, used: Use) -> Vec<Conflict> {
        let volume = self.volumes.entry(name.to_owned()).or_default();
        if driver != volume.driver {
            driver.clone_into(&mut volume.driver);
        }
        if volume.pods.get(pod) == Some(&used) {
            return Vec::new();
        }
        volume.conflicts.retain(|known| known.pod != *pod && known.other != *pod);
        let mut new = Vec::new();
        for (other, theirs) in volume.pods.iter().filter(|(other, _)| *other != pod) {
            let mut report = |property, value: &str, other_value: &str| {
                let conflict = |pod: &Key, value: &str, other: &Key, other_value: &str| Conflict {
                    property,
                    pod: pod.clone(),
                    value: value.to_owned(),
                    other: other.clone(),
                    other_value: other_value.to_owned(),
                };
                new.push(conflict(pod, value, other, other_value));
                new.push(conflict(other, other_value, pod, value));
            };
            if used.policy != theirs.policy {
                report("SELinuxChangePolicy", &used.policy, &theirs.policy);
            }
            if differ(&used.label, &theirs.label) {
                report("SELinuxLabel", &used.label, &theirs.label);
            }
        }
        volume.conflicts.extend(new.iter().cloned());
        volume.pods.insert(pod.clone(), used);
        self.of_pod.entry(pod.clone()).or_default().insert(name.to_owned());
        new
    }

    pub fn remove(&mut self, pod: &Key) {
        for name in self.of_pod.remove(pod).unwrap_or_default() {
            let Some(volume) = self.volumes.get_mut(&name) else { continue };
            volume.pods.remove(pod);
            volume.conflicts.retain(|known| known.pod != *pod && known.other != *pod);
            if volume.pods.is_empty() {
                self.volumes.remove(&name);
            }
        }
    }

    pub fn of_driver(&self, driver: &str) -> BTreeSet<Key> {
        let volumes = self.volumes.values().filter(|volume| volume.driver == driver);
        volumes.flat_map(|volume| volume.pods.keys().cloned()).collect()
    }

    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.volumes.values().flat_map(|volume| &volume.conflicts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let check = |one, other, expect| {
            assert_eq!((differ(one, other), differ(other, one)), (expect, expect), "{one} {other}");
        };
        check("u:r:t:s0:c1", ":::s0:c1", false);
        check("u:r:t:s0:c1", ":::s0:c2", true);
        check("u:r:t:s0:c1", "u:r:x:s0:c1", true);
        check(":::s0:c1", "", true);
        check("u:::s0", ":r::s0", false);
    }

    #[test]
    fn both_pods_are_informed_once() {
        let (one, two) = (Key::new("n", "one"), Key::new("n", "two"));
        let used = |label: &str| Use { label: label.to_owned(), policy: MOUNT.to_owned() };
        let mut volumes = Volumes::default();
        assert!(volumes.put("v", "d", &one, used(":::s0:c1")).is_empty());
        let found = volumes.put("v", "d", &two, used(":::s0:c2"));
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].message(),
            "SELinuxLabel \":::s0:c2\" conflicts with pod one that uses the same volume as this pod with SELinuxLabel \":::s0:c1\". If both pods land on the same node, only one of them may access the volume."
        );
        assert!(volumes.put("v", "d", &two, used(":::s0:c2")).is_empty());
        assert_eq!((volumes.conflicts().count(), volumes.of_driver("d").len()), (2, 2));
        volumes.remove(&one);
        assert_eq!((volumes.conflicts().count(), volumes.of_driver("d").len()), (0, 1));
        let recursive = Use { label: String::new(), policy: RECURSIVE.to_owned() };
        let found = volumes.put("v", "d", &Key::new("m", "three"), recursive);
        assert_eq!(found.len(), 4);
        assert!(
            found[0].message().starts_with("SELinuxChangePolicy\"Recursive\" conflicts with another pod")
        );
    }
}
