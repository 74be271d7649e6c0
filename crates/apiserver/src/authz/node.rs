//! The node authorizer: a kubelet reads what its own pods use, and writes what is its own.

mod graph;
mod references;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::rules::Rule;
use super::{Answer, Attributes};
use crate::bootstrap::policy;
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
            return Answer::no_opinion("unknown node for user");
        }
        if !ask.is_resource {
            return self.by_rules(ask);
        }
        let read_verbs = matches!(ask.verb, "get" | "list" | "watch");
        match (ask.group, ask.resource) {
            ("", "secrets") => self.read(node, Kind::Secret, ask, read_verbs),
            ("", "configmaps") => self.read(node, Kind::ConfigMap, ask, read_verbs),
            ("", "persistentvolumeclaims") if ask.subresource == "status" => {
                match matches!(ask.verb, "update" | "patch") {
                    true => self.related(node, Kind::Claim, ask),
                    false => Answer::no_opinion("can only update or patch status of this type"),
                }
            }
            ("", "persistentvolumeclaims") => self.get(node, Kind::Claim, ask),
            ("", "persistentvolumes") => self.get(node, Kind::Volume, ask),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Kind::ResourceClaim, ask),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Kind::Attachment, ask),
            ("", "serviceaccounts") if ask.subresource == "token" && ask.verb == "create" => {
                self.related(node, Kind::ServiceAccount, ask)
            }
            ("", "serviceaccounts") if ask.subresource.is_empty() && ask.verb == "get" => {
                self.related(node, Kind::ServiceAccount, ask)
            }
            ("coordination.k8s.io", "leases") => lease(node, ask),
            ("storage.k8s.io", "csinodes") => own_object(node, ask, "CSINode"),
            ("resource.k8s.io", "resourceslices") => match ask.verb {
                "get" | "create" | "update" | "patch" | "delete" => Answer::allow(""),
                "list" | "watch" | "deletecollection" => selected(node, ask, "spec.nodeName"),
                _ => Answer::no_opinion(
                    "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
                ),
            },
            ("", "nodes") if ask.subresource.is_empty() && read_verbs => match ask.verb {
                "get" if ask.name == node => Answer::allow(""),
                "get" => Answer::no_opinion(format!(
                    "node '{node}' cannot read '{}', only its own Node object",
                    ask.name
                )),
                _ => selected(node, ask, "metadata.name"),
            },
            ("", "pods") if ask.subresource.is_empty() && read_verbs => match ask.verb {
                "get" => self.related(node, Kind::Pod, ask),
                _ => selected(node, ask, "spec.nodeName"),
            },
            _ => self.by_rules(ask),
        }
    }

    fn by_rules(&self, ask: &Attributes<'_>) -> Answer {
        match self.common.iter().any(|rule| rule.matches(ask)) {
            true => Answer::allow(""),
            false => Answer::no_opinion(""),
        }
    }

    fn read(&self, node: &str, kind: Kind, ask: &Attributes<'_>, read: bool) -> Answer {
        if !read || !ask.subresource.is_empty() {
            return Answer::no_opinion("can only read resources of this type");
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
    if !matches!(ask.verb, "get" | "create" | "update" | "patch" | "delete") || !ask.subresource.is_empty() {
        return Answer::no_opinion(format!("can only get, create, update, patch, or delete a {kind}"));
    }
    if ask.verb != "create" && ask.name != node {
        return Answer::no_opinion(format!(
            "can only access {kind} with the same name as the requesting node"
        ));
    }
    Answer::allow("")
}

/// A list or watch that a field selector keeps to what is the node's.
fn selected(node: &str, ask: &Attributes<'_>, field: &str) -> Answer {
    let own = machinery::fields::Selector::parse(ask.field_selector)
        .is_ok_and(|selector| selector.required(field) == Some(node));
    match own || (field == "metadata.name" && ask.name == node) {
        true => Answer::allow(""),
        false => {
            Answer::no_opinion(format!("can only list/watch {} with {field} field selector", ask.resource))
        }
    }
}
