//! A node as the scheduler sees it.

use std::collections::BTreeMap;

use client::{Metadata, View};
use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::resources::Text;
use super::selector::Labels;
use super::{Resources, Symbol};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct Node {
    pub name: Symbol,
    pub labels: Labels,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub allocatable: Resources,
    pub max_pods: i64,
    /// Sizes in bytes by name; each image has several names.
    pub images: FxHashMap<Symbol, i64>,
    /// Features that the kubelet declares.
    pub features: Vec<Symbol>,
    /// Region and zone, by which nodes are interleaved; empty without these labels.
    pub zone: Symbol,
}

impl View for Node {
    type Of = k8s_openapi::api::core::v1::Node;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: Symbol,
    pub value: Symbol,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
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
    unschedulable: bool,
    taints: Option<Vec<RawTaint>>,
}

#[derive(Deserialize)]
struct RawTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: Effect,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    allocatable: Option<BTreeMap<String, Text>>,
    /// Stands in for `allocatable` where that is not set.
    capacity: Option<BTreeMap<String, Text>>,
    images: Option<Vec<Image>>,
    declared_features: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    names: Option<Vec<String>>,
    size_bytes: i64,
}

impl From<Raw> for Node {
    fn from(raw: Raw) -> Node {
        let allocatable = raw.status.allocatable.or(raw.status.capacity).unwrap_or_default();
        let labels = raw.metadata.labels.iter();
        Node {
            name: Symbol::new(&raw.metadata.name),
            labels: Labels::new(labels.map(|(key, value)| (Symbol::new(key), Symbol::new(value))).collect()),
            unschedulable: raw.spec.unschedulable,
            taints: raw
                .spec
                .taints
                .unwrap_or_default()
                .into_iter()
                .map(|taint| Taint {
                    key: Symbol::new(&taint.key),
                    value: Symbol::new(&taint.value),
                    effect: taint.effect,
                })
                .collect(),
            max_pods: allocatable.get("pods").map_or(0, Text::value),
            allocatable: Resources::parse(&allocatable),
            images: raw
                .status
                .images
                .unwrap_or_default()
                .into_iter()
                .flat_map(|image| {
                    let names = image.names.unwrap_or_default().into_iter();
                    names.map(move |name| (Symbol::new(&name), image.size_bytes))
                })
                .collect(),
            features: raw
                .status
                .declared_features
                .unwrap_or_default()
                .iter()
                .map(|feature| Symbol::new(feature))
                .collect(),
            zone: zone(&raw.metadata.labels),
        }
    }
}

fn zone(labels: &BTreeMap<String, String>) -> Symbol {
    let label = |keys: [&str; 2]| keys.into_iter().find_map(|key| labels.get(key)).map_or("", String::as_str);
    let region = label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
    let zone = label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
    if region.is_empty() && zone.is_empty() {
        Symbol::default()
    } else {
        Symbol::new(&format!("{region}:{zone}"))
    }
}
