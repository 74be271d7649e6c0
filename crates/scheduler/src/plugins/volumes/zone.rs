//! `VolumeZone`: bound volumes that carry the labels of a zone or region are for its nodes.

use super::{claim, uses};
use crate::cluster::{NodeView, Pod, Symbol, Table};
use crate::framework::{Change, Cycle, Events, Plugin, Point, PreFilter, Reject};

pub struct VolumeZone {
    /// Label keys, and the key that replaces a deprecated one.
    keys: [(Symbol, Symbol); 4],
}

impl Default for VolumeZone {
    fn default() -> Self {
        let keys = [
            ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
            ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
            ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
            ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
        ];
        VolumeZone { keys: keys.map(|(key, current)| (Symbol::new(key), Symbol::new(current))) }
    }
}

/// A label that nodes must have: place of the key, and the values that do.
struct Zones(Vec<(usize, Vec<Symbol>)>);

impl VolumeZone {
    fn zones(&self, pod: &Pod, table: &Table) -> Result<Vec<(usize, Vec<Symbol>)>, String> {
        let mut zones = Vec::new();
        for of_pod in pod.needs.claims.iter().filter(|claim| !claim.is_ephemeral) {
            let claim = claim(&table.facts, pod, of_pod)?;
            if claim.volume.is_empty() {
                if claim.class.is_empty() {
                    return Err("PersistentVolumeClaim had no pv name and storageClass name".into());
                }
                let Some(class) = table.facts.classes.get(&claim.class) else {
                    let name = claim.class.as_str();
                    return Err(format!("storageclass.storage.k8s.io {name:?} not found"));
                };
                if class.waits_for_consumer {
                    continue;
                }
                return Err("PersistentVolume had no name".into());
            }
            let Some(volume) = table.facts.volumes.get(&claim.volume) else {
                return Err(format!("persistentvolume {:?} not found", claim.volume.as_str()));
            };
            for (place, (key, _)) in self.keys.iter().enumerate() {
                if let Some(value) = volume.labels.get(key.as_str()) {
                    zones.push((place, value.split("__").map(Symbol::new).collect()));
                }
            }
        }
        Ok(zones)
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        match self.zones(pod, table) {
            Ok(zones) if zones.is_empty() => PreFilter::Skip,
            Ok(zones) => {
                cycle.set(own, Zones(zones));
                PreFilter::Run
            }
            Err(message) => PreFilter::Reject(message),
        }
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(Zones(zones)) = cycle.state(own) else { return Ok(()) };
        let labels = &view.node.labels;
        if !self.keys.iter().any(|(key, _)| labels.get(key).is_some()) {
            return Ok(());
        }
        for (place, values) in zones {
            let (key, current) = &self.keys[*place];
            let value = labels.get(key).or_else(|| labels.get(current));
            if !value.is_some_and(|value| values.contains(value)) {
                return Err(Reject::unresolvable("node(s) had no available volume zone"));
            }
        }
        Ok(())
    }

    fn events(&self) -> Events {
        Events::CLASS | Events::NODE_ADD | Events::NODE_LABEL | Events::CLAIM | Events::VOLUME
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::Claim(claim) => uses(pod, &claim.key),
            Change::Class(class) => class.waits_for_consumer,
            _ => true,
        }
    }
}
