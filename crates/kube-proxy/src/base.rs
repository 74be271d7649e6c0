//! The part of the table that is there without any Service: hooks, maps and how packets are masqueraded (KEP-3866).

use std::net::IpAddr;

use ipnet::IpNet;
use packetfilter::{Family, Ruleset};

use crate::model::is_of;

/// The table's name, upstream's too: either proxy takes over from the other.
pub const TABLE: &str = "kube-proxy";

pub const SERVICE_IPS: &str = "service-ips";
pub const SERVICE_NODE_PORTS: &str = "service-nodeports";
pub const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
pub const CLUSTER_IPS: &str = "cluster-ips";
const NODE_PORT_IPS: &str = "nodeport-ips";

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
}

/// The table's fixed content, with the node's own addresses.
pub fn ruleset(settings: &Settings, node_addresses: &[IpAddr]) -> Ruleset {
    let family = settings.family;
    let address = settings.address_type();
    let mut base = Ruleset::default();
    let mut set = |name: &str, kind, definition: String| {
        base.sets.insert(name.to_owned(), (kind, definition));
    };
    set(SERVICE_IPS, "map", format!("{{ type {address} . inet_proto . inet_service : verdict; }}"));
    set(NO_ENDPOINT_SERVICES, "map", format!("{{ type {address} . inet_proto . inet_service : verdict; }}"));
    set(SERVICE_NODE_PORTS, "map", "{ type inet_proto . inet_service : verdict; }".to_owned());
    set(NO_ENDPOINT_NODE_PORTS, "map", "{ type inet_proto . inet_service : verdict; }".to_owned());
    set(CLUSTER_IPS, "set", format!("{{ type {address}; }}"));
    set(NODE_PORT_IPS, "set", format!("{{ type {address}; }}"));
    for own in node_addresses.iter().filter(|own| is_of(family, own)) {
        base.element(NODE_PORT_IPS, own.to_string(), "");
    }

    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        if !hook.is_empty() {
            base.hooks.insert(name.to_owned(), hook.to_owned());
        }
        base.chain(name, rules.iter().cloned());
    };
    let new = |target: &str| format!("ct state new jump {target}");
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

    let destination = format!("{family} daddr");
    let to_service = |map: &str| format!("{destination} . meta l4proto . th dport vmap @{map}");
    let to_node_port =
        |map: &str| format!("{destination} @{NODE_PORT_IPS} meta l4proto . th dport vmap @{map}");
    chain("services", "", &[to_service(SERVICE_IPS), to_node_port(SERVICE_NODE_PORTS)]);
    chain("service-endpoints-check", "", &[to_service(NO_ENDPOINT_SERVICES)]);
    chain("nodeport-endpoints-check", "", &[to_node_port(NO_ENDPOINT_NODE_PORTS)]);
    chain("cluster-ips-check", "", &[format!("{destination} @{CLUSTER_IPS} reject")]);
    chain(REJECT, "", &["reject".to_owned()]);
    let mark = format!("{:#010x}", settings.mark);
    chain(MARK_FOR_MASQUERADE, "", &[format!("meta mark set meta mark or {mark}")]);
    chain(
        "masquerading",
        "",
        &[
            format!("meta mark and {mark} == 0 return"),
            format!("meta mark set meta mark xor {mark}"),
            "masquerade fully-random".to_owned(),
        ],
    );
    base
}
