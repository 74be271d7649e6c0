//! `NodeRestriction`: a kubelet writes its own node, its own pods, and little about these.

use std::sync::Arc;

use api::{Status, Tree};
use async_trait::async_trait;

use super::{Attributes, Lookup, Operation, Plugin, is_mirror};
use crate::tree::{entries, flag, get, has, list, same, text};

pub struct NodeRestriction {
    lookup: Arc<dyn Lookup>,
}

impl NodeRestriction {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
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

    async fn admit(&self, attributes: &Attributes<'_>, object: &mut Tree) -> Result<(), Status> {
        let Some(node) = node_of(attributes) else { return Ok(()) };
        if node.is_empty() {
            let user = attributes.user.name;
            return Err(attributes.forbid(&format!("could not determine node from user {user:?}")));
        }
        match (&*attributes.resource.group, &*attributes.resource.plural, attributes.subresource) {
            ("", "pods", "") => self.pod(attributes, object, node),
            ("", "pods", "status") => pod_status(attributes, object, node),
            ("", "pods", "eviction") => self.eviction(attributes, object, node).await,
            ("", "pods", "binding" | "log" | "exec" | "attach" | "portforward" | "proxy") => Ok(()),
            ("", "pods", other) => Err(attributes.forbid(&format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
            ("", "nodes", _) => node_object(attributes, object, node),
            ("", "persistentvolumeclaims", "status") => Ok(()),
            ("", "persistentvolumeclaims", _) => Err(attributes.forbid("may only update PVC status")),
            ("", "serviceaccounts", "token") => self.token(attributes, object, node).await,
            ("coordination.k8s.io", "leases", _) => lease(attributes, object, node),
            ("storage.k8s.io", "csinodes", _) => csi_node(attributes, object, node),
            _ => Ok(()),
        }
    }
}

impl NodeRestriction {
    fn pod(&self, attributes: &Attributes<'_>, pod: &Tree, node: &str) -> Result<(), Status> {
        match attributes.operation {
            Operation::Create => self.mirror_pod(attributes, pod, node),
            Operation::Delete => {
                let ours = attributes.old.is_none_or(|pod| text(pod, "spec.nodeName") == node);
                if ours {
                    return Ok(());
                }
                let why = format!("node {node:?} can only delete pods with spec.nodeName set to itself");
                Err(attributes.forbid(&why))
            }
            _ => Err(attributes.forbid(&format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                "UPDATE"
            ))),
        }
    }

    fn mirror_pod(&self, attributes: &Attributes<'_>, pod: &Tree, node: &str) -> Result<(), Status> {
        let refuse = |why: String| Err(attributes.forbid(&why));
        if !is_mirror(pod) {
            return refuse(format!(
                "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
                super::MIRROR
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
        let Some(stored) = self.lookup.get("", "nodes", "", node) else {
            return refuse(format!("node {node:?} not found"));
        };
        let (wanted, actual) = (text(owner, "uid"), text(&stored, "metadata.uid"));
        if wanted != actual {
            return refuse(format!("node {node} UID mismatch: expected {wanted} got {actual}"));
        }
        if !text(pod, "spec.serviceAccountName").is_empty() {
            return refuse(format!("node {node:?} can not create pods that reference a service account"));
        }
        for (source, plural) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
        ] {
            let direct = list(pod, "spec.volumes").iter().any(|volume| has(volume, source));
            let (key, all) = (format!("valueFrom.{source}KeyRef"), format!("{source}Ref"));
            let mut containers = list(pod, "spec.containers").iter().chain(list(pod, "spec.initContainers"));
            let variables = containers.any(|one| {
                list(one, "env").iter().any(|variable| has(variable, &key))
                    || list(one, "envFrom").iter().any(|from| has(from, &all))
            });
            if direct || variables {
                // Secrets are also refused, in other words, as a mirror pod's.
                let why = format!("node {node:?} can not create pods that reference {plural}");
                if source == "secret" {
                    return refuse("a mirror pod may not reference secrets".to_owned());
                }
                return refuse(why);
            }
        }
        Ok(())
    }

    async fn eviction(&self, attributes: &Attributes<'_>, eviction: &Tree, node: &str) -> Result<(), Status> {
        let name = match attributes.name {
            "" => text(eviction, "metadata.name"),
            name => name,
        };
        let pod = self.lookup.get("", "pods", attributes.namespace, name);
        match pod {
            Some(pod) if text(&pod, "spec.nodeName") != node => Err(attributes
                .forbid(&format!("node {node} can only evict pods with spec.nodeName set to itself"))),
            Some(_) => Ok(()),
            None => Err(Status::not_found("", "pods", name)),
        }
    }

    async fn token(&self, attributes: &Attributes<'_>, request: &Tree, node: &str) -> Result<(), Status> {
        let refuse = |why: &str| Err(attributes.forbid(why));
        let reference = get(request, "spec.boundObjectRef");
        if text(reference, "kind") != "Pod" || text(reference, "name").is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        let uid = text(reference, "uid");
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let name = text(reference, "name");
        let found = match self.lookup.get("", "pods", attributes.namespace, name) {
            None => self.lookup.fresh("", "pods", attributes.namespace, name).await,
            found => found,
        };
        let Some(pod) = found else {
            let mut status = Status::not_found("", "pods", name);
            status.message = format!("pod {name:?} not found");
            return Err(status);
        };
        if uid != text(&pod, "metadata.uid") {
            return refuse(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if text(&pod, "spec.nodeName") != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        if text(&pod, "spec.serviceAccountName") != attributes.name {
            return refuse("node requested token bound to a pod with a different service account");
        }
        Ok(())
    }
}

fn pod_status(attributes: &Attributes<'_>, pod: &Tree, node: &str) -> Result<(), Status> {
    let Some(old) = attributes.old else { return Ok(()) };
    if text(old, "spec.nodeName") != node {
        let why =
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(attributes.forbid(&why));
    }
    if !same(get(pod, "metadata.labels"), get(old, "metadata.labels")) {
        return Err(attributes.forbid(&format!("node {node:?} cannot update labels through pod status")));
    }
    Ok(())
}

/// Labels of the API's own domains that a kubelet may set on its node.
fn own_label(key: &str) -> bool {
    const KNOWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    KNOWN.contains(&key)
        || ["kubelet.kubernetes.io", "node.kubernetes.io"]
            .iter()
            .any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
}

fn of_kubernetes(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
}

/// Reserved for administrators, whatever stands before it.
fn restricted(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domain == "node-restriction.kubernetes.io" || domain.ends_with(".node-restriction.kubernetes.io")
}

fn forbidden_labels<'t>(labels: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut bad: Vec<&str> =
        labels.filter(|key| restricted(key) || (of_kubernetes(key) && !own_label(key))).collect();
    bad.sort_unstable();
    bad.dedup();
    bad
}

fn node_object(attributes: &Attributes<'_>, object: &Tree, node: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbid(&why));
    let name = match attributes.name {
        "" => text(object, "metadata.name"),
        name => name,
    };
    if attributes.operation == Operation::Create {
        if has(object, "spec.configSource") {
            return refuse(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            ));
        }
        let bad = forbidden_labels(entries(object, "metadata.labels").map(|(key, _)| key));
        if !bad.is_empty() {
            return refuse(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                bad.join(", ")
            ));
        }
    }
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else { return Ok(()) };
    if has(object, "spec.configSource")
        && !same(get(object, "spec.configSource"), get(old, "spec.configSource"))
    {
        return refuse(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !same(get(object, "spec.taints"), get(old, "spec.taints")) {
        return refuse(format!("node {node:?} is not allowed to modify taints"));
    }
    if !same(get(object, "metadata.ownerReferences"), get(old, "metadata.ownerReferences")) {
        return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let changed = |a: &Tree, b: &Tree| -> Vec<String> {
        let other = get(b, "metadata.labels");
        let differs = entries(a, "metadata.labels").filter(|(key, value)| other.get(key) != Some(value));
        differs.map(|(key, _)| key.to_owned()).collect()
    };
    let mut keys = changed(object, old);
    keys.extend(changed(old, object));
    let bad = forbidden_labels(keys.iter().map(String::as_str));
    if !bad.is_empty() {
        return refuse(format!("is not allowed to modify labels: {}", bad.join(", ")));
    }
    Ok(())
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
