//! Whether a user may do what a request asks: the modes of `--authorization-mode` in their order; the first that
//! decides, decides.

pub mod node;
pub mod rbac;
pub mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::request_info::RequestInfo;
use crate::user::{MASTERS, User};

/// What authorization looks at.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub namespace: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    /// Path of a request that names no resource.
    pub path: &'a str,
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
        Attributes {
            user,
            verb: &info.verb,
            is_resource: info.is_resource_request,
            group: &info.group,
            version: &info.version,
            namespace: &info.namespace,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            path: &info.path,
            field_selector: &info.field_selector,
        }
    }

    /// A question about a resource, asked by the server itself.
    pub fn resource(
        user: &'a User,
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            user,
            verb,
            is_resource: true,
            group,
            version: "*",
            namespace,
            resource,
            subresource: "",
            name,
            path: "",
            field_selector: "",
        }
    }

    /// `pods` or `pods/log`.
    pub fn full_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    NoOpinion,
}

/// A decision and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub decision: Decision,
    pub reason: String,
}

impl Answer {
    fn no_opinion(reason: impl Into<String>) -> Answer {
        Answer { decision: Decision::NoOpinion, reason: reason.into() }
    }

    fn allow(reason: impl Into<String>) -> Answer {
        Answer { decision: Decision::Allow, reason: reason.into() }
    }

    pub fn allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

enum Mode {
    Node(Arc<node::Graph>),
    Rbac,
    AlwaysAllow,
    AlwaysDeny,
}

/// The modes together. `rbac` is there in every mode, for the escalation check and the rules review.
pub struct Authorizer {
    modes: ArcSwap<Vec<Mode>>,
    pub rbac: Arc<rbac::Policy>,
}

impl Authorizer {
    /// `modes` are names that the options have checked.
    pub fn new(modes: &[String], rbac: Arc<rbac::Policy>, node: Arc<node::Graph>) -> Authorizer {
        let mode = |name: &String| match name.as_str() {
            "Node" => Mode::Node(node.clone()),
            "RBAC" => Mode::Rbac,
            "AlwaysDeny" => Mode::AlwaysDeny,
            _ => Mode::AlwaysAllow,
        };
        Authorizer { modes: ArcSwap::from_pointee(modes.iter().map(mode).collect()), rbac }
    }

    /// An authorizer that allows everything.
    pub fn allowing_all() -> Authorizer {
        Authorizer { modes: ArcSwap::from_pointee(vec![Mode::AlwaysAllow]), rbac: Arc::default() }
    }

    /// The first mode that decides, decides. The local ones never wait.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Answer {
        if attributes.user.in_group(MASTERS) {
            return Answer::allow("");
        }
        let mut reasons = Vec::new();
        for mode in self.modes.load().iter() {
            let answer = match mode {
                Mode::Node(graph) => graph.authorize(attributes),
                Mode::Rbac => self.rbac.authorize(attributes),
                Mode::AlwaysAllow => Answer::allow(""),
                Mode::AlwaysDeny => Answer::no_opinion("Everything is forbidden."),
            };
            match answer.decision {
                Decision::Allow | Decision::Deny => return answer,
                Decision::NoOpinion if !answer.reason.is_empty() => reasons.push(match mode {
                    Mode::Node(_) => format!("node: {}", answer.reason),
                    _ => answer.reason,
                }),
                Decision::NoOpinion => {}
            }
        }
        Answer::no_opinion(reasons.join("\n"))
    }

    /// Whether RBAC has a say; without it nothing guards against escalation.
    pub fn uses_rbac(&self) -> bool {
        self.modes.load().iter().any(|mode| matches!(mode, Mode::Rbac))
    }

    pub fn uses_node(&self) -> bool {
        self.modes.load().iter().any(|mode| matches!(mode, Mode::Node(_)))
    }
}
