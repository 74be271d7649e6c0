//! Environment variables by which a container finds services without DNS.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

/// Variables of the services that are visible to a pod in `namespace`: those of its own namespace where `links` is
/// set, and always the API server's.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut visible: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let own = service.metadata.namespace.as_deref() == Some(namespace);
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let master = service.metadata.namespace.as_deref() == Some("default") && name == "kubernetes";
        if address(service).is_none() {
            continue;
        }
        if own && (links || master) {
            visible.insert(name, service);
        } else if master {
            visible.entry(name).or_insert(service);
        }
    }
    visible.into_iter().flat_map(|(name, service)| of(name, service)).collect()
}

fn address(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn of(name: &str, service: &Service) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let (Some(address), Some(first)) = (address(service), ports.first()) else { return variables };
    let name = upper(name);
    let mut set = |suffix: String, value: String| variables.push((format!("{name}_{suffix}"), value));
    set("SERVICE_HOST".into(), address.into());
    set("SERVICE_PORT".into(), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(format!("SERVICE_PORT_{}", upper(name)), port.port.to_string());
        }
    }
    let bracketed = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = port.port;
        let url = format!("{}://{bracketed}:{number}", protocol.to_lowercase());
        if index == 0 {
            set("PORT".into(), url.clone());
        }
        let prefix = format!("PORT_{number}_{}", protocol.to_uppercase());
        set(prefix.clone(), url);
        set(format!("{prefix}_PROTO"), protocol.to_lowercase());
        set(format!("{prefix}_PORT"), number.to_string());
        set(format!("{prefix}_ADDR"), address.into());
    }
    variables
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}
