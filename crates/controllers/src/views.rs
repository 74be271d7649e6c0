//! The parts of the API's objects that the controllers read.
//!
//! Informers decode into these, so that a cached object costs what is used of it. Where a controller
//! copies something whole (a pod template), it is kept as the JSON tree it arrived as, which also keeps
//! fields this binary does not know. Statuses are written from here too: zero values are left out on
//! the way back, as the API's own encoding does.

mod device;
mod labels;
mod meta;
mod node;
mod pod;
mod policy;
mod selector;
mod service;
mod storage;
mod workload;

pub use device::{
    AllocatedDevice, Consumer, Device, DeviceClass, DeviceRequest, DeviceTaintRule, ResourceClaim,
    ResourceClaimStatus, ResourceClaimTemplate, ResourceSlice, Subrequest,
};
pub use labels::Labels;
pub use meta::{Condition, HasMeta, Lean, Meta, Object, OwnerReference, Partial};
pub use node::{Lease, LeaseSpec, Node, NodeSpec, NodeStatus, Taint};
pub use pod::{
    ActualResources, ClaimSource, Container, ContainerPort, ContainerState, ContainerStatus, Pod,
    PodClaimStatus, PodCondition, PodIp, PodResourceClaim, PodSpec, PodStatus, Quantities, Resources,
    Terminated, Toleration, Volume, annotation, is_of_whole_pods,
};
pub use policy::{
    BudgetSpec, BudgetStatus, PodDisruptionBudget, QuotaSpec, QuotaStatus, ResourceQuota, ScopeRequirement,
    ScopeSelector,
};
pub use selector::{CompiledSelector, by_labels};
pub use service::{
    ConfigMap, Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, Endpoints,
    Namespace, NamespaceSpec, NamespaceStatus, ObjectRefShort, Secret, Service, ServiceAccount, ServicePort,
    ServiceSpec, Zone,
};
pub use storage::{
    ClaimReference, ClaimResources, ClaimSpec, ClaimStatus, CsiDriver, CsiSource, HostPath, PersistentVolume,
    PersistentVolumeClaim, StorageClass, VolumeAttachment, VolumeSpec, VolumeStatus,
};
pub use workload::{
    ControllerRevision, CronJob, CronJobSpec, CronJobStatus, DaemonSet, DaemonSetSpec, DaemonSetStatus,
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, Job, JobReference, JobSpec, JobStatus,
    JobTemplate, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, ReplicationController, RetentionPolicy,
    RollingUpdate, StatefulSet, StatefulSetSpec, StatefulSetStatus, SuccessPolicy, SuccessRule,
    UncountedPods,
};

macro_rules! views {
    ($($view:ty, $of:ty, $version:literal, $kind:literal;)*) => {$(
        impl client::View for $view {
            type Of = $of;
        }

        impl HasMeta for $view {
            fn meta(&self) -> &Meta {
                &self.metadata
            }
        }

        impl Object for $view {
            const API_VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
        }
    )*};
}

use k8s_openapi::api;

use crate::owned::Selects;

views! {
    Pod, api::core::v1::Pod, "v1", "Pod";
    Node, api::core::v1::Node, "v1", "Node";
    Service, api::core::v1::Service, "v1", "Service";
    Namespace, api::core::v1::Namespace, "v1", "Namespace";
    Endpoints, api::core::v1::Endpoints, "v1", "Endpoints";
    EndpointSlice, api::discovery::v1::EndpointSlice, "discovery.k8s.io/v1", "EndpointSlice";
    Lease, api::coordination::v1::Lease, "coordination.k8s.io/v1", "Lease";
    Deployment, api::apps::v1::Deployment, "apps/v1", "Deployment";
    ReplicaSet, api::apps::v1::ReplicaSet, "apps/v1", "ReplicaSet";
    DaemonSet, api::apps::v1::DaemonSet, "apps/v1", "DaemonSet";
    ControllerRevision, api::apps::v1::ControllerRevision, "apps/v1", "ControllerRevision";
    Job, api::batch::v1::Job, "batch/v1", "Job";
    CronJob, api::batch::v1::CronJob, "batch/v1", "CronJob";
    StatefulSet, api::apps::v1::StatefulSet, "apps/v1", "StatefulSet";
    PersistentVolume, api::core::v1::PersistentVolume, "v1", "PersistentVolume";
    PersistentVolumeClaim, api::core::v1::PersistentVolumeClaim, "v1", "PersistentVolumeClaim";
    ResourceClaim, api::resource::v1::ResourceClaim, "resource.k8s.io/v1", "ResourceClaim";
    ResourceClaimTemplate, api::resource::v1::ResourceClaimTemplate, "resource.k8s.io/v1", "ResourceClaimTemplate";
    CsiDriver, api::storage::v1::CSIDriver, "storage.k8s.io/v1", "CSIDriver";
    VolumeAttachment, api::storage::v1::VolumeAttachment, "storage.k8s.io/v1", "VolumeAttachment";
    StorageClass, api::storage::v1::StorageClass, "storage.k8s.io/v1", "StorageClass";
    PodDisruptionBudget, api::policy::v1::PodDisruptionBudget, "policy/v1", "PodDisruptionBudget";
    ResourceQuota, api::core::v1::ResourceQuota, "v1", "ResourceQuota";
    DeviceClass, api::resource::v1::DeviceClass, "resource.k8s.io/v1", "DeviceClass";
    ResourceSlice, api::resource::v1::ResourceSlice, "resource.k8s.io/v1", "ResourceSlice";
    DeviceTaintRule, api::resource::v1::DeviceTaintRule, "resource.k8s.io/v1", "DeviceTaintRule";
    Secret, api::core::v1::Secret, "v1", "Secret";
    ServiceAccount, api::core::v1::ServiceAccount, "v1", "ServiceAccount";
    ConfigMap, api::core::v1::ConfigMap, "v1", "ConfigMap";
}

impl client::View for ReplicationController {
    type Of = api::core::v1::ReplicationController;
}

impl HasMeta for ReplicationController {
    fn meta(&self) -> &Meta {
        &self.0.metadata
    }
}

impl Object for ReplicationController {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "ReplicationController";
}

macro_rules! selects {
    ($($view:ty, $($field:tt).+;)*) => {$(
        impl Selects for $view {
            fn selector(&self) -> &CompiledSelector {
                &self.$($field).+
            }
        }
    )*};
}

selects! {
    Deployment, spec.selector;
    ReplicaSet, spec.selector;
    ReplicationController, 0.spec.selector;
    DaemonSet, spec.selector;
    Job, spec.selector;
    StatefulSet, spec.selector;
    Service, spec.selector;
    PodDisruptionBudget, spec.selector;
}

impl Selects for CronJob {
    /// It adopts nothing.
    fn selector(&self) -> &CompiledSelector {
        static NOTHING: std::sync::LazyLock<CompiledSelector> =
            std::sync::LazyLock::new(CompiledSelector::default);
        &NOTHING
    }
}

/// For `skip_serializing_if`: the API leaves out what has its zero value.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a list (`null` as an empty one) without the room it grew by: caches hold thousands of them.
pub fn compact<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    let mut list = <Option<Vec<T>> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default();
    list.shrink_to_fit();
    Ok(list)
}

/// Reads `null` as the default, as Go's decoder does.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
