//! What has to be forwarded where, without a word of nftables: pure, one address family at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use packetfilter::Family;

use crate::view::{self, Service, Slice};

/// Seconds of session affinity where the Service names none.
const AFFINITY_SECONDS: u32 = 10800;

/// Where the proxy runs: what makes endpoints local and source ranges those of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub node: String,
    /// The node's own addresses.
    pub addresses: Vec<IpAddr>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub namespace: String,
    pub name: String,
    pub created: Option<jiff::Timestamp>,
    pub port_name: String,
    pub protocol: Protocol,
    pub port: u16,
    /// 0 for none.
    pub node_port: u16,
    pub cluster_ip: IpAddr,
    pub external_ips: Vec<IpAddr>,
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; empty for anybody.
    pub source_ranges: Vec<IpNet>,
    /// Seconds for which a client keeps its endpoint.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    /// Endpoints for traffic that may go to any node: none only where none are local either.
    pub cluster: BTreeSet<Target>,
    /// Endpoints of this node.
    pub local: BTreeSet<Target>,
    /// For UDP, every endpoint that serves, even one that the policies give no new traffic: existing flows to it continue.
    pub serving: BTreeSet<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The protocol of this API name; an empty one is TCP.
    fn named(name: &str) -> Option<Protocol> {
        match name {
            "" | "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
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

/// Every port of a Service that kube-proxy forwards in this family: none for headless and external-name ones.
pub fn forwards(
    service: &Service,
    slices: &[impl AsRef<Slice>],
    family: Family,
    place: &Place,
) -> Vec<Forward> {
    let spec = &service.spec;
    if spec.kind == "ExternalName" || spec.cluster_ip == "None" {
        return Vec::new();
    }
    let mut cluster_ips =
        spec.cluster_ips.iter().chain(std::iter::once(&spec.cluster_ip)).filter_map(|ip| view::address(ip));
    let Some(cluster_ip) = cluster_ips.find(|address| family.has(address)) else { return Vec::new() };
    let addresses = |texts: &mut dyn Iterator<Item = &String>| -> Vec<IpAddr> {
        texts.filter_map(|text| view::address(text)).filter(|address| family.has(address)).collect()
    };
    let ingress = service.status.load_balancer.ingress.iter();
    let mut vips = ingress
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .map(|ingress| &ingress.ip);
    let load_balancer_ips = addresses(&mut vips);
    let source_ranges = source_ranges(spec, family, place, &load_balancer_ips);
    let external_ips = addresses(&mut spec.external_ips.iter());
    let affinity = (spec.session_affinity == "ClientIP")
        .then(|| spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(AFFINITY_SECONDS));
    let ports = spec.ports.iter().filter_map(|port| {
        let protocol = Protocol::named(&port.protocol)?;
        let found = endpoints(slices, &port.name, protocol, family);
        let udp = found.iter().filter(|(_, candidate)| protocol == Protocol::Udp && candidate.serving);
        let serving = udp.map(|(target, _)| target.clone()).collect();
        let local = usable(&found, |candidate| !place.node.is_empty() && candidate.node == place.node);
        Some(Forward {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            created: service.metadata.creation_timestamp,
            port_name: port.name.clone(),
            protocol,
            port: port.port,
            node_port: port.node_port,
            cluster_ip,
            external_ips: external_ips.clone(),
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            affinity,
            internal_local: spec.internal_traffic_policy == "Local",
            external_local: spec.external_traffic_policy == "Local",
            cluster: usable(&found, |_| true),
            local,
            serving,
        })
    });
    ports.collect()
}

/// The ranges of this family; none restrict where one of them is everything. Where the node may use the load balancer, its
/// address may too: it can be one of the node's own, which is then the source of what the node sends there.
fn source_ranges(
    spec: &view::ServiceSpec,
    family: Family,
    place: &Place,
    load_balancer_ips: &[IpAddr],
) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().filter_map(|text| view::range(text));
    let mut ranges: Vec<IpNet> = ranges.filter(|range| family.has(&range.addr())).collect();
    if ranges.iter().any(|range| range.prefix_len() == 0) {
        return Vec::new();
    }
    if ranges.iter().any(|range| place.addresses.iter().any(|address| range.contains(address))) {
        ranges.extend(load_balancer_ips.iter().copied().map(IpNet::from));
    }
    ranges
}

struct Candidate<'a> {
    node: &'a str,
    ready: bool,
    serving: bool,
    terminating: bool,
}

/// Endpoints by address and port. Of those that several slices have, or several pods, one that does not end counts.
fn endpoints<'a>(
    slices: &'a [impl AsRef<Slice>],
    port_name: &str,
    protocol: Protocol,
    family: Family,
) -> BTreeMap<Target, Candidate<'a>> {
    let address_type = if family == Family::Ip { "IPv4" } else { "IPv6" };
    let mut found: BTreeMap<Target, Candidate<'a>> = BTreeMap::new();
    for slice in slices.iter().map(AsRef::as_ref).filter(|slice| slice.address_type == address_type) {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| {
            port.name.as_deref().unwrap_or_default() == port_name
                && Protocol::named(port.protocol.as_deref().unwrap_or_default()) == Some(protocol)
        });
        let Some(port) = port.and_then(|port| port.port).filter(|port| *port != 0) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(address) = endpoint.address.filter(|address| family.has(address)) else { continue };
            let conditions = &endpoint.conditions;
            let candidate = Candidate {
                node: endpoint.node_name.as_deref().unwrap_or_default(),
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
            };
            match found.entry(Target { address, port }) {
                Entry::Vacant(entry) => {
                    entry.insert(candidate);
                }
                Entry::Occupied(mut entry) => {
                    let rank = |candidate: &Candidate<'_>| (!candidate.terminating, candidate.ready);
                    if rank(&candidate) > rank(entry.get()) {
                        entry.insert(candidate);
                    }
                }
            }
        }
    }
    found
}

/// Ready endpoints, or, where there are none, those that end but still serve (KEP-1669).
fn usable(
    candidates: &BTreeMap<Target, Candidate<'_>>,
    counts: impl Fn(&Candidate<'_>) -> bool,
) -> BTreeSet<Target> {
    let of = |keep: fn(&Candidate<'_>) -> bool| -> BTreeSet<Target> {
        candidates
            .iter()
            .filter(|(_, candidate)| counts(candidate) && keep(candidate))
            .map(|(target, _)| target.clone())
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

    pub fn place() -> Place {
        Place { node: "node-1".into(), addresses: vec!["192.0.2.10".parse().unwrap()] }
    }

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
        let forwards = forwards(&service(http()), &[slice(endpoints)], Family::Ip, &place());
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
            assert!(forwards(&service(spec), &[slice(json!([]))], Family::Ip, &place()).is_empty());
        }
        assert!(
            forwards(&service(http()), &[slice(json!([]))], Family::Ip6, &place()).is_empty(),
            "no address of the family"
        );
    }
}
