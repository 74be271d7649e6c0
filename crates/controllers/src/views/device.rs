//! Claims of devices.

use client::Text;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Meta, OwnerReference, compact, is_default};

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
    /// Only whether there is one is read.
    pub allocation: Option<Allocation>,
    #[serde(deserialize_with = "compact")]
    pub reserved_for: Vec<Consumer>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Allocation {}

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
