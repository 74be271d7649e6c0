//! What happens in the cluster that may make a pod schedulable, and which of it a plugin listens to.

use std::ops::BitOr;

use crate::cluster::facts::devices::{ClaimChange, DeviceClaim};
use crate::cluster::facts::storage::{Claim, Class, Volume};
use crate::cluster::{Node, Pod, Row};

/// Kinds of changes, as upstream's plugins register for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u32);

impl Events {
    pub const NONE: Events = Events(0);
    pub const ALL: Events = Events(u32::MAX);
    pub const NODE_ADD: Events = Events(1);
    pub const NODE_DELETE: Events = Events(1 << 1);
    pub const NODE_ALLOCATABLE: Events = Events(1 << 2);
    pub const NODE_LABEL: Events = Events(1 << 3);
    /// Taints, and whether it is cordoned.
    pub const NODE_TAINT: Events = Events(1 << 4);
    pub const NODE_FEATURES: Events = Events(1 << 5);
    pub const POD_ADD: Events = Events(1 << 8);
    pub const POD_DELETE: Events = Events(1 << 9);
    pub const POD_LABEL: Events = Events(1 << 10);
    /// A placed pod asks for less.
    pub const POD_SCALE_DOWN: Events = Events(1 << 11);

    /// A claim came or changed.
    pub const CLAIM: Events = Events(1 << 16);
    pub const VOLUME: Events = Events(1 << 17);
    pub const CLASS: Events = Events(1 << 18);
    pub const CSI_NODE: Events = Events(1 << 19);
    /// Drivers, and how much they can provision.
    pub const CSI: Events = Events(1 << 20);
    /// Classes and devices came or changed.
    pub const DEVICES: Events = Events(1 << 21);
    /// A claim of devices came or changed, or released some.
    pub const DEVICE_CLAIM: Events = Events(1 << 22);

    /// A volume is no longer attached to a node.
    pub const DETACHED: Events = Events(1 << 23);

    pub fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Events {
    type Output = Events;

    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

/// A change in the cluster.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    NodeAdded(&'a Row),
    NodeUpdated {
        row: &'a Row,
        old: &'a Node,
    },
    NodeRemoved(&'a Node),
    PodPlaced(&'a Pod),
    /// The labels of a placed pod changed.
    PodLabelled {
        old: &'a Pod,
        new: &'a Pod,
    },
    /// A placed pod went away, or one that was promised the node; the row is as it is without it.
    PodRemoved {
        pod: &'a Pod,
        row: &'a Row,
    },
    /// A claim came, or changed.
    Claim(&'a Claim),
    Volume(&'a Volume),
    Class(&'a Class),
    CsiNode,
    Csi,
    Detached,
    Devices,
    DeviceClaim {
        claim: &'a DeviceClaim,
        change: ClaimChange,
    },
    /// A placed pod asks for other amounts than before.
    PodScaled {
        row: &'a Row,
    },
}

impl Change<'_> {
    /// The claim of devices whose users alone it could help.
    pub fn of_users(&self) -> Option<&DeviceClaim> {
        match self {
            Change::DeviceClaim { claim, change } if !change.has_freed => Some(claim),
            _ => None,
        }
    }

    pub fn events(&self) -> Events {
        match self {
            Change::NodeAdded(_) => Events::NODE_ADD,
            Change::NodeUpdated { row, old } => {
                let node = &*row.node;
                let mut events = Events::NONE;
                if old.allocatable != node.allocatable || old.max_pods != node.max_pods {
                    events = events | Events::NODE_ALLOCATABLE;
                }
                if old.features != node.features {
                    events = events | Events::NODE_FEATURES;
                }
                if old.labels != node.labels {
                    events = events | Events::NODE_LABEL;
                }
                if old.taints != node.taints || old.unschedulable != node.unschedulable {
                    events = events | Events::NODE_TAINT;
                }
                events
            }
            Change::NodeRemoved(_) => Events::NODE_DELETE,
            Change::PodPlaced(_) => Events::POD_ADD,
            Change::PodLabelled { .. } => Events::POD_LABEL,
            Change::PodRemoved { .. } => Events::POD_DELETE,
            Change::PodScaled { .. } => Events::POD_SCALE_DOWN,
            Change::Claim(_) => Events::CLAIM,
            Change::Volume(_) => Events::VOLUME,
            Change::Class(_) => Events::CLASS,
            Change::CsiNode => Events::CSI_NODE,
            Change::Csi => Events::CSI,
            Change::Detached => Events::DETACHED,
            Change::Devices => Events::DEVICES,
            Change::DeviceClaim { .. } => Events::DEVICE_CLAIM,
        }
    }

    /// The event's name in upstream's metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Change::NodeAdded(_) => "NodeAdd",
            Change::NodeUpdated { .. } => "NodeUpdate",
            Change::NodeRemoved(_) => "NodeDelete",
            Change::PodPlaced(_) => "AssignedPodAdd",
            Change::PodLabelled { .. } | Change::PodScaled { .. } => "AssignedPodUpdate",
            Change::PodRemoved { .. } => "AssignedPodDelete",
            Change::Claim(_) => "PersistentVolumeClaimUpdate",
            Change::Volume(_) => "PersistentVolumeUpdate",
            Change::Class(_) => "StorageClassAdd",
            Change::CsiNode => "CSINodeUpdate",
            Change::Csi => "CSIStorageCapacityUpdate",
            Change::Detached => "VolumeAttachmentDelete",
            Change::Devices => "ResourceSliceUpdate",
            Change::DeviceClaim { .. } => "ResourceClaimUpdate",
        }
    }
}
