//! `NamespaceLifecycle`: nothing is created in a namespace that is not there or on its way out, and some namespaces stay.

use std::sync::Arc;

use api::model::Scope;
use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Operation, Plugin, Point, Services};
use registry::tree::{has, text};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    services: Arc<dyn Services>,
}

impl NamespaceLifecycle {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        match point.operation {
            Operation::Delete => point.is("", "namespaces"),
            // Access reviews ask about namespaces, they are not in them.
            Operation::Create => {
                point.resource.scope == Scope::Namespaced
                    && !point.is("authorization.k8s.io", "localsubjectaccessreviews")
            }
            // Updates need no namespace.
            Operation::Update | Operation::Connect => false,
        }
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: &mut Tree) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            return match IMMORTAL.contains(&attributes.name) {
                true => Err(attributes.forbid("this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        let name = attributes.namespace;
        if name.is_empty() {
            return Ok(());
        }
        let Some(namespace) = self.services.find("", "namespaces", "", name).await? else {
            return Err(Status::not_found("", "namespaces", name));
        };
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
