//! Claims of devices, as scheduling sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Key, Metadata, View};
use serde::Deserialize;
use serde_json::Value;

use super::read::list;
use super::request::{AttributeConstraint, Request};
use super::slice::{Amount, RawNodeSelector};
use super::{DeviceId, Share, Taken};
use crate::cluster::Symbol;
use crate::cluster::selector::Term;

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawClaim")]
pub struct DeviceClaim {
    pub key: Key,
    pub uid: Box<str>,
    pub version: u64,
    /// UID of the pod that it was made for.
    pub owner: Option<Box<str>>,
    pub deleting: bool,
    pub requests: Vec<Request>,
    pub constraints: Vec<AttributeConstraint>,
    /// Configurations for drivers, as they came.
    pub config: Vec<Value>,
    pub allocation: Option<Allocation>,
    /// UIDs of its users.
    pub reserved_for: Vec<Box<str>>,
    /// Conditions of its devices.
    conditions: Vec<DeviceConditions>,
}

#[derive(Clone, Debug, PartialEq)]
struct DeviceConditions {
    id: DeviceId,
    conditions: Vec<Condition>,
}

/// A claim may have so many users.
const MOST_USERS: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    taken: Taken,
    /// Nodes that reach the devices; none for all.
    pub terms: Option<Vec<Term>>,
    /// Alternatives that were chosen, as `request/alternative`.
    pub alternatives: Vec<String>,
    /// Devices that are made ready before a pod is bound to them.
    prepared: Vec<PreparedDevice>,
    /// When it was made.
    at: Option<jiff::Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
struct PreparedDevice {
    id: DeviceId,
    /// Conditions that all have to be true.
    conditions: Vec<String>,
    /// Of these, none may be.
    failures: Vec<String>,
}

/// How far the devices of a claim are.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    Ready,
    /// Some are still being made ready.
    NotYet,
    /// One cannot be made ready.
    Failed(String),
}

impl View for DeviceClaim {
    type Of = k8s_openapi::api::resource::v1::ResourceClaim;
}

impl DeviceClaim {
    pub fn taken(&self) -> Option<&Taken> {
        self.allocation.as_ref().map(|allocation| &allocation.taken)
    }

    /// Whether pods are bound to its devices only when these are ready.
    pub fn has_prepared(&self) -> bool {
        self.allocation.as_ref().is_some_and(|allocation| !allocation.prepared.is_empty())
    }

    /// Whether its devices are ready for a pod to be bound.
    pub fn prepared(&self) -> Prepared {
        let Some(allocation) = &self.allocation else { return Prepared::NotYet };
        for device in &allocation.prepared {
            let own = self.conditions.iter().find(|own| own.id == device.id);
            let Some(own) = own else { return Prepared::NotYet };
            let is_true = |name: &String| {
                own.conditions.iter().find(|condition| condition.kind == *name && condition.status == "True")
            };
            if let Some(failed) = device.failures.iter().find_map(is_true) {
                let (claim, Condition { reason, message, .. }) = (&self.key.name, failed);
                return Prepared::Failed(format!("claim={claim}, reason={reason}, message={message:?}"));
            }
            if !device.conditions.iter().all(|name| is_true(name).is_some()) {
                return Prepared::NotYet;
            }
        }
        Prepared::Ready
    }

    /// Whether its devices have had their time to be made ready.
    pub fn is_overdue(&self, timeout: Duration, now: jiff::Timestamp) -> bool {
        self.allocation.as_ref().filter(|allocation| !allocation.prepared.is_empty()).is_some_and(
            |allocation| {
                allocation.at.is_some_and(|at| now.duration_since(at).unsigned_abs() > timeout && now > at)
            },
        )
    }

    pub fn is_reserved_for(&self, pod: &str) -> bool {
        self.reserved_for.iter().any(|uid| **uid == *pod)
    }

    pub fn can_be_reserved(&self) -> bool {
        self.reserved_for.len() < MOST_USERS
    }

    pub fn has_status_of(&self, other: &DeviceClaim) -> bool {
        self.allocation == other.allocation
            && self.reserved_for == other.reserved_for
            && self.conditions == other.conditions
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaim {
    metadata: Metadata,
    spec: RawClaimSpec,
    status: RawClaimStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaimSpec {
    devices: RawRequests,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRequests {
    #[serde(deserialize_with = "list")]
    requests: Vec<Request>,
    #[serde(deserialize_with = "list")]
    constraints: Vec<AttributeConstraint>,
    #[serde(deserialize_with = "list")]
    config: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimStatus {
    allocation: Option<RawAllocation>,
    #[serde(deserialize_with = "list")]
    reserved_for: Vec<RawConsumer>,
    #[serde(deserialize_with = "list")]
    devices: Vec<RawDeviceStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawDeviceStatus {
    driver: String,
    pool: String,
    device: String,
    #[serde(deserialize_with = "list")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawConsumer {
    uid: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAllocation {
    devices: RawResults,
    node_selector: Option<RawNodeSelector>,
    allocation_timestamp: Option<jiff::Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResults {
    #[serde(deserialize_with = "list")]
    results: Vec<RawResult>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawResult {
    request: String,
    driver: String,
    pool: String,
    device: String,
    admin_access: bool,
    #[serde(rename = "shareID")]
    share_id: Option<String>,
    consumed_capacity: Option<BTreeMap<String, Amount>>,
    #[serde(deserialize_with = "list")]
    binding_conditions: Vec<String>,
    #[serde(deserialize_with = "list")]
    binding_failure_conditions: Vec<String>,
}

fn id(driver: &str, pool: &str, device: &str) -> DeviceId {
    DeviceId { driver: Symbol::new(driver), pool: Symbol::new(pool), name: Symbol::new(device) }
}

impl From<RawAllocation> for Allocation {
    fn from(raw: RawAllocation) -> Allocation {
        let mut allocation = Allocation {
            taken: Taken::default(),
            terms: raw.node_selector.map(Vec::from),
            alternatives: Vec::new(),
            prepared: Vec::new(),
            at: raw.allocation_timestamp,
        };
        for result in raw.devices.results {
            let id = id(&result.driver, &result.pool, &result.device);
            if result.request.contains('/') {
                allocation.alternatives.push(result.request);
            }
            if !result.binding_conditions.is_empty() {
                let (conditions, failures) = (result.binding_conditions, result.binding_failure_conditions);
                allocation.prepared.push(PreparedDevice { id: id.clone(), conditions, failures });
            }
            if result.admin_access {
                continue;
            }
            match result.share_id {
                None => allocation.taken.exclusive.push(id),
                Some(_) => {
                    let amounts = result.consumed_capacity.unwrap_or_default().into_iter();
                    let amounts = amounts.map(|(name, amount)| (name, amount.quantity.nanos())).collect();
                    allocation.taken.shares.push(Share { id, amounts });
                }
            }
        }
        allocation
    }
}

impl From<RawClaim> for DeviceClaim {
    fn from(RawClaim { metadata, spec, status }: RawClaim) -> DeviceClaim {
        let owner = metadata.controller().filter(|owner| owner.kind == "Pod");
        let conditions = status.devices.into_iter().map(|raw| DeviceConditions {
            id: id(&raw.driver, &raw.pool, &raw.device),
            conditions: raw.conditions,
        });
        DeviceClaim {
            key: metadata.key(),
            version: metadata.resource_version.parse().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.as_str().into()),
            deleting: metadata.deletion_timestamp.is_some(),
            requests: spec.devices.requests,
            constraints: spec.devices.constraints,
            config: spec.devices.config,
            allocation: status.allocation.map(Allocation::from),
            reserved_for: status.reserved_for.into_iter().map(|consumer| consumer.uid).collect(),
            conditions: conditions.collect(),
            uid: metadata.uid.into(),
        }
    }
}
