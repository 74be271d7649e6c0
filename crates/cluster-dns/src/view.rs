//! What the server reads of Services and EndpointSlices.

use std::net::IpAddr;

use api::k8s_openapi::api::core::v1::{Namespace as CoreNamespace, Service as CoreService};
use api::k8s_openapi::api::discovery::v1::EndpointSlice;
use client::{Metadata, View};
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Metadata,
    pub spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    pub external_name: String,
    pub publish_not_ready_addresses: bool,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

impl Port {
    /// Whether the labels `_name._protocol` of an SRV query name this port.
    pub fn is(&self, name: &str, protocol: &str) -> bool {
        self.name.as_deref().unwrap_or_default().eq_ignore_ascii_case(name)
            && self.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    }
}

impl Service {
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    pub fn is_external(&self) -> bool {
        self.spec.kind == "ExternalName"
    }

    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> =
            self.spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(self.spec.cluster_ip.parse::<IpAddr>());
        }
        addresses
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Slice {
    pub metadata: Metadata,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    pub hostname: Option<String>,
    pub conditions: Conditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
}

impl Endpoint {
    /// Unknown counts as ready, as the API says.
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }

    /// The label under which an address of this endpoint is found: its host name, else the address with dashes.
    pub fn label(&self, address: IpAddr) -> String {
        match &self.hostname {
            Some(hostname) if !hostname.is_empty() => hostname.clone(),
            // No label ends with a dash.
            _ => match address.to_string().replace(['.', ':'], "-") {
                label if label.ends_with('-') => label + "0",
                label => label,
            },
        }
    }
}

/// A namespace exists or not; that is all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: Metadata,
}

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Slice {
    /// `namespace/name` of the Service the slice is of.
    pub fn service(&self) -> Option<String> {
        let name = self.metadata.labels.get(SERVICE_NAME)?;
        Some(format!("{}/{name}", self.metadata.namespace))
    }
}

impl View for Service {
    type Of = CoreService;
}

impl View for Namespace {
    type Of = CoreNamespace;
    const METADATA_ONLY: bool = true;
}

impl View for Slice {
    type Of = EndpointSlice;
}
