//! The part of the table that is the same whatever Services exist: hooks, maps and how packets are masqueraded (KEP-3866).
//!
//! Services are elements of these maps, and next to none has a chain or a set of its own: the kernel looks sets up by walking a
//! list of them and names an anonymous one by reading all names, so ten thousand sets cost a minute, and nft reads every
//! chain and set before it does anything.

use ipnet::IpNet;
use packetfilter::{Family, Ruleset};

use crate::model::Protocol;

/// The table's name, upstream's too: either proxy takes over from the other.
pub const TABLE: &str = "kube-proxy";

/// By address, protocol and port: the chain that sends on.
pub const SERVICE_IPS: &str = "service-ips";
pub const SERVICE_NODE_PORTS: &str = "service-nodeports";
/// By address, port and number: the endpoint. nft takes a protocol's own ports alone as the type of such a map.
pub const ENDPOINTS: [(Protocol, &str); 3] =
    [(Protocol::Tcp, "tcp-endpoints"), (Protocol::Udp, "udp-endpoints"), (Protocol::Sctp, "sctp-endpoints")];
/// By node port and number.
pub const NODE_PORT_ENDPOINTS: [(Protocol, &str); 3] = [
    (Protocol::Tcp, "tcp-nodeport-endpoints"),
    (Protocol::Udp, "udp-nodeport-endpoints"),
    (Protocol::Sctp, "sctp-nodeport-endpoints"),
];
pub const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
/// By a load balancer's address, protocol and port: the chain that drops what comes from elsewhere than its source ranges.
pub const FIREWALL_IPS: &str = "firewall-ips";
pub const CLUSTER_IPS: &str = "cluster-ips";
/// Endpoints of this node: address twice, protocol and port. A pod that reaches itself must see another source than itself.
pub const HAIRPIN_CONNECTIONS: &str = "hairpin-connections";

pub const MARK_FOR_MASQUERADE: &str = "mark-for-masquerade";
pub const REJECT: &str = "reject-chain";

/// What rules need to know besides Services.
#[derive(Clone, Debug)]
pub struct Settings {
    pub family: Family,
    /// The bit of the packet mark that asks for masquerading.
    pub mark: u32,
    pub masquerade_all: bool,
    /// Where pods are; empty when unknown.
    pub cluster_networks: Vec<IpNet>,
}

impl Settings {
    /// nft's type of an address.
    pub fn address_type(&self) -> &'static str {
        if self.family == Family::Ip { "ipv4_addr" } else { "ipv6_addr" }
    }

    /// Where pods are, as a match; `None` when the family's ranges are not known.
    pub fn pods(&self) -> Option<String> {
        set(self.cluster_networks.iter().filter(|network| self.family.has(&network.addr())))
    }
}

/// What is known of the cluster's and the node's addresses, in both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The node's addresses in these ranges serve node ports.
    pub node_ports: Vec<IpNet>,
    /// What cluster IPs are taken from.
    pub services: Vec<IpNet>,
}

/// Networks as a match.
pub fn set<'a>(networks: impl Iterator<Item = &'a IpNet>) -> Option<String> {
    let networks: Vec<String> = networks.map(IpNet::to_string).collect();
    match networks.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("{{ {} }}", several.join(", "))),
    }
}

/// The table's fixed content.
pub fn ruleset(settings: &Settings, networks: &Networks) -> Ruleset {
    let family = settings.family;
    let address = settings.address_type();
    let mut base = Ruleset::default();
    let mut set = |name: &str, kind, definition: String| {
        base.sets.insert(name.to_owned(), (kind, definition));
    };
    let verdicts = format!("{{ type {address} . inet_proto . inet_service : verdict; }}");
    let node_port_verdicts = "{ type inet_proto . inet_service : verdict; }".to_owned();
    for name in [SERVICE_IPS, NO_ENDPOINT_SERVICES, FIREWALL_IPS] {
        set(name, "map", verdicts.clone());
    }
    for name in [SERVICE_NODE_PORTS, NO_ENDPOINT_NODE_PORTS] {
        set(name, "map", node_port_verdicts.clone());
    }
    // There is no word for a number's type.
    let number = "numgen random mod 65536";
    for (protocol, name) in ENDPOINTS {
        let place = format!("{family} daddr . {protocol} dport");
        set(name, "map", format!("{{ typeof {place} . {number} : {place}; }}"));
    }
    for (protocol, name) in NODE_PORT_ENDPOINTS {
        let port = format!("{protocol} dport");
        set(name, "map", format!("{{ typeof {port} . {number} : {family} daddr . {port}; }}"));
    }
    set(CLUSTER_IPS, "set", format!("{{ type {address}; }}"));
    set(HAIRPIN_CONNECTIONS, "set", format!("{{ type {address} . {address} . inet_proto . inet_service; }}"));

    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        if !hook.is_empty() {
            base.hooks.insert(name.to_owned(), hook.to_owned());
        }
        base.chain(name, rules.iter().cloned());
    };
    let new = |target: &str| format!("ct state new jump {target}");
    for (name, hook) in [
        ("filter-prerouting-pre-dnat", "type filter hook prerouting priority -110;"),
        ("filter-output-pre-dnat", "type filter hook output priority -110;"),
    ] {
        chain(name, hook, &[new("firewall-check")]);
    }
    chain(
        "filter-input",
        "type filter hook input priority 0;",
        &[new("nodeport-endpoints-check"), new("service-endpoints-check")],
    );
    for (name, hook) in [
        ("filter-forward", "type filter hook forward priority 0;"),
        ("filter-output", "type filter hook output priority 0;"),
    ] {
        chain(name, hook, &[new("service-endpoints-check"), new("cluster-ips-check")]);
    }
    chain("nat-prerouting", "type nat hook prerouting priority -100;", &["jump services".to_owned()]);
    chain("nat-output", "type nat hook output priority -100;", &["jump services".to_owned()]);
    chain("nat-postrouting", "type nat hook postrouting priority 100;", &["jump masquerading".to_owned()]);

    let to_service = |map: &str| format!("{family} daddr . meta l4proto . th dport vmap @{map}");
    let to_node = to_node(family, &networks.node_ports);
    let to_node_port = |map: &str| format!("{to_node} meta l4proto . th dport vmap @{map}");
    let mut services = Vec::new();
    // Clients outside the pod network may reach Services through this node: answers have to return through it.
    if settings.masquerade_all {
        services.push(format!("{family} daddr @{CLUSTER_IPS} jump {MARK_FOR_MASQUERADE}"));
    } else if let Some(pods) = settings.pods() {
        services.push(format!(
            "{family} daddr @{CLUSTER_IPS} {family} saddr != {pods} jump {MARK_FOR_MASQUERADE}"
        ));
    }
    services.extend([to_service(SERVICE_IPS), to_node_port(SERVICE_NODE_PORTS)]);
    chain("services", "", &services);
    chain("service-endpoints-check", "", &[to_service(NO_ENDPOINT_SERVICES)]);
    chain("nodeport-endpoints-check", "", &[to_node_port(NO_ENDPOINT_NODE_PORTS)]);
    chain("firewall-check", "", &[to_service(FIREWALL_IPS)]);
    let unallocated = self::set(networks.services.iter().filter(|network| family.has(&network.addr())));
    let dropped = unallocated.map(|networks| format!("{family} daddr {networks} drop"));
    let rejected = format!("{family} daddr @{CLUSTER_IPS} reject");
    chain("cluster-ips-check", "", &[rejected].into_iter().chain(dropped).collect::<Vec<_>>());
    chain(REJECT, "", &["reject".to_owned()]);
    let mark = format!("{:#010x}", settings.mark);
    chain(MARK_FOR_MASQUERADE, "", &[format!("meta mark set meta mark or {mark}")]);
    chain(
        "masquerading",
        "",
        &[
            format!("meta mark and {mark} != 0 meta mark set meta mark xor {mark} masquerade fully-random"),
            format!(
                "ct status dnat {family} saddr . {family} daddr . meta l4proto . th dport @{HAIRPIN_CONNECTIONS} \
                 masquerade fully-random"
            ),
        ],
    );
    base
}

/// A match of the node's own addresses that serve node ports, which are never those of loopback. The kernel knows at any time
/// which addresses its interfaces have.
fn to_node(family: Family, ranges: &[IpNet]) -> String {
    let loopback = if family == Family::Ip { "127.0.0.0/8" } else { "::1" };
    let local = format!("{family} daddr != {loopback} fib daddr type local");
    let ranges = || ranges.iter().filter(|range| family.has(&range.addr()));
    match set(ranges()) {
        Some(set) if ranges().all(|range| range.prefix_len() != 0) => format!("{family} daddr {set} {local}"),
        _ => local,
    }
}
