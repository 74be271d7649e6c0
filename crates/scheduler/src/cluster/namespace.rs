//! Namespaces as the scheduler sees them: their labels, which terms of pod affinity select by.

use client::{Metadata, View};
use machinery::labels::Selector;
use rustc_hash::FxHashMap;
use serde::Deserialize;

type Labels = Box<[(Box<str>, Box<str>)]>;

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct Namespace {
    pub name: Box<str>,
    pub labels: Labels,
}

impl View for Namespace {
    type Of = k8s_openapi::api::core::v1::Namespace;
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    metadata: Metadata,
}

impl From<Raw> for Namespace {
    fn from(raw: Raw) -> Namespace {
        let labels = raw.metadata.labels.iter();
        Namespace {
            labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
            name: raw.metadata.name.as_str().into(),
        }
    }
}

/// The labels of all namespaces.
#[derive(Debug, Default)]
pub struct Namespaces {
    labels: FxHashMap<Box<str>, Labels>,
    /// Grows with every change.
    generation: u64,
}

impl Namespaces {
    /// False when its labels are the same as before.
    pub fn set(&mut self, namespace: &Namespace) -> bool {
        let old = self.labels.insert(namespace.name.clone(), namespace.labels.clone());
        let changed = old.as_ref() != Some(&namespace.labels);
        self.generation += u64::from(changed);
        changed
    }

    pub fn remove(&mut self, name: &str) {
        self.generation += u64::from(self.labels.remove(name).is_some());
    }

    /// State of the labels, by which those who count by them see that they have changed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn selects(&self, selector: &Selector, name: &str) -> bool {
        selector.is_everything()
            || self.labels.get(name).is_some_and(|labels| {
                selector.matches_with(|key| {
                    labels.iter().find(|(own, _)| **own == *key).map(|(_, value)| &**value)
                })
            })
    }
}
