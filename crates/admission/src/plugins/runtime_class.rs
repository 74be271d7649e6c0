//! `RuntimeClass`: a pod of a class gets what running it costs, and goes where the class can run.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::Quantity;

use crate::{Attributes, Plugin, Point, Services};
use registry::tree::{as_object, ensure, entries, get, has, list, text};

pub struct RuntimeClass {
    services: Arc<dyn Services>,
}

impl RuntimeClass {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    /// The pod's class; an error when it names one that is not there.
    async fn class(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<Option<Arc<Tree>>, Status> {
        const GROUP: &str = "node.k8s.io";
        let Some(name) = get(pod, "spec.runtimeClassName").as_str() else { return Ok(None) };
        if name.is_empty() {
            return Err(Status::failure(500, "", "resource name may not be empty"));
        }
        match self.services.find(GROUP, "runtimeclasses", "", name).await? {
            Some(class) => Ok(Some(class)),
            None => Err(attributes.forbid(&format!("pod rejected: RuntimeClass {name:?} not found"))),
        }
    }
}

/// Amounts by resource, however they are written.
fn amounts(tree: &Tree) -> BTreeMap<&str, Option<Quantity>> {
    let amounts = tree.as_object().into_iter().flatten();
    amounts
        .map(|(name, value)| (name.as_str(), value.as_str().and_then(|text| Quantity::parse(text).ok())))
        .collect()
}

/// Whether a toleration covers all that another does.
fn covers(wide: &Tree, narrow: &Tree) -> bool {
    let (wide_effect, narrow_effect) = (text(wide, "effect"), text(narrow, "effect"));
    if !wide_effect.is_empty() && wide_effect != narrow_effect {
        return false;
    }
    let seconds = |toleration: &Tree| match text(toleration, "effect") {
        "NoExecute" | "" => get(toleration, "tolerationSeconds").as_i64(),
        _ => None,
    };
    let lasts = match (seconds(wide), seconds(narrow)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide >= narrow,
    };
    let exists = |toleration: &Tree| text(toleration, "operator") == "Exists";
    let any = exists(wide) && text(wide, "key").is_empty();
    let same_key = text(wide, "key") == text(narrow, "key");
    let same_value = exists(wide) || (!exists(narrow) && text(wide, "value") == text(narrow, "value"));
    lasts && (any || (same_key && same_value))
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.creates()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        self.mutates(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        let Some(class) = self.class(attributes, pod).await? else { return Ok(()) };
        if has(&class, "overhead.podFixed") {
            let overhead = get(&class, "overhead.podFixed");
            if has(pod, "spec.overhead") && amounts(get(pod, "spec.overhead")) != amounts(overhead) {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(attributes.forbid(why));
            }
            ensure(pod, "spec").insert("overhead", overhead.clone());
        }
        for (key, value) in entries(&class, "scheduling.nodeSelector") {
            let value = value.as_str().unwrap_or_default();
            if let Some(own) = get(pod, "spec.nodeSelector").get(key).and_then(Tree::as_str)
                && own != value
            {
                return Err(attributes.forbid(&format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                )));
            }
            ensure(pod, "spec.nodeSelector").insert(key.to_owned(), value.into());
        }
        for toleration in list(&class, "scheduling.tolerations") {
            if list(pod, "spec.tolerations").iter().any(|own| covers(own, toleration)) {
                continue;
            }
            let tolerations = as_object(as_object(pod).entry("spec").or_insert(Tree::Null))
                .entry("tolerations")
                .or_insert(Tree::Null);
            match tolerations {
                Tree::Array(tolerations) => tolerations.push(toleration.clone()),
                none => *none = Tree::Array(vec![toleration.clone()]),
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let class = self.class(attributes, pod).await?;
        let costs = class.is_some_and(|class| has(&class, "overhead"));
        if has(pod, "spec.overhead") && !costs {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(attributes.forbid(why));
        }
        Ok(())
    }
}
