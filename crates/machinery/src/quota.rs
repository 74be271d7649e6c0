//! What objects use of a quota: one computation for admission, which charges a request, and for the controller, which counts what a
//! namespace has. Each reads its own form of the objects into the facts below; names, scopes and amounts are decided here.

mod amounts;
mod devices;
mod pods;
mod scopes;
#[cfg(test)]
mod tests;
mod volumes;

pub use amounts::{Amounts, add, exceeded, growth, mask, printed, without_zeros};
pub use devices::{Classes, DeviceClaim, MOST_DEVICES, Request};
pub use pods::{Container, Pod, Resources, is_extended_resource, is_of_whole_pods};
pub use scopes::Scope;
pub use volumes::VolumeClaim;

use crate::Quantity;
use crate::quantity::Format;

/// What quotas measure of the objects of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    Pods,
    Services,
    VolumeClaims,
    DeviceClaims,
    /// Their number alone: `count/…`, and an older name that a few kinds have.
    Number {
        name: String,
        alias: Option<&'static str>,
    },
}

/// An object, as far as quotas ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts<'a> {
    Pod(Pod<'a>),
    Service(Service),
    VolumeClaim(VolumeClaim<'a>),
    DeviceClaim(DeviceClaim<'a>),
    /// Of a kind that is counted by number.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub ports: usize,
    /// Ports that name their node port.
    pub ports_with_node_port: usize,
    pub kind: ServiceKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    #[default]
    Internal,
    NodePort,
    LoadBalancer {
        /// Whether each port gets a node port.
        allocates: bool,
    },
}

impl ServiceKind {
    /// By `spec.type` and `spec.allocateLoadBalancerNodePorts`.
    pub fn of(service_type: &str, allocates: Option<bool>) -> ServiceKind {
        match service_type {
            "NodePort" => ServiceKind::NodePort,
            "LoadBalancer" => ServiceKind::LoadBalancer { allocates: allocates != Some(false) },
            _ => ServiceKind::Internal,
        }
    }
}

/// Resources of which quotas know nothing: they are not stored, or were never counted.
pub fn is_ignored(group: &str, plural: &str) -> bool {
    match group {
        "" => matches!(plural, "bindings" | "componentstatuses" | "events"),
        "events.k8s.io" => plural == "events",
        "authentication.k8s.io" => matches!(plural, "tokenreviews" | "selfsubjectreviews"),
        "authorization.k8s.io" => matches!(
            plural,
            "subjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ),
        _ => false,
    }
}

/// The name under which a quota counts the objects of any resource.
pub fn count_name(group: &str, plural: &str) -> String {
    match group {
        "" => format!("count/{plural}"),
        group => format!("count/{plural}.{group}"),
    }
}

/// The plural and group of what a quota's resource counts by number alone.
pub fn counted(name: &str) -> Option<(&str, &str)> {
    match name.strip_prefix("count/") {
        Some(resource) => Some(resource.split_once('.').unwrap_or((resource, ""))),
        None => ALIASES.contains(&name).then_some((name, "")),
    }
}

/// Kinds that quotas count under their own names, beside `count/…`.
const ALIASES: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

impl Measure {
    pub fn of(group: &str, plural: &str) -> Measure {
        match (group, plural) {
            ("", "pods") => Measure::Pods,
            ("", "services") => Measure::Services,
            ("", "persistentvolumeclaims") => Measure::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Measure::DeviceClaims,
            _ => {
                let alias = ALIASES.into_iter().find(|alias| group.is_empty() && *alias == plural);
                Measure::Number { name: count_name(group, plural), alias }
            }
        }
    }

    /// Whether a quota's resource is one that these objects use.
    pub fn tracks(&self, name: &str, classes: &dyn Classes) -> bool {
        match self {
            Measure::Pods => pods::tracks(name),
            Measure::Services => {
                matches!(
                    name,
                    "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
                )
            }
            Measure::VolumeClaims => volumes::tracks(name),
            Measure::DeviceClaims => devices::tracks(name, classes),
            Measure::Number { name: own, alias } => own == name || *alias == Some(name),
        }
    }

    /// What an object of these uses.
    pub fn usage(&self, facts: &Facts<'_>, classes: &dyn Classes) -> Amounts {
        match (self, facts) {
            (_, Facts::Pod(pod)) => pod.usage(),
            (_, Facts::Service(service)) => service.usage(),
            (_, Facts::VolumeClaim(claim)) => claim.usage(),
            (_, Facts::DeviceClaim(claim)) => claim.usage(classes),
            (Measure::Number { name, alias }, Facts::Other) => {
                let names = [Some(name.as_str()), *alias];
                names.into_iter().flatten().map(|name| (name.to_owned(), one())).collect()
            }
            (_, Facts::Other) => Amounts::new(),
        }
    }
}

impl Facts<'_> {
    /// Whether an object is in a scope. Most have none of the properties that scopes speak of.
    pub fn is_in(&self, scope: &Scope<'_>) -> bool {
        match self {
            Facts::Pod(pod) => pod.is_in(scope),
            Facts::VolumeClaim(claim) => claim.is_in(scope),
            Facts::Service(_) | Facts::DeviceClaim(_) | Facts::Other => false,
        }
    }

    /// Whether a quota with these scopes may be about the object.
    pub fn is_in_all(&self, scopes: &[Scope<'_>]) -> bool {
        scopes.iter().all(|scope| self.is_in(scope))
    }

    /// What `required` resources of a quota the object should have said and did not, as refusals name it.
    pub fn missing(&self, required: &[&str]) -> Option<String> {
        match self {
            Facts::Pod(pod) => pod.missing(required),
            _ => None,
        }
    }

    /// Whether its kind has properties that scopes speak of.
    pub fn has_scopes(&self) -> bool {
        matches!(self, Facts::Pod(_) | Facts::VolumeClaim(_))
    }
}

impl Service {
    fn usage(&self) -> Amounts {
        let (node_ports, balancers) = match self.kind {
            ServiceKind::Internal => (0, 0),
            ServiceKind::NodePort => (self.ports, 0),
            ServiceKind::LoadBalancer { allocates: true } => (self.ports, 1),
            ServiceKind::LoadBalancer { allocates: false } => (self.ports_with_node_port, 1),
        };
        [
            ("count/services", 1),
            ("services", 1),
            ("services.nodeports", node_ports),
            ("services.loadbalancers", balancers),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), number(count)))
        .collect()
    }
}
