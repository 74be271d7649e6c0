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
pub struct Namespaces(FxHashMap<Box<str>, Labels>);

impl Namespaces {
    pub fn set(&mut self, namespace: &Namespace) {
        self.0.insert(namespace.name.clone(), namespace.labels.clone());
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub fn selects(&self, selector: &Selector, name: &str) -> bool {
        selector.is_everything()
            || self.0.get(name).is_some_and(|labels| {
                selector.matches_with(|key| {
                    labels.iter().find(|(own, _)| **own == *key).map(|(_, value)| &**value)
                })
            })
    }
}
