//! Claims, volumes, storage classes and what CSI drivers say of nodes, as scheduling sees them.

mod raw;

use std::collections::BTreeMap;

use client::{Key, View};
use machinery::labels::Selector;
use serde::Deserialize;

use super::assumed::Versioned;
use crate::cluster::selector::Term;
use crate::cluster::{Node, Symbol};

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawClaim")]
pub struct Claim {
    pub key: Key,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    /// Pod that an ephemeral volume's claim is of.
    pub owner: Option<Box<str>>,
    pub deleting: bool,
    /// Its volume is gone.
    pub lost: bool,
    pub class: Symbol,
    /// Empty until bound.
    pub volume: Symbol,
    /// The controller has completed the binding.
    pub bound: bool,
    /// Node for which a volume is provisioned.
    pub selected_node: Option<Symbol>,
    pub access_modes: Vec<String>,
    /// Bytes; none where it asks for no size.
    pub size: Option<i64>,
    pub mode: Option<String>,
    pub attributes_class: Option<String>,
    pub selector: Option<Selector>,
}

impl View for Claim {
    type Of = k8s_openapi::api::core::v1::PersistentVolumeClaim;
}

impl Versioned for Claim {
    fn resource_version(&self) -> &str {
        &self.resource_version
    }
}

impl Claim {
    pub fn is_bound(&self) -> bool {
        !self.volume.is_empty() && self.bound
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawVolume")]
pub struct Volume {
    pub name: Symbol,
    pub resource_version: Box<str>,
    pub labels: BTreeMap<String, String>,
    pub deleting: bool,
    pub bound_by_controller: bool,
    pub class: Symbol,
    pub available: bool,
    pub size: i64,
    pub access_modes: Vec<String>,
    pub mode: Option<String>,
    pub attributes_class: Option<String>,
    pub claim: Option<ClaimReference>,
    /// Nodes that can reach it: one of these terms. None for all nodes.
    pub terms: Option<Vec<Term>>,
    /// Driver and handle of a CSI volume.
    pub csi: Option<(Symbol, Symbol)>,
}

impl View for Volume {
    type Of = k8s_openapi::api::core::v1::PersistentVolume;
}

impl Versioned for Volume {
    fn resource_version(&self) -> &str {
        &self.resource_version
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimReference {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Volume {
    pub fn reaches(&self, node: &Node) -> bool {
        let Some(terms) = &self.terms else { return true };
        terms.iter().any(|term| term.matches(&node.name, &node.labels))
    }

    /// Whether the volume is reserved for the claim by its UID.
    pub fn is_reserved_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|reference| *reference.uid == *claim.uid)
    }

    /// Whether the volume is reserved for the claim. A reference without UID is one that a user has made.
    pub fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|reference| {
            *reference.name == *claim.key.name
                && *reference.namespace == *claim.key.namespace
                && (reference.uid.is_empty() || *reference.uid == *claim.uid)
        })
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawClass")]
pub struct Class {
    pub name: Symbol,
    pub provisioner: Symbol,
    /// Volumes are bound when a pod needs them.
    pub waits_for_consumer: bool,
    /// Nodes for which volumes can be provisioned: one of these. None for all nodes.
    topologies: Vec<Vec<(Symbol, Vec<Symbol>)>>,
}

impl View for Class {
    type Of = k8s_openapi::api::storage::v1::StorageClass;
}

impl Class {
    pub fn provisions_for(&self, node: &Node) -> bool {
        let has = |(key, values): &(Symbol, Vec<Symbol>)| {
            node.labels.get(key).is_some_and(|value| values.contains(value))
        };
        self.topologies.is_empty() || self.topologies.iter().any(|all| !all.is_empty() && all.iter().all(has))
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawCsiNode")]
pub struct CsiNode {
    pub name: Symbol,
    /// How many volumes of each driver can be attached; none for any number.
    pub limits: Vec<(Symbol, Option<i64>)>,
}

impl View for CsiNode {
    type Of = k8s_openapi::api::storage::v1::CSINode;
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawDriver")]
pub struct CsiDriver {
    pub name: Symbol,
    /// The driver reports how much it can still provision.
    pub reports_capacity: bool,
    /// Pods with its volumes go only to nodes that have the driver.
    pub must_be_on_node: bool,
}

impl View for CsiDriver {
    type Of = k8s_openapi::api::storage::v1::CSIDriver;
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawCapacity")]
pub struct Capacity {
    pub key: Key,
    pub class: Symbol,
    /// Size of the largest volume, in bytes.
    pub largest: Option<i64>,
    /// All that is left, in bytes.
    pub total: Option<i64>,
    nodes: Option<Selector>,
}

impl View for Capacity {
    type Of = k8s_openapi::api::storage::v1::CSIStorageCapacity;
}

impl Capacity {
    pub fn reaches(&self, node: &Node) -> bool {
        self.nodes.as_ref().is_some_and(|nodes| nodes.matches_with(|key| node.labels.find(key)))
    }
}

/// A volume that a driver attaches to a node, or has attached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "raw::RawAttachment")]
pub struct Attachment {
    pub name: Symbol,
    pub node: Symbol,
    pub driver: Symbol,
    pub volume: Symbol,
}

impl View for Attachment {
    type Of = k8s_openapi::api::storage::v1::VolumeAttachment;
}
