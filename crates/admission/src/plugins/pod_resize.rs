//! `PodResizeValidator`: a pod that has its node may not be made larger than the node.

use std::sync::Arc;

use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Quantity;

use crate::{Attributes, Operation, Plugin, Point, Services};
use registry::tree::{get, list, text};

pub struct PodResizeValidator {
    services: Arc<dyn Services>,
}

impl PodResizeValidator {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is_sub("", "pods", "resize") && point.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let name = text(pod, "spec.nodeName");
        if name.is_empty() {
            return Ok(());
        }
        let Some(node) = self.services.find("", "nodes", "", name).await? else {
            return Err(attributes.forbid(&format!("node {name:?} not found")));
        };
        let mut missing = Vec::new();
        // cpu in thousandths, memory in bytes
        for (resource, unit) in [("cpu", 1_000_000), ("memory", 1_000_000_000)] {
            let (asked, there) = (
                asked(get(pod, "spec"), resource).div_euclid(unit),
                amount(get(get(&node, "status.allocatable"), resource)).div_euclid(unit),
            );
            if asked > there {
                missing.push(format!("{resource}, requested: {asked}, allocatable: {there}"));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let what = missing.join("; ");
        let why = format!("node didn't have enough allocatable resources: {what}");
        let mut refused = attributes.forbid(&why);
        if let Some(details) = &mut refused.details {
            // distinguishes this refusal from others for clients
            let reason = "NodeCapacity".to_owned();
            details.causes.push(Cause { reason, message: String::new(), field: String::new() });
        }
        Err(refused)
    }
}

/// In thousand-millionths.
fn amount(value: &Tree) -> i128 {
    Quantity::from_tree(value).map(|quantity| quantity.nanos()).unwrap_or_default()
}

/// What a pod asks for: its own word, or its containers' together, or what its start takes if that is more.
fn asked(spec: &Tree, resource: &str) -> i128 {
    let request = |holder: &Tree| amount(get(get(holder, "resources.requests"), resource));
    let overhead = amount(get(get(spec, "overhead"), resource));
    let own = request(spec);
    if own > 0 {
        return own + overhead;
    }
    let running: i128 = list(spec, "containers").iter().map(request).sum();
    let (mut beside, mut most) = (0, 0);
    for container in list(spec, "initContainers") {
        if text(container, "restartPolicy") == "Always" {
            beside += request(container);
            most = most.max(beside);
        } else {
            most = most.max(beside + request(container));
        }
    }
    most.max(running + beside) + overhead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_ask_for_what_they_need_at_most() {
        let holder = |cpu: &str, policy: &str| api::json!({"restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        let spec = api::json!({
            "containers": [holder("100m", ""), holder("200m", "")],
            "initContainers": [holder("50m", "Always"), holder("300m", "")],
            "overhead": {"cpu": "7m"},
        });
        // beside the second init container runs the first
        assert_eq!(asked(&spec, "cpu"), 357_000_000);
        assert_eq!(asked(&spec, "memory"), 0);
    }
}
