//! What a pod and its containers have of the node: as the runtime and the kernel say, or else as it was allocated.

use super::Input;
use crate::allocation::resources::quantity;
use crate::container_config::resources::{cpu_of_quota, cpu_of_shares};
use crate::qos;
use crate::runtime::{Container as Instance, State};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::quantity::Format;
use std::collections::BTreeMap;

pub(super) type Quantities = BTreeMap<String, Quantity>;

/// The kernel has no smaller share of processors, in thousandths of one.
const LEAST_REQUEST: i64 = 2;
const LEAST_LIMIT: i64 = 10;

fn cpu(milli: i64) -> Quantity {
    quantity(milli.into(), Format::DecimalSi)
}

fn bytes(bytes: i64) -> Quantity {
    quantity(i128::from(bytes) * 1000, Format::BinarySi)
}

fn amount(list: &Quantities, name: &str) -> i64 {
    qos::amount(Some(list), name).unwrap_or_default()
}

/// What a container has as the runtime says, and the kubelet where it does not. `None` is not known.
#[derive(Default)]
struct Actual {
    cpu_limit: Option<i64>,
    cpu_request: Option<i64>,
    memory_limit: Option<i64>,
    memory_request: Option<i64>,
}

impl Actual {
    fn of(input: &Input, instance: &Instance) -> Self {
        let size = input.actuated.filter(|it| it.container_resources.contains_key(&instance.name));
        let size = size.map(|it| it.size(&instance.name));
        let some = |value: i64| Some(value).filter(|value| *value > 0);
        let reported = instance.resources.as_ref().map(|it| Self {
            cpu_limit: some(cpu_of_quota(it.cpu_quota, it.cpu_period)),
            cpu_request: some(cpu_of_shares(it.cpu_shares)),
            memory_limit: some(it.memory_limit_in_bytes),
            memory_request: size.and_then(|size| some(size.memory_request)),
        });
        let says_something =
            |it: &Self| it.cpu_limit.is_some() || it.cpu_request.is_some() || it.memory_limit.is_some();
        let known = || {
            size.map(|size| Self {
                cpu_limit: Some(size.cpu_limit),
                cpu_request: Some(size.cpu_request),
                memory_limit: Some(size.memory_limit),
                memory_request: Some(size.memory_request),
            })
        };
        reported.filter(says_something).or_else(known).unwrap_or_default()
    }
}

/// A container's, by its newest instance. What is not known stays as it was reported of this instance.
pub(super) fn of_container(
    input: &Input,
    container: &Container,
    instance: &Instance,
    id: Option<&String>,
    old: Option<&ContainerStatus>,
) -> ResourceRequirements {
    let mut all = container.resources.clone().unwrap_or_default();
    if instance.state != State::Running {
        return all;
    }
    let actual = Actual::of(input, instance);
    let same = old.filter(|old| {
        old.container_id.as_ref() == id && old.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    let before = same.and_then(|old| old.resources.as_ref());
    let set = |list: &mut Quantities, name: &str, actual: Option<Quantity>, before: Option<&Quantities>| {
        if let Some(value) = actual.or_else(|| before?.get(name).cloned()) {
            list.insert(name.to_owned(), value);
        }
    };
    // What is below the least that there is stays as it was asked for.
    let visible = |actual: i64, list: &Quantities, least| actual > least || amount(list, "cpu") > least;
    if let Some(limits) = &mut all.limits {
        let before = before.and_then(|it| it.limits.as_ref());
        match actual.cpu_limit {
            Some(milli) if !visible(milli, limits, LEAST_LIMIT) => {}
            milli => set(limits, "cpu", milli.map(cpu), before),
        }
        set(limits, "memory", actual.memory_limit.map(bytes), before);
    }
    if let Some(requests) = &mut all.requests {
        let before = before.and_then(|it| it.requests.as_ref());
        match actual.cpu_request {
            Some(milli) if !visible(milli, requests, LEAST_REQUEST) => {}
            milli => set(requests, "cpu", milli.map(cpu), before),
        }
        set(requests, "memory", actual.memory_request.map(bytes), before);
    }
    all
}

/// Resources of the whole pod.
pub(super) fn total(pod: &Pod, of: fn(&ResourceRequirements) -> Option<&Quantities>) -> Quantities {
    let total = qos::pod_total(pod, of);
    let counted = total.into_iter().filter(|(_, value)| *value > 0);
    counted
        .map(|(name, value)| {
            let bytes =
                matches!(name.as_str(), "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            let format = if bytes { Format::BinarySi } else { Format::DecimalSi };
            let text = quantity(value, format);
            (name, text)
        })
        .collect()
}

/// Resources that a pod has as a whole: once it runs, what its own group has.
pub(super) fn of_pod(input: &Input, old: &PodStatus) -> ResourceRequirements {
    let whole = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    let some = |mut found: Quantities| {
        found.retain(|name, _| whole(name));
        (!found.is_empty()).then_some(found)
    };
    let mut requests = total(input.pod, |it| it.requests.as_ref());
    let mut limits = total(input.pod, |it| it.limits.as_ref());
    let runs = old.phase.as_deref() == Some("Running");
    if let Some(actual) = input.limits.filter(|_| runs) {
        let has = cpu_of_shares(actual.shares);
        let asked = amount(&requests, "cpu");
        let preserved = (has <= LEAST_REQUEST && asked <= LEAST_REQUEST) || is_rounded(asked, actual.shares);
        if !preserved {
            requests.insert("cpu".into(), cpu(has));
        }
        let milli = actual.quota.map(|quota| cpu_of_quota(quota, actual.period));
        if let Some(milli) = milli
            && (milli > LEAST_LIMIT || amount(&limits, "cpu") > LEAST_LIMIT)
        {
            limits.insert("cpu".into(), cpu(milli));
        }
        if let Some(memory) = actual.memory {
            limits.insert("memory".into(), bytes(memory));
        }
    }
    ResourceRequirements { requests: some(requests), limits: some(limits), ..Default::default() }
}

/// Whether shares are what is left of a request after they went through the coarser weights of cgroup version 2.
fn is_rounded(milli: i64, shares: i64) -> bool {
    let weight = 1 + (crate::container_config::resources::shares(milli) - 2) * 9999 / 262_142;
    (weight - 1) * 262_142 / 9999 + 2 == shares
}
