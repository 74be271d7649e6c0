//! `VolumeRestrictions`: disks that only one pod of a node may use, claims that only one pod may use.

use super::{claim, uses};
use crate::cluster::{NodeView, Pod, Symbol, Table};
use crate::framework::{Adjustment, Change, Cycle, Events, Plugin, Point, PreFilter, Reject};

pub struct VolumeRestrictions;

/// Claims of the pod that one pod alone may use, and how many placed pods use them.
struct Exclusive {
    claims: Vec<Symbol>,
    users: i64,
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let mut exclusive = Exclusive { claims: Vec::new(), users: 0 };
        for of_pod in pod.needs.claims.iter().filter(|claim| !claim.is_ephemeral) {
            match claim(&table.facts, pod, of_pod) {
                Ok(claim) if claim.access_modes.iter().any(|mode| mode == "ReadWriteOncePod") => {
                    exclusive.users += i64::from(table.is_claim_used(&claim.key));
                    exclusive.claims.push(of_pod.name.clone());
                }
                Ok(_) => {}
                Err(message) => return PreFilter::Reject(message),
            }
        }
        if pod.needs.disks.is_empty() && exclusive.users == 0 {
            return PreFilter::Skip;
        }
        cycle.set(own, exclusive);
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let used = &view.usage.disks;
        if pod.needs.disks.iter().any(|disk| used.iter().any(|used| disk.conflicts(used))) {
            return Err(Reject::resolvable("node(s) had no available disk"));
        }
        if cycle.state::<Exclusive>(own).is_some_and(|exclusive| exclusive.users > 0) {
            return Err(Reject::resolvable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn adjust(&self, own: usize, cycle: &mut Cycle, pod: &Pod, adjustment: &Adjustment<'_>) {
        let Some(exclusive) = cycle.state_mut::<Exclusive>(own) else { return };
        if adjustment.other.namespace == pod.namespace {
            let claims = adjustment.other.needs.claims.iter();
            let shared = claims.filter(|claim| exclusive.claims.contains(&claim.name)).count();
            exclusive.users += adjustment.by * shared as i64;
        }
    }

    fn events(&self) -> Events {
        Events::POD_DELETE | Events::NODE_ADD | Events::CLAIM
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::PodRemoved { pod: gone, .. } => {
                let disks = &gone.needs.disks;
                gone.namespace == pod.namespace
                    && (pod.needs.disks.iter().any(|disk| disks.iter().any(|freed| disk.conflicts(freed)))
                        || pod.needs.claims.iter().any(|claim| gone.needs.claims.contains(claim)))
            }
            Change::Claim(claim) => uses(pod, &claim.key),
            _ => true,
        }
    }
}
