//! What pods use: their number, and what they ask for at their peak.

use std::collections::{BTreeMap, BTreeSet};

use super::amounts::{Amounts, add, raise};
use super::{Scope, one};
use crate::{Quantity, names};

/// Counted in or out of requests and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container<'a> {
    pub name: &'a str,
    /// An init container that runs beside the others.
    pub is_sidecar: bool,
    pub asks: Resources,
    /// `allocatedResources` of its status: what the node has granted.
    pub granted: Option<Amounts>,
    /// `resources` of its status: what it runs with.
    pub actual_requests: Option<Amounts>,
    pub actual_limits: Option<Amounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod<'a> {
    pub containers: Vec<Container<'a>>,
    pub init_containers: Vec<Container<'a>>,
    /// Of the pod as a whole, beside its containers'.
    pub own: Resources,
    pub overhead: Amounts,
    /// What its status says; empty where it says nothing yet.
    pub qos_class: &'a str,
    pub priority_class: &'a str,
    /// Has an active deadline.
    pub is_terminating: bool,
    /// One of its affinity terms is about other namespaces.
    pub crosses_namespaces: bool,
    /// Ran to its end, or should have gone long ago: its node is gone, more likely than not.
    pub is_over: bool,
    /// A resize that its node can never grant.
    pub resize_is_infeasible: bool,
}

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// A quota on one of these makes every container say how much it needs. No others were added since.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

pub(super) fn tracks(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || is_of_extended(name)
}

/// `requests.` and an extended resource.
pub(super) fn is_of_extended(name: &str) -> bool {
    let Some(resource) = name.strip_prefix("requests.") else { return false };
    !is_native(name) || resource.starts_with(DEVICE_CLASS)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that somebody else than Kubernetes knows.
pub fn is_extended_resource(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a pod as a whole may ask for it.
pub fn is_of_whole_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

/// The names under which quotas count requests and limits.
fn compute(asks: &Resources) -> Amounts {
    let mut amounts = Amounts::from([("pods".to_owned(), one())]);
    for (name, amount) in &asks.requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), *amount);
            amounts.insert(format!("requests.{name}"), *amount);
        } else if is_extended_resource(name) || name.starts_with(DEVICE_CLASS) {
            amounts.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in &asks.limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            amounts.insert(format!("limits.{name}"), *amount);
        }
    }
    amounts
}

impl<'a> Pod<'a> {
    pub(super) fn usage(&self) -> Amounts {
        let mut usage = Amounts::from([("count/pods".to_owned(), one())]);
        if !self.is_over {
            let asks = Resources { requests: self.requests(), limits: self.limits() };
            usage.extend(compute(&asks));
        }
        usage
    }

    pub(super) fn is_in(&self, scope: &Scope<'_>) -> bool {
        match scope.name {
            "Terminating" => self.is_terminating,
            "NotTerminating" => !self.is_terminating,
            "BestEffort" => self.is_best_effort(),
            "NotBestEffort" => !self.is_best_effort(),
            "PriorityClass" => scope.admits(self.priority_class),
            "CrossNamespacePodAffinity" => self.crosses_namespaces,
            _ => false,
        }
    }

    /// `must specify cpu for: a,b; memory for: a`
    pub(super) fn missing(&self, required: &[&str]) -> Option<String> {
        if self.asks_as_a_whole() {
            return None;
        }
        let required: Vec<&str> = required.iter().copied().filter(|name| REQUIRED.contains(name)).collect();
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in self.all() {
            let said = compute(&container.asks);
            for name in required.iter().copied().filter(|name| !said.contains_key(*name)) {
                missing.entry(name).or_default().insert(container.name);
            }
        }
        let texts: Vec<String> = missing
            .into_iter()
            .map(|(name, containers)| {
                format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
            })
            .collect();
        (!texts.is_empty()).then(|| format!("must specify {}", texts.join("; ")))
    }

    fn all(&self) -> impl Iterator<Item = &Container<'_>> {
        self.containers.iter().chain(&self.init_containers)
    }

    fn asks_as_a_whole(&self) -> bool {
        self.own.requests.keys().chain(self.own.limits.keys()).any(|name| is_of_whole_pods(name))
    }

    fn is_best_effort(&self) -> bool {
        if !self.qos_class.is_empty() {
            return self.qos_class == "BestEffort";
        }
        let asks = |resources: &Resources| {
            let mut amounts = resources.requests.iter().chain(&resources.limits);
            amounts.any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.sign().is_gt())
        };
        match self.asks_as_a_whole() {
            true => !asks(&self.own),
            false => !self.all().any(|container| asks(&container.asks)),
        }
    }

    /// What the spec asks for, or more where the node has granted more, or still gives it.
    fn requests(&self) -> Amounts {
        let asked = self.peak(|container| Some(&container.asks.requests));
        let granted =
            self.peak(|container| container.granted.as_ref().or(self.feasible(&container.asks.requests)));
        let given = self.peak(|container| {
            let known = container.actual_requests.as_ref().or(container.granted.as_ref());
            known.or(self.feasible(&container.asks.requests))
        });
        let mut requests = self.most(asked, &[granted, given]);
        requests.extend(of_whole_pods(&self.own.requests));
        add(&mut requests, &self.overhead);
        requests
    }

    fn limits(&self) -> Amounts {
        let asked = self.peak(|container| Some(&container.asks.limits));
        let given =
            self.peak(|container| container.actual_limits.as_ref().or(self.feasible(&container.asks.limits)));
        let mut limits = self.most(asked, &[given]);
        limits.extend(of_whole_pods(&self.own.limits));
        // The overhead counts only where there is a limit to add it to.
        for (name, amount) in &self.overhead {
            if let Some(limit) = limits.get_mut(name).filter(|limit| !limit.is_zero()) {
                *limit = limit.add(amount);
            }
        }
        limits
    }

    /// What the spec asks for, if the node may come to give it.
    fn feasible<'p>(&self, asked: &'p Amounts) -> Option<&'p Amounts> {
        (!self.resize_is_infeasible).then_some(asked)
    }

    fn most(&self, asked: Amounts, known: &[Amounts]) -> Amounts {
        let mut most = if self.resize_is_infeasible { Amounts::new() } else { asked };
        known.iter().for_each(|known| raise(&mut most, known));
        most
    }

    /// The containers and sidecars together, or an init container beside the sidecars before it, whichever is more.
    fn peak<'p>(&'p self, of: impl Fn(&'p Container<'a>) -> Option<&'p Amounts>) -> Amounts {
        let mut running = Amounts::new();
        for amounts in self.containers.iter().filter_map(&of) {
            add(&mut running, amounts);
        }
        let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
        for container in &self.init_containers {
            let mut own = of(container).cloned().unwrap_or_default();
            if container.is_sidecar {
                add(&mut running, &own);
                add(&mut sidecars, &own);
                own.clone_from(&sidecars);
            } else {
                add(&mut own, &sidecars);
            }
            raise(&mut peak, &own);
        }
        raise(&mut running, &peak);
        running
    }
}

fn of_whole_pods(amounts: &Amounts) -> impl Iterator<Item = (String, Quantity)> {
    let whole = amounts.iter().filter(|(name, _)| is_of_whole_pods(name));
    whole.map(|(name, amount)| (name.clone(), *amount))
}
