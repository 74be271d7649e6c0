//! `NodeAffinity`: node selector, required and preferred node affinity, and the affinity added to every
//! pod of a profile.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::selector::Term;
use crate::cluster::{Needs, Node, NodeView, Pod, Shared, Symbol, Table};
use crate::framework::{Change, Cycle, Events, Plugin, Point, PreFilter, Reject, normalize_by_max};

pub struct NodeAffinity {
    added: Shared<Needs>,
}

pub fn make(arguments: &Value) -> Result<Arc<dyn Plugin>, String> {
    // A pod with nothing but the added affinity: reading it is reading a pod.
    let added = match arguments.get("addedAffinity").filter(|added| !added.is_null()) {
        Some(added) => {
            let pod = serde_json::json!({"spec": {"affinity": {"nodeAffinity": added}}});
            Pod::deserialize(pod).map_err(|error| format!("addedAffinity: {error}"))?.needs
        }
        None => Shared::default(),
    };
    Ok(Arc::new(NodeAffinity { added }))
}

impl NodeAffinity {
    fn fits(&self, pod: &Pod, node: &Node) -> bool {
        self.added.selects(node) && pod.needs.selects(node)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table) -> PreFilter {
        let needs = &pod.needs;
        if self.added.required.is_none() && needs.node_selector.is_empty() && needs.required.is_none() {
            return PreFilter::Skip;
        }
        let Some(terms) = &needs.required else { return PreFilter::Run };
        // Every term by name: only those nodes are looked at. This is every pod of a daemon set.
        let names: Option<Vec<Vec<Symbol>>> = terms.iter().map(Term::names).collect();
        match names {
            Some(names) if !names.is_empty() => {
                let mut names = names.concat();
                names.sort_unstable();
                names.dedup();
                if names.is_empty() {
                    return PreFilter::Reject("pod affinity terms conflict".into());
                }
                PreFilter::Only(names)
            }
            _ => PreFilter::Run,
        }
    }

    fn filter(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> Result<(), Reject> {
        if !self.added.selects(view.node) {
            return Err(Reject::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
        }
        if !pod.needs.selects(view.node) {
            return Err(Reject::unresolvable("node(s) didn't match Pod's node affinity/selector"));
        }
        Ok(())
    }

    fn pre_score(&self, _: usize, _: &mut Cycle, pod: &Pod, _: &Table, _: &[usize]) -> bool {
        !pod.needs.preferred.is_empty() || !self.added.preferred.is_empty()
    }

    fn score(&self, _: usize, _: &Cycle, pod: &Pod, view: NodeView<'_>) -> i64 {
        let preferred = pod.needs.preferred.iter().chain(&self.added.preferred);
        preferred
            .filter(|(_, term)| term.matches(&view.node.name, &view.node.labels))
            .map(|(weight, _)| weight)
            .sum()
    }

    fn normalize(&self, _: usize, _: &Cycle, _: &Pod, _: &Table, _: &[usize], scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }

    fn events(&self) -> Events {
        Events::NODE_ADD | Events::NODE_LABEL
    }

    fn hint(&self, pod: &Pod, change: &Change<'_>) -> bool {
        match change {
            Change::NodeAdded(row) => self.fits(pod, &row.node),
            Change::NodeUpdated { row, old } => self.fits(pod, &row.node) && !self.fits(pod, old),
            _ => false,
        }
    }
}
