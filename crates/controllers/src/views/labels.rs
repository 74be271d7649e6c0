//! The labels of an object.

use std::fmt;

use client::Text;
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// By key. Few and much the same on thousands of objects: a sorted list of texts that objects share costs a
/// tenth of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels(Vec<(Text, Text)>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.find(key).ok()?;
        Some(&self.0[at].1)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub fn texts(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Text>) {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        if let Ok(at) = self.find(key) {
            self.0.remove(at);
        }
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(key))
    }
}

impl<K: Into<Text>, V: Into<Text>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Labels {
        let mut labels = Labels::default();
        pairs.into_iter().for_each(|(key, value)| labels.insert(key, value));
        labels
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Labels;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a map of strings")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::default();
                while let Some((key, value)) = map.next_entry::<Text, Text>()? {
                    labels.insert(key, value);
                }
                labels.0.shrink_to_fit();
                Ok(labels)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_map() {
        let mut labels: Labels = serde_json::from_str(r#"{"tier": "back", "app": "a", "app": "b"}"#).unwrap();
        assert_eq!((labels.get("app"), labels.get("tier"), labels.get("x")), (Some("b"), Some("back"), None));
        labels.insert("app", "c");
        labels.insert("zone", "");
        labels.remove("tier");
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"app":"c","zone":""}"#);
        assert_eq!(labels, [("zone", ""), ("app", "c")].into_iter().collect());
        assert_eq!(serde_json::from_str::<Labels>("null").unwrap(), Labels::default());
    }
}
