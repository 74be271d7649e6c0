//! Label selectors of objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Labels;
use crate::selector::compile;

/// A selector, compiled once for all who ask. One that is absent selects nothing, and so does one that is invalid.
#[derive(Clone, Debug)]
pub struct CompiledSelector {
    source: Option<LabelSelector>,
    compiled: Result<Selector, String>,
}

impl CompiledSelector {
    pub fn new(source: Option<LabelSelector>) -> CompiledSelector {
        CompiledSelector { compiled: compile(source.as_ref()), source }
    }

    /// A selector of equal labels; without any it selects nothing.
    pub fn of_labels(labels: BTreeMap<String, String>) -> CompiledSelector {
        let labels = (!labels.is_empty()).then_some(labels);
        CompiledSelector::new(
            labels.map(|labels| LabelSelector { match_labels: Some(labels), match_expressions: None }),
        )
    }

    /// The labels that it asks for, where it asks for any.
    pub fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.source.as_ref()?.match_labels.as_ref()
    }

    pub fn source(&self) -> Option<&LabelSelector> {
        self.source.as_ref()
    }

    /// Why it cannot be used.
    pub fn error(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }

    pub fn is_everything(&self) -> bool {
        self.compiled.as_ref().is_ok_and(Selector::is_everything)
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.compiled.as_ref().is_ok_and(|selector| selector.matches_with(|key| labels.get(key)))
    }

    /// A label that everything it matches has: the one that is likely to be the rarest.
    pub fn pair(&self) -> Option<(&str, &str)> {
        let source = self.source.as_ref()?;
        let labels = source.match_labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
        let one_of_one = source.match_expressions.iter().flatten().filter_map(|requirement| {
            match (requirement.operator.as_str(), requirement.values.as_deref()) {
                ("In", Some([only])) => Some((requirement.key.as_str(), only.as_str())),
                _ => None,
            }
        });
        labels.chain(one_of_one).max_by_key(|(_, value)| value.len())
    }
}

impl Default for CompiledSelector {
    fn default() -> Self {
        CompiledSelector::new(None)
    }
}

impl PartialEq for CompiledSelector {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for CompiledSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CompiledSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(CompiledSelector::new)
    }
}

/// Reads a plain map of labels as a selector.
pub fn by_labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CompiledSelector, D::Error> {
    let labels = Option::<BTreeMap<String, String>>::deserialize(deserializer)?;
    Ok(CompiledSelector::of_labels(labels.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn selectors_are_found_by_a_pair_that_all_they_match_have() {
        let check = |source: Value, pair: Option<(&str, &str)>, matches: bool| {
            let selector: CompiledSelector = serde_json::from_value(source.clone()).unwrap();
            let labels: Labels = [("app", "a"), ("pod-template-hash", "5b4c8")].into_iter().collect();
            assert_eq!((selector.pair(), selector.matches(&labels)), (pair, matches), "{source}");
        };
        check(Value::Null, None, false);
        check(json!({}), None, true);
        check(json!({"matchLabels": {"app": "a"}}), Some(("app", "a")), true);
        let both = json!({"matchLabels": {"app": "a", "pod-template-hash": "5b4c8"}});
        check(both, Some(("pod-template-hash", "5b4c8")), true);
        let only = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]});
        check(only, Some(("app", "a")), true);
        let more = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]});
        check(more, None, true);
        let invalid = json!({"matchExpressions": [{"key": "app", "operator": "Is", "values": ["a"]}]});
        check(invalid, None, false);
    }
}
