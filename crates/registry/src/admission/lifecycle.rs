//! `NamespaceLifecycle`: nothing is created in a namespace that is not there or on its way out, and some namespaces stay.

use std::sync::Arc;

use api::model::Scope;
use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;

use super::{Attributes, Lookup, Operation, Plugin};
use crate::tree::{has, text};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    lookup: Arc<dyn Lookup>,
}

impl NamespaceLifecycle {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: &mut Tree) -> Result<(), Status> {
        let namespaces = attributes.is("", "namespaces");
        if attributes.operation == Operation::Delete && namespaces && IMMORTAL.contains(&attributes.name) {
            return Err(attributes.forbid("this namespace may not be deleted"));
        }
        let inside = attributes.resource.scope == Scope::Namespaced && !attributes.namespace.is_empty();
        if !inside || namespaces {
            return Ok(());
        }
        // Access reviews ask about namespaces, they are not in them. Deletes and updates need no namespace.
        let review = attributes.is("authorization.k8s.io", "localsubjectaccessreviews");
        if review || attributes.operation != Operation::Create {
            return Ok(());
        }
        let name = attributes.namespace;
        let mut found = self.lookup.get("", "namespaces", "", name);
        if found.is_none() {
            found = self.lookup.fresh("", "namespaces", "", name).await;
        }
        let Some(namespace) = found else { return Err(Status::not_found("", "namespaces", name)) };
        if text(&namespace, "status.phase") != "Terminating" && !has(&namespace, "metadata.deletionTimestamp")
        {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut status = attributes.forbid(&why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
        }
        Err(status)
    }
}
