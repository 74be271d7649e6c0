//! Connection tracking: UDP flows that must not go on to an endpoint that is gone, and the kernel's limits.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use packetfilter::Flow;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::Conntrack;
use crate::model::{Forward, Protocol, Target};

/// Addresses and node ports of UDP Services that were removed or changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Former {
    addresses: FxHashSet<SocketAddr>,
    node_ports: FxHashSet<u16>,
}

impl Former {
    pub fn add(&mut self, forward: &Forward) {
        self.addresses.extend(addresses(forward));
        self.node_ports.extend(node_port(forward));
    }
}

fn addresses(forward: &Forward) -> impl Iterator<Item = SocketAddr> {
    std::iter::once(&forward.cluster_ip)
        .chain(&forward.external_ips)
        .chain(&forward.load_balancer_ips)
        .map(|address| SocketAddr::new(*address, forward.port))
}

fn node_port(forward: &Forward) -> Option<u16> {
    (forward.node_port != 0).then_some(forward.node_port)
}

/// Current and former addresses and node ports of UDP Services, with the endpoints to which their flows may continue.
///
/// UDP has no end that the kernel could see, so a client that keeps its port stays with its old endpoint, or with the
/// Service's own address where there was none. Flows of a Service that go anywhere but to an endpoint that serves are
/// to be forgotten; those that go to one are left alone, whatever else changed, and so outlive a restart of the proxy.
#[derive(Default)]
pub struct Frontends<'a> {
    addresses: FxHashMap<SocketAddr, Vec<&'a BTreeSet<Target>>>,
    node_ports: FxHashMap<u16, Vec<&'a BTreeSet<Target>>>,
    node_networks: &'a [IpNet],
}

impl<'a> Frontends<'a> {
    /// Frontends of one family, from current forwards and recent former ones. The node's addresses in `node_networks` have node ports.
    pub fn new(
        forwards: impl Iterator<Item = &'a Forward>,
        former: &Former,
        node_networks: &'a [IpNet],
    ) -> Frontends<'a> {
        let mut frontends = Frontends { node_networks, ..Frontends::default() };
        for forward in forwards.filter(|forward| forward.protocol == Protocol::Udp) {
            // Services may share an external address: a flow may go to any of theirs.
            for address in addresses(forward) {
                frontends.addresses.entry(address).or_default().push(&forward.serving);
            }
            if let Some(port) = node_port(forward) {
                frontends.node_ports.entry(port).or_default().push(&forward.serving);
            }
        }
        for address in &former.addresses {
            frontends.addresses.entry(*address).or_default();
        }
        for port in &former.node_ports {
            frontends.node_ports.entry(*port).or_default();
        }
        frontends
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// `is_local` says which addresses are the node's.
    pub fn is_stale(&self, flow: &Flow, is_local: impl Fn(&IpAddr) -> bool) -> bool {
        let target = Target { address: flow.endpoint.ip(), port: flow.endpoint.port() };
        let destination = flow.destination.ip();
        let of_node = || {
            let serving = self.node_ports.get(&flow.destination.port())?;
            let within = self.node_networks.iter().any(|network| network.contains(&destination));
            (within && is_local(&destination)).then_some(serving)
        };
        self.addresses
            .get(&flow.destination)
            .or_else(of_node)
            .is_some_and(|serving| !serving.iter().any(|targets| targets.contains(&target)))
    }
}

/// Raises the kernel's limit of tracked connections, as far as it is lower. Zero per core leaves it alone.
pub fn set_limits(limits: &Conntrack) {
    let count =
        |value: Option<i64>, default: u64| value.map_or(default, |value| u64::try_from(value).unwrap_or(0));
    let per_core = count(limits.max_per_core, 32768);
    if per_core == 0 {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = (per_core * cores as u64).max(count(limits.min, 131_072));
    let path = "/proc/sys/net/netfilter/nf_conntrack_max";
    let now =
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    if now < wanted
        && let Err(error) = std::fs::write(path, wanted.to_string())
    {
        tracing::warn!(%error, now, wanted, "the limit of tracked connections stays as it is");
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use packetfilter::Family;

    use super::*;
    use crate::model::tests::{http, place, service, slice};

    pub fn dns(targets: &[&str]) -> Forward {
        let mut spec = http();
        spec["ports"][0]["nodePort"] = json!(30053);
        let mut forward =
            crate::model::forwards(&service(spec), &[slice(json!([]))], Family::Ip, &place()).remove(0);
        forward.protocol = Protocol::Udp;
        forward.cluster =
            targets.iter().map(|address| Target { address: address.parse().unwrap(), port: 53 }).collect();
        forward.serving = forward.cluster.clone();
        forward
    }

    pub fn flow(destination: &str, endpoint: &str) -> Flow {
        Flow { destination: destination.parse().unwrap(), endpoint: endpoint.parse().unwrap() }
    }

    fn check(serving: &[&str], destination: &str, endpoint: &str, stale: bool) {
        let forwards = [dns(serving)];
        check_of(&forwards, &[], destination, endpoint, stale);
    }

    fn check_of(forwards: &[Forward], former: &[Forward], destination: &str, endpoint: &str, stale: bool) {
        let networks = ["192.0.2.0/24".parse().unwrap()];
        let mut gone = Former::default();
        former.iter().for_each(|forward| gone.add(forward));
        let own: IpAddr = "192.0.2.1".parse().unwrap();
        let frontends = Frontends::new(forwards.iter(), &gone, &networks);
        let flow = flow(destination, endpoint);
        assert_eq!(
            frontends.is_stale(&flow, |address| *address == own),
            stale,
            "{destination} at {endpoint}"
        );
    }

    #[test]
    fn flows_to_what_does_not_serve_are_stale() {
        let both = ["10.244.0.2", "10.244.0.3"];
        for destination in ["10.96.0.7:80", "192.0.2.1:30053"] {
            check(&both, destination, "10.244.0.2:53", false);
            check(&both[1..], destination, "10.244.0.2:53", true);
            check(&both, destination, "10.244.0.2:54", true);
            // Sent before there were endpoints, and after there are none.
            check(&both, destination, destination, true);
            check(&[], destination, "10.244.0.2:53", true);
        }
    }

    #[test]
    fn flows_of_others_are_let_alone() {
        check(&[], "198.51.100.1:30053", "198.51.100.1:30053", false);
        check(&[], "192.0.2.9:30053", "192.0.2.9:30053", false);
        check(&[], "10.96.0.7:81", "10.244.0.2:53", false);
    }

    #[test]
    fn flows_of_what_is_forwarded_no_more_are_stale() {
        let endpoint = "10.244.0.2:53";
        for destination in ["10.96.0.7:80", "192.0.2.1:30053"] {
            check_of(&[], &[dns(&["10.244.0.2"])], destination, endpoint, true);
            // Another Service has the address now.
            check_of(&[dns(&["10.244.0.2"])], &[dns(&["10.244.0.3"])], destination, endpoint, false);
        }
    }

    #[test]
    fn an_endpoint_that_ends_keeps_its_flows_while_it_serves() {
        let mut spec = http();
        spec["ports"][0]["protocol"] = json!("UDP");
        let mut slice = (*slice(json!([
            {"addresses": ["10.244.0.2"]},
            {"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ])))
        .clone();
        slice.ports.as_mut().unwrap()[0].protocol = Some("UDP".into());
        let forwards =
            crate::model::forwards(&service(spec), &[std::sync::Arc::new(slice)], Family::Ip, &place());
        for (endpoint, stale) in
            [("10.244.0.2:8080", false), ("10.244.0.3:8080", false), ("10.244.0.4:8080", true)]
        {
            check_of(&forwards, &[], "10.96.0.7:80", endpoint, stale);
        }
    }
}
