//! `AlwaysPullImages`: no pod runs an image that is on its node for another's credentials.

use std::collections::HashSet;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Path;
use registry::references::containers;
use registry::tree::{as_object, get, has, list, object_mut, text};

use crate::{Attributes, Operation, Plugin, Point};

const FIELDS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub struct AlwaysPullImages;

/// Whether an update runs what the pod ran before.
fn brings_nothing(attributes: &Attributes<'_>, pod: &Tree) -> bool {
    let Some(old) = attributes.old.filter(|_| attributes.operation == Operation::Update) else {
        return false;
    };
    let known: HashSet<&str> = containers(old).map(|container| text(container, "image")).collect();
    containers(pod).all(|container| known.contains(text(container, "image")))
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        self.mutates(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        if brings_nothing(attributes, pod) {
            return Ok(());
        }
        let Some(spec) = object_mut(pod, "spec") else { return Ok(()) };
        for field in FIELDS {
            for container in spec.get_mut(field).and_then(Tree::as_array_mut).into_iter().flatten() {
                as_object(container).insert("imagePullPolicy", "Always".into());
            }
        }
        for volume in spec.get_mut("volumes").and_then(Tree::as_array_mut).into_iter().flatten() {
            if let Some(image) = object_mut(volume, "image") {
                image.insert("pullPolicy", "Always".into());
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        if brings_nothing(attributes, pod) {
            return Ok(());
        }
        let spec = Path::new("spec");
        let mut problems = Vec::new();
        let mut check = |policy: &str, path: &Path<'_>| {
            if policy != "Always" {
                let cause = path.not_supported(policy, &["Always"]);
                problems.push(attributes.forbid(&format!("{}: {}", cause.field, cause.message)).message);
            }
        };
        for field in FIELDS {
            let at = spec.field(field);
            for (index, container) in list(get(pod, "spec"), field).iter().enumerate() {
                check(text(container, "imagePullPolicy"), &at.index(index).field("imagePullPolicy"));
            }
        }
        let volumes = spec.field("volumes");
        for (index, volume) in list(pod, "spec.volumes").iter().enumerate() {
            if has(volume, "image") {
                let at = volumes.index(index);
                check(text(volume, "image.pullPolicy"), &at.field("image").field("pullPolicy"));
            }
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::failure(500, "", one)),
            all => Err(Status::failure(500, "", format!("[{}]", all.join(", ")))),
        }
    }
}
