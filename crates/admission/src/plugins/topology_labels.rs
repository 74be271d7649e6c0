//! `PodTopologyLabels`: a pod that has its node has its zone and region as labels, which its containers can read.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use registry::tree::{ensure, get, text};

use crate::{Attributes, Plugin, Point, Services};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels {
    services: Arc<dyn Services>,
}

impl PodTopologyLabels {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.creates() && (point.is("", "pods") || point.is_sub("", "pods", "binding"))
    }

    /// The object is a pod, or the binding of one: its labels become the pod's.
    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let node = match attributes.subresource {
            "binding" if text(object, "target.kind") != "Node" => return Ok(()),
            "binding" => text(object, "target.name"),
            _ => text(object, "spec.nodeName"),
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.services.get("", "nodes", "", node)? else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = get(&node, "metadata.labels").get(label) {
                ensure(object, "metadata.labels").insert(label.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}
