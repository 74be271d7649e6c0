//! `ResourceQuota`: what a request would use is charged to the quotas of its namespace, or refused.
//!
//! Usage is kept in the status of each quota, and written under the condition that nobody else wrote it, so that servers beside each
//! other never grant together more than there is. Requests of one namespace that come together are charged together: each costs a part
//! of a write only. What goes again, the controller of quotas takes off.

mod batch;
mod check;
mod facts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::model::Scope;
use api::{Status, Tree};
use async_trait::async_trait;
use machinery::quota::{Measure, is_ignored};

use crate::{Attributes, Operation, Plugin, Point, Services};
use batch::Batches;
use check::Charge;
pub use check::{Limited, ScopeExpression};

pub struct ResourceQuota {
    services: Arc<dyn Services>,
    batches: Batches,
}

impl ResourceQuota {
    /// `limited`: resources of which nothing may be used without a quota.
    pub fn new(services: Arc<dyn Services>, limited: Vec<Limited>) -> Self {
        Self { batches: Batches::new(Arc::clone(&services), limited), services }
    }
}

/// Requests that may change what objects use.
fn concerns(measure: &Measure, subresource: &str, operation: Operation) -> bool {
    match (measure, subresource, operation) {
        (Measure::Number { .. }, "", Operation::Create) => true,
        (Measure::Number { .. }, ..) => false,
        (_, "", operation) => operation.writes(),
        (Measure::Pods, "resize", Operation::Update) => true,
        (Measure::VolumeClaims, "status", Operation::Update) => true,
        _ => false,
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        let (group, plural) = (&point.resource.group, &point.resource.plural);
        point.resource.scope == Scope::Namespaced
            && !is_ignored(group, plural)
            && concerns(&Measure::of(group, plural), point.subresource, point.operation)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        let measure = Measure::of(&attributes.resource.group, &attributes.resource.plural);
        // of updates of pods themselves, only those count that move them to another scope
        if let (Measure::Pods, "", Some(old)) = (&measure, attributes.subresource, attributes.old)
            && facts::has_deadline(object) == facts::has_deadline(old)
        {
            return Ok(());
        }
        if !self.batches.concern(attributes.namespace)? {
            return Ok(());
        }
        let charge = Charge::new(&self.services, attributes, measure, object);
        self.batches.evaluate(attributes.namespace, charge).await
    }
}
