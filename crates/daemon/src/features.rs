//! Feature gates: `--feature-gates=A=true,kube:B=false` and the `featureGates` map of config files.
//!
//! A gate that nothing here implements is accepted when it names one upstream may have, because a
//! cluster's flags are shared with upstream's daemons; the caller declares the gates it acts on.

use std::collections::BTreeMap;

/// A gate this daemon acts on.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    pub name: &'static str,
    pub default: bool,
    /// A stable gate may not be turned off.
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
}

#[derive(Clone, Debug, Default)]
pub struct FeatureGates {
    gates: BTreeMap<String, bool>,
    locked: Vec<&'static str>,
}

impl FeatureGates {
    pub fn new(known: &[Gate]) -> FeatureGates {
        FeatureGates {
            gates: known.iter().map(|gate| (gate.name.to_owned(), gate.default)).collect(),
            locked: known.iter().filter(|gate| gate.locked).map(|gate| gate.name).collect(),
        }
    }

    /// Whether the gate is on; a gate never declared nor set is off.
    pub fn enabled(&self, name: &str) -> bool {
        self.gates.get(name).copied().unwrap_or(false)
    }

    /// One `name=value` as it stands in a config file's map.
    pub fn set(&mut self, name: &str, value: bool) -> Result<(), Error> {
        let current = self.enabled(name);
        if self.locked.contains(&name) && value != current {
            return Err(Error::Locked(name.into(), value, current));
        }
        if !self.gates.contains_key(name) && !name.starts_with("All") {
            tracing::info!(gate = name, value, "Feature gate is not known here and has no effect");
        }
        self.gates.insert(name.into(), value);
        Ok(())
    }

    /// The flag's text: comma separated, each with an optional `component:` before it.
    pub fn parse(&mut self, text: &str) -> Result<(), Error> {
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once(':').map_or(part, |(_, pair)| pair);
            let (name, value) = pair.split_once('=').ok_or_else(|| Error::MissingValue(pair.into()))?;
            let on = crate::flags::go_bool(value.trim())
                .ok_or_else(|| Error::InvalidValue(name.into(), value.into()))?;
            self.set(name.trim(), on)?;
        }
        Ok(())
    }

    /// For the `kubernetes_feature_enabled` metric.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.gates.iter().map(|(name, on)| (name.as_str(), *on))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_defaults() {
        let mut gates = FeatureGates::new(&[
            Gate { name: "A", default: true, locked: false },
            Gate { name: "S", default: true, locked: true },
        ]);
        assert!(gates.enabled("A") && !gates.enabled("B"));
        gates.parse("kube:A=false,B=true").unwrap();
        assert!(!gates.enabled("A") && gates.enabled("B"));
        assert_eq!(gates.parse("Foo").unwrap_err().to_string(), "missing bool value for Foo");
        assert_eq!(
            gates.parse("AllAlpha=x").unwrap_err().to_string(),
            "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
        assert!(gates.parse("S=false").is_err());
    }
}
