//! Feature gates: `--feature-gates=A=true,kube:B=false` and the `featureGates` map of config files.
//!
//! The gates are those of upstream at this API level, in `features/gates.txt`: name, stage, default, and whether it may be
//! changed. Another name is an error, for it is a typing error. A gate that nothing here acts on is accepted, because a
//! cluster's flags are shared with upstream's daemons.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A gate whose default differs here from upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    pub name: &'static str,
    pub default: bool,
    /// It may not be changed.
    pub locked: bool,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("missing bool value for {0}")]
    MissingValue(String),
    #[error("invalid value of {0}={1}, err: strconv.ParseBool: parsing {1:?}: invalid syntax")]
    InvalidValue(String, String),
    #[error("cannot set feature gate {0} to {1}, feature is locked to {2}")]
    Locked(String, bool, bool),
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("component not registered: {0}")]
    Component(String),
}

/// One of upstream's gates.
#[derive(Clone, Copy)]
struct Known {
    /// The gate that changes all of its stage that are not set by themselves.
    all: Option<&'static str>,
    default: bool,
    locked: bool,
}

static KNOWN: LazyLock<BTreeMap<&'static str, Known>> = LazyLock::new(|| {
    let gate = |line: &'static str| {
        let mut words = line.split(' ');
        let (name, stage, default, locked) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let locked = locked == "locked";
        let all = match stage {
            _ if locked => None,
            "ALPHA" => Some("AllAlpha"),
            "BETA" => Some("AllBeta"),
            _ => None,
        };
        Some((name, Known { all, default: default == "on", locked }))
    };
    include_str!("features/gates.txt").lines().filter_map(gate).collect()
});

#[derive(Clone, Debug, Default)]
pub struct FeatureGates {
    own: Vec<Gate>,
    set: BTreeMap<String, bool>,
}

impl FeatureGates {
    pub fn new(own: &[Gate]) -> FeatureGates {
        FeatureGates { own: own.to_vec(), set: BTreeMap::new() }
    }

    fn known(&self, name: &str) -> Option<Known> {
        let own = self.own.iter().find(|gate| gate.name == name);
        own.map(|gate| Known { all: None, default: gate.default, locked: gate.locked })
            .or_else(|| KNOWN.get(name).copied())
    }

    /// Whether there is such a gate.
    pub fn knows(&self, name: &str) -> bool {
        self.known(name).is_some()
    }

    /// Whether the gate is on; one that there is not is off.
    pub fn enabled(&self, name: &str) -> bool {
        let set = |name: &str| self.set.get(name).copied();
        let Some(known) = self.known(name) else { return false };
        set(name).or_else(|| set(known.all?)).unwrap_or(known.default)
    }

    /// One `name=value` as it stands in a config file's map.
    pub fn set(&mut self, name: &str, value: bool) -> Result<(), Error> {
        let Known { default, locked, .. } = self.known(name).ok_or_else(|| Error::Unknown(name.into()))?;
        if locked && value != default {
            return Err(Error::Locked(name.into(), value, default));
        }
        self.set.insert(name.into(), value);
        Ok(())
    }

    /// The map of a config file.
    pub fn set_all<'a>(
        &mut self,
        map: impl IntoIterator<Item = (&'a String, &'a bool)>,
    ) -> Result<(), Error> {
        map.into_iter().try_for_each(|(name, value)| self.set(name, *value))
    }

    /// The flag's text: comma separated, each with an optional `kube:` before it.
    pub fn parse(&mut self, text: &str) -> Result<(), Error> {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = match part.split_once(':') {
                Some(("kube", pair)) => pair,
                Some((component, _)) => return Err(Error::Component(component.into())),
                None => part,
            };
            let (name, value) = pair.split_once('=').ok_or_else(|| Error::MissingValue(pair.into()))?;
            let on = crate::flags::go_bool(value.trim())
                .ok_or_else(|| Error::InvalidValue(name.into(), value.into()))?;
            self.set(name.trim(), on)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let lines = include_str!("features/gates.txt").lines().count();
        assert_eq!(KNOWN.len(), lines);
        for line in include_str!("features/gates.txt").lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, "ALPHA" | "BETA" | "GA" | "DEPRECATED", "on" | "off", "locked" | "free"] = words[..]
            else {
                panic!("{line}")
            };
        }
    }

    #[test]
    fn texts_and_defaults() {
        let mut gates = FeatureGates::new(&[Gate { name: "Own", default: true, locked: false }]);
        assert!(gates.enabled("Own") && gates.enabled("WatchList") && !gates.enabled("AllAlpha"));
        gates.parse("kube:WatchList=false,Own=false").unwrap();
        assert!(!gates.enabled("Own") && !gates.enabled("WatchList"));
        for (text, expect) in [
            ("Foo", "missing bool value for Foo"),
            (
                "AllAlpha=x",
                "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            ("NoSuch=true", "unrecognized feature gate: NoSuch"),
            ("foo:WatchList=true", "component not registered: foo"),
            (
                "DynamicResourceAllocation=false",
                "cannot set feature gate DynamicResourceAllocation to false, feature is locked to true",
            ),
        ] {
            assert_eq!(gates.parse(text).unwrap_err().to_string(), expect);
        }
        assert_eq!(gates.parse("DynamicResourceAllocation=true"), Ok(()));
    }

    #[test]
    fn a_whole_stage_is_changed_but_for_what_is_set_by_itself() {
        let mut gates = FeatureGates::new(&[Gate { name: "Own", default: false, locked: false }]);
        gates.parse("WatchList=true,AllBeta=false,AllAlpha=true").unwrap();
        let names = ["WatchList", "OpenAPIEnums", "CRIListStreaming", "DynamicResourceAllocation", "Own"];
        assert_eq!(names.map(|name| gates.enabled(name)), [true, false, true, true, false]);
    }
}
