//! Services and controllers by which pods are spread where they say nothing of it themselves.

use std::collections::BTreeMap;

use api::Tree;
use client::{Key, Metadata, View};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use machinery::labels::{Requirement, Selector};
use rustc_hash::FxHashMap;
use serde::Deserialize;

use crate::cluster::pod::OwnerKind;
use crate::cluster::{Pod, Symbol};

/// What a service or replication controller selects: labels.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawPairs")]
pub struct Pairs {
    pub key: Key,
    pairs: Vec<(Symbol, Symbol)>,
}

/// The views of services and replication controllers are two, for these are two resources.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ServiceView(pub Pairs);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ReplicationControllerView(pub Pairs);

/// What a replica set or stateful set selects.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawSet")]
pub struct Set {
    pub key: Key,
    selector: Selector,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ReplicaSetView(pub Set);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct StatefulSetView(pub Set);

impl View for ServiceView {
    type Of = Service;
}

impl View for ReplicationControllerView {
    type Of = ReplicationController;
}

impl View for ReplicaSetView {
    type Of = ReplicaSet;
}

impl View for StatefulSetView {
    type Of = StatefulSet;
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawPairs {
    metadata: Metadata,
    spec: PairsSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PairsSpec {
    selector: Option<BTreeMap<String, String>>,
}

impl From<RawPairs> for Pairs {
    fn from(raw: RawPairs) -> Pairs {
        let pairs = raw.spec.selector.unwrap_or_default();
        Pairs {
            key: raw.metadata.key(),
            pairs: pairs.iter().map(|(key, value)| (Symbol::new(key), Symbol::new(value))).collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSet {
    metadata: Metadata,
    spec: SetSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SetSpec {
    selector: Option<Tree>,
}

impl From<RawSet> for Set {
    fn from(raw: RawSet) -> Set {
        let selector = raw.spec.selector.as_ref().map(Selector::from_label_selector);
        Set {
            key: raw.metadata.key(),
            selector: selector.and_then(Result::ok).unwrap_or_else(Selector::nothing),
        }
    }
}

/// Services by one of the labels that they select, controllers by name.
#[derive(Debug, Default)]
pub struct Selectors {
    services: FxHashMap<(Symbol, Symbol, Symbol), Vec<Pairs>>,
    known: FxHashMap<Key, Pairs>,
    controllers: FxHashMap<(OwnerKind, Key), Vec<Requirement>>,
}

impl Selectors {
    pub fn set_service(&mut self, service: &Pairs) {
        self.remove_service(&service.key);
        if let Some((key, value)) = service.pairs.first() {
            let place = (Symbol::new(&service.key.namespace), key.clone(), value.clone());
            self.services.entry(place).or_default().push(service.clone());
            self.known.insert(service.key.clone(), service.clone());
        }
    }

    pub fn remove_service(&mut self, key: &Key) {
        let Some(old) = self.known.remove(key) else { return };
        let Some((label, value)) = old.pairs.first() else { return };
        let place = (Symbol::new(&key.namespace), label.clone(), value.clone());
        if let Some(services) = self.services.get_mut(&place) {
            services.retain(|service| service.key != *key);
            if services.is_empty() {
                self.services.remove(&place);
            }
        }
    }

    pub fn set_replication_controller(&mut self, controller: &Pairs) {
        let pairs = controller.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let requirements = Selector::from_pairs(pairs).requirements().to_vec();
        self.controllers.insert((OwnerKind::ReplicationController, controller.key.clone()), requirements);
    }

    pub fn set_controller(&mut self, kind: OwnerKind, set: &Set) {
        self.controllers.insert((kind, set.key.clone()), set.selector.requirements().to_vec());
    }

    pub fn remove_controller(&mut self, kind: OwnerKind, key: &Key) {
        self.controllers.remove(&(kind, key.clone()));
    }

    /// What selects pods like this one: all labels that its services select, and what its controller selects. None where
    /// it has neither.
    pub fn of(&self, pod: &Pod) -> Option<Selector> {
        let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
        if !self.services.is_empty() {
            for (key, value) in pod.labels.iter() {
                let place = (pod.namespace.clone(), key.clone(), value.clone());
                for service in self.services.get(&place).into_iter().flatten() {
                    let mut pairs = service.pairs.iter();
                    if pairs.all(|(key, value)| pod.labels.get(key.as_str()) == Some(value.as_str())) {
                        labels
                            .extend(service.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
                    }
                }
            }
        }
        let mut requirements = Selector::from_pairs(labels).requirements().to_vec();
        if let Some(owner) = &pod.needs.owner {
            let key = Key { namespace: pod.key.namespace.clone(), name: owner.name.to_arc() };
            requirements.extend(self.controllers.get(&(owner.kind, key)).into_iter().flatten().cloned());
        }
        (!requirements.is_empty()).then(|| Selector::from(requirements))
    }
}
