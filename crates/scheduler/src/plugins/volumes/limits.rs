//! `NodeVolumeLimits`: how many volumes of a CSI driver a node can attach. A volume that several pods of the node use
//! counts once; one that is attached counts where no pod uses it, too. Drivers may ask for nodes that have them.

use rustc_hash::FxHashSet;

use super::{claim, uses};
use crate::cluster::facts::Facts;
use crate::cluster::facts::storage::Claim;
use crate::cluster::{NodeView, Pod, Symbol, Table};
use crate::framework::{Change, Cycle, Events, Plugin, Point, PreFilter, Reason, Reasons, Reject};

pub struct NodeVolumeLimits;

/// A driver's volume. One that is not provisioned yet goes by the name of its claim.
type Attached = (Symbol, Symbol);

struct Wanted(Vec<Attached>);

fn attached(facts: &Facts, claim: &Claim) -> Option<Attached> {
    if let Some(volume) = facts.volumes.get(&claim.volume).filter(|_| !claim.volume.is_empty()) {
        return volume.csi.clone();
    }
    let class = facts.classes.get(&claim.class)?;
    Some((class.provisioner.clone(), Symbol::new(&format!("{}-{}", class.provisioner, claim.key))))
}

fn must_be_on_node(facts: &Facts, driver: &Symbol) -> bool {
    facts.csi_drivers.get(driver).is_some_and(|driver| driver.must_be_on_node)
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, own: usize, cycle: &mut Cycle, pod: &Pod, table: &Table) -> PreFilter {
        let facts = &table.facts;
        let mut wanted = Vec::new();
        for of_pod in &pod.needs.claims {
            // VolumeBinding rejects pods without their claims.
            if let Ok(claim) = claim(facts, pod, of_pod) {
                wanted.extend(attached(facts, claim));
            }
        }
        let needs_driver = wanted.iter().any(|(driver, _)| must_be_on_node(facts, driver));
        if wanted.is_empty() || (facts.csi_nodes.is_empty() && !needs_driver) {
            return PreFilter::Skip;
        }
        cycle.set(own, Wanted(wanted));
        PreFilter::Run
    }

    fn filter(&self, own: usize, cycle: &Cycle, _: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        let Some(Wanted(wanted)) = cycle.state(own) else { return Ok(()) };
        let facts = &view.table.facts;
        let node = facts.csi_nodes.get(&view.node.name);
        let is_there =
            |driver: &Symbol| node.is_some_and(|node| node.limits.iter().any(|(own, _)| own == driver));
        let mut drivers = wanted.iter().map(|(driver, _)| driver);
        if let Some(missing) = drivers.find(|driver| must_be_on_node(facts, driver) && !is_there(driver)) {
            let message = format!("{missing} CSI driver is not installed on the node");
            return Err(Reject {
                reasons: Reasons::One(Reason::Message(message.into())),
                unresolvable: false,
            });
        }
        let Some(node) = node else { return Ok(()) };
        let limited =
            |driver: &Symbol| node.limits.iter().find(|(own, _)| own == driver).and_then(|(_, limit)| *limit);
        if !wanted.iter().any(|(driver, _)| limited(driver).is_some()) {
            return Ok(());
        }
        let used = view.usage.claims.iter().filter_map(|key| facts.claims.get(key));
        let used: FxHashSet<Attached> = used.filter_map(|claim| attached(facts, claim)).collect();
        let others: FxHashSet<Attached> =
            facts.attached(&view.node.name).filter(|volume| !used.contains(volume)).collect();
        let new: FxHashSet<&Attached> = wanted.iter().filter(|volume| !used.contains(volume)).collect();
        let over = new.iter().any(|(driver, _)| {
            let present = used.iter().chain(&others).filter(|(own, _)| own == driver).count();
            let added = new.iter().filter(|(own, _)| own == driver).count();
            limited(driver).is_some_and(|limit| (present + added) as i64 > limit)
        });
        if over { Err(Reject::resolvable("node(s) exceed max volume count")) } else { Ok(()) }
    }

    fn events(&self) -> Events {
        let of_nodes = Events::CSI_NODE | Events::NODE_ADD | Events::POD_DELETE | Events::DETACHED;
        of_nodes | Events::CLAIM | Events::VOLUME | Events::CSI
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::PodRemoved { pod: gone, .. } => !gone.needs.claims.is_empty(),
            Change::Claim(claim) => uses(pod, &claim.key),
            _ => true,
        }
    }
}
