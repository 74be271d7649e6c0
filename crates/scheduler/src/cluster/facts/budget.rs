//! A disruption budget as preemption sees it.

use std::collections::BTreeMap;

use api::Tree;
use client::{Key, Metadata, View};
use machinery::labels::Selector;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cluster::Pod;
use crate::cluster::pod::selects;

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct Budget {
    pub key: Key,
    /// Disruptions that it allows now.
    pub allowed: i64,
    selector: Selector,
    /// Names of pods whose disruption is counted already.
    disrupted: Vec<Box<str>>,
}

impl Budget {
    /// Whether taking the pod away counts against the budget.
    pub fn counts(&self, pod: &Pod) -> bool {
        *self.key.namespace == *pod.namespace.as_str()
            && !self.selector.is_everything()
            && selects(&self.selector, pod)
            && !self.disrupted.iter().any(|name| **name == *pod.key.name)
    }
}

impl View for Budget {
    type Of = k8s_openapi::api::policy::v1::PodDisruptionBudget;
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    selector: Option<Tree>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    disruptions_allowed: i64,
    disrupted_pods: Option<BTreeMap<String, IgnoredAny>>,
}

impl From<Raw> for Budget {
    fn from(raw: Raw) -> Budget {
        let selector = raw.spec.selector.map(|selector| Selector::from_label_selector(&selector));
        let disrupted = raw.status.disrupted_pods.unwrap_or_default();
        Budget {
            key: raw.metadata.key(),
            allowed: raw.status.disruptions_allowed,
            // None selects nothing; the API server has validated the rest.
            selector: selector.and_then(Result::ok).unwrap_or_else(Selector::nothing),
            disrupted: disrupted.into_keys().map(Into::into).collect(),
        }
    }
}
