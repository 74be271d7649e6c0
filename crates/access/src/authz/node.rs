//! The node authorizer: a kubelet reads what its own pods use, and writes what is its own.

mod graph;
mod references;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::rules::Rule;
use super::{Answer, Attributes};
use crate::policy;
use crate::user::User;

pub use graph::Graph;
pub use references::Kind;

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The node a user is the kubelet of.
pub fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_PREFIX).filter(|_| user.in_group(NODES_GROUP))
}

/// What every node may do, whichever it is: the rules of the ClusterRole `system:node`.
pub(super) fn common_rules() -> Arc<[Rule]> {
    policy::role("system:node").into()
}

impl Graph {
    pub fn authorize(&self, ask: &Attributes<'_>) -> Answer {
        let Some(node) = node_name(ask.user) else { return Answer::no_opinion("") };
        if node.is_empty() {
            return Answer::no_opinion(format!("unknown node for user {:?}", ask.user.name));
        }
        if !ask.is_resource {
            return self.by_rules(ask);
        }
        match (ask.group, ask.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, ask),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, ask),
            ("", "persistentvolumeclaims") if ask.subresource == "status" => {
                match matches!(ask.verb, "update" | "patch") {
                    true => self.related(node, Kind::Claim, ask),
                    false => Answer::no_opinion("can only get/update/patch this type"),
                }
            }
            ("", "persistentvolumeclaims") => self.get(node, Kind::Claim, ask),
            ("", "persistentvolumes") => self.get(node, Kind::Volume, ask),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Kind::ResourceClaim, ask),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Kind::Attachment, ask),
            ("", "serviceaccounts") => self.service_account(node, ask),
            ("coordination.k8s.io", "leases") => lease(node, ask),
            ("storage.k8s.io", "csinodes") => own_object(node, ask, "CSINode"),
            ("resource.k8s.io", "resourceslices") => self.slice(node, ask),
            ("certificates.k8s.io", "podcertificaterequests") => self.pod_certificate(node, ask),
            ("", "nodes") => node_object(node, ask),
            ("", "pods") => self.pod(node, ask),
            _ => self.by_rules(ask),
        }
    }

    fn by_rules(&self, ask: &Attributes<'_>) -> Answer {
        match self.common.iter().any(|rule| rule.matches(ask)) {
            true => Answer::allow(""),
            false => Answer::no_opinion(""),
        }
    }

    fn read(&self, node: &str, kind: Kind, ask: &Attributes<'_>) -> Answer {
        if !reads(ask) {
            return Answer::no_opinion("can only read resources of this type");
        }
        if !ask.subresource.is_empty() {
            return Answer::no_opinion("cannot read subresource");
        }
        if ask.namespace.is_empty() {
            return Answer::no_opinion("can only read namespaced object of this type");
        }
        self.related(node, kind, ask)
    }

    fn get(&self, node: &str, kind: Kind, ask: &Attributes<'_>) -> Answer {
        if ask.verb != "get" {
            return Answer::no_opinion("can only get individual resources of this type");
        }
        if !ask.subresource.is_empty() {
            return Answer::no_opinion("cannot get subresource");
        }
        self.related(node, kind, ask)
    }

    /// An account of one of the node's pods, and tokens of it. Which, the admission plugin sees.
    fn service_account(&self, node: &str, ask: &Attributes<'_>) -> Answer {
        if ask.verb == "get" && ask.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, ask);
        }
        if ask.verb != "create" || ask.name.is_empty() {
            return Answer::no_opinion("can only create tokens for individual service accounts");
        }
        if ask.subresource != "token" {
            return Answer::no_opinion("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, ask)
    }

    fn slice(&self, node: &str, ask: &Attributes<'_>) -> Answer {
        if !ask.subresource.is_empty() {
            return Answer::no_opinion("cannot authorize ResourceSlice subresources");
        }
        match ask.verb {
            // the admission plugin checks the node of the slice
            "create" => Answer::allow(""),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::Slice, ask),
            "watch" | "list" | "deletecollection" => selected(
                node,
                ask,
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Answer::no_opinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self, node: &str, ask: &Attributes<'_>) -> Answer {
        if !ask.subresource.is_empty() {
            return Answer::no_opinion(
                "nodes may not access the status subresource of PodCertificateRequests",
            );
        }
        match ask.verb {
            // for which pod, the admission plugin sees
            "create" => Answer::allow(""),
            "get" => self.related(node, Kind::CertificateRequest, ask),
            "list" | "watch" => {
                selected(node, ask, "can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => Answer::no_opinion(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn pod(&self, node: &str, ask: &Attributes<'_>) -> Answer {
        match (ask.subresource, ask.verb) {
            ("", "get") => self.get(node, Kind::Pod, ask),
            ("", "list" | "watch") if is_selected(node, ask) => Answer::allow(""),
            ("", "list" | "watch") if !ask.name.is_empty() => self.related(node, Kind::Pod, ask),
            ("", "list" | "watch") => {
                Answer::no_opinion("can only list/watch pods with spec.nodeName field selector")
            }
            // the admission plugin checks the pod's node
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Answer::allow("")
            }
            _ => Answer::no_opinion(""),
        }
    }

    fn related(&self, node: &str, kind: Kind, ask: &Attributes<'_>) -> Answer {
        if ask.name.is_empty() {
            return Answer::no_opinion("No Object name found");
        }
        match self.reaches(node, kind, ask.namespace, ask.name) {
            true => Answer::allow(""),
            false => {
                Answer::no_opinion(format!("no relationship found between node '{node}' and this object"))
            }
        }
    }
}

fn lease(node: &str, ask: &Attributes<'_>) -> Answer {
    if !matches!(ask.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Answer::no_opinion("can only get, create, update, patch, or delete a node lease");
    }
    if ask.namespace != "kube-node-lease" {
        return Answer::no_opinion("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if ask.verb != "create" && ask.name != node {
        return Answer::no_opinion("can only access node lease with the same name as the requesting node");
    }
    Answer::allow("")
}

fn own_object(node: &str, ask: &Attributes<'_>, kind: &str) -> Answer {
    if !ask.subresource.is_empty() {
        return Answer::no_opinion(match ask.subresource {
            "status" => format!("{kind} status access requires CSIVolumeHealth feature"),
            _ => format!("cannot authorize {kind} subresources"),
        });
    }
    if !matches!(ask.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Answer::no_opinion(format!("can only get, create, update, patch, or delete a {kind}"));
    }
    if ask.verb != "create" && ask.name != node {
        return Answer::no_opinion(format!(
            "can only access {kind} with the same name as the requesting node"
        ));
    }
    Answer::allow("")
}

/// A node reads itself by its name, though it is not there yet; which node it writes, the admission plugin sees.
fn node_object(node: &str, ask: &Attributes<'_>) -> Answer {
    match (ask.subresource, ask.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Answer::allow(""),
        ("", "get" | "list" | "watch") => match ask.name {
            name if name == node => Answer::allow(""),
            "" => {
                Answer::no_opinion(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            name => {
                Answer::no_opinion(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
        },
        _ => Answer::no_opinion(""),
    }
}

fn reads(ask: &Attributes<'_>) -> bool {
    matches!(ask.verb, "get" | "list" | "watch")
}

/// Whether a field selector keeps a list or watch to what is the node's.
fn is_selected(node: &str, ask: &Attributes<'_>) -> bool {
    machinery::fields::Selector::parse(ask.field_selector)
        .is_ok_and(|selector| selector.required("spec.nodeName") == Some(node))
}

fn selected(node: &str, ask: &Attributes<'_>, otherwise: &str) -> Answer {
    if is_selected(node, ask) { Answer::allow("") } else { Answer::no_opinion(otherwise) }
}
