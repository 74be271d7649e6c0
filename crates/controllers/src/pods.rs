//! Pods made and deleted on behalf of a workload, and the cache of all pods.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use client::{Client, DeleteOptions, EventRecorder, EventType, Index, Informer, Text, View};
use serde_json::{Map, Value, json};

use crate::many::try_all;
use crate::owned::{Owned, Pair, pairs};
use crate::selector::has_all;
use crate::views::{Meta, Object, OwnerReference, Partial, Pod};

/// The cache of all pods, by owner, node and label. Clones share it.
#[derive(Clone)]
pub struct Pods {
    owned: Owned<Pod>,
    by_node: Index<Pod, Text>,
    by_pair: Index<Pod, Pair>,
    by_claim: Index<Pod, (Text, Text)>,
}

impl Deref for Pods {
    type Target = Owned<Pod>;

    fn deref(&self) -> &Owned<Pod> {
        &self.owned
    }
}

impl Pods {
    pub(crate) fn new(owned: Owned<Pod>) -> Pods {
        Pods {
            by_node: owned.cache.index(|pod| [pod.spec.node_name.clone()]),
            by_pair: owned.cache.index(|pod| pairs(&pod.metadata).collect::<Vec<_>>()),
            by_claim: owned.cache.index(|pod| {
                let namespace = &pod.metadata.namespace;
                pod.claims().map(|claim| (namespace.clone(), Text::from(&*claim))).collect::<Vec<_>>()
            }),
            owned,
        }
    }

    /// The pods that use a claim.
    pub fn with_claim(&self, namespace: &str, claim: &str) -> Vec<Arc<Pod>> {
        self.by_claim.get(&(namespace.into(), claim.into()))
    }

    /// Whether one of the pods that use a claim is such a one.
    pub fn any_with_claim(&self, namespace: &str, claim: &str, is: impl Fn(&Pod) -> bool) -> bool {
        self.by_claim.any(&(namespace.into(), claim.into()), is)
    }

    /// The pods on a node; without a name, those on none yet.
    pub fn on_node(&self, name: &str) -> Vec<Arc<Pod>> {
        self.by_node.get(name)
    }

    pub fn count_on_node(&self, name: &str) -> usize {
        self.by_node.count(name)
    }

    /// The pods with a label.
    pub fn labelled(&self, namespace: &Text, key: &str, value: &str) -> Vec<Arc<Pod>> {
        self.by_pair.get(&(namespace.clone(), key.into(), value.into()))
    }

    /// The pods that have all of these labels, by name. Without any there are none.
    pub fn selected(&self, namespace: &Text, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
        let place = |(key, value): (&String, &String)| (namespace.clone(), key.into(), value.into());
        // The rarest label finds the fewest that have to be compared.
        let Some(rarest) = labels.iter().map(place).min_by_key(|place| self.by_pair.count(place)) else {
            return Vec::new();
        };
        let mut found = self.by_pair.get(&rarest);
        found.retain(|pod| has_all(&pod.metadata.labels, labels));
        found.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
        found
    }

    pub fn cache(&self) -> &Informer<Pod> {
        &self.owned.cache
    }
}

/// A pod after a workload's template. `name` is a prefix that ends in `-`, or whole with `exact`.
pub fn from_template(template: &Value, name: &str, exact: bool, owner: OwnerReference) -> Value {
    let empty = Map::new();
    let meta = template.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut metadata = Map::new();
    metadata.insert(if exact { "name" } else { "generateName" }.to_owned(), name.into());
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = meta.get(field).filter(|value| !value.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec").cloned()})
}

/// The labels of a template.
pub fn template_labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Creates and deletes pods, and records events on their owner.
#[derive(Clone)]
pub struct PodControl {
    pub events: EventRecorder,
}

impl PodControl {
    pub async fn create(
        &self,
        client: &Client,
        namespace: &str,
        pod: &Value,
        owner: &impl Object,
    ) -> client::Result<Partial> {
        match client.create::<PartialPod>(Some(namespace), pod).await {
            Ok(created) => {
                let message = format!("Created pod: {}", created.0.metadata.name);
                self.events.event(&owner.reference(), EventType::Normal, "SuccessfulCreate", &message);
                Ok(created.0)
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating: {error}");
                    self.events.event(&owner.reference(), EventType::Warning, "FailedCreate", &message);
                }
                Err(error)
            }
        }
    }

    /// As [`PodControl::create`]; a namespace that is being deleted takes no pods, and its workloads go before long.
    pub async fn create_unless_terminating(
        &self,
        client: &Client,
        namespace: &str,
        pod: &Value,
        owner: &impl Object,
    ) -> client::Result<()> {
        match self.create(client, namespace, pod, owner).await {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            result => result.map(drop),
        }
    }

    /// A pod that is gone already counts as deleted, without an event.
    pub async fn delete(&self, client: &Client, pod: &Meta, owner: &impl Object) -> client::Result<()> {
        let options = DeleteOptions::default().uid(pod.uid.clone());
        match client.delete::<Pod>(Some(&pod.namespace), &pod.name, &options).await {
            Ok(()) => {
                let message = format!("Deleted pod: {}", pod.name);
                self.events.event(&owner.reference(), EventType::Normal, "SuccessfulDelete", &message);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {error}");
                self.events.event(&owner.reference(), EventType::Warning, "FailedDelete", &message);
                Err(error)
            }
        }
    }

    /// Deletes all of them; the first failure.
    pub async fn delete_all(
        &self,
        client: &Client,
        pods: &[Arc<Pod>],
        owner: &impl Object,
    ) -> Option<client::Error> {
        try_all(pods.iter().map(|pod| self.delete(client, &pod.metadata, owner))).await.err()
    }
}

/// The answer to a pod's creation, of which only metadata is of interest.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct PartialPod(pub Partial);

impl View for PartialPod {
    type Of = k8s_openapi::api::core::v1::Pod;
}
