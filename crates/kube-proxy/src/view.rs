//! What kube-proxy reads of Services, EndpointSlices and its Node.

//!
//! Addresses and ranges are text here, and are read one by one where they are used: one that cannot be read costs no other
//! field its effect.

use std::net::{IpAddr, Ipv4Addr};

use api::k8s_openapi::api::core::v1 as core;
use api::k8s_openapi::api::discovery::v1::EndpointSlice;
use api::k8s_openapi::api::networking::v1::ServiceCIDR;
use client::{Metadata, View};
use ipnet::IpNet;
use packetfilter::Family;
use serde::{Deserialize, Deserializer};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Metadata,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
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
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    pub ports: Vec<ServicePort>,
    pub session_affinity: String,
    pub session_affinity_config: AffinityConfig,
    pub external_traffic_policy: String,
    pub internal_traffic_policy: String,
    pub load_balancer_source_ranges: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub port: u16,
    pub node_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AffinityConfig {
    #[serde(rename = "clientIP")]
    pub client_ip: ClientIp,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIp {
    pub timeout_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    pub load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    pub ingress: Vec<Ingress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress {
    pub ip: String,
    pub ip_mode: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slice {
    pub metadata: Metadata,
    pub address_type: String,
    pub endpoints: Option<Vec<Endpoint>>,
    pub ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// The first, which is the only one with a meaning; none where it is a name.
    #[serde(rename = "addresses", deserialize_with = "first_address")]
    pub address: Option<IpAddr>,
    pub conditions: Conditions,
    pub node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    pub metadata: Metadata,
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub address: String,
}

/// What cluster IPs are taken from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    pub metadata: Metadata,
    pub spec: ServiceCidrSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    pub cidrs: Vec<String>,
}

/// What the cluster autoscaler puts on a node that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

impl Node {
    /// Whether load balancers may go on sending to the node.
    pub fn is_eligible(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && !self.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED)
    }

    /// The node's own address of a family: an internal one before an external one.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        let of =
            |kind: &'static str| self.status.addresses.iter().filter(move |address| address.kind == kind);
        let mut addresses =
            of("InternalIP").chain(of("ExternalIP")).filter_map(|found| address(&found.address));
        addresses.find(|address| family.has(address))
    }
}

/// Reads an address as lenient as upstream: IPv4 may have leading zeros, which mean nothing.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let parts: Vec<u8> = text.split('.').map(decimal).collect::<Option<_>>()?;
        Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(parts).ok()?)))
    })
}

fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads a range, with blanks around it, as old objects have them. What is beyond the prefix is dropped.
pub fn range(text: &str) -> Option<IpNet> {
    let (start, prefix) = text.trim().split_once('/')?;
    Some(IpNet::new(address(start)?, decimal(prefix)?).ok()?.trunc())
}

fn first_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let addresses: Option<Vec<String>> = Deserialize::deserialize(deserializer)?;
    Ok(addresses.iter().flatten().next().and_then(|first| address(first)))
}

impl Slice {
    /// The name of the Service the slice is of.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get("kubernetes.io/service-name").map(String::as_str)
    }
}

impl View for Service {
    type Of = core::Service;
}

impl View for Slice {
    type Of = EndpointSlice;
}

impl View for ServiceCidr {
    type Of = ServiceCIDR;
}

impl View for Node {
    type Of = core::Node;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unreadable_address_affects_nothing_else() {
        let endpoint =
            |addresses| serde_json::from_value::<Endpoint>(json!({"addresses": addresses})).unwrap();
        for (addresses, expect) in [
            (json!(["10.0.0.1"]), Some("10.0.0.1")),
            (json!(["010.000.0.01"]), Some("10.0.0.1")),
            (json!(["fd00::1", "fd00::2"]), Some("fd00::1")),
            (json!(["db.example.com"]), None),
            (json!([""]), None),
            (json!([]), None),
            (json!(null), None),
        ] {
            assert_eq!(
                endpoint(addresses.clone()).address,
                expect.map(|text| text.parse().unwrap()),
                "{addresses}"
            );
        }
        for (text, expect) in [
            (" 10.1.2.3/8 ", Some("10.0.0.0/8")),
            ("010.0.0.0/8", Some("10.0.0.0/8")),
            ("fd00::/8\t", Some("fd00::/8")),
            ("10.0.0.0", None),
            ("10.0.0.0/33", None),
            ("", None),
        ] {
            assert_eq!(range(text), expect.map(|text| text.parse().unwrap()), "{text:?}");
        }
    }
}
