//! `NamespaceAutoProvision` and `NamespaceExists`: a namespace that a request names is made, or has to be there.

use std::sync::Arc;

use api::model::Scope;
use api::{Status, Tree, json};
use async_trait::async_trait;

use crate::{Attributes, Operation, Plugin, Point, Services};

pub struct NamespaceAutoProvision {
    services: Arc<dyn Services>,
}

impl NamespaceAutoProvision {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.resource.scope == Scope::Namespaced && point.creates()
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: &mut Tree) -> Result<(), Status> {
        let name = attributes.namespace;
        if attributes.dry_run || name.is_empty() || self.services.get("", "namespaces", "", name)?.is_some() {
            return Ok(());
        }
        let namespace = json!({"metadata": {"name": name}});
        match self.services.create("", "namespaces", "", namespace).await {
            Err(status) if status.reason != "AlreadyExists" => Err(attributes.forbid(&status.message)),
            _ => Ok(()),
        }
    }
}

pub struct NamespaceExists {
    services: Arc<dyn Services>,
}

impl NamespaceExists {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    fn validates(&self, point: &Point<'_>) -> bool {
        point.resource.scope == Scope::Namespaced && point.operation != Operation::Connect
    }

    async fn validate(&self, attributes: &Attributes<'_>, _: &Tree) -> Result<(), Status> {
        let name = attributes.namespace;
        if name.is_empty() || self.services.find("", "namespaces", "", name).await?.is_some() {
            return Ok(());
        }
        Err(Status::not_found("", "namespaces", name))
    }
}
