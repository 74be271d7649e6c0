//! `PodSecurity`: pods keep to the Pod Security Standards, at the level that their namespace asks for.
//!
//! Pods are refused; of what makes pods the user is only warned. When a namespace asks for more, the pods that would no longer be
//! accepted are named in warnings.

mod checks;
mod namespace;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;
use machinery::fieldpath::aggregate;
use registry::tree::{get, list, text};

use crate::{Attributes, Operation, Plugin, Point, Services};
use checks::violations;
pub use policy::{Level, LevelVersion, Policy, Version};

/// What holds where a namespace says nothing, and to whom nothing applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecuritySettings {
    pub defaults: Policy,
    pub exempt_users: HashSet<String>,
    pub exempt_namespaces: HashSet<String>,
    pub exempt_runtime_classes: HashSet<String>,
}

pub struct PodSecurity {
    services: Arc<dyn Services>,
    settings: PodSecuritySettings,
}

/// Subresources of pods that bring no containers.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

impl PodSecurity {
    pub fn new(services: Arc<dyn Services>, settings: PodSecuritySettings) -> Self {
        Self { services, settings }
    }

    /// The policy of a namespace. An exempt request has none.
    async fn policy(&self, attributes: &Attributes<'_>) -> Result<Option<Found>, Status> {
        for (name, exempt, reason) in [
            (attributes.namespace, &self.settings.exempt_namespaces, "namespace"),
            (attributes.user.name, &self.settings.exempt_users, "user"),
        ] {
            if exempt.contains(name) {
                annotate(attributes, "exempt", reason);
                return Ok(None);
            }
        }
        let name = attributes.namespace;
        let namespace = self.services.find("", "namespaces", "", name).await?;
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", name))?;
        let (policy, causes) = Policy::of_namespace(&namespace, &self.settings.defaults);
        Ok(Some(Found { policy, error: (!causes.is_empty()).then(|| aggregate(&causes)) }))
    }

    async fn pod(&self, attributes: &Attributes<'_>, pod: &Tree) -> Result<(), Status> {
        let found = self.policy(attributes).await.map_err(|status| {
            let refused = Status::internal(format!("failed to lookup namespace {:?}", attributes.namespace));
            annotate(attributes, "error", &format!("{}: {}", refused.message, status.message));
            refused
        })?;
        let Some(found) = found else { return Ok(()) };
        if found.error.is_none() && found.policy.is_privileged() {
            annotate(attributes, "enforce-policy", "privileged:latest");
            return Ok(());
        }
        if attributes.operation == Operation::Update
            && attributes.old.is_some_and(|old| !brings_images(pod, old))
        {
            return Ok(());
        }
        self.evaluate(attributes, &found, pod, true)
    }

    async fn workload(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        let found = match self.policy(attributes).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(status) => {
                let namespace = attributes.namespace;
                let error = format!("failed to lookup namespace {namespace:?}: {}", status.message);
                annotate(attributes, "error", &error);
                return Ok(());
            }
        };
        let Policy { warn, audit, .. } = found.policy;
        if found.error.is_none() && warn.level == Level::Privileged && audit.level == Level::Privileged {
            return Ok(());
        }
        let template = match template_of(attributes.resource) {
            Some(path) => get(object, path),
            None => return Ok(()),
        };
        if template.is_null() {
            return Ok(());
        }
        self.evaluate(attributes, &found, template, false)
    }

    fn evaluate(
        &self,
        attributes: &Attributes<'_>,
        found: &Found,
        pod: &Tree,
        enforces: bool,
    ) -> Result<(), Status> {
        if self.settings.exempt_runtime_classes.contains(text(pod, "spec.runtimeClassName")) {
            annotate(attributes, "exempt", "runtimeClass");
            return Ok(());
        }
        if let Some(error) = &found.error {
            annotate(attributes, "error", &format!("Failed to parse policy: {error}"));
        }
        let violated = |policy: LevelVersion| {
            let all = violations(policy, pod);
            let detail = || format!("PodSecurity \"{policy}\": {}", checks::detail(&all));
            (!all.is_empty()).then(detail)
        };
        let Policy { enforce, audit, warn } = found.policy;
        let mut answer = Ok(());
        if enforces {
            annotate(attributes, "enforce-policy", &enforce.to_string());
            if let Some(what) = violated(enforce) {
                answer = Err(attributes.forbid(&format!("violates {what}")));
            }
        }
        if let Some(what) = violated(audit) {
            annotate(attributes, "audit-violations", &format!("would violate {what}"));
        }
        if answer.is_ok()
            && let Some(what) = violated(warn)
        {
            attributes.context.warn(format!("would violate {what}"));
        }
        answer
    }
}

/// What a namespace asks for, and what was wrong with how it did.
struct Found {
    policy: Policy,
    error: Option<String>,
}

fn annotate(attributes: &Attributes<'_>, key: &str, value: &str) {
    attributes.context.annotate(format!("{}{key}", policy::PREFIX), value.to_owned());
}

/// Where a kind has the template of its pods.
fn template_of(resource: &api::model::Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("", "podtemplates") => Some("template"),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some("spec.template"),
        ("batch", "cronjobs") => Some("spec.jobTemplate.spec.template"),
        _ => None,
    }
}

/// Whether an update of a pod changes what it runs.
fn brings_images(pod: &Tree, old: &Tree) -> bool {
    let changed = |field: &str| {
        let (new, old) = (list(pod, field), list(old, field));
        new.len() != old.len()
            || new.iter().zip(old).any(|(new, old)| text(new, "image") != text(old, "image"))
    };
    let field = "spec.ephemeralContainers";
    let known = |container: &Tree| {
        let same_name = |old: &&Tree| text(old, "name") == text(container, "name");
        let old = list(old, field).iter().find(same_name);
        old.is_some_and(|old| text(old, "image") == text(container, "image"))
    };
    changed("spec.containers") || changed("spec.initContainers") || !list(pod, field).iter().all(known)
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        let is_pod = &*point.resource.plural == "pods" && point.resource.group.is_empty();
        let concerns = match point.subresource {
            "" => is_pod || point.is("", "namespaces") || template_of(point.resource).is_some(),
            subresource => is_pod && !IGNORED.contains(&subresource),
        };
        concerns && point.operation.writes()
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<(), Status> {
        match &*attributes.resource.plural {
            "namespaces" => self.namespace(attributes, object).await,
            "pods" => self.pod(attributes, object).await,
            _ => self.workload(attributes, object).await,
        }
    }
}
