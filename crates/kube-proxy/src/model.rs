//! What has to be forwarded where, without a word of nftables: pure, one address family at a time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use packetfilter::Family;

use crate::view::{Service, Slice};

/// Seconds of session affinity where the Service names none.
const AFFINITY_SECONDS: u32 = 10800;

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub namespace: String,
    pub name: String,
    pub created: Option<jiff::Timestamp>,
    pub port_name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub port: u16,
    /// 0 for none.
    pub node_port: u16,
    pub cluster_ip: IpAddr,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client keeps its endpoint.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// Endpoints for traffic that may go to any node.
    pub cluster: BTreeSet<Target>,
    /// Endpoints of this node.
    pub local: BTreeSet<Target>,
    /// Of UDP, every endpoint that serves, whichever the policies let new traffic go to: flows there go on.
    pub serving: BTreeSet<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub address: IpAddr,
    pub port: u16,
}

impl Forward {
    /// Whether anything reaches it from outside the cluster.
    pub fn is_external(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    pub fn has_no_endpoints(&self) -> bool {
        self.cluster.is_empty() && self.local.is_empty()
    }
}

/// Whether an address is of the family.
pub fn is_of(family: Family, address: &IpAddr) -> bool {
    address.is_ipv4() == (family == Family::Ip)
}

/// Every port of a Service that kube-proxy forwards in this family: none for headless and external-name ones.
pub fn forwards(service: &Service, slices: &[impl AsRef<Slice>], family: Family, node: &str) -> Vec<Forward> {
    let spec = &service.spec;
    if spec.kind == "ExternalName" || spec.cluster_ip == "None" {
        return Vec::new();
    }
    let of_family = |address: &IpAddr| is_of(family, address);
    let mut cluster_ips =
        spec.cluster_ips.iter().chain(std::iter::once(&spec.cluster_ip)).filter_map(|ip| ip.parse().ok());
    let Some(cluster_ip) = cluster_ips.find(of_family) else { return Vec::new() };
    let ingress = service.status.load_balancer.ingress.iter();
    let load_balancer_ips: Vec<IpAddr> = ingress
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip)
        .filter(of_family)
        .collect();
    let affinity = (spec.session_affinity == "ClientIP")
        .then(|| spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(AFFINITY_SECONDS));
    let ports = spec.ports.iter().map(|port| {
        let protocol = if port.protocol.is_empty() { "TCP" } else { port.protocol.as_str() };
        let found = endpoints(slices, &port.name, protocol, family);
        let udp =
            found.iter().filter(|candidate| protocol == "UDP" && (candidate.ready || candidate.serving));
        let local: Vec<&Candidate> = found.iter().filter(|candidate| candidate.node == node).collect();
        Forward {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            created: service.metadata.creation_timestamp,
            port_name: port.name.clone(),
            protocol: protocol.to_lowercase(),
            port: port.port,
            node_port: port.node_port,
            cluster_ip,
            external_ips: spec.external_ips.iter().copied().filter(of_family).collect(),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .copied()
                .filter(|range| is_of(family, &range.addr()))
                .collect(),
            affinity,
            internal_local: spec.internal_traffic_policy == "Local",
            external_local: spec.external_traffic_policy == "Local",
            cluster: usable(&found.iter().collect::<Vec<_>>()),
            local: usable(&local),
            serving: udp.map(|candidate| candidate.target.clone()).collect(),
        }
    });
    ports.collect()
}

struct Candidate<'a> {
    target: Target,
    node: &'a str,
    ready: bool,
    serving: bool,
    terminating: bool,
}

fn endpoints<'a>(
    slices: &'a [impl AsRef<Slice>],
    port_name: &str,
    protocol: &str,
    family: Family,
) -> Vec<Candidate<'a>> {
    let address_type = if family == Family::Ip { "IPv4" } else { "IPv6" };
    let mut found = Vec::new();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| slice.address_type == address_type) {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| {
            port.name.as_deref().unwrap_or_default() == port_name
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
        });
        let Some(port) = port.and_then(|port| port.port) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(address) = endpoint.addresses.first().copied().filter(|address| is_of(family, address))
            else {
                continue;
            };
            let ready = endpoint.conditions.ready.unwrap_or(true);
            found.push(Candidate {
                target: Target { address, port },
                node: endpoint.node_name.as_deref().unwrap_or_default(),
                ready,
                serving: endpoint.conditions.serving.unwrap_or(ready),
                terminating: endpoint.conditions.terminating.unwrap_or(false),
            });
        }
    }
    found
}

/// Ready endpoints, or, where there are none, those that end but still serve (KEP-1669).
fn usable(candidates: &[&Candidate<'_>]) -> BTreeSet<Target> {
    let of = |keep: fn(&Candidate<'_>) -> bool| -> BTreeSet<Target> {
        candidates
            .iter()
            .filter(|candidate| keep(candidate))
            .map(|candidate| candidate.target.clone())
            .collect()
    };
    let ready = of(|candidate| candidate.ready);
    if ready.is_empty() { of(|candidate| candidate.serving && candidate.terminating) } else { ready }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    pub fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}))
            .unwrap()
    }

    pub fn slice(endpoints: Value) -> Arc<Slice> {
        let value = json!({
            "metadata": {"name": "web-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    pub fn http() -> Value {
        json!({"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
               "ports": [{"name": "http", "protocol": "TCP", "port": 80}]})
    }

    fn addresses(targets: &BTreeSet<Target>) -> Vec<String> {
        targets.iter().map(|target| format!("{}:{}", target.address, target.port)).collect()
    }

    fn check(endpoints: Value, cluster: &[&str], local: &[&str]) {
        let forwards = forwards(&service(http()), &[slice(endpoints)], Family::Ip, "node-1");
        assert_eq!(addresses(&forwards[0].cluster), cluster);
        assert_eq!(addresses(&forwards[0].local), local);
    }

    #[test]
    fn ready_endpoints_are_taken() {
        check(
            json!([
                {"addresses": ["10.244.0.2"], "nodeName": "node-1", "conditions": {"ready": true}},
                {"addresses": ["10.244.1.2"], "nodeName": "node-2"},
                {"addresses": ["10.244.1.3"], "nodeName": "node-2", "conditions": {"ready": false}},
            ]),
            &["10.244.0.2:8080", "10.244.1.2:8080"],
            &["10.244.0.2:8080"],
        );
    }

    #[test]
    fn serving_endpoints_that_end_are_the_last_resort() {
        check(
            json!([
                {"addresses": ["10.244.0.2"], "nodeName": "node-1",
                 "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.244.1.2"], "nodeName": "node-2", "conditions": {"ready": true}},
            ]),
            &["10.244.1.2:8080"],
            &["10.244.0.2:8080"],
        );
    }

    #[test]
    fn headless_and_external_names_are_not_forwarded() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "x"}),
        ] {
            assert!(forwards(&service(spec), &[slice(json!([]))], Family::Ip, "n").is_empty());
        }
        assert!(
            forwards(&service(http()), &[slice(json!([]))], Family::Ip6, "n").is_empty(),
            "no address of the family"
        );
    }
}
