//! `NodeDeclaredFeatures`: a pod that needs a feature of the kubelet goes to nodes that declare it.

use crate::cluster::{Node, NodeView, Pod, Table};
use crate::framework::{Change, Cycle, Events, Plugin, Point, PreFilter, Reject};

pub struct NodeDeclaredFeatures;

fn fits(pod: &Pod, node: &Node) -> bool {
    pod.needs.features.iter().all(|feature| node.features.contains(feature))
}

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn pre_filter(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table) -> PreFilter {
        if pod.needs.features.is_empty() { PreFilter::Skip } else { PreFilter::Run }
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if fits(pod, view.node) {
            return Ok(());
        }
        Err(Reject::unresolvable("node(s) didn't match Pod's required features"))
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_FEATURES
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::NodeAdded(row) | Change::NodeUpdated { row, .. } => fits(pod, &row.node),
            _ => false,
        }
    }
}
