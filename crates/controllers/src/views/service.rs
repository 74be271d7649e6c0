//! Services, what answers for them, and namespaces.

use std::collections::BTreeMap;

use client::Text;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::{CompiledSelector, Condition, Meta, by_labels, compact, is_default, null_default};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub metadata: Meta,
    pub spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub type_: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(deserialize_with = "by_labels")]
    pub selector: CompiledSelector,
    #[serde(deserialize_with = "compact")]
    pub ports: Vec<ServicePort>,
    #[serde(deserialize_with = "compact")]
    pub ip_families: Vec<String>,
    pub publish_not_ready_addresses: bool,
    pub allocate_load_balancer_node_ports: Option<bool>,
    pub traffic_distribution: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub app_protocol: Option<String>,
    pub port: i32,
    pub node_port: i32,
    pub target_port: Option<IntOrString>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: Meta,
    pub address_type: String,
    #[serde(deserialize_with = "compact")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "compact")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    pub addresses: Vec<String>,
    pub conditions: EndpointConditions,
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub target_ref: Option<ObjectRefShort>,
    #[serde(skip_serializing_if = "is_default")]
    pub node_name: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub hints: Option<EndpointHints>,
    #[serde(skip_serializing_if = "is_default")]
    pub deprecated_topology: BTreeMap<String, String>,
}

/// A reference to a pod as slices carry it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRefShort {
    pub kind: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: Text,
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Text,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointConditions {
    #[serde(skip_serializing_if = "is_default")]
    pub ready: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub serving: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointHints {
    #[serde(skip_serializing_if = "is_default")]
    pub for_zones: Vec<Zone>,
    #[serde(skip_serializing_if = "is_default")]
    pub for_nodes: Vec<Zone>,
}

/// A zone or a node, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    pub name: String,
    pub protocol: String,
    #[serde(skip_serializing_if = "is_default")]
    pub port: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub app_protocol: Option<String>,
}

/// The older form of the same, still read by clients; its subsets are compared as trees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    pub metadata: Meta,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub subsets: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    pub metadata: Meta,
    pub spec: NamespaceSpec,
    pub status: NamespaceStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceSpec {
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub finalizers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub phase: String,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    pub metadata: Meta,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    pub metadata: Meta,
    #[serde(deserialize_with = "null_default")]
    pub data: BTreeMap<String, String>,
}

impl Namespace {
    pub fn is_active(&self) -> bool {
        !self.metadata.is_deleting() && self.status.phase != "Terminating"
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Secret {
    pub metadata: Meta,
    #[serde(rename = "type")]
    pub type_: String,
    /// In base 64.
    #[serde(deserialize_with = "null_default")]
    pub data: BTreeMap<String, String>,
}
