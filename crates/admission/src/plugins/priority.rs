//! `Priority`: a pod's class becomes a number, and only one class is the default.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point, Services};
use registry::kinds::scheduling::SYSTEM_CLASSES;
use registry::tree::{ensure, flag, int, number, text};

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority {
    services: Arc<dyn Services>,
}

/// What a class gives to a pod.
struct Class {
    name: String,
    value: i64,
    policy: String,
}

impl Priority {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    fn class_of(tree: &Tree) -> Class {
        let policy = match text(tree, "preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        Class {
            name: text(tree, "metadata.name").to_owned(),
            value: number(tree, "value"),
            policy: policy.to_owned(),
        }
    }

    async fn named(&self, name: &str) -> Result<Option<Class>, Status> {
        if let Some((name, value)) = SYSTEM_CLASSES.iter().find(|(system, _)| *system == name) {
            let policy = "PreemptLowerPriority".to_owned();
            return Ok(Some(Class { name: (*name).to_owned(), value: *value, policy }));
        }
        let found = self.services.find(GROUP, "priorityclasses", "", name).await?;
        Ok(found.map(|tree| Self::class_of(&tree)))
    }

    /// The class marked as default; of several the lowest.
    fn default_class(&self) -> Result<Option<Class>, Status> {
        let classes = self.services.list(GROUP, "priorityclasses", "")?.into_iter();
        let default = classes
            .filter(|class| flag(class, "globalDefault"))
            .map(|class| Self::class_of(&class))
            .min_by_key(|class| class.value);
        Ok(default)
    }
}

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.is(GROUP, "priorityclasses") && point.operation.writes()
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        if let Some(old) = attributes.old {
            // Old pods may have none; it does not change by an update.
            for field in ["priority", "preemptionPolicy"] {
                let path = format!("spec.{field}");
                let before = registry::tree::get(old, &path);
                if registry::tree::get(pod, &path).is_null() && !before.is_null() {
                    let before = before.clone();
                    ensure(pod, "spec").insert(field.to_owned(), before);
                }
            }
            return Ok(());
        }
        let asked = text(pod, "spec.priorityClassName").to_owned();
        let class = if asked.is_empty() {
            let policy = "PreemptLowerPriority".to_owned();
            self.default_class()?.unwrap_or(Class { name: String::new(), value: 0, policy })
        } else {
            let found = self.named(&asked).await?;
            found
                .ok_or_else(|| attributes.forbid(&format!("no PriorityClass with name {asked} was found")))?
        };
        if let Some(given) = int(pod, "spec.priority").filter(|given| *given != class.value) {
            return Err(attributes.forbid(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                class.value
            )));
        }
        let given = text(pod, "spec.preemptionPolicy");
        if !given.is_empty() && given != class.policy {
            return Err(attributes.forbid(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                class.policy
            )));
        }
        let spec = ensure(pod, "spec");
        if !class.name.is_empty() {
            spec.insert("priorityClassName", class.name.into());
        }
        spec.insert("priority", class.value.into());
        spec.insert("preemptionPolicy", class.policy.into());
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        if !flag(object, "globalDefault") {
            return Ok(());
        }
        let Some(other) = self.default_class()?.filter(|class| class.name != text(object, "metadata.name"))
        else {
            return Ok(());
        };
        Err(attributes.forbid(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            other.name
        )))
    }
}
