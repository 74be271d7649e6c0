//! Reads what quotas ask about out of the cached objects.

use client::Text;
use controllers::views::{
    self, ContainerStatus, DeviceClass, PersistentVolumeClaim, Pod, Quantities, ResourceClaim, ResourceQuota,
    Service, Subrequest,
};
use jiff::Timestamp;
use machinery::Quantity;
use machinery::quota::{
    self, Amounts, Classes, Container, DeviceClaim, Facts, MOST_DEVICES, Measure, Resources, Scope,
    ServiceKind, VolumeClaim,
};
use rustc_hash::FxHashMap;

/// A claim that was made for the extended resources of a pod.
const OF_EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// All of a quota's scopes, which an object has to be in.
pub(super) fn scopes(quota: &ResourceQuota) -> Vec<Scope<'_>> {
    let plain = quota.spec.scopes.iter().map(|name| Scope::named(name));
    let selected =
        quota.spec.scope_selector.match_expressions.iter().map(|expression| {
            Scope::of_texts(&expression.scope_name, &expression.operator, &expression.values)
        });
    plain.chain(selected).collect()
}

pub(super) fn read(amounts: &Quantities) -> Amounts {
    let amount = |(name, text): (&Text, &Text)| Some((name.to_string(), Quantity::parse(text).ok()?));
    amounts.iter().filter_map(amount).collect()
}

fn resources(resources: &views::Resources) -> Resources {
    Resources { requests: read(&resources.requests), limits: read(&resources.limits) }
}

pub(super) fn pod(pod: &Pod, now: Timestamp) -> Facts<'_> {
    let statuses: FxHashMap<&str, &ContainerStatus> = (pod.status.init_container_statuses.iter())
        .chain(&pod.status.container_statuses)
        .map(|status| (status.name.as_str(), status))
        .collect();
    let read_container = |container| of_container(container, &statuses);
    let pending = pod.condition("PodResizePending");
    Facts::Pod(quota::Pod {
        containers: pod.spec.containers.iter().map(read_container).collect(),
        init_containers: pod.spec.init_containers.iter().map(read_container).collect(),
        own: resources(&pod.spec.resources),
        overhead: read(&pod.spec.overhead),
        qos_class: &pod.status.qos_class,
        priority_class: &pod.spec.priority_class_name,
        is_terminating: pod.spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0),
        crosses_namespaces: crosses_namespaces(pod),
        is_over: is_over(pod, now),
        resize_is_infeasible: pending.is_some_and(|pending| pending.reason == "Infeasible"),
    })
}

fn of_container<'v>(
    container: &'v views::Container,
    statuses: &FxHashMap<&str, &ContainerStatus>,
) -> Container<'v> {
    let status = statuses.get(container.name.as_str());
    let actual = status.and_then(|status| status.resources.as_deref());
    let granted = status.and_then(|status| status.allocated_resources.as_deref());
    Container {
        name: &container.name,
        is_sidecar: container.restart_policy == "Always",
        asks: resources(&container.resources),
        granted: granted.map(read),
        actual_requests: actual.and_then(|actual| actual.requests.as_ref()).map(read),
        actual_limits: actual.and_then(|actual| actual.limits.as_ref()).map(read),
    }
}

/// Ran to its end, or should have gone long ago.
fn is_over(pod: &Pod, now: Timestamp) -> bool {
    let meta = &pod.metadata;
    let due = meta.deletion_timestamp.as_ref().zip(meta.deletion_grace_period_seconds);
    pod.is_terminal() || due.is_some_and(|(time, grace)| time.0.as_second() + grace < now.as_second())
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.affinity.as_ref();
    let terms = ["podAffinity", "podAntiAffinity"].iter().flat_map(|kind| {
        let rules = affinity.map(|affinity| &affinity[*kind]);
        let list = |name: &str| rules.and_then(|rules| rules[name].as_array()).into_iter().flatten();
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution");
        required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"])).collect::<Vec<_>>()
    });
    terms.into_iter().any(|term| {
        let named = term["namespaces"].as_array().is_some_and(|names| !names.is_empty());
        named || !term["namespaceSelector"].is_null()
    })
}

pub(super) fn service(service: &Service) -> Facts<'static> {
    let spec = &service.spec;
    Facts::Service(quota::Service {
        ports: spec.ports.len(),
        ports_with_node_port: spec.ports.iter().filter(|port| port.node_port != 0).count(),
        kind: ServiceKind::of(&spec.type_, spec.allocate_load_balancer_node_ports),
    })
}

pub(super) fn volume_claim(claim: &PersistentVolumeClaim) -> Facts<'_> {
    let class = claim.metadata.annotation(STORAGE_CLASS).or(claim.spec.storage_class_name.as_deref());
    let modified = claim.status.modify_volume_status.as_ref();
    let classes = [
        claim.spec.volume_attributes_class_name.as_deref(),
        claim.status.current_volume_attributes_class_name.as_deref(),
        modified.map(|modified| modified.target_volume_attributes_class_name.as_str()),
    ];
    let storage = |amounts: &Quantities| amounts.get("storage").and_then(|text| Quantity::parse(text).ok());
    Facts::VolumeClaim(VolumeClaim {
        storage_class: class.unwrap_or_default(),
        attributes_classes: classes.into_iter().flatten().filter(|class| !class.is_empty()).collect(),
        requested: storage(&claim.spec.resources.requests),
        allocated: storage(&claim.status.allocated_resources),
    })
}

/// `pods` are those of the claim's namespace.
pub(super) fn device_claim<'v>(
    claim: &'v ResourceClaim,
    pods: &[std::sync::Arc<Pod>],
    now: Timestamp,
) -> Facts<'v> {
    fn alternative(request: &Subrequest) -> (&str, i64) {
        let count = match request.allocation_mode.as_str() {
            "ExactCount" => request.count,
            "All" => MOST_DEVICES,
            _ => 0,
        };
        (&request.device_class_name, count)
    }
    let requests = claim.spec.devices.requests.iter().map(|request| match &request.exactly {
        Some(exactly) if request.first_available.is_empty() => vec![alternative(exactly)],
        _ => request.first_available.iter().map(alternative).collect(),
    });
    let charged = claim.metadata.annotation(OF_EXTENDED) == Some("true");
    let owner = claim.owner().filter(|_| charged);
    let charged = owner.and_then(|owner| pods.iter().find(|pod| pod.metadata.uid == owner.uid));
    Facts::DeviceClaim(DeviceClaim {
        requests: requests.collect(),
        charged_to_pod: charged
            .map(|charged| Measure::Pods.usage(&pod(charged, now), &()))
            .unwrap_or_default(),
    })
}

/// The extended resources of device classes.
pub(super) struct DeviceClasses<'v>(pub &'v [std::sync::Arc<DeviceClass>]);

impl Classes for DeviceClasses<'_> {
    fn resource_of(&self, class: &str) -> Option<String> {
        let found = self.0.iter().find(|own| own.metadata.name == class)?;
        found.spec.extended_resource_name.clone().filter(|name| !name.is_empty())
    }

    fn is_extended(&self, resource: &str) -> bool {
        self.0.iter().any(|class| {
            let implicit = resource.strip_prefix("deviceclass.resource.kubernetes.io/");
            implicit == Some(class.metadata.name.as_str())
                || class.spec.extended_resource_name.as_deref() == Some(resource)
        })
    }
}
