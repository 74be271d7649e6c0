//! Connection tracking: UDP flows that must not go on to an endpoint that is gone, and the kernel's limits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use packetfilter::Flow;

use crate::config::Conntrack;
use crate::model::Forward;
use crate::state::Changed;

/// UDP has no end that the kernel could see, so a client that keeps its port stays with its old endpoint, or with the
/// Service's own address where there was none. These are the flows to be forgotten after a change.
pub fn stale(change: &Changed) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for old in change.old.iter().filter(|old| old.protocol == "udp") {
        let now = change.new.iter().find(|new| same_port(new, old));
        for target in old.cluster.union(&old.local) {
            let stays = now.is_some_and(|now| now.cluster.contains(target) || now.local.contains(target));
            if !stays {
                flows.extend(entries(old, Some(target.address)));
            }
        }
    }
    for new in change.new.iter().filter(|new| new.protocol == "udp" && !new.has_no_endpoints()) {
        let before = change.old.iter().find(|old| same_port(old, new));
        if before.is_none_or(Forward::has_no_endpoints) {
            flows.extend(entries(new, None));
        }
    }
    flows
}

fn same_port(one: &Forward, other: &Forward) -> bool {
    (&one.protocol, one.port, one.cluster_ip, one.node_port)
        == (&other.protocol, other.port, other.cluster_ip, other.node_port)
}

/// Every way to reach the Service's port.
fn entries(forward: &Forward, endpoint: Option<IpAddr>) -> Vec<Flow> {
    let addresses =
        std::iter::once(&forward.cluster_ip).chain(&forward.external_ips).chain(&forward.load_balancer_ips);
    let mut flows: Vec<Flow> =
        addresses.map(|address| Flow { destination: Some(*address), port: forward.port, endpoint }).collect();
    if forward.node_port != 0 {
        flows.push(Flow { destination: None, port: forward.node_port, endpoint });
    }
    flows
}

/// Raises the kernel's limit of tracked connections, as far as it is lower. Zero per core leaves it alone.
pub fn set_limits(limits: &Conntrack) {
    let per_core = limits.max_per_core.unwrap_or(32768);
    if per_core == 0 {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = (per_core * cores as u64).max(limits.min.unwrap_or(131_072));
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Target;
    use crate::model::tests::{http, service, slice};

    fn dns(targets: &[&str]) -> Forward {
        let mut spec = http();
        spec["ports"][0]["nodePort"] = json!(30053);
        let mut forward =
            crate::model::forwards(&service(spec), &[slice(json!([]))], packetfilter::Family::Ip, "n")
                .remove(0);
        forward.protocol = "udp".into();
        forward.cluster =
            targets.iter().map(|address| Target { address: address.parse().unwrap(), port: 53 }).collect();
        forward
    }

    fn check(old: &[&str], new: &[&str], endpoints: &[Option<&str>]) {
        let flows = stale(&Changed { old: vec![dns(old)], new: vec![dns(new)] });
        let expect: BTreeSet<Option<IpAddr>> =
            endpoints.iter().map(|endpoint| endpoint.map(|address| address.parse().unwrap())).collect();
        assert_eq!(flows.iter().map(|flow| flow.endpoint).collect::<BTreeSet<_>>(), expect);
        assert_eq!(flows.len(), 2 * endpoints.len(), "by cluster IP and by node port");
    }

    #[test]
    fn flows_to_what_is_gone_are_forgotten() {
        check(&["10.244.0.2", "10.244.0.3"], &["10.244.0.3"], &[Some("10.244.0.2")]);
        check(&["10.244.0.2"], &["10.244.0.2"], &[]);
        check(&[], &["10.244.0.2"], &[None]);
    }
}
