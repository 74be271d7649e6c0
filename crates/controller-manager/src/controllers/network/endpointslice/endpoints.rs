//! One pod as an endpoint of one service.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use controllers::views::{
    Endpoint, EndpointConditions, EndpointPort, ObjectRefShort, Pod, Service, ServicePort,
};

/// Whether anything changed that an endpoint shows.
pub(in crate::controllers) fn differ(old: &Pod, new: &Pod) -> bool {
    old.is_ready() != new.is_ready()
        || old.is_terminal() != new.is_terminal()
        || old.metadata.is_deleting() != new.metadata.is_deleting()
        || old.metadata.name != new.metadata.name
        || old.spec.node_name != new.spec.node_name
        || old.spec.hostname != new.spec.hostname
        || old.spec.subdomain != new.spec.subdomain
        || old.status.pod_ips != new.status.pod_ips
        || old.status.pod_ip != new.status.pod_ip
}

/// The pod's address of a family.
pub(in crate::controllers) fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    pod.addresses().find(|address| address.contains(':') == (family == "IPv6"))
}

/// The families a service has addresses of; an older object names none and means that of its address.
pub(in crate::controllers) fn families(service: &Service) -> Vec<String> {
    if !service.spec.ip_families.is_empty() {
        return service.spec.ip_families.clone();
    }
    let family = if service.spec.cluster_ip.contains(':') { "IPv6" } else { "IPv4" };
    vec![family.to_owned()]
}

pub(in crate::controllers) fn headless(service: &Service) -> bool {
    service.spec.cluster_ip == "None"
}

/// The ports of a pod by which it answers for a service. A port whose name the pod does not have is left out.
pub(in crate::controllers) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let port = |wanted: &ServicePort| {
        Some(EndpointPort {
            name: wanted.name.clone(),
            protocol: wanted.protocol.clone(),
            port: target(wanted, pod)?,
            app_protocol: wanted.app_protocol.clone(),
        })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

fn target(wanted: &ServicePort, pod: &Pod) -> Option<i32> {
    match &wanted.target_port {
        None => Some(wanted.port),
        Some(IntOrString::Int(0)) => Some(wanted.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let sidecars =
                pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
            let mut ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
            let found = ports.find(|port| port.name == *name && port.protocol == wanted.protocol);
            found.map(|port| port.container_port)
        }
    }
}

/// The pods to publish, and why others that have addresses are not: a pod may name a node that is gone.
pub(super) fn published(
    service: &Service,
    pods: Vec<Arc<Pod>>,
    has_node: impl Fn(&str) -> bool,
) -> (Vec<Arc<Pod>>, Vec<String>) {
    let (published, skipped): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let concerned = !pod.is_terminal() && pod.addresses().next().is_some();
        !concerned || service.spec.publish_not_ready_addresses || has_node(&pod.spec.node_name)
    });
    let complaint = |pod: Arc<Pod>| {
        let (name, key, node) = (&pod.metadata.name, service.metadata.key(), &pod.spec.node_name);
        format!("skipping Pod {name} for Service {key}: Node {node} Not Found")
    };
    (published, skipped.into_iter().map(complaint).collect())
}

pub(super) fn endpoint(
    service: &Service,
    pod: &Pod,
    address: &str,
    zone: &dyn Fn(&str) -> Option<String>,
) -> Endpoint {
    let serving = pod.is_ready();
    let terminating = pod.metadata.is_deleting();
    let node = &pod.spec.node_name;
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name;
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: EndpointConditions {
            ready: Some(service.spec.publish_not_ready_addresses || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        },
        hostname: named.then(|| pod.spec.hostname.to_string()),
        target_ref: Some(reference(pod)),
        node_name: (!node.is_empty()).then(|| node.to_string()),
        zone: if node.is_empty() { None } else { zone(node) },
        ..Default::default()
    }
}

pub(in crate::controllers) fn reference(pod: &Pod) -> ObjectRefShort {
    ObjectRefShort {
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    }
}
