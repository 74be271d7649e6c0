//! Reading what storage consists of.

use std::collections::BTreeMap;

use api::Tree;
use client::Metadata;
use machinery::labels::Selector;
use serde::Deserialize;

use super::{
    Attachment, BOUND_BY_CONTROLLER, Capacity, Claim, ClaimReference, Class, CsiDriver, CsiNode,
    SELECTED_NODE, Volume,
};
use crate::cluster::Symbol;
use crate::cluster::resources::Text;
use crate::cluster::selector::RawTerm;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawClaim {
    metadata: Metadata,
    spec: ClaimSpec,
    status: Phase,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    storage_class_name: Option<String>,
    volume_name: String,
    access_modes: Option<Vec<String>>,
    resources: Requests,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
    selector: Option<Tree>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Requests {
    requests: Option<BTreeMap<String, Text>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Phase {
    phase: String,
}

fn selector(tree: &Tree) -> Selector {
    Selector::from_label_selector(tree).unwrap_or_else(|_| Selector::nothing())
}

impl From<RawClaim> for Claim {
    fn from(raw: RawClaim) -> Claim {
        let RawClaim { metadata, spec, status } = raw;
        let annotations = &metadata.annotations;
        let class = annotations.get(CLASS).or(spec.storage_class_name.as_ref());
        let requests = spec.resources.requests.unwrap_or_default();
        Claim {
            key: metadata.key(),
            owner: metadata.controller().map(|owner| owner.uid.as_str().into()),
            deleting: metadata.deletion_timestamp.is_some(),
            lost: status.phase == "Lost",
            class: Symbol::new(class.map_or("", String::as_str)),
            volume: Symbol::new(&spec.volume_name),
            bound: annotations.contains_key(BIND_COMPLETED),
            selected_node: annotations.get(SELECTED_NODE).map(|node| Symbol::new(node)),
            access_modes: spec.access_modes.unwrap_or_default(),
            size: requests.get("storage").map(Text::value),
            mode: spec.volume_mode,
            attributes_class: spec.volume_attributes_class_name,
            selector: spec.selector.as_ref().map(selector),
            uid: metadata.uid.into(),
            resource_version: metadata.resource_version.into(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawVolume {
    metadata: Metadata,
    spec: VolumeSpec,
    status: Phase,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct VolumeSpec {
    storage_class_name: String,
    capacity: Option<BTreeMap<String, Text>>,
    access_modes: Option<Vec<String>>,
    volume_mode: Option<String>,
    volume_attributes_class_name: Option<String>,
    claim_ref: Option<ClaimReference>,
    node_affinity: Option<Affinity>,
    csi: Option<Csi>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Affinity {
    required: Option<Terms>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Terms {
    node_selector_terms: Vec<RawTerm>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Csi {
    driver: String,
    volume_handle: String,
}

impl From<RawVolume> for Volume {
    fn from(raw: RawVolume) -> Volume {
        let RawVolume { metadata, spec, status } = raw;
        let class = metadata.annotations.get(CLASS).unwrap_or(&spec.storage_class_name);
        let capacity = spec.capacity.unwrap_or_default();
        let terms = spec.node_affinity.and_then(|affinity| affinity.required);
        Volume {
            name: Symbol::new(&metadata.name),
            deleting: metadata.deletion_timestamp.is_some(),
            bound_by_controller: metadata.annotations.contains_key(BOUND_BY_CONTROLLER),
            class: Symbol::new(class),
            available: status.phase == "Available",
            size: capacity.get("storage").map_or(0, Text::value),
            access_modes: spec.access_modes.unwrap_or_default(),
            mode: spec.volume_mode,
            attributes_class: spec.volume_attributes_class_name,
            claim: spec.claim_ref,
            terms: terms.map(|terms| terms.node_selector_terms.into_iter().map(Into::into).collect()),
            csi: spec.csi.map(|csi| (Symbol::new(&csi.driver), Symbol::new(&csi.volume_handle))),
            resource_version: metadata.resource_version.into(),
            labels: metadata.labels,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawClass {
    metadata: Metadata,
    provisioner: String,
    volume_binding_mode: String,
    allowed_topologies: Option<Vec<RawTopology>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawTopology {
    match_label_expressions: Vec<RawExpression>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawExpression {
    key: String,
    values: Vec<String>,
}

impl From<RawClass> for Class {
    fn from(raw: RawClass) -> Class {
        let expression = |raw: RawExpression| {
            (Symbol::new(&raw.key), raw.values.iter().map(|value| Symbol::new(value)).collect())
        };
        let topologies = raw.allowed_topologies.unwrap_or_default().into_iter();
        Class {
            name: Symbol::new(&raw.metadata.name),
            provisioner: Symbol::new(&raw.provisioner),
            waits_for_consumer: raw.volume_binding_mode == "WaitForFirstConsumer",
            topologies: topologies
                .map(|topology| topology.match_label_expressions.into_iter().map(expression).collect())
                .collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawCsiNode {
    metadata: Metadata,
    spec: CsiNodeSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CsiNodeSpec {
    drivers: Option<Vec<NodeDriver>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeDriver {
    name: String,
    allocatable: Option<Allocatable>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Allocatable {
    count: Option<i64>,
}

impl From<RawCsiNode> for CsiNode {
    fn from(raw: RawCsiNode) -> CsiNode {
        let drivers = raw.spec.drivers.unwrap_or_default().into_iter();
        let limit = |driver: NodeDriver| {
            (Symbol::new(&driver.name), driver.allocatable.and_then(|allocatable| allocatable.count))
        };
        CsiNode { name: Symbol::new(&raw.metadata.name), limits: drivers.map(limit).collect() }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawDriver {
    metadata: Metadata,
    spec: DriverSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DriverSpec {
    storage_capacity: bool,
    prevent_pod_scheduling_if_missing: bool,
}

impl From<RawDriver> for CsiDriver {
    fn from(raw: RawDriver) -> CsiDriver {
        CsiDriver {
            name: Symbol::new(&raw.metadata.name),
            reports_capacity: raw.spec.storage_capacity,
            must_be_on_node: raw.spec.prevent_pod_scheduling_if_missing,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawCapacity {
    metadata: Metadata,
    storage_class_name: String,
    capacity: Option<Text>,
    maximum_volume_size: Option<Text>,
    node_topology: Option<Tree>,
}

impl From<RawCapacity> for Capacity {
    fn from(raw: RawCapacity) -> Capacity {
        Capacity {
            key: raw.metadata.key(),
            class: Symbol::new(&raw.storage_class_name),
            total: raw.capacity.as_ref().map(Text::value),
            largest: raw.maximum_volume_size.or(raw.capacity).as_ref().map(Text::value),
            nodes: raw.node_topology.as_ref().map(selector),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawAttachment {
    metadata: Metadata,
    spec: AttachmentSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AttachmentSpec {
    attacher: String,
    node_name: String,
    source: AttachmentSource,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AttachmentSource {
    persistent_volume_name: Option<String>,
}

impl From<RawAttachment> for Attachment {
    fn from(raw: RawAttachment) -> Attachment {
        let volume = raw.spec.source.persistent_volume_name.unwrap_or_default();
        Attachment {
            name: Symbol::new(&raw.metadata.name),
            node: Symbol::new(&raw.spec.node_name),
            driver: Symbol::new(&raw.spec.attacher),
            volume: Symbol::new(&volume),
        }
    }
}
