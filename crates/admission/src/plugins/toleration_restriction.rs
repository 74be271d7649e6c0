//! `PodTolerationRestriction`: pods get the tolerations of their namespace, and may have no others than it lets them.

use std::sync::Arc;

use api::{Status, Tree, json};
use async_trait::async_trait;
use registry::tree::{ensure, get, list, same, text};

use crate::{Attributes, Plugin, Point, Services};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// What holds for namespaces that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TolerationSettings {
    pub defaults: Vec<Tree>,
    pub allowed: Vec<Tree>,
}

pub struct PodTolerationRestriction {
    services: Arc<dyn Services>,
    settings: TolerationSettings,
}

impl PodTolerationRestriction {
    pub fn new(services: Arc<dyn Services>, settings: TolerationSettings) -> Self {
        Self { services, settings }
    }

    /// The tolerations in an annotation of the namespace. `None` without it.
    async fn annotated(&self, namespace: &str, annotation: &str) -> Result<Option<Vec<Tree>>, Status> {
        let Some(found) = self.services.find("", "namespaces", "", namespace).await? else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        let text = get(&found, "metadata.annotations").get(annotation).and_then(Tree::as_str);
        match text {
            None => Ok(None),
            Some("") => Ok(Some(Vec::new())),
            Some(text) => match api::decode::untyped(text.as_bytes()) {
                Ok(Tree::Array(all)) => Ok(Some(all)),
                Ok(Tree::Null) => Ok(None),
                Ok(other) => {
                    let kind = json_kind(&other);
                    let why = format!("json: cannot unmarshal {kind} into Go value of type []v1.Toleration");
                    Err(Status::failure(500, "", why))
                }
                Err(error) => Err(Status::failure(500, "", error)),
            },
        }
    }
}

/// As decoders of JSON name what they find.
fn json_kind(tree: &Tree) -> &'static str {
    match tree {
        Tree::Bool(_) => "bool",
        Tree::String(_) => "string",
        Tree::Object(_) => "object",
        _ => "number",
    }
}

/// Whether one toleration covers all that another does.
fn covers(wide: &Tree, narrow: &Tree) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let part = |toleration: &'_ Tree, field: &str| text(toleration, field).to_owned();
    let exists = text(wide, "operator") == "Exists";
    let any_key = exists && text(wide, "key").is_empty();
    if part(wide, "key") != part(narrow, "key") && !any_key {
        return false;
    }
    let effect = text(wide, "effect");
    if !effect.is_empty() && effect != text(narrow, "effect") {
        return false;
    }
    let seconds = |toleration: &Tree| get(toleration, "tolerationSeconds").as_i64();
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|own| own > most)
    {
        return false;
    }
    match text(wide, "operator") {
        "Equal" | "" => text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}

/// Both lists, without those that another covers.
fn merged(all: Vec<Tree>) -> Vec<Tree> {
    let mut kept: Vec<Tree> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let later = all.iter().skip(index + 1);
        let is_covered = kept.iter().any(|other| covers(other, toleration))
            || later.into_iter().any(|other| !same(other, toleration) && covers(other, toleration));
        if !is_covered {
            kept.push(toleration.clone());
        }
    }
    kept
}

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        self.mutates(point)
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        let mut extra = Vec::new();
        if attributes.old.is_none() {
            let own = self.annotated(attributes.namespace, DEFAULTS).await?;
            extra = own.unwrap_or_else(|| self.settings.defaults.clone());
        }
        let class = match text(pod, "status.qosClass") {
            "" => registry::kinds::qos::class(get(pod, "spec")).to_owned(),
            class => class.to_owned(),
        };
        if class != "BestEffort" {
            extra.push(json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}));
        }
        if !extra.is_empty() {
            let all = list(pod, "spec.tolerations").iter().cloned().chain(extra).collect();
            ensure(pod, "spec").insert("tolerations", Tree::Array(merged(all)));
        }
        self.validate(attributes, pod).await
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let own = list(pod, "spec.tolerations");
        if own.is_empty() {
            return Ok(());
        }
        let (allowed, of) = match self.annotated(attributes.namespace, ALLOWED).await? {
            Some(allowed) => (allowed, "namespace"),
            None => (self.settings.allowed.clone(), "cluster"),
        };
        let is_allowed = |own: &Tree| allowed.iter().any(|allowed| covers(allowed, own));
        if allowed.is_empty() || own.iter().all(is_allowed) {
            return Ok(());
        }
        let why = format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {of} whitelist"
        );
        Err(Status::failure(500, "", why))
    }
}
