//! The one registry of plugins, in upstream's default order and with its weights.

mod basic;
mod declared_features;
mod devices;
mod fit;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod preemption;
mod topology_spread;
mod volumes;

use std::sync::Arc;

use serde_json::Value;

use crate::framework::Plugin;

pub use fit::{Fit, Strategy};
pub use preemption::{Candidate, Victims};
pub(crate) use preemption::{
    Preemption, choose as choose_victims, fits_without_lower, search as search_victims,
};

type Make = fn(&Value) -> Result<Arc<dyn Plugin>, String>;

/// A plugin: upstream's name, its default weight, and how to make it from its arguments.
pub struct Entry {
    pub name: &'static str,
    pub weight: i64,
    pub make: Make,
}

/// In the order of upstream's default profile.
pub const REGISTRY: &[Entry] = &[
    Entry { name: "SchedulingGates", weight: 0, make: |_| Ok(Arc::new(basic::SchedulingGates)) },
    Entry { name: "PrioritySort", weight: 0, make: |_| Ok(Arc::new(basic::PrioritySort)) },
    Entry { name: "NodeName", weight: 0, make: |_| Ok(Arc::new(basic::NodeName)) },
    Entry { name: "NodeUnschedulable", weight: 0, make: |_| Ok(Arc::new(basic::NodeUnschedulable)) },
    Entry { name: "TaintToleration", weight: 3, make: |_| Ok(Arc::new(basic::TaintToleration)) },
    Entry { name: "NodeAffinity", weight: 2, make: node_affinity::make },
    Entry { name: "NodePorts", weight: 0, make: |_| Ok(Arc::new(basic::NodePorts)) },
    Entry { name: "NodeResourcesFit", weight: 1, make: fit::make },
    Entry { name: "VolumeRestrictions", weight: 0, make: |_| Ok(Arc::new(volumes::VolumeRestrictions)) },
    Entry { name: "NodeVolumeLimits", weight: 0, make: |_| Ok(Arc::new(volumes::NodeVolumeLimits)) },
    Entry { name: "VolumeBinding", weight: 0, make: volumes::make_binding },
    Entry { name: "VolumeZone", weight: 0, make: |_| Ok(Arc::new(volumes::VolumeZone::default())) },
    Entry { name: "PodTopologySpread", weight: 2, make: topology_spread::make },
    Entry { name: "InterPodAffinity", weight: 2, make: inter_pod_affinity::make },
    Entry { name: "DynamicResources", weight: 2, make: devices::make },
    Entry { name: "DefaultPreemption", weight: 0, make: preemption::make },
    Entry { name: "NodeResourcesBalancedAllocation", weight: 1, make: fit::make_balanced },
    Entry { name: "ImageLocality", weight: 1, make: |_| Ok(Arc::new(image_locality::ImageLocality)) },
    Entry { name: "DefaultBinder", weight: 0, make: |_| Ok(Arc::new(basic::DefaultBinder)) },
    Entry {
        name: "NodeDeclaredFeatures",
        weight: 0,
        make: |_| Ok(Arc::new(declared_features::NodeDeclaredFeatures)),
    },
];

/// Plugins of upstream's default profile that are not here: accepted in a configuration, without effect.
pub const ABSENT: &[&str] = &["GangScheduling"];

pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}
