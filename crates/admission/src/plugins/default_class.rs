//! `DefaultStorageClass` and `DefaultIngressClass`: what names no class gets the one that is marked as default.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use registry::tree::{ensure, get, has, text};

use crate::{Attributes, Plugin, Point, Services};

/// A kind of object that has a class.
struct Classed {
    plugin: &'static str,
    group: &'static str,
    plural: &'static str,
    field: &'static str,
    /// An older way to name the class.
    annotation: &'static str,
    classes: (&'static str, &'static str),
    /// Annotations of the default class.
    marks: &'static [&'static str],
}

const STORAGE: Classed = Classed {
    plugin: "DefaultStorageClass",
    group: "",
    plural: "persistentvolumeclaims",
    field: "storageClassName",
    annotation: "volume.beta.kubernetes.io/storage-class",
    classes: ("storage.k8s.io", "storageclasses"),
    marks: &[
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ],
};

const INGRESS: Classed = Classed {
    plugin: "DefaultIngressClass",
    group: "networking.k8s.io",
    plural: "ingresses",
    field: "ingressClassName",
    annotation: "kubernetes.io/ingress.class",
    classes: ("networking.k8s.io", "ingressclasses"),
    marks: &["ingressclass.kubernetes.io/is-default-class"],
};

pub struct DefaultClass {
    services: Arc<dyn Services>,
    of: &'static Classed,
}

impl DefaultClass {
    pub fn of_storage(services: Arc<dyn Services>) -> Self {
        Self { services, of: &STORAGE }
    }

    pub fn of_ingress(services: Arc<dyn Services>) -> Self {
        Self { services, of: &INGRESS }
    }

    /// The newest class that is marked as default; of equally old ones the first by name.
    fn default(&self) -> Result<Option<String>, Status> {
        let (group, plural) = self.of.classes;
        let is_marked = |class: &Tree| {
            let annotations = get(class, "metadata.annotations");
            self.of.marks.iter().any(|mark| annotations.get(*mark).is_some_and(|value| value == "true"))
        };
        let classes = self.services.list(group, plural, "")?.into_iter().filter(|class| is_marked(class));
        let newest = classes.min_by(|left, right| {
            let created = |class: &Tree| text(class, "metadata.creationTimestamp").to_owned();
            let name = |class: &Tree| text(class, "metadata.name").to_owned();
            created(right).cmp(&created(left)).then_with(|| name(left).cmp(&name(right)))
        });
        Ok(newest.map(|class| text(&class, "metadata.name").to_owned()))
    }
}

#[async_trait]
impl Plugin for DefaultClass {
    fn name(&self) -> &'static str {
        self.of.plugin
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is(self.of.group, self.of.plural) && point.creates()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let named = has(object, &format!("spec.{}", self.of.field))
            || get(object, "metadata.annotations").get(self.of.annotation).is_some();
        if named {
            return Ok(());
        }
        let class = self.default().map_err(|status| attributes.forbid(&status.message))?;
        if let Some(class) = class {
            ensure(object, "spec").insert(self.of.field, class.into());
        }
        Ok(())
    }
}
