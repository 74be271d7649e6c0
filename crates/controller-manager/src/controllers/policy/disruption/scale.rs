//! How many pods the owners of some pods want, whatever kinds they are.

use std::sync::Arc;

use client::{Client, Informer, Text};
use controllers::views::{
    Deployment, HasMeta, Object, OwnerReference, Pod, ReplicaSet, ReplicationController, StatefulSet,
};
use controllers::{Error, Kinds};
use rustc_hash::FxHashMap;
use serde_json::Value;

pub(super) struct Scales {
    pub(super) kinds: Kinds,
    pub(super) deployments: Informer<Deployment>,
    pub(super) sets: Informer<ReplicaSet>,
    pub(super) controllers: Informer<ReplicationController>,
    pub(super) stateful: Informer<StatefulSet>,
}

/// An owner and how many pods it wants.
type Scale = Option<(Text, i32)>;

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn cached<V: Object>(cache: &Informer<V>, owner: &OwnerReference, namespace: &str) -> Option<Arc<V>> {
    if owner.kind != V::KIND || group(&owner.api_version) != group(V::API_VERSION) {
        return None;
    }
    cache.get(Some(namespace), &owner.name).filter(|found| found.meta().uid == owner.uid)
}

impl Scales {
    /// The sum over all owners of the pods, and whether some have none.
    pub(super) async fn of(&self, client: &Client, pods: &[Arc<Pod>]) -> Result<(i32, bool), Error> {
        let mut owners: FxHashMap<&Text, &Arc<Pod>> = FxHashMap::default();
        for pod in pods {
            if let Some(owner) = pod.metadata.controller() {
                owners.insert(&owner.uid, pod);
            }
        }
        let mut scales: FxHashMap<Text, i32> = FxHashMap::default();
        for pod in owners.values() {
            let Some(owner) = pod.metadata.controller() else { continue };
            let scale = match self.built_in(owner, &pod.metadata.namespace) {
                None => self.asked(client, owner, &pod.metadata.namespace).await?,
                known => known,
            };
            let Some((uid, scale)) = scale else {
                return Err(Error::Other(format!("found no controllers for pod {:?}", pod.metadata.name)));
            };
            scales.insert(uid, scale);
        }
        let unmanaged = pods.iter().any(|pod| pod.metadata.controller().is_none());
        Ok((scales.values().fold(0, |sum, scale| sum.saturating_add(*scale)), unmanaged))
    }

    /// Owners whose kinds are cached. A replica set that a deployment owns counts as that one.
    fn built_in(&self, owner: &OwnerReference, namespace: &str) -> Scale {
        if let Some(set) = cached(&self.sets, owner, namespace) {
            let deployment = set.metadata.controller().filter(|owner| owner.kind == Deployment::KIND);
            return match deployment {
                Some(owner) => {
                    let deployment = cached(&self.deployments, owner, namespace)?;
                    Some((deployment.metadata.uid.clone(), deployment.spec.replicas))
                }
                None => Some((set.metadata.uid.clone(), set.spec.replicas)),
            };
        }
        let controller = cached(&self.controllers, owner, namespace);
        let controller = controller.map(|one| (one.meta().uid.clone(), one.0.spec.replicas));
        let stateful = || cached(&self.stateful, owner, namespace);
        controller.or_else(|| stateful().map(|one| (one.metadata.uid.clone(), one.spec.replicas)))
    }

    /// Owners of other kinds, by their `scale`.
    async fn asked(&self, client: &Client, owner: &OwnerReference, namespace: &str) -> Result<Scale, Error> {
        self.kinds.known_first().await;
        let known = self.kinds.known();
        let Some(resource) = known.resource(group(&owner.api_version), &owner.kind) else { return Ok(None) };
        let scale = client.at(resource).get_subresource::<Value>(Some(namespace), &owner.name, "scale").await;
        let scale = match scale {
            Err(error) if error.is_not_found() => {
                return Err(Error::Other(format!(
                    "{}.{} does not implement the scale subresource",
                    resource.plural, resource.group
                )));
            }
            scale => scale?,
        };
        let uid = scale.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        Ok((owner.uid == *uid).then(|| (owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
    }
}
