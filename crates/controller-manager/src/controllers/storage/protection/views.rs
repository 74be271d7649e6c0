//! What is read of claims, volumes, classes and pods.

use std::marker::PhantomData;

use client::View;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind that is guarded.
pub trait Kind: Resource<Scope: 'static> + Send + Sync + 'static {}

impl<K: Resource<Scope: 'static> + Send + Sync + 'static> Kind for K {}

/// Fields of a claim, volume or class that show whether it is used, and by what.
#[derive(Deserialize)]
#[serde(bound = "", rename_all = "camelCase")]
pub struct Guarded<K> {
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
    #[serde(skip)]
    of: PhantomData<K>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub deletion_timestamp: Option<Time>,
    pub finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    volume_attributes_class_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub phase: String,
    current_volume_attributes_class_name: Option<String>,
    modify_volume_status: Option<ModifyVolume>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ModifyVolume {
    target_volume_attributes_class_name: Option<String>,
}

impl<K: Kind> View for Guarded<K> {
    type Of = K;
}

impl<K> Guarded<K> {
    pub fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The finalizer is on objects that stay, and is to go from those that leave.
    pub fn wants_change(&self, finalizer: &str) -> bool {
        self.metadata.finalizers.iter().any(|own| own == finalizer) == self.is_leaving()
    }

    /// The classes it has, had until now, or is to have.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        let target = self.status.modify_volume_status.as_ref();
        [
            self.spec.volume_attributes_class_name.as_deref(),
            self.status.current_volume_attributes_class_name.as_deref(),
            target.and_then(|status| status.target_volume_attributes_class_name.as_deref()),
        ]
        .into_iter()
        .flatten()
        .filter(|class| !class.is_empty())
    }
}

/// A whole object, with fields that this binary may not know.
#[derive(Deserialize, Serialize)]
#[serde(bound = "", transparent)]
pub struct Raw<K> {
    value: Value,
    #[serde(skip)]
    of: PhantomData<K>,
}

impl<K: Kind> View for Raw<K> {
    type Of = K;
}

impl<K> Raw<K> {
    /// Puts the finalizer on or takes it off; false where there is nothing to do, or the object is another one by now.
    pub fn change(&mut self, seen: &Guarded<K>, finalizer: &str) -> bool {
        let Some(metadata) = self.value.get_mut("metadata").and_then(Value::as_object_mut) else {
            return false;
        };
        let leaving = metadata.contains_key("deletionTimestamp");
        if metadata.get("uid").and_then(Value::as_str) != Some(&seen.metadata.uid)
            || leaving != seen.is_leaving()
        {
            return false;
        }
        let finalizers = metadata.entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
        let Some(finalizers) = finalizers.as_array_mut() else { return false };
        if finalizers.iter().any(|own| own == finalizer) != leaving {
            return false;
        }
        match leaving {
            true => finalizers.retain(|own| own != finalizer),
            false => finalizers.push(finalizer.into()),
        }
        true
    }
}

/// A pod's node and claims.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Claimant {
    metadata: Metadata,
    spec: ClaimantSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimantSpec {
    node_name: String,
    volumes: Vec<Volume>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSource {
    claim_name: String,
}

impl View for Claimant {
    type Of = Pod;
}

impl Claimant {
    /// A pod without a node does not start with a claim that is being deleted, and does not hold it.
    pub fn uses(&self, claim: &str) -> bool {
        let named = |volume: &Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => source.claim_name == claim,
            (None, Some(_)) => format!("{}-{}", self.metadata.name, volume.name) == claim,
            (None, None) => false,
        };
        !self.spec.node_name.is_empty() && self.spec.volumes.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::json;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn users_of_a_claim() {
        let check = |spec: Value, expect: bool| {
            let pod: Claimant = read(json!({"metadata": {"name": "p"}, "spec": spec}));
            assert_eq!(pod.uses("p-c"), expect);
        };
        let volume = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "p-c"}}]);
        check(json!({"nodeName": "n", "volumes": volume}), true);
        check(json!({"volumes": volume}), false);
        check(json!({"nodeName": "n", "volumes": [{"name": "c", "ephemeral": {}}]}), true);
        check(json!({"nodeName": "n", "volumes": [{"name": "c", "emptyDir": {}}]}), false);
        check(json!({"nodeName": "n"}), false);
    }

    #[test]
    fn finalizers() {
        let check = |leaving: bool, finalizers: Value, expect: Option<Value>| {
            let mut metadata = json!({"uid": "u", "finalizers": finalizers});
            if leaving {
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let whole = json!({"metadata": metadata, "other": 1});
            let seen: Guarded<PersistentVolumeClaim> = read(whole.clone());
            assert_eq!(seen.wants_change("a/b"), expect.is_some());
            let mut raw: Raw<PersistentVolumeClaim> = read(whole);
            assert_eq!(raw.change(&seen, "a/b"), expect.is_some());
            assert_eq!(raw.value["metadata"]["finalizers"], expect.unwrap_or(finalizers));
            assert_eq!(raw.value["other"], 1);
        };
        check(false, json!(["x/y"]), Some(json!(["x/y", "a/b"])));
        check(false, json!(["a/b", "x/y"]), None);
        check(true, json!(["a/b", "x/y"]), Some(json!(["x/y"])));
        check(true, json!(["x/y"]), None);
    }

    #[test]
    fn classes_of_a_claim() {
        let status = json!({
            "currentVolumeAttributesClassName": "b",
            "modifyVolumeStatus": {"targetVolumeAttributesClassName": "c"},
        });
        let claim = json!({"metadata": {}, "spec": {"volumeAttributesClassName": "a"}, "status": status});
        let claim: Guarded<PersistentVolumeClaim> = read(claim);
        assert_eq!(claim.classes().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
