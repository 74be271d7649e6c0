//! Pods: a node makes mirrors of its static pods, reports what its own pods do, and ends these.

use api::{Status, Tree};

use super::{NodeRestriction, unexpected};
use crate::{Attributes, Operation};
use registry::references;
use registry::references::{MIRROR, is_mirror};
use registry::tree::{flag, get, has, list, same, text};

impl NodeRestriction {
    pub(super) async fn pod(
        &self,
        attributes: &Attributes<'_>,
        pod: &Tree,
        node: &str,
    ) -> Result<(), Status> {
        match attributes.operation {
            Operation::Create => self.mirror_pod(attributes, pod, node).await,
            Operation::Delete => {
                if attributes.old.is_none_or(|pod| text(pod, "spec.nodeName") == node) {
                    return Ok(());
                }
                let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
                Err(attributes.forbid(&why))
            }
            operation => Err(attributes.forbid(&format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.name()
            ))),
        }
    }

    async fn mirror_pod(&self, attributes: &Attributes<'_>, pod: &Tree, node: &str) -> Result<(), Status> {
        let refuse = |why: String| Err(attributes.forbid(&why));
        if !is_mirror(pod) {
            return refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if text(pod, "spec.nodeName") != node {
            return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners = list(pod, "metadata.ownerReferences");
        if owners.len() > 1 {
            return refuse(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
        let own = owners.first().filter(|owner| {
            text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Node" && text(owner, "name") == node
        });
        let Some(owner) = own else {
            return refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        };
        if !flag(owner, "controller") {
            return refuse(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if flag(owner, "blockOwnerDeletion") {
            return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let Some(stored) = self.find("nodes", "", node).await? else {
            return Err(Status::not_found("", "node", node));
        };
        let (wanted, actual) = (text(owner, "uid"), text(&stored, "metadata.uid"));
        if wanted != actual {
            return refuse(format!("node {node} UID mismatch: expected {wanted} got {actual}"));
        }
        match reference(pod) {
            Ok(None) => Ok(()),
            Ok(Some(plural)) => refuse(format!("node {node:?} can not create pods that reference {plural}")),
            Err(unknown) => refuse(format!("error checking mirror pod for API references: {unknown}")),
        }
    }

    pub(super) async fn eviction(
        &self,
        attributes: &Attributes<'_>,
        eviction: &Tree,
        node: &str,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create {
            return Err(attributes.forbid(&format!("unexpected operation {}", attributes.operation.name())));
        }
        let name = match attributes.name {
            "" => text(eviction, "metadata.name"),
            name => name,
        };
        if name.is_empty() {
            return Err(attributes.forbid("could not determine pod from request data"));
        }
        let pod = self.pod_of(attributes, name).await?;
        if text(&pod, "spec.nodeName") != node {
            return Err(attributes
                .forbid(&format!("node {node} can only evict pods with spec.nodeName set to itself")));
        }
        Ok(())
    }
}

/// Sources of volumes that need nothing from the API.
const LOCAL: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Sources of volumes that stand for other objects, and how these are called.
const REMOTE: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];

const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// The first kind of other objects that a pod needs; an error where that cannot be said.
fn reference(pod: &Tree) -> Result<Option<&'static str>, String> {
    if !text(pod, "spec.serviceAccountName").is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if !references::secrets(pod).is_empty() {
        return Ok(Some("secrets"));
    }
    if !references::config_maps(pod).is_empty() {
        return Ok(Some("configmaps"));
    }
    if !list(pod, "spec.resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(pod, "spec.volumes") {
        if LOCAL.iter().any(|source| has(volume, source)) {
            continue;
        }
        if let Some((_, plural)) = REMOTE.iter().find(|(source, _)| has(volume, source)) {
            return Ok(Some(plural));
        }
        let name = text(volume, "name");
        if !has(volume, "projected") {
            return Err(format!("unknown volume type for volume  {name:?}"));
        }
        for source in list(volume, "projected.sources") {
            if let Some((_, plural)) = PROJECTED.iter().find(|(field, _)| has(source, field)) {
                return Ok(Some(plural));
            }
            if !has(source, "downwardAPI") {
                return Err(format!("unknown source for projected volume {name:?}"));
            }
        }
    }
    Ok(None)
}

/// What a pod's claims became is not the kubelet's to say: it would open them to it.
pub(super) fn status(attributes: &Attributes<'_>, pod: &Tree, node: &str) -> Result<(), Status> {
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else {
        return Err(unexpected(attributes));
    };
    if text(old, "spec.nodeName") != node {
        let why =
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(attributes.forbid(&why));
    }
    let kept = [
        ("metadata.labels", "labels through pod status"),
        ("status.resourceClaimStatuses", "resource claim statues"),
        ("status.extendedResourceClaimStatus", "extended resource claim status"),
        ("status.nodeAllocatableResourceClaimStatuses", "node allocatable resource claim statuses"),
    ];
    match kept.iter().find(|(field, _)| !same(get(pod, field), get(old, field))) {
        None => Ok(()),
        Some((_, what)) => Err(attributes.forbid(&format!("node {node:?} cannot update {what}"))),
    }
}
