//! `NodeRestriction`: a kubelet writes its own node, its own pods, and little about these.
//!
//! The node authorizer lets every node make such requests; what they may be about is decided here, where the objects are seen.

mod certificates;
mod nodes;
mod pods;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Found, Operation, Plugin, Point, Services};
use registry::tree::{get, object_mut, same, text};

pub struct NodeRestriction {
    services: Arc<dyn Services>,
}

impl NodeRestriction {
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self { services }
    }

    /// An object from the cache, or from the store where the cache may be too old to have it.
    async fn find(&self, plural: &str, namespace: &str, name: &str) -> Found {
        self.services.find("", plural, namespace, name).await
    }

    async fn pod_of(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Tree>, Status> {
        let pod = self.find("pods", attributes.namespace, name).await?;
        pod.ok_or_else(|| Status::not_found("", "pod", name))
    }
}

/// The node that a user is, if it is one: `Some("")` is a node whose name is not known.
fn node_of<'a>(attributes: &Attributes<'a>) -> Option<&'a str> {
    let node = attributes.user.groups.iter().any(|group| group == "system:nodes");
    let name = attributes.user.name.strip_prefix("system:node:")?;
    node.then_some(name)
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        // what any other resource is asked for, the authorizer decides
        let of_nodes = match &*point.resource.group {
            "" => ["pods", "nodes", "persistentvolumeclaims", "serviceaccounts"].as_slice(),
            "certificates.k8s.io" => &["podcertificaterequests", "certificatesigningrequests"],
            "coordination.k8s.io" => &["leases"],
            "storage.k8s.io" => &["csinodes"],
            "resource.k8s.io" => &["resourceslices"],
            _ => &[],
        };
        point.operation != Operation::Connect && of_nodes.contains(&&*point.resource.plural)
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let Some(node) = node_of(attributes) else { return Ok(()) };
        if node.is_empty() {
            let user = attributes.user.name;
            return Err(attributes.forbid(&format!("could not determine node from user {user:?}")));
        }
        match (&*attributes.resource.group, &*attributes.resource.plural, attributes.subresource) {
            ("", "pods", "") => self.pod(attributes, object, node).await,
            ("", "pods", "status") => pods::status(attributes, object, node),
            ("", "pods", "eviction") => self.eviction(attributes, object, node).await,
            ("", "pods", other) => Err(attributes.forbid(&format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
            ("", "nodes", _) => nodes::admit(attributes, object, node),
            ("", "persistentvolumeclaims", "status") => claim_status(attributes, object, node),
            ("", "persistentvolumeclaims", _) => Err(attributes.forbid("may only update PVC status")),
            ("", "serviceaccounts", "token") => self.token(attributes, object, node).await,
            ("certificates.k8s.io", "podcertificaterequests", _) => {
                self.pod_certificate(attributes, object, node).await
            }
            ("certificates.k8s.io", "certificatesigningrequests", _) => {
                certificates::signing_request(attributes, object, node)
            }
            ("coordination.k8s.io", "leases", _) => lease(attributes, object, node),
            ("storage.k8s.io", "csinodes", _) => csi_node(attributes, object, node),
            ("resource.k8s.io", "resourceslices", _) => slice(attributes, object, node),
            _ => Ok(()),
        }
    }
}

fn unexpected(attributes: &Attributes<'_>) -> Status {
    attributes.forbid(&format!("unexpected operation {:?}", attributes.operation.name()))
}

/// Sizes and conditions are the kubelet's to report; the rest of a claim is not its own.
fn claim_status(attributes: &Attributes<'_>, claim: &Tree, node: &str) -> Result<(), Status> {
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else {
        return Err(unexpected(attributes));
    };
    let rest = |claim: &Tree| {
        let mut rest = claim.clone();
        if let Some(metadata) = object_mut(&mut rest, "metadata") {
            for field in ["resourceVersion", "managedFields"] {
                metadata.remove(field);
            }
        }
        if let Some(status) = object_mut(&mut rest, "status") {
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                status.remove(field);
            }
        }
        rest
    };
    let (new, old) = (rest(claim), rest(old));
    if same(&new, &old) {
        return Ok(());
    }
    let changed = registry::internal::difference(&old, &new, "core.v1.PersistentVolumeClaim");
    Err(attributes.forbid(&format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions: {changed}"
    )))
}

fn own_name<'t>(attributes: &Attributes<'t>, object: &'t Tree) -> &'t str {
    if attributes.operation == Operation::Create { text(object, "metadata.name") } else { attributes.name }
}

fn lease(attributes: &Attributes<'_>, lease: &Tree, node: &str) -> Result<(), Status> {
    if attributes.namespace != "kube-node-lease" {
        return Err(attributes.forbid("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    if own_name(attributes, lease) != node {
        return Err(attributes.forbid("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn csi_node(attributes: &Attributes<'_>, object: &Tree, node: &str) -> Result<(), Status> {
    if own_name(attributes, object) != node {
        return Err(attributes.forbid("can only access CSINode with the same name as the requesting node"));
    }
    Ok(())
}

/// Checks the slice of a create or a delete, each one of a `deletecollection` included. For other requests the authorizer checks the
/// stored slice.
fn slice(attributes: &Attributes<'_>, slice: &Tree, node: &str) -> Result<(), Status> {
    let (verb, slice) = match (attributes.operation, attributes.old) {
        (Operation::Create, _) => ("create", slice),
        (Operation::Delete, Some(old)) => ("delete", old),
        _ => return Ok(()),
    };
    if get(slice, "spec.nodeName").as_str() != Some(node) {
        return Err(attributes.forbid(&format!(
            "can only {verb} ResourceSlice with the same NodeName as the requesting node"
        )));
    }
    Ok(())
}
