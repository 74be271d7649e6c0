//! The objects about devices, as scheduling sees them.

use std::collections::BTreeMap;

use client::{Key, Metadata, View};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::DeviceId;
use crate::cluster::selector::{RawTerm, Term};
use crate::cluster::{Node, Symbol};

/// Reads `null` as an empty list.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn symbol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Symbol, D::Error> {
    Ok(Symbol::new(&String::deserialize(deserializer)?))
}

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
}

/// A claim may have so many users.
const MOST_USERS: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Those that no other claim may have.
    devices: Vec<DeviceId>,
    /// Nodes that reach the devices; none for all.
    pub terms: Option<Vec<Term>>,
    /// Alternatives that were chosen, as `request/alternative`.
    pub alternatives: Vec<String>,
}

impl View for DeviceClaim {
    type Of = k8s_openapi::api::resource::v1::ResourceClaim;
}

impl DeviceClaim {
    pub fn devices(&self) -> &[DeviceId] {
        self.allocation.as_ref().map_or(&[], |allocation| &allocation.devices)
    }

    pub fn is_reserved_for(&self, pod: &str) -> bool {
        self.reserved_for.iter().any(|uid| **uid == *pod)
    }

    pub fn can_be_reserved(&self) -> bool {
        self.reserved_for.len() < MOST_USERS
    }

    pub fn has_status_of(&self, other: &DeviceClaim) -> bool {
        self.allocation == other.allocation && self.reserved_for == other.reserved_for
    }
}

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
    pub capacity: Option<serde::de::IgnoredAny>,
    #[serde(deserialize_with = "list")]
    pub derived_attributes: Vec<serde::de::IgnoredAny>,
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

/// Kept as it came, too: it is copied into the allocation.
#[derive(Clone, Debug)]
pub struct DeviceToleration {
    key: String,
    is_exists: bool,
    value: String,
    effect: String,
    pub whole: Value,
}

impl<'de> Deserialize<'de> for DeviceToleration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let text = |field: &str| whole[field].as_str().unwrap_or_default().to_owned();
        let is_exists = text("operator") == "Exists";
        Ok(DeviceToleration {
            key: text("key"),
            is_exists,
            value: text("value"),
            effect: text("effect"),
            whole,
        })
    }
}

impl DeviceToleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.is_exists || self.value == taint.value)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    pub fn keeps_out(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
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
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeSelector {
    #[serde(deserialize_with = "list")]
    node_selector_terms: Vec<RawTerm>,
}

impl From<RawNodeSelector> for Vec<Term> {
    fn from(raw: RawNodeSelector) -> Vec<Term> {
        raw.node_selector_terms.into_iter().map(Term::from).collect()
    }
}

impl From<RawClaim> for DeviceClaim {
    fn from(RawClaim { metadata, spec, status }: RawClaim) -> DeviceClaim {
        let allocation = status.allocation.map(|raw| {
            let exclusive = |result: &RawResult| !result.admin_access && result.share_id.is_none();
            let id = |result: RawResult| DeviceId {
                driver: Symbol::new(&result.driver),
                pool: Symbol::new(&result.pool),
                name: Symbol::new(&result.device),
            };
            let requests = raw.devices.results.iter().map(|result| result.request.clone());
            Allocation {
                alternatives: requests.filter(|request| request.contains('/')).collect(),
                devices: raw.devices.results.into_iter().filter(exclusive).map(id).collect(),
                terms: raw.node_selector.map(Vec::from),
            }
        });
        let owner = metadata.controller().filter(|owner| owner.kind == "Pod");
        DeviceClaim {
            key: metadata.key(),
            version: metadata.resource_version.parse().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.as_str().into()),
            deleting: metadata.deletion_timestamp.is_some(),
            requests: spec.devices.requests,
            constraints: spec.devices.constraints,
            config: spec.devices.config,
            allocation,
            reserved_for: status.reserved_for.into_iter().map(|consumer| consumer.uid).collect(),
            uid: metadata.uid.into(),
        }
    }
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

/// Devices of a pool that a driver publishes.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawSlice")]
pub struct Slice {
    pub name: Symbol,
    pub driver: Symbol,
    pub pool: Symbol,
    pub generation: i64,
    /// How many slices the pool has.
    pub count: i64,
    pub nodes: Nodes,
    pub devices: Vec<Device>,
    /// What devices take a part of, by set and name.
    pub counters: Vec<CounterSet>,
}

impl View for Slice {
    type Of = k8s_openapi::api::resource::v1::ResourceSlice;
}

impl Slice {
    /// Whether one of its devices is for the node.
    pub(super) fn concerns(&self, node: &Node) -> bool {
        match &self.nodes {
            Nodes::PerDevice => self.devices.iter().any(|device| device.nodes.reach(node)),
            nodes => nodes.reach(node),
        }
    }

    /// The nodes of a device.
    pub fn nodes_of<'a>(&'a self, device: &'a Device) -> &'a Nodes {
        if matches!(self.nodes, Nodes::PerDevice) { &device.nodes } else { &self.nodes }
    }
}

/// Nodes that reach a device.
#[derive(Clone, Debug)]
pub enum Nodes {
    None,
    All,
    Named(Symbol),
    /// One of these terms; with the selector as it came.
    Selected(Vec<Term>, Value),
    /// Each device says it for itself.
    PerDevice,
}

impl Nodes {
    pub fn reach(&self, node: &Node) -> bool {
        match self {
            Nodes::All => true,
            Nodes::Named(name) => *name == node.name,
            Nodes::Selected(terms, _) => terms.iter().any(|term| term.matches(&node.name, &node.labels)),
            Nodes::None | Nodes::PerDevice => false,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodes {
    node_name: Option<String>,
    all_nodes: Option<bool>,
    node_selector: Option<Value>,
    per_device_node_selection: Option<bool>,
}

impl From<RawNodes> for Nodes {
    fn from(raw: RawNodes) -> Nodes {
        match raw {
            RawNodes { node_name: Some(name), .. } if !name.is_empty() => Nodes::Named(Symbol::new(&name)),
            RawNodes { all_nodes: Some(true), .. } => Nodes::All,
            RawNodes { node_selector: Some(whole), .. } => {
                let terms = RawNodeSelector::deserialize(&whole).unwrap_or_default();
                Nodes::Selected(terms.into(), whole)
            }
            RawNodes { per_device_node_selection: Some(true), .. } => Nodes::PerDevice,
            _ => Nodes::None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Device {
    pub name: Symbol,
    pub attributes: BTreeMap<String, Attribute>,
    /// Amounts as they are written.
    pub capacity: BTreeMap<String, String>,
    pub consumes: Vec<CounterSet>,
    pub nodes: Nodes,
    pub taints: Vec<Taint>,
    pub binds_to_node: bool,
    pub is_shareable: bool,
    pub has_binding_conditions: bool,
}

/// Amounts of a set, by name, as they are written.
#[derive(Clone, Debug, Default)]
pub struct CounterSet {
    pub name: String,
    pub counters: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub enum Attribute {
    #[serde(rename = "int")]
    Int(i64),
    #[serde(rename = "bool")]
    Bool(bool),
    #[serde(rename = "string")]
    String(String),
    #[serde(rename = "version")]
    Version(String),
    /// Of a kind that is not known here.
    #[serde(skip)]
    Unknown,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSlice {
    metadata: Metadata,
    spec: RawSliceSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSliceSpec {
    #[serde(deserialize_with = "symbol")]
    driver: Symbol,
    pool: RawPool,
    #[serde(flatten)]
    nodes: RawNodes,
    #[serde(default, deserialize_with = "list")]
    devices: Vec<RawDevice>,
    #[serde(default, deserialize_with = "list")]
    shared_counters: Vec<RawCounters>,
}

impl Default for RawSliceSpec {
    fn default() -> RawSliceSpec {
        RawSliceSpec {
            driver: Symbol::new(""),
            pool: RawPool::default(),
            nodes: RawNodes::default(),
            devices: Vec::new(),
            shared_counters: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPool {
    name: String,
    generation: i64,
    resource_slice_count: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawDevice {
    name: String,
    attributes: Option<BTreeMap<String, Value>>,
    capacity: Option<BTreeMap<String, RawAmount>>,
    #[serde(deserialize_with = "list")]
    consumes_counters: Vec<RawCounters>,
    node_name: Option<String>,
    all_nodes: Option<bool>,
    node_selector: Option<Value>,
    #[serde(deserialize_with = "list")]
    taints: Vec<Taint>,
    binds_to_node: Option<bool>,
    allow_multiple_allocations: Option<bool>,
    #[serde(deserialize_with = "list")]
    binding_conditions: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawAmount {
    value: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawCounters {
    name: String,
    counter_set: String,
    counters: Option<BTreeMap<String, RawAmount>>,
}

fn written(amounts: Option<BTreeMap<String, RawAmount>>) -> BTreeMap<String, String> {
    let text = |amount: RawAmount| match amount.value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    amounts.unwrap_or_default().into_iter().map(|(name, amount)| (name, text(amount))).collect()
}

impl From<RawCounters> for CounterSet {
    fn from(raw: RawCounters) -> CounterSet {
        let name = if raw.counter_set.is_empty() { raw.name } else { raw.counter_set };
        CounterSet { name, counters: written(raw.counters) }
    }
}

impl From<RawDevice> for Device {
    fn from(raw: RawDevice) -> Device {
        let attribute = |value: Value| Attribute::deserialize(value).unwrap_or(Attribute::Unknown);
        let attributes = raw.attributes.unwrap_or_default().into_iter();
        Device {
            name: Symbol::new(&raw.name),
            attributes: attributes.map(|(name, value)| (name, attribute(value))).collect(),
            capacity: written(raw.capacity),
            consumes: raw.consumes_counters.into_iter().map(CounterSet::from).collect(),
            nodes: Nodes::from(RawNodes {
                node_name: raw.node_name,
                all_nodes: raw.all_nodes,
                node_selector: raw.node_selector,
                per_device_node_selection: None,
            }),
            taints: raw.taints,
            binds_to_node: raw.binds_to_node == Some(true),
            is_shareable: raw.allow_multiple_allocations == Some(true),
            has_binding_conditions: !raw.binding_conditions.is_empty(),
        }
    }
}

impl From<RawSlice> for Slice {
    fn from(RawSlice { metadata, spec }: RawSlice) -> Slice {
        Slice {
            name: Symbol::new(&metadata.name),
            driver: spec.driver,
            pool: Symbol::new(&spec.pool.name),
            generation: spec.pool.generation,
            count: spec.pool.resource_slice_count,
            nodes: spec.nodes.into(),
            devices: spec.devices.into_iter().map(Device::from).collect(),
            counters: spec.shared_counters.into_iter().map(CounterSet::from).collect(),
        }
    }
}

/// A taint that an administrator gives to devices.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawRule")]
pub struct TaintRule {
    pub name: Symbol,
    selector: Option<RuleSelector>,
    pub taint: Taint,
}

impl View for TaintRule {
    type Of = k8s_openapi::api::resource::v1::DeviceTaintRule;
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuleSelector {
    driver: Option<String>,
    pool: Option<String>,
    device: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRule {
    metadata: Metadata,
    spec: RawRuleSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRuleSpec {
    device_selector: Option<RuleSelector>,
    taint: Taint,
}

impl From<RawRule> for TaintRule {
    fn from(RawRule { metadata, spec }: RawRule) -> TaintRule {
        TaintRule { name: Symbol::new(&metadata.name), selector: spec.device_selector, taint: spec.taint }
    }
}

impl TaintRule {
    /// Without a selector it selects nothing; each part that is absent selects all.
    pub(super) fn selects(&self, slice: &Slice, device: &Device) -> bool {
        let is = |wanted: &Option<String>, own: &Symbol| {
            wanted.as_ref().is_none_or(|wanted| *wanted == own.as_str())
        };
        self.selector.as_ref().is_some_and(|selector| {
            is(&selector.driver, &slice.driver)
                && is(&selector.pool, &slice.pool)
                && is(&selector.device, &device.name)
        })
    }
}
