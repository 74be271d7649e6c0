//! From one [`Forward`] to its map elements and chains: pure.
//!
//! An element of a verdict map sends a Service's address to a chain that many Services share, by the number of their endpoints;
//! there a random number is drawn and appended to the address, and what another map has at that place is the endpoint. Only
//! what differs in more than numbers has chains of its own: session affinity, and the source ranges of load balancers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use packetfilter::{Family, Ruleset};
use sha2::{Digest as _, Sha256};

use crate::base::{
    self, CLUSTER_IPS, ENDPOINTS, FIREWALL_IPS, HAIRPIN_CONNECTIONS, MARK_FOR_MASQUERADE,
    NO_ENDPOINT_NODE_PORTS, NO_ENDPOINT_SERVICES, NODE_PORT_ENDPOINTS, REJECT, SERVICE_IPS,
    SERVICE_NODE_PORTS, Settings,
};
use crate::model::{Forward, Protocol, Target};

/// Local endpoints have numbers from here on, behind those for any node.
const FIRST_LOCAL: usize = 1 << 16;
/// What a name may have without its prefix, the longest of which is `external-endpoints-`'s. The kernel takes 255.
const LONGEST_NAME: usize = 230;

/// Whether other Services may use a chain, too: only a Service's own have its name, of which `/` is a part.
pub fn is_shared(chain: &str) -> bool {
    !chain.contains('/')
}

/// Adds the rules of one Service port.
pub fn add(rules: &mut Ruleset, forward: &Forward, settings: &Settings) {
    let names = Names::new(forward);
    let mut port = Port { rules, forward, settings, names: &names };
    port.rules.element(CLUSTER_IPS, forward.cluster_ip.to_string(), "");
    for target in &forward.local {
        let (address, protocol) = (target.address, forward.protocol);
        port.rules.element(
            HAIRPIN_CONNECTIONS,
            format!("{address} . {address} . {protocol} . {}", target.port),
            "",
        );
    }
    let cluster_ip = Frontend::Address(forward.cluster_ip);
    let internal = if forward.internal_local { Pool::Local } else { Pool::Cluster };
    if !port.targets(internal).is_empty() {
        let chain = port.balance(cluster_ip, internal);
        port.verdict(cluster_ip, &format!("goto {chain}"));
    } else if forward.has_no_endpoints() {
        port.no_endpoints(cluster_ip);
    } else {
        // Endpoints elsewhere, but none that may be used: the traffic is lost rather than refused, as upstream has it.
        port.rules.element(NO_ENDPOINT_SERVICES, cluster_ip.key(forward), "drop");
    }

    let balancers = forward.load_balancer_ips.iter().copied();
    let external = forward.external_ips.iter().copied().chain(balancers.clone()).map(Frontend::Address);
    let node_port = (forward.node_port != 0).then_some(Frontend::NodePort);
    for frontend in external.chain(node_port) {
        if forward.has_no_endpoints() {
            port.no_endpoints(frontend);
        } else {
            let chain = port.external(frontend);
            port.verdict(frontend, &format!("goto {chain}"));
        }
    }
    if let Some(ranges) = base::set(forward.source_ranges.iter()) {
        for balancer in balancers {
            let key = Frontend::Address(balancer).key(forward);
            port.rules.element(FIREWALL_IPS, key, format!("goto firewall-{}", names.base));
            port.rules.chain(
                format!("firewall-{}", names.base),
                [format!("{} saddr != {ranges} drop", settings.family)],
            );
        }
    }
}

/// Destination to which clients send.
#[derive(Clone, Copy)]
enum Frontend {
    Address(IpAddr),
    NodePort,
}

impl Frontend {
    /// Its key in the maps of all protocols.
    fn key(self, forward: &Forward) -> String {
        let Forward { protocol, port, node_port, .. } = forward;
        match self {
            Frontend::Address(address) => format!("{address} . {protocol} . {port}"),
            Frontend::NodePort => format!("{protocol} . {node_port}"),
        }
    }

    /// Its key in its endpoints' map.
    fn place(self, forward: &Forward) -> String {
        match self {
            Frontend::Address(address) => format!("{address} . {}", forward.port),
            Frontend::NodePort => forward.node_port.to_string(),
        }
    }

    /// The same of a packet.
    fn expression(self, family: Family, protocol: Protocol) -> String {
        match self {
            Frontend::Address(_) => format!("{family} daddr . {protocol} dport"),
            Frontend::NodePort => format!("{protocol} dport"),
        }
    }

    fn endpoints(self, protocol: Protocol) -> &'static str {
        let maps = if let Frontend::NodePort = self { NODE_PORT_ENDPOINTS } else { ENDPOINTS };
        let [(_, tcp), (_, udp), (_, sctp)] = maps;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
            Protocol::Sctp => sctp,
        }
    }
}

/// Where traffic may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    Cluster,
    Local,
}

struct Port<'a> {
    rules: &'a mut Ruleset,
    forward: &'a Forward,
    settings: &'a Settings,
    names: &'a Names,
}

impl<'a> Port<'a> {
    fn targets(&self, pool: Pool) -> &'a BTreeSet<Target> {
        match pool {
            Pool::Cluster => &self.forward.cluster,
            Pool::Local => &self.forward.local,
        }
    }

    fn verdict(&mut self, frontend: Frontend, verdict: &str) {
        let map = if let Frontend::NodePort = frontend { SERVICE_NODE_PORTS } else { SERVICE_IPS };
        self.rules.element(map, frontend.key(self.forward), verdict);
    }

    fn no_endpoints(&mut self, frontend: Frontend) {
        let map =
            if let Frontend::NodePort = frontend { NO_ENDPOINT_NODE_PORTS } else { NO_ENDPOINT_SERVICES };
        self.rules.element(map, frontend.key(self.forward), format!("goto {REJECT}"));
    }

    /// The chain that spreads what was sent to a frontend over the endpoints of a pool.
    fn balance(&mut self, frontend: Frontend, pool: Pool) -> String {
        let targets = self.targets(pool);
        if let Some(seconds) = self.forward.affinity {
            return self.balance_with_affinity(pool, seconds);
        }
        let protocol = self.forward.protocol;
        let (map, first) = (frontend.endpoints(protocol), if pool == Pool::Local { FIRST_LOCAL } else { 0 });
        let place = frontend.place(self.forward);
        for (number, target) in targets.iter().enumerate() {
            let number = first + number;
            self.rules.element(
                map,
                format!("{place} . {number}"),
                format!("{} . {}", target.address, target.port),
            );
        }
        let count = targets.len();
        let (chain, number) = match pool {
            Pool::Cluster => (format!("{map}-{count}"), format!("numgen random mod {count}")),
            Pool::Local => {
                (format!("local-{map}-{count}"), format!("numgen random mod {count} offset {FIRST_LOCAL}"))
            }
        };
        let family = self.settings.family;
        let place = frontend.expression(family, protocol);
        self.rules
            .chain(chain.clone(), [format!("dnat {family} addr . port to {place} . {number} map @{map}")]);
        chain
    }

    /// How traffic from outside goes on: masqueraded to any endpoint, or, with the Local policy, as it is to this node's own.
    fn external(&mut self, frontend: Frontend) -> String {
        let family = self.settings.family;
        if !self.forward.external_local {
            let pool = self.balance(frontend, Pool::Cluster);
            let chain = format!("external-{pool}");
            self.rules.chain(chain.clone(), [format!("jump {MARK_FOR_MASQUERADE}"), format!("goto {pool}")]);
            return chain;
        }
        let mut lines = Vec::new();
        if !self.forward.cluster.is_empty() {
            let cluster = self.balance(frontend, Pool::Cluster);
            // The policy does not apply to traffic from inside the cluster.
            if let Some(pods) = self.settings.pods() {
                lines.push(format!("{family} saddr {pods} goto {cluster}"));
            }
            lines.push(format!("fib saddr type local jump {MARK_FOR_MASQUERADE}"));
            lines.push(format!("fib saddr type local goto {cluster}"));
        }
        if self.forward.local.is_empty() {
            lines.push("drop".to_owned());
        } else {
            lines.push(format!("goto {}", self.balance(frontend, Pool::Local)));
        }
        let chain = match self.forward.affinity {
            Some(_) => format!("external-{}", self.names.base),
            None => {
                let (cluster, local) = (self.forward.cluster.len(), self.forward.local.len());
                format!("external-local-{}-{cluster}-{local}", frontend.endpoints(self.forward.protocol))
            }
        };
        self.rules.chain(chain.clone(), lines);
        chain
    }

    /// A chain of the Service's own, of endpoints with chains and sets of theirs: a set has the clients of its endpoint.
    fn balance_with_affinity(&mut self, pool: Pool, seconds: u32) -> String {
        let targets = self.targets(pool);
        let family = self.settings.family;
        let mut lines = Vec::new();
        for target in targets {
            let (set, endpoint) = (self.names.affinity(target, seconds), self.names.endpoint(target));
            lines.push(format!("{family} saddr @{set} goto {endpoint}"));
        }
        for (number, target) in targets.iter().enumerate() {
            let endpoint = self.names.endpoint(target);
            // A set of choices would be an anonymous one.
            lines.push(match targets.len() - number {
                1 => format!("goto {endpoint}"),
                left => format!("numgen random mod {left} 0 goto {endpoint}"),
            });
        }
        let base = &self.names.base;
        let chain = match pool {
            Pool::Cluster => format!("service-{base}"),
            Pool::Local => format!("local-{base}"),
        };
        self.rules.chain(chain.clone(), lines);
        for target in targets {
            let set = self.names.affinity(target, seconds);
            let address = match family {
                Family::Ip => format!("{}:{}", target.address, target.port),
                Family::Ip6 => format!("[{}]:{}", target.address, target.port),
            };
            let lines = [
                format!("update @{set} {{ {family} saddr }}"),
                format!("meta l4proto {} dnat to {address}", self.forward.protocol),
            ];
            self.rules.chain(self.names.endpoint(target), lines);
            let address_type = self.settings.address_type();
            let definition = format!("{{ type {address_type}; flags dynamic,timeout; timeout {seconds}s; }}");
            self.rules.sets.insert(set, ("set", definition));
        }
        chain
    }
}

/// The names of a Service's own chains: a hash that keeps them apart, then words for whoever lists them.
struct Names {
    words: String,
    base: String,
}

impl Names {
    fn new(forward: &Forward) -> Names {
        let words =
            format!("{}/{}/{}/{}", forward.namespace, forward.name, forward.protocol, forward.port_name);
        Names { base: unique(&words), words }
    }

    fn endpoint(&self, target: &Target) -> String {
        format!("endpoint-{}", self.of(target))
    }

    fn affinity(&self, target: &Target, seconds: u32) -> String {
        format!("affinity-{seconds}-{}", self.of(target))
    }

    fn of(&self, target: &Target) -> String {
        // Colons end an identifier in nft.
        let target = format!("__{}/{}", target.address.to_string().replace(':', "."), target.port);
        let name = format!("{}{target}", self.base);
        if name.len() <= LONGEST_NAME { name } else { unique(&format!("{}{target}", self.words)) }
    }
}

/// The words behind a hash of theirs, cut where they are too long for a name.
fn unique(words: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash: String = Sha256::digest(words.as_bytes())
        .iter()
        .take(8)
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect();
    let mut name = format!("{hash}-{words}");
    if name.len() > LONGEST_NAME {
        let end = (0..=LONGEST_NAME - 3).rev().find(|index| name.is_char_boundary(*index)).unwrap_or(0);
        name.truncate(end);
        name.push_str("...");
    }
    name
}

#[cfg(test)]
mod tests;
