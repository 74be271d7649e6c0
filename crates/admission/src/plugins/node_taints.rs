//! `TaintNodesByCondition`: a new node takes no pods before it is known to be ready.

use api::json;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};
use registry::tree::{ensure, list, text};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "nodes") && point.creates()
    }

    async fn admit(&self, _: &Attributes<'_>, node: &mut Tree) -> Result<(), Status> {
        let there = |taint: &Tree| text(taint, "key") == NOT_READY && text(taint, "effect") == "NoSchedule";
        if !list(node, "spec.taints").iter().any(there) {
            let taints = ensure(node, "spec").entry("taints").or_insert(Tree::Null);
            if !taints.is_array() {
                *taints = Tree::Array(Vec::new());
            }
            if let Tree::Array(taints) = taints {
                taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            }
        }
        Ok(())
    }
}
