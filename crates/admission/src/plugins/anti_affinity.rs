//! `LimitPodHardAntiAffinityTopology`: a pod may insist on a node without certain others, and on no larger place.

use api::{Status, Tree};
use async_trait::async_trait;
use registry::tree::{list, text};

use crate::{Attributes, Plugin, Point};

const HOST: &str = "kubernetes.io/hostname";

pub struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    async fn validate(&self, _: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let terms = list(pod, "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution");
        let other = terms.iter().map(|term| text(term, "topologyKey")).find(|key| *key != HOST);
        let Some(key) = other else { return Ok(()) };
        let why = format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST} is allowed"
        );
        Err(Status::forbidden("", "pods", text(pod, "metadata.name"), &why))
    }
}
