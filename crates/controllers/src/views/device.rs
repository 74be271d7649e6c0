//! Devices, claims of them, and their taints.

use client::{Key, Text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Condition, Meta, OwnerReference, Taint, Toleration, compact, is_default};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceClaim {
    pub metadata: Meta,
    pub spec: ResourceClaimSpec,
    pub status: ResourceClaimStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceClaimStatus {
    pub allocation: Option<Allocation>,
    #[serde(deserialize_with = "compact")]
    pub reserved_for: Vec<Consumer>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Allocation {
    pub devices: AllocatedDevices,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllocatedDevices {
    #[serde(deserialize_with = "compact")]
    pub results: Vec<AllocatedDevice>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AllocatedDevice {
    pub driver: Text,
    pub pool: Text,
    pub device: Text,
    #[serde(deserialize_with = "compact")]
    pub tolerations: Vec<Toleration>,
}

/// The devices that one driver publishes in one pool, or some of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceSlice {
    pub metadata: Meta,
    pub spec: ResourceSliceSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceSliceSpec {
    pub driver: Text,
    pub pool: ResourcePool,
    #[serde(deserialize_with = "compact")]
    pub devices: Vec<Device>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourcePool {
    pub name: Text,
    pub generation: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Device {
    pub name: Text,
    #[serde(deserialize_with = "compact")]
    pub taints: Vec<Taint>,
}

/// A taint of all devices that it selects.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceTaintRule {
    pub metadata: Meta,
    pub spec: DeviceTaintRuleSpec,
    pub status: DeviceTaintRuleStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceTaintRuleSpec {
    /// None selects no device, an empty one all.
    pub device_selector: Option<DeviceTaintSelector>,
    pub taint: Taint,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceTaintSelector {
    pub driver: Option<Text>,
    pub pool: Option<Text>,
    pub device: Option<Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceTaintRuleStatus {
    #[serde(deserialize_with = "compact")]
    pub conditions: Vec<Condition>,
}

impl DeviceTaintRule {
    pub fn selects(&self, driver: &str, pool: &str, device: &str) -> bool {
        let fits = |wanted: &Option<Text>, name: &str| wanted.as_ref().is_none_or(|wanted| *wanted == *name);
        self.spec.device_selector.as_ref().is_some_and(|selector| {
            fits(&selector.driver, driver) && fits(&selector.pool, pool) && fits(&selector.device, device)
        })
    }
}

/// Who a claim is reserved for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Consumer {
    #[serde(skip_serializing_if = "is_default")]
    pub api_group: Text,
    pub resource: Text,
    pub name: Text,
    pub uid: Text,
}

impl ResourceClaim {
    /// The pod that it was made for.
    pub fn owner(&self) -> Option<&OwnerReference> {
        let owner = self.metadata.controller();
        owner.filter(|owner| owner.api_version == "v1" && owner.kind == "Pod")
    }

    pub fn needs_admin_access(&self) -> bool {
        let requests = self.spec.devices.requests.iter();
        requests.filter_map(|request| request.exactly.as_ref()).any(|request| request.admin_access)
    }

    /// The devices that were allocated for it.
    pub fn devices(&self) -> &[AllocatedDevice] {
        self.status.allocation.as_ref().map_or(&[], |allocation| &allocation.devices.results)
    }

    /// The pods that it is reserved for.
    pub fn users(&self) -> impl Iterator<Item = Key> {
        let pods = self.status.reserved_for.iter();
        let pods = pods.filter(|user| user.api_group.is_empty() && user.resource == "pods");
        let namespace = &self.metadata.namespace;
        pods.map(|user| Key { namespace: namespace.clone().into(), name: user.name.clone().into() })
    }

    pub fn is_reserved_for(&self, uid: &str) -> bool {
        self.status.reserved_for.iter().any(|consumer| consumer.uid == *uid)
    }
}

/// A template, of which the claims are made as it came.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceClaimTemplate {
    pub metadata: Meta,
    pub spec: Value,
}

impl ResourceClaimTemplate {
    fn requests(&self) -> impl Iterator<Item = &Value> {
        self.spec.pointer("/spec/devices/requests").and_then(Value::as_array).into_iter().flatten()
    }

    pub fn needs_admin_access(&self) -> bool {
        self.requests().any(|request| request.pointer("/exactly/adminAccess") == Some(&Value::Bool(true)))
    }

    pub fn has_prioritized_list(&self) -> bool {
        self.requests()
            .any(|request| request["firstAvailable"].as_array().is_some_and(|list| !list.is_empty()))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ResourceClaimSpec {
    pub devices: DeviceRequests,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceRequests {
    #[serde(deserialize_with = "compact")]
    pub requests: Vec<DeviceRequest>,
}

/// One of the two.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceRequest {
    pub exactly: Option<Subrequest>,
    #[serde(deserialize_with = "compact")]
    pub first_available: Vec<Subrequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subrequest {
    pub admin_access: bool,
    pub device_class_name: Text,
    pub allocation_mode: Text,
    pub count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceClass {
    pub metadata: Meta,
    pub spec: DeviceClassSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceClassSpec {
    pub extended_resource_name: Option<String>,
}
