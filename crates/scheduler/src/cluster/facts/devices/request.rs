//! What claims ask for, and what classes of devices add to it.

use std::collections::BTreeMap;

use client::{Metadata, View};
use serde::Deserialize;
use serde_json::Value;

use super::read::list;
use super::slice::Amount;
use super::taint::DeviceToleration;
use crate::cluster::Symbol;

/// What a claim asks for: one thing, or the first of several that can be had.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    pub name: String,
    pub exactly: Option<Exact>,
    #[serde(deserialize_with = "list")]
    pub first_available: Vec<Exact>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exact {
    /// Of one among several.
    pub name: String,
    pub device_class_name: String,
    #[serde(deserialize_with = "list")]
    pub selectors: Vec<Selector>,
    pub allocation_mode: String,
    pub count: i64,
    pub admin_access: Option<bool>,
    #[serde(deserialize_with = "list")]
    pub tolerations: Vec<DeviceToleration>,
    pub capacity: Option<CapacityRequests>,
    #[serde(deserialize_with = "list")]
    pub derived_attributes: Vec<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CapacityRequests {
    requests: Option<BTreeMap<String, Amount>>,
}

impl Default for Exact {
    fn default() -> Exact {
        Exact {
            name: String::new(),
            device_class_name: String::new(),
            selectors: Vec::new(),
            allocation_mode: "ExactCount".to_owned(),
            count: 1,
            admin_access: None,
            tolerations: Vec::new(),
            capacity: None,
            derived_attributes: Vec::new(),
        }
    }
}

impl Exact {
    /// What it asks for of the capacities of each device.
    pub fn amounts(&self) -> impl Iterator<Item = (&String, &Amount)> {
        self.capacity.iter().filter_map(|capacity| capacity.requests.as_ref()).flatten()
    }

    pub fn amount(&self, capacity: &str) -> Option<&Amount> {
        self.capacity.as_ref()?.requests.as_ref()?.get(capacity)
    }

    pub fn has_admin_access(&self) -> bool {
        self.admin_access == Some(true)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Selector {
    pub cel: Option<Expression>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttributeConstraint {
    #[serde(deserialize_with = "list")]
    pub requests: Vec<String>,
    pub match_attribute: Option<String>,
    pub distinct_attribute: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawClass")]
pub struct DeviceClass {
    pub name: Symbol,
    pub selectors: Vec<Selector>,
    pub config: Vec<Value>,
}

impl View for DeviceClass {
    type Of = k8s_openapi::api::resource::v1::DeviceClass;
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClass {
    metadata: Metadata,
    spec: RawClassSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClassSpec {
    #[serde(deserialize_with = "list")]
    selectors: Vec<Selector>,
    #[serde(deserialize_with = "list")]
    config: Vec<Value>,
}

impl From<RawClass> for DeviceClass {
    fn from(RawClass { metadata, spec }: RawClass) -> DeviceClass {
        DeviceClass { name: Symbol::new(&metadata.name), selectors: spec.selectors, config: spec.config }
    }
}
