//! `TaintNodesByCondition`: a new node takes no pods before it is known to be ready.

use api::json;
use api::{Status, Tree};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::tree::{ensure, list, text};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, attributes: &Attributes<'_>, node: &mut Tree) -> Result<(), Status> {
        let created = attributes.operation == Operation::Create && attributes.subresource.is_empty();
        if !attributes.is("", "nodes") || !created {
            return Ok(());
        }
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
