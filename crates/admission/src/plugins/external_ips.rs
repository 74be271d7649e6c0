//! `DenyServiceExternalIPs`: no Service gets an external address that it did not have before.

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::bounds::Seen;
use registry::tree::texts;

use crate::{Attributes, Plugin, Point};

pub struct DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is("", "services") && point.operation.writes()
    }

    async fn validate(&self, attributes: &Attributes<'_>, service: &Tree) -> Result<(), Status> {
        const FIELD: &str = "spec.externalIPs";
        let known: Seen<&str> = attributes.old.into_iter().flat_map(|old| texts(old, FIELD)).collect();
        match texts(service, FIELD).all(|address| known.contains(address)) {
            true => Ok(()),
            false => Err(attributes.forbid("Use of external IPs is denied by admission control")),
        }
    }
}
