//! `PersistentVolumeClaimResize`: a claim grows only where its class lets it.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Quantity;
use registry::tree::{flag, get, text};

use crate::{Attributes, Operation, Plugin, Point, Services};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub struct PersistentVolumeClaimResize {
    services: Arc<dyn Services>,
}

impl PersistentVolumeClaimResize {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    fn may_grow(&self, claim: &Tree, old: &Tree) -> bool {
        let (class, before) = (class_of(claim), class_of(old));
        if class.is_empty() || class != before {
            return false;
        }
        let found = self.services.get("storage.k8s.io", "storageclasses", "", class);
        found.ok().flatten().is_some_and(|class| flag(&class, "allowVolumeExpansion"))
    }
}

fn class_of(claim: &Tree) -> &str {
    let annotated = get(claim, "metadata.annotations").get(CLASS).and_then(Tree::as_str);
    annotated.unwrap_or(text(claim, "spec.storageClassName"))
}

fn size(claim: &Tree) -> Quantity {
    Quantity::from_tree(get(claim, "spec.resources.requests.storage")).unwrap_or(Quantity::ZERO)
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is("", "persistentvolumeclaims") && point.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, claim: &Tree) -> Result<(), Status> {
        let Some(old) = attributes.old.filter(|old| size(claim) > size(old)) else { return Ok(()) };
        if text(old, "status.phase") != "Bound" {
            return Err(attributes.forbid("Only bound persistent volume claims can be expanded"));
        }
        match self.may_grow(claim, old) {
            true => Ok(()),
            false => Err(attributes.forbid(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            )),
        }
    }
}
