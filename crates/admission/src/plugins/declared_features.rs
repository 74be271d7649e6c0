//! `NodeDeclaredFeatureValidator`: an update of a pod that needs a feature of its node's kubelet is refused where the node has not declared
//! the feature.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Quantity;
use registry::tree::{get, has, list, number, same, text, texts};

use crate::{Attributes, Operation, Plugin, Point, Services};

/// Whether an update needs a feature, by the pods before and after.
type Needs = fn(&Tree, &Tree) -> bool;

/// Features that an update may need, in the order of names.
const FEATURES: [(&str, Needs); 3] = [
    ("InPlacePodLevelResourcesVerticalScaling", resizes_pod),
    ("InPlacePodVerticalScalingInitContainers", resizes_init_containers),
    ("InPlacePodVerticalScalingMemoryBackedVolumes", resizes_memory_volumes),
];

fn resizes_pod(old: &Tree, new: &Tree) -> bool {
    !same(get(old, "spec.resources"), get(new, "spec.resources"))
}

fn resizes_init_containers(old: &Tree, new: &Tree) -> bool {
    let new = list(new, "spec.initContainers");
    list(old, "spec.initContainers").iter().enumerate().any(|(index, container)| {
        let resources = new.get(index).map_or(&Tree::Null, |new| get(new, "resources"));
        text(container, "restartPolicy") != "Always" && !same(get(container, "resources"), resources)
    })
}

fn resizes_memory_volumes(old: &Tree, new: &Tree) -> bool {
    let (old, new) = (list(old, "spec.volumes"), list(new, "spec.volumes"));
    let limit = |volume: &Tree| Quantity::from_tree(get(volume, "emptyDir.sizeLimit")).ok();
    old.len() == new.len()
        && old.iter().zip(new).any(|(old, new)| {
            text(old, "name") == text(new, "name")
                && text(new, "emptyDir.medium") == "Memory"
                && [old, new].into_iter().all(|volume| has(volume, "emptyDir.sizeLimit"))
                && limit(old) != limit(new)
        })
}

pub struct NodeDeclaredFeatureValidator {
    services: Arc<dyn Services>,
}

impl NodeDeclaredFeatureValidator {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        let of_pod = point.is("", "pods") || point.is_sub("", "pods", "resize");
        of_pod && point.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let (name, Some(old)) = (text(pod, "spec.nodeName"), attributes.old) else { return Ok(()) };
        let generation = |pod: &Tree| number(pod, "metadata.generation");
        if name.is_empty() || generation(pod) == generation(old) {
            return Ok(());
        }
        let needed: Vec<&str> =
            FEATURES.iter().filter(|(_, needs)| needs(old, pod)).map(|(feature, _)| *feature).collect();
        if needed.is_empty() {
            return Ok(());
        }
        let Some(node) = self.services.get("", "nodes", "", name)? else {
            return Err(attributes.forbid(&format!("node {name:?} not found")));
        };
        let declared: Vec<&str> = texts(&node, "status.declaredFeatures").collect();
        let missing: Vec<&str> = needed.into_iter().filter(|feature| !declared.contains(feature)).collect();
        match missing.as_slice() {
            [] => Ok(()),
            missing => Err(attributes.forbid(&format!(
                "pod update requires features {} which are not available on node {name:?}",
                missing.join(", ")
            ))),
        }
    }
}
