//! Devices that drivers publish, as scheduling sees them.

use std::collections::BTreeMap;

use client::{Metadata, View};
use machinery::quantity::Quantity;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::read::{list, symbol};
use super::taint::Taint;
use crate::cluster::selector::{RawTerm, Term};
use crate::cluster::{Node, Symbol};

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
pub(super) struct RawNodeSelector {
    #[serde(deserialize_with = "list")]
    node_selector_terms: Vec<RawTerm>,
}

impl From<RawNodeSelector> for Vec<Term> {
    fn from(raw: RawNodeSelector) -> Vec<Term> {
        raw.node_selector_terms.into_iter().map(Term::from).collect()
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
    pub capacity: BTreeMap<String, Capacity>,
    pub consumes: Vec<CounterSet>,
    pub nodes: Nodes,
    pub taints: Vec<Taint>,
    pub binds_to_node: bool,
    pub is_shareable: bool,
    /// Conditions that have to be true before a pod is bound, and those of which none may be.
    pub binding_conditions: Vec<String>,
    pub binding_failure_conditions: Vec<String>,
}

/// An amount, and as it is written.
#[derive(Clone, Debug)]
pub struct Amount {
    pub text: String,
    pub quantity: Quantity,
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let quantity = Quantity::parse(&text).map_err(serde::de::Error::custom)?;
        Ok(Amount { text, quantity })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    pub value: Amount,
    #[serde(rename = "requestPolicy")]
    pub policy: Option<Policy>,
}

/// How requests for a part of a capacity are rounded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    pub default: Option<Amount>,
    #[serde(rename = "validValues", deserialize_with = "list")]
    pub values: Vec<Amount>,
    #[serde(rename = "validRange")]
    pub range: Option<Range>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Range {
    pub min: Option<Amount>,
    pub max: Option<Amount>,
    pub step: Option<Amount>,
}

/// Amounts of a set, by name, in billionths.
#[derive(Clone, Debug, Default)]
pub struct CounterSet {
    pub name: String,
    pub counters: Vec<(String, i128)>,
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
    capacity: Option<BTreeMap<String, Capacity>>,
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
    binding_conditions: Vec<String>,
    #[serde(deserialize_with = "list")]
    binding_failure_conditions: Vec<String>,
}

#[derive(Deserialize)]
struct RawCounter {
    value: Amount,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawCounters {
    name: String,
    counter_set: String,
    counters: Option<BTreeMap<String, RawCounter>>,
}

impl From<RawCounters> for CounterSet {
    fn from(raw: RawCounters) -> CounterSet {
        let name = if raw.counter_set.is_empty() { raw.name } else { raw.counter_set };
        let counters = raw.counters.unwrap_or_default().into_iter();
        let counters = counters.map(|(name, counter)| (name, counter.value.quantity.nanos()));
        CounterSet { name, counters: counters.collect() }
    }
}

impl From<RawDevice> for Device {
    fn from(raw: RawDevice) -> Device {
        let attribute = |value: Value| Attribute::deserialize(value).unwrap_or(Attribute::Unknown);
        let attributes = raw.attributes.unwrap_or_default().into_iter();
        Device {
            name: Symbol::new(&raw.name),
            attributes: attributes.map(|(name, value)| (name, attribute(value))).collect(),
            capacity: raw.capacity.unwrap_or_default(),
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
            binding_conditions: raw.binding_conditions,
            binding_failure_conditions: raw.binding_failure_conditions,
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
