//! A pod as the scheduler sees it: what it needs, where it is, who it is.

mod raw;
mod volumes;

use client::{Key, ObjectReference, View};
use machinery::labels::Selector;
use serde::Deserialize;

use super::selector::Term;
use super::{Effect, Namespaces, Node, Resources, Shared, Symbol, Taint};
pub use volumes::{Disk, PodClaim};

/// What a container without a request counts as in scores: 0.1 CPU and 200 MB.
pub const DEFAULT_CPU: i64 = 100;
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "raw::Raw")]
pub struct Pod {
    pub key: Key,
    /// As in the key.
    pub namespace: Symbol,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub labels: Shared<Labels>,
    /// Empty until bound.
    pub node: Symbol,
    pub needs: Shared<Needs>,
    /// When the kubelet admitted it, in seconds since 1970; the maximum until then.
    pub started: i64,
    pub deleting: bool,
    /// It is being preempted by a more important pod.
    pub preempted: bool,
    /// Succeeded or failed.
    pub finished: bool,
    pub nominated: Symbol,
    /// The claims of devices that its spec names.
    pub devices: Box<[DeviceEntry]>,
    /// The `PodScheduled` condition: status and message.
    pub condition: Option<Box<(String, String)>>,
}

impl View for Pod {
    type Of = k8s_openapi::api::core::v1::Pod;
}

/// What the pod's template says of where it may run. Most placed pods have no constraint that still matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    pub scheduler: Symbol,
    pub priority: i32,
    /// `preemptionPolicy` is `Never`.
    pub never_preempts: bool,
    pub requests: Resources,
    /// CPU and memory with the defaults of containers that request none.
    pub scored: (i64, i64),
    pub ports: Vec<Port>,
    pub gates: Vec<String>,
    /// All of these labels.
    pub node_selector: Vec<(Symbol, Symbol)>,
    /// One of these terms.
    pub required: Option<Vec<Term>>,
    pub preferred: Vec<(i64, Term)>,
    pub tolerations: Vec<Toleration>,
    pub images: Vec<Symbol>,
    pub spread: Vec<Spread>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    pub preferred_affinity: Vec<(i64, PodTerm)>,
    pub preferred_anti_affinity: Vec<(i64, PodTerm)>,
    pub claims: Vec<PodClaim>,
    pub disks: Vec<Disk>,
    /// Features of the kubelet that the pod needs.
    pub features: Vec<Symbol>,
    /// The controller that the pod belongs to, where it is of a kind that pods are spread by.
    pub owner: Option<Owner>,
}

/// An entry of a pod's claims of devices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceEntry {
    Claim {
        name: Symbol,
        /// It was made for this pod.
        is_generated: bool,
    },
    /// It is still to be made.
    NotYet,
    Unneeded,
}

/// A controller whose pods are spread by default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub kind: OwnerKind,
    pub name: Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

impl Needs {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }

    /// Whether node selector and required terms select the node.
    pub fn selects(&self, node: &Node) -> bool {
        self.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self
                .required
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
    }

    pub fn has_pod_terms(&self) -> bool {
        !(self.anti_affinity.is_empty()
            && self.affinity.is_empty()
            && self.preferred_affinity.is_empty()
            && self.preferred_anti_affinity.is_empty())
    }
}

/// A pod's labels, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Vec<(Symbol, Symbol)>);

impl Labels {
    pub fn new<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Labels {
        Labels(labels.into_iter().map(|(key, value)| (Symbol::new(key), Symbol::new(value))).collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.as_str() == key).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Symbol, Symbol)> {
        self.0.iter()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Empty for every address.
    pub address: Symbol,
    pub protocol: Symbol,
    pub port: i32,
}

impl Port {
    pub fn conflicts(&self, other: &Port) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address.is_empty() || other.address.is_empty())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Empty for every key.
    pub key: Symbol,
    pub operator: TolerationOperator,
    pub value: Symbol,
    /// None for every effect.
    pub effect: Option<Effect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Default)]
pub enum TolerationOperator {
    Exists,
    #[default]
    Equal,
    Lt,
    Gt,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        let number = |symbol: &Symbol| symbol.as_str().parse::<i64>().ok();
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => self.value == taint.value,
            // The taint's value compared with the toleration's.
            TolerationOperator::Lt => {
                number(&taint.value).zip(number(&self.value)).is_some_and(|(t, v)| t < v)
            }
            TolerationOperator::Gt => {
                number(&taint.value).zip(number(&self.value)).is_some_and(|(t, v)| t > v)
            }
        }
    }
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    pub max_skew: i64,
    pub key: Symbol,
    /// `DoNotSchedule`; else it only scores.
    pub hard: bool,
    pub selector: Selector,
    pub min_domains: i64,
    /// Count only nodes that the pod's node affinity selects.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

/// A term of pod (anti-)affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerm {
    pub key: Symbol,
    pub selector: Selector,
    pub namespaces: Vec<Symbol>,
    /// More namespaces, by their labels. Without it and without names, the term speaks of the pod's own namespace.
    pub namespace_selector: Option<Selector>,
}

impl PodTerm {
    /// Whether `other` is one this term speaks of; `own` is the namespace of the pod that has the term.
    pub fn matches(&self, own: &Symbol, other: &Pod, namespaces: &Namespaces) -> bool {
        self.speaks_of(own, other, |selector, name| namespaces.selects(selector, name))
    }

    /// The same where namespaces' labels are not at hand: any may be selected.
    pub fn may_match(&self, own: &Symbol, other: &Pod) -> bool {
        self.speaks_of(own, other, |_, _| true)
    }

    fn speaks_of(&self, own: &Symbol, other: &Pod, selected: impl Fn(&Selector, &str) -> bool) -> bool {
        let namespace = &other.namespace;
        let in_scope = self.namespaces.contains(namespace)
            || match &self.namespace_selector {
                Some(selector) => selected(selector, namespace.as_str()),
                None => self.namespaces.is_empty() && namespace == own,
            };
        in_scope && selects(&self.selector, other)
    }
}

pub fn selects(selector: &Selector, pod: &Pod) -> bool {
    selector.matches_with(|key| pod.labels.get(key))
}

impl Pod {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.needs.tolerates(taint)
    }

    /// The claims of devices that it has.
    pub fn device_claims(&self) -> impl Iterator<Item = Key> {
        self.devices.iter().filter_map(|entry| match entry {
            DeviceEntry::Claim { name, .. } => {
                Some(Key { namespace: self.key.namespace.clone(), name: name.to_arc() })
            }
            DeviceEntry::NotYet | DeviceEntry::Unneeded => None,
        })
    }

    /// Whether nothing has changed that a scheduling attempt reads.
    pub fn same_needs(&self, other: &Pod) -> bool {
        self.labels == other.labels
            && self.needs == other.needs
            && self.devices == other.devices
            && self.deleting == other.deleting
    }

    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: "Pod".into(),
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            uid: self.uid.to_string(),
            api_version: "v1".into(),
            resource_version: self.resource_version.to_string(),
            field_path: String::new(),
        }
    }
}
