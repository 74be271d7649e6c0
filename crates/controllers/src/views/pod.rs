//! Pods, as far as the controllers read them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use client::{Shared, Text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Meta, compact, is_default, null_default};

/// The annotations of pods that some controller reads.
pub mod annotation {
    /// Pods with a lower cost are deleted first.
    pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    /// Which of a job's indexes the pod completes.
    pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
    /// How often the index failed before.
    pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
    /// How often it failed in a way that the job's policy ignores.
    pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

    /// All that are kept.
    pub(super) const READ: &[&str] = &[DELETION_COST, INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES];
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    #[serde(deserialize_with = "metadata")]
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: Text,
    pub hostname: Text,
    pub subdomain: Text,
    pub tolerations: Shared<Vec<Toleration>>,
    pub containers: Shared<Vec<Container>>,
    pub init_containers: Shared<Vec<Container>>,
    #[serde(deserialize_with = "claims")]
    pub volumes: Vec<Volume>,
    pub active_deadline_seconds: Option<i64>,
    pub priority_class_name: Text,
    pub overhead: Shared<Quantities>,
    /// Of the pod as a whole, beside its containers'.
    pub resources: Shared<Resources>,
    /// Kept as it came; a daemon pod's names its node.
    pub affinity: Option<Box<serde_json::Value>>,
    #[serde(deserialize_with = "compact")]
    pub resource_claims: Vec<PodResourceClaim>,
    pub scheduling_group: Option<SchedulingGroup>,
}

/// The group that a pod is scheduled with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingGroup {
    pub pod_group_name: Option<Text>,
}

/// A claim of devices: one by name, or one to be made after a template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodResourceClaim {
    pub name: Text,
    pub resource_claim_name: Option<Text>,
    pub resource_claim_template_name: Option<Text>,
}

/// The claim that was made for an entry of the pod; none where it needs none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodClaimStatus {
    pub name: Text,
    pub resource_claim_name: Option<Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtendedClaimStatus {
    pub resource_claim_name: Text,
}

/// Amounts by resource, as they are written.
pub type Quantities = BTreeMap<Text, Text>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: Text,
    pub resources: Resources,
    pub restart_policy: Text,
    #[serde(deserialize_with = "compact")]
    pub ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Resources {
    #[serde(deserialize_with = "null_default")]
    pub requests: Quantities,
    #[serde(deserialize_with = "null_default")]
    pub limits: Quantities,
}

/// A volume that is a claim's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    pub name: Text,
    pub persistent_volume_claim: Option<ClaimSource>,
    /// The claim is made for the pod; its template as it came.
    pub ephemeral: Option<Box<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    pub claim_name: Text,
}

/// Only volumes with a claim: most pods have others that no two of them share.
fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Volume>, D::Error> {
    let mut volumes = Option::<Vec<Volume>>::deserialize(deserializer)?.unwrap_or_default();
    volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    volumes.shrink_to_fit();
    Ok(volumes)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: Text,
    pub container_port: i32,
    pub protocol: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    #[serde(skip_serializing_if = "is_default")]
    pub key: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub operator: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub value: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub effect: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub toleration_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Text,
    pub reason: Text,
    pub start_time: Option<Time>,
    pub qos_class: Text,
    #[serde(rename = "podIP")]
    pub pod_ip: Box<str>,
    #[serde(rename = "podIPs", deserialize_with = "compact")]
    pub pod_ips: Vec<PodIp>,
    #[serde(deserialize_with = "compact")]
    pub conditions: Vec<PodCondition>,
    #[serde(deserialize_with = "compact")]
    pub container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "compact")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "compact")]
    pub resource_claim_statuses: Vec<PodClaimStatus>,
    pub extended_resource_claim_status: Option<ExtendedClaimStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodIp {
    pub ip: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub type_: Text,
    pub status: Text,
    pub reason: Text,
    pub last_transition_time: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: Text,
    pub restart_count: i32,
    pub state: ContainerState,
    /// What the node has granted.
    pub allocated_resources: Option<Shared<Quantities>>,
    /// What the container runs with.
    pub resources: Option<Shared<ActualResources>>,
}

/// Resources of a status: what is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct ActualResources {
    pub requests: Option<Quantities>,
    pub limits: Option<Quantities>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    pub exit_code: i32,
    pub finished_at: Option<Time>,
}

/// Reads metadata without what nobody asks of a pod: there are many pods, and their annotations are large.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Meta, D::Error> {
    let mut meta = Meta::deserialize(deserializer)?;
    let annotations = std::mem::take(&mut meta.annotations).into_iter();
    meta.annotations = annotations.filter(|(name, _)| annotation::READ.contains(&name.as_str())).collect();
    meta.generate_name = String::new();
    Ok(meta)
}

pub use machinery::quota::is_of_whole_pods;

impl Pod {
    pub fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.type_ == *type_)
    }

    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    /// Since when the pod is ready, if it is.
    pub fn ready_since(&self) -> Option<jiff::Timestamp> {
        let condition = self.condition("Ready")?;
        (condition.status == "True").then_some(())?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: jiff::Timestamp) -> bool {
        if !self.is_ready() {
            return false;
        }
        min_ready_seconds == 0
            || self
                .ready_since()
                .is_some_and(|since| since.as_second() + i64::from(min_ready_seconds) <= now.as_second())
    }

    /// Ran to its end, well or not.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The names of the claims whose volumes it uses.
    pub fn claims(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.spec.volumes.iter().map(|volume| match &volume.persistent_volume_claim {
            Some(source) => Cow::Borrowed(source.claim_name.as_str()),
            None => Cow::Owned(format!("{}-{}", self.metadata.name, volume.name)),
        })
    }

    /// Whether it uses the claim: one that would be made for a volume of the pod is the pod's own, or another's.
    pub fn uses_claim(&self, claim: &Meta) -> bool {
        let names = self.spec.volumes.iter().zip(self.claims()).filter(|(_, name)| **name == *claim.name);
        let is_its = |volume: &Volume| {
            volume.persistent_volume_claim.is_some() || claim.is_controlled_by(&self.metadata.uid)
        };
        *self.metadata.namespace == *claim.namespace && names.map(|(volume, _)| volume).any(is_its)
    }

    /// Counts towards what its controller wants.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.metadata.is_deleting()
    }

    pub fn restarts(&self) -> i32 {
        self.status.container_statuses.iter().map(|status| status.restart_count).sum()
    }

    /// Every address, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let single = self.status.pod_ips.is_empty().then_some(&*self.status.pod_ip);
        self.status
            .pod_ips
            .iter()
            .map(|address| &*address.ip)
            .chain(single)
            .filter(|address| !address.is_empty())
    }
}
