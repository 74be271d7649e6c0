//! Reads what quotas ask about out of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Status, Tree};
use jiff::Timestamp;
use machinery::Quantity;
use machinery::quota::{
    Amounts, Classes, Container, DeviceClaim, Facts, MOST_DEVICES, Measure, Pod, Request, Resources, Service,
    ServiceKind, VolumeClaim,
};
use registry::tree::{entries, get, has, int, list, number, text};

use crate::Services;

const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// A claim that was made for the extended resources of a pod.
const OF_EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";

pub(super) fn of<'t>(measure: &Measure, object: &'t Tree) -> Facts<'t> {
    match measure {
        Measure::Pods => Facts::Pod(pod(object)),
        Measure::Services => Facts::Service(service(object)),
        Measure::VolumeClaims => Facts::VolumeClaim(volume_claim(object)),
        Measure::DeviceClaims => Facts::DeviceClaim(device_claim(object)),
        Measure::Number { .. } => Facts::Other,
    }
}

pub(super) fn has_deadline(pod: &Tree) -> bool {
    int(pod, "spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

pub(super) fn amounts(owner: &Tree, path: &str) -> Amounts {
    let amount = |(name, value): (&str, &Tree)| Some((name.to_owned(), Quantity::from_tree(value).ok()?));
    entries(owner, path).filter_map(amount).collect()
}

fn amounts_if_given(owner: &Tree, path: &str) -> Option<Amounts> {
    has(owner, path).then(|| amounts(owner, path))
}

fn resources(owner: &Tree) -> Resources {
    Resources { requests: amounts(owner, "resources.requests"), limits: amounts(owner, "resources.limits") }
}

fn pod(pod: &Tree) -> Pod<'_> {
    let statuses: BTreeMap<&str, &Tree> = ["status.initContainerStatuses", "status.containerStatuses"]
        .into_iter()
        .flat_map(|field| list(pod, field))
        .map(|status| (text(status, "name"), status))
        .collect();
    let containers = |field: &str| {
        let read = |container| {
            let name = text(container, "name");
            let status = statuses.get(name).copied().unwrap_or(&Tree::Null);
            Container {
                name,
                is_sidecar: text(container, "restartPolicy") == "Always",
                asks: resources(container),
                granted: amounts_if_given(status, "allocatedResources"),
                actual_requests: amounts_if_given(status, "resources.requests"),
                actual_limits: amounts_if_given(status, "resources.limits"),
            }
        };
        list(pod, field).iter().map(read).collect()
    };
    let pending = list(pod, "status.conditions").iter().find(|one| text(one, "type") == "PodResizePending");
    Pod {
        containers: containers("spec.containers"),
        init_containers: containers("spec.initContainers"),
        own: resources(get(pod, "spec")),
        overhead: amounts(pod, "spec.overhead"),
        qos_class: text(pod, "status.qosClass"),
        priority_class: text(pod, "spec.priorityClassName"),
        is_terminating: has_deadline(pod),
        crosses_namespaces: crosses_namespaces(pod),
        is_over: is_over(pod),
        resize_is_infeasible: pending.is_some_and(|pending| text(pending, "reason") == "Infeasible"),
    }
}

fn is_over(pod: &Tree) -> bool {
    if matches!(text(pod, "status.phase"), "Failed" | "Succeeded") {
        return true;
    }
    let deleted: Option<Timestamp> = text(pod, "metadata.deletionTimestamp").parse().ok();
    let grace = int(pod, "metadata.deletionGracePeriodSeconds");
    let due = deleted.zip(grace).map(|(deleted, grace)| deleted.as_second() + grace);
    due.is_some_and(|due| due < Timestamp::now().as_second())
}

fn crosses_namespaces(pod: &Tree) -> bool {
    let crosses = |term: &Tree| !list(term, "namespaces").is_empty() || has(term, "namespaceSelector");
    ["spec.affinity.podAffinity", "spec.affinity.podAntiAffinity"].into_iter().any(|field| {
        let rules = get(pod, field);
        let preferred = list(rules, "preferredDuringSchedulingIgnoredDuringExecution");
        list(rules, "requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || preferred.iter().any(|weighted| crosses(get(weighted, "podAffinityTerm")))
    })
}

fn service(service: &Tree) -> Service {
    let ports = list(service, "spec.ports");
    Service {
        ports: ports.len(),
        ports_with_node_port: ports.iter().filter(|port| number(port, "nodePort") != 0).count(),
        kind: ServiceKind::of(
            text(service, "spec.type"),
            get(service, "spec.allocateLoadBalancerNodePorts").as_bool(),
        ),
    }
}

fn volume_claim(claim: &Tree) -> VolumeClaim<'_> {
    let annotated = get(claim, "metadata.annotations").get(STORAGE_CLASS).and_then(Tree::as_str);
    let classes = [
        text(claim, "spec.volumeAttributesClassName"),
        text(claim, "status.currentVolumeAttributesClassName"),
        text(claim, "status.modifyVolumeStatus.targetVolumeAttributesClassName"),
    ];
    let storage = |path: &str| amounts(claim, path).remove("storage");
    VolumeClaim {
        storage_class: annotated.unwrap_or(text(claim, "spec.storageClassName")),
        attributes_classes: classes.into_iter().filter(|class| !class.is_empty()).collect(),
        requested: storage("spec.resources.requests"),
        allocated: storage("status.allocatedResources"),
    }
}

fn device_claim(claim: &Tree) -> DeviceClaim<'_> {
    fn alternative(request: &Tree) -> (&str, i64) {
        let count = match text(request, "allocationMode") {
            "ExactCount" => number(request, "count"),
            "All" => MOST_DEVICES,
            _ => 0,
        };
        (text(request, "deviceClassName"), count)
    }
    fn alternatives(request: &Tree) -> Request<'_> {
        match list(request, "firstAvailable") {
            [] if has(request, "exactly") => vec![alternative(get(request, "exactly"))],
            subrequests => subrequests.iter().map(alternative).collect(),
        }
    }
    let requests = list(claim, "spec.devices.requests").iter().map(alternatives).collect();
    DeviceClaim { requests, charged_to_pod: Amounts::new() }
}

/// What the pod is charged with for which a claim was made: the claim's devices are its extended resources.
pub(super) fn charged_to_pod(services: &Arc<dyn Services>, claim: &Tree, namespace: &str) -> Amounts {
    owner(services, claim, namespace).ok().flatten().unwrap_or_default()
}

fn owner(services: &Arc<dyn Services>, claim: &Tree, namespace: &str) -> Result<Option<Amounts>, Status> {
    if get(claim, "metadata.annotations").get(OF_EXTENDED).and_then(Tree::as_str) != Some("true") {
        return Ok(None);
    }
    let Some(controller) = controlling_pod(claim) else { return Ok(None) };
    let Some(found) = services.get("", "pods", namespace, text(controller, "name"))? else {
        return Ok(None);
    };
    let (uid, name) = (text(controller, "uid"), text(claim, "metadata.name"));
    if text(&found, "metadata.uid") != uid {
        return Ok(None);
    }
    let is_charged = if has(&found, "status.extendedResourceClaimStatus") {
        text(&found, "status.extendedResourceClaimStatus.resourceClaimName") == name
    } else {
        // only the first of several
        let order = |claim: &Tree| {
            let created = text(claim, "metadata.creationTimestamp").to_owned();
            (created, text(claim, "metadata.name").to_owned())
        };
        let others = services.list("resource.k8s.io", "resourceclaims", namespace)?;
        let is_owned = |other: &Tree| {
            get(other, "metadata.annotations").get(OF_EXTENDED).and_then(Tree::as_str) == Some("true")
                && controlling_pod(other).is_some_and(|controller| text(controller, "uid") == uid)
        };
        !others.iter().any(|other| is_owned(other) && order(other) < order(claim))
    };
    Ok(is_charged.then(|| Measure::Pods.usage(&Facts::Pod(pod(&found)), &())))
}

fn controlling_pod(claim: &Tree) -> Option<&Tree> {
    let owners = list(claim, "metadata.ownerReferences").iter();
    let controller = owners.into_iter().find(|owner| get(owner, "controller").as_bool() == Some(true))?;
    (text(controller, "kind") == "Pod" && text(controller, "apiVersion") == "v1").then_some(controller)
}

/// The extended resources of device classes, as they are now.
#[derive(Clone, Debug, Default)]
pub(super) struct DeviceClasses {
    by_class: BTreeMap<String, String>,
    names: Vec<String>,
}

impl DeviceClasses {
    pub(super) fn read(services: &Arc<dyn Services>) -> Result<DeviceClasses, Status> {
        let mut classes = DeviceClasses::default();
        for class in services.list("resource.k8s.io", "deviceclasses", "")? {
            let name = text(&class, "metadata.name").to_owned();
            classes.names.push(format!("deviceclass.resource.kubernetes.io/{name}"));
            let resource = text(&class, "spec.extendedResourceName");
            if !resource.is_empty() {
                classes.by_class.insert(name, resource.to_owned());
            }
        }
        Ok(classes)
    }
}

impl Classes for DeviceClasses {
    fn resource_of(&self, class: &str) -> Option<String> {
        self.by_class.get(class).cloned()
    }

    fn is_extended(&self, resource: &str) -> bool {
        self.names.iter().any(|name| name == resource) || self.by_class.values().any(|own| own == resource)
    }
}
