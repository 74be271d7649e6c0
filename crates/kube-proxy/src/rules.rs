//! From one [`Forward`] to its chains and map elements: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use packetfilter::{Family, Ruleset};
use sha2::{Digest as _, Sha256};

use crate::base::{
    CLUSTER_IPS, MARK_FOR_MASQUERADE, NO_ENDPOINT_NODE_PORTS, NO_ENDPOINT_SERVICES, REJECT, SERVICE_IPS,
    SERVICE_NODE_PORTS, Settings,
};
use crate::model::{Forward, Target};

/// Adds the rules of one Service port.
pub fn add(rules: &mut Ruleset, forward: &Forward, settings: &Settings) {
    let names = Names::new(forward);
    rules.element(CLUSTER_IPS, forward.cluster_ip.to_string(), "");

    let internal = if forward.internal_local { &forward.local } else { &forward.cluster };
    if internal.is_empty() {
        // Endpoints elsewhere, but none that may be used: the traffic is lost rather than refused, as upstream has it.
        let verdict = if forward.has_no_endpoints() { format!("goto {REJECT}") } else { "drop".to_owned() };
        rules.element(NO_ENDPOINT_SERVICES, service_key(&forward.cluster_ip, forward), verdict);
    } else {
        let chain = if forward.internal_local { &names.local } else { &names.cluster };
        rules.element(SERVICE_IPS, service_key(&forward.cluster_ip, forward), format!("goto {chain}"));
    }

    let external = forward.is_external();
    if !forward.cluster.is_empty() && (external || !forward.internal_local) {
        balance(rules, &names.cluster, &names, forward, &forward.cluster, settings);
    }
    if !forward.local.is_empty() && (forward.internal_local || external && forward.external_local) {
        balance(rules, &names.local, &names, forward, &forward.local, settings);
    }
    for target in forward.cluster.union(&forward.local) {
        endpoint(rules, &names, forward, target, settings);
    }
    if external {
        add_external(rules, &names, forward, settings);
    }
}

fn add_external(rules: &mut Ruleset, names: &Names, forward: &Forward, settings: &Settings) {
    let balancers = &forward.load_balancer_ips;
    let addresses = forward.external_ips.iter().chain(balancers);
    if forward.has_no_endpoints() {
        for address in addresses {
            rules.element(NO_ENDPOINT_SERVICES, service_key(address, forward), format!("goto {REJECT}"));
        }
        if forward.node_port != 0 {
            rules.element(NO_ENDPOINT_NODE_PORTS, port_key(forward), format!("goto {REJECT}"));
        }
        return;
    }
    rules.chain(&names.external, external_rules(names, forward, settings));
    let outside = format!("goto {}", names.external);
    for address in &forward.external_ips {
        rules.element(SERVICE_IPS, service_key(address, forward), outside.clone());
    }
    let guarded = if forward.source_ranges.is_empty() {
        outside.clone()
    } else {
        let family = settings.family;
        let allowed = format!("{family} saddr {{ {} }} {outside}", list(&forward.source_ranges));
        rules.chain(&names.firewall, [allowed, "drop".to_owned()]);
        format!("goto {}", names.firewall)
    };
    for address in balancers {
        rules.element(SERVICE_IPS, service_key(address, forward), guarded.clone());
    }
    if forward.node_port != 0 {
        rules.element(SERVICE_NODE_PORTS, port_key(forward), outside);
    }
}

/// How traffic from outside goes on: masqueraded to any endpoint, or, with the Local policy, as it is to this node's own.
fn external_rules(names: &Names, forward: &Forward, settings: &Settings) -> Vec<String> {
    if !forward.external_local {
        return vec![format!("jump {MARK_FOR_MASQUERADE}"), format!("goto {}", names.cluster)];
    }
    let mut rules = Vec::new();
    if !forward.cluster.is_empty() {
        // From inside the cluster the policy does not bind.
        if let Some(pods) = pods(settings) {
            rules.push(format!("{} saddr {pods} goto {}", settings.family, names.cluster));
        }
        rules.push(format!("fib saddr type local jump {MARK_FOR_MASQUERADE}"));
        rules.push(format!("fib saddr type local goto {}", names.cluster));
    }
    rules.push(if forward.local.is_empty() { "drop".to_owned() } else { format!("goto {}", names.local) });
    rules
}

/// A chain that spreads its traffic over targets, keeping clients where they were if the Service asks for it.
fn balance(
    rules: &mut Ruleset,
    chain: &str,
    names: &Names,
    forward: &Forward,
    targets: &BTreeSet<Target>,
    settings: &Settings,
) {
    let family = settings.family;
    let to_cluster_ip =
        format!("{family} daddr {} {} dport {}", forward.cluster_ip, forward.protocol, forward.port);
    let mut lines = Vec::new();
    if settings.masquerade_all {
        lines.push(format!("{to_cluster_ip} jump {MARK_FOR_MASQUERADE}"));
    } else if let Some(pods) = pods(settings) {
        lines.push(format!("{to_cluster_ip} {family} saddr != {pods} jump {MARK_FOR_MASQUERADE}"));
    }
    if let Some(seconds) = forward.affinity {
        for target in targets {
            lines.push(format!(
                "{family} saddr @{} goto {}",
                names.affinity(target, seconds),
                names.endpoint(target)
            ));
        }
    }
    let choices: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(index, target)| format!("{index} : goto {}", names.endpoint(target)))
        .collect();
    lines.push(format!("numgen random mod {} vmap {{ {} }}", targets.len(), choices.join(", ")));
    rules.chain(chain, lines);
}

fn endpoint(rules: &mut Ruleset, names: &Names, forward: &Forward, target: &Target, settings: &Settings) {
    let family = settings.family;
    // A pod that reaches itself through the Service must see another source than itself.
    let mut lines = vec![format!("{family} saddr {} jump {MARK_FOR_MASQUERADE}", target.address)];
    if let Some(seconds) = forward.affinity {
        let set = names.affinity(target, seconds);
        let definition =
            format!("{{ type {}; flags dynamic,timeout; timeout {seconds}s; }}", settings.address_type());
        lines.push(format!("update @{set} {{ {family} saddr }}"));
        rules.sets.insert(set, ("set", definition));
    }
    let address = match family {
        Family::Ip => format!("{}:{}", target.address, target.port),
        Family::Ip6 => format!("[{}]:{}", target.address, target.port),
    };
    lines.push(format!("meta l4proto {} dnat to {address}", forward.protocol));
    rules.chain(names.endpoint(target), lines);
}

/// Where pods are, as a match; `None` when the family's ranges are not known.
fn pods(settings: &Settings) -> Option<String> {
    let networks: Vec<IpNet> = settings
        .cluster_networks
        .iter()
        .copied()
        .filter(|network| crate::model::is_of(settings.family, &network.addr()))
        .collect();
    match networks.as_slice() {
        [] => None,
        [one] => Some(one.to_string()),
        several => Some(format!("{{ {} }}", list(several))),
    }
}

fn list(networks: &[IpNet]) -> String {
    networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

fn service_key(address: &IpAddr, forward: &Forward) -> String {
    format!("{address} . {} . {}", forward.protocol, forward.port)
}

fn port_key(forward: &Forward) -> String {
    format!("{} . {}", forward.protocol, forward.node_port)
}

/// The chains' names: a hash that keeps them apart, then words for whoever lists them.
struct Names {
    base: String,
    cluster: String,
    local: String,
    external: String,
    firewall: String,
}

impl Names {
    fn new(forward: &Forward) -> Names {
        let words =
            format!("{}/{}/{}/{}", forward.namespace, forward.name, forward.protocol, forward.port_name);
        let base = format!("{}-{words}", hash(&words));
        Names {
            cluster: format!("service-{base}"),
            local: format!("local-{base}"),
            external: format!("external-{base}"),
            firewall: format!("firewall-{base}"),
            base,
        }
    }

    fn endpoint(&self, target: &Target) -> String {
        // Colons end an identifier in nft.
        format!("endpoint-{}__{}/{}", self.base, target.address.to_string().replace(':', "."), target.port)
    }

    fn affinity(&self, target: &Target, seconds: u32) -> String {
        format!(
            "affinity-{seconds}-{}__{}/{}",
            self.base,
            target.address.to_string().replace(':', "."),
            target.port
        )
    }
}

fn hash(words: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    Sha256::digest(words.as_bytes())
        .iter()
        .take(8)
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

#[cfg(test)]
mod tests;
