//! `PodNodeSelector`: pods go where their namespace's annotation says, or the configuration says it of the namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::names;
use registry::tree::{ensure, entries, get, text};

use crate::{Attributes, Plugin, Point, Services};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The selector of namespaces without the annotation.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

pub struct PodNodeSelector {
    services: Arc<dyn Services>,
    /// Which selectors pods of a namespace may have, by namespace.
    allowed: BTreeMap<String, String>,
}

impl PodNodeSelector {
    pub fn new(services: Arc<dyn Services>, allowed: BTreeMap<String, String>) -> Self {
        Self { services, allowed }
    }

    /// The selector of a namespace's pods.
    async fn of_namespace(&self, name: &str) -> Result<Labels, Status> {
        let Some(namespace) = self.services.find("", "namespaces", "", name).await? else {
            return Err(Status::internal(format!("namespace {name} does not exist")));
        };
        let annotated = get(&namespace, "metadata.annotations").get(ANNOTATION).and_then(Tree::as_str);
        parse(annotated.or(self.allowed.get(DEFAULT).map(String::as_str)).unwrap_or_default())
    }

    fn check(&self, attributes: &Attributes<'_>, pod: &Tree, wanted: &Labels) -> Result<(), Status> {
        let own = selector_of(pod);
        let refuse = |why: &str| Err(Status::forbidden("", "pods", text(pod, "metadata.name"), why));
        if own.iter().any(|(key, value)| wanted.get(key).is_some_and(|wanted| wanted != value)) {
            return refuse("pod node label selector conflicts with its namespace node label selector");
        }
        // what the namespace adds has to be allowed, too
        let own = wanted.clone().into_iter().chain(own).collect::<Labels>();
        let allowed = parse(self.allowed.get(attributes.namespace).map_or("", String::as_str))?;
        if !allowed.is_empty() && !own.iter().all(|(key, value)| allowed.get(key) == Some(value)) {
            return refuse("pod node label selector labels conflict with its namespace whitelist");
        }
        Ok(())
    }
}

fn selector_of(pod: &Tree) -> Labels {
    let text = |(key, value): (&str, &Tree)| (key.to_owned(), value.as_str().unwrap_or_default().to_owned());
    entries(pod, "spec.nodeSelector").map(text).collect()
}

/// `a=b,c=d`
fn parse(selector: &str) -> Result<Labels, Status> {
    let mut labels = Labels::new();
    for term in selector.split(',').filter(|_| !selector.is_empty()) {
        let parts: Vec<&str> = term.split('=').collect();
        let [key, value] = parts.as_slice() else {
            return Err(Status::failure(500, "", format!("invalid selector: [{}]", parts.join(" "))));
        };
        let (key, value) = (key.trim(), value.trim());
        let invalid = |field: &str, shown: &str, problems: Vec<String>| {
            let why = format!("{field}: Invalid value: {shown:?}: {}", problems.join("; "));
            Err(Status::failure(500, "", why))
        };
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            return invalid("<nil>", key, problems);
        }
        let problems = names::label_value(value);
        if !problems.is_empty() {
            return invalid(&format!("<nil>[{key}]"), value, problems);
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.creates()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        self.mutates(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        let wanted = self.of_namespace(attributes.namespace).await?;
        self.check(attributes, pod, &wanted)?;
        for (key, value) in wanted {
            ensure(pod, "spec.nodeSelector").insert(key, value.into());
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let wanted = self.of_namespace(attributes.namespace).await?;
        self.check(attributes, pod, &wanted)
    }
}
