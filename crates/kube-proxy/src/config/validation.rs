//! Validation of the configuration, in upstream's words.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Configuration;

const LOCAL_MODES: [&str; 4] = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];
const ADDRESS_WORDS: [&str; 3] = ["primary", "localhost", "all"];

impl Configuration {
    /// The fields whose values cannot be.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut invalid = |field: &str, value: &dyn Display, problem: &str| {
            mistakes.push(format!("KubeProxyConfiguration.{field}: Invalid value: {value}: {problem}"));
        };
        let quoted = |text: &str| format!("{text:?}");
        if let Some(bit) = self.nftables.masquerade_bit.filter(|bit| !(0..=31).contains(bit)) {
            invalid("KubeProxyNFTablesConfiguration.MasqueradeBit", &bit, "must be within the range [0, 31]");
        }
        if let (Some(period), Some(least)) = (&self.nftables.sync_period, &self.nftables.min_sync_period)
            && !period.is_zero()
            && period.0 < least.0
        {
            let problem = "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod";
            invalid("SyncPeriod", &quoted(&least.to_string()), problem);
        }
        if let Some(adjustment) = self.oom_score_adj.filter(|it| !(-1000..=1000).contains(it)) {
            let problem = "must be within the range [-1000, 1000]";
            invalid("KubeProxyLinuxConfiguration.OOMScoreAdj", &adjustment, problem);
        }
        for (field, value) in [("MaxPerCore", self.conntrack.max_per_core), ("Min", self.conntrack.min)] {
            if let Some(value) = value.filter(|value| *value < 0) {
                let field = format!("KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.{field}");
                invalid(&field, &value, "must be greater than or equal to 0");
            }
        }
        if !["", "iptables", "ipvs", "nftables"].contains(&self.mode.as_str()) {
            let problem = "must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])";
            invalid("Mode.ProxyMode", &quoted(&self.mode), problem);
        }
        if !self.bind_address.is_empty() && self.bind_address.parse::<IpAddr>().is_err() {
            let problem = "not a valid textual representation of an IP address";
            invalid("BindAddress", &quoted(&self.bind_address), problem);
        }
        for (field, text) in [
            ("HealthzBindAddress", &self.healthz_bind_address),
            ("MetricsBindAddress", &self.metrics_bind_address),
        ] {
            if let Some((part, problem)) = address_mistake(text) {
                invalid(field, &quoted(part), problem);
            }
        }
        let ranges = self.cluster_ranges();
        let mut readable = Vec::new();
        for (index, range) in ranges.iter().enumerate() {
            match range.parse::<IpNet>() {
                Ok(range) => readable.push(range),
                Err(_) => {
                    let problem = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
                    invalid(
                        &format!("DetectLocalConfiguration.ClusterCIDRs[{index}]"),
                        &quoted(range),
                        problem,
                    );
                }
            }
        }
        let one_family =
            || matches!(readable.as_slice(), [IpNet::V4(_), IpNet::V4(_)] | [IpNet::V6(_), IpNet::V6(_)]);
        if ranges.len() > 2 || one_family() {
            let shown: Vec<String> = ranges.iter().map(|range| quoted(range)).collect();
            let problem = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]";
            invalid("DetectLocalConfiguration.ClusterCIDRs", &format!("[{}]", shown.join(",")), problem);
        }
        for (mode, field, value) in [
            ("BridgeInterface", "InterfaceName", &self.detect_local.bridge_interface),
            ("InterfaceNamePrefix", "InterfacePrefix", &self.detect_local.interface_name_prefix),
        ] {
            if self.detect_local_mode == mode && value.is_empty() {
                invalid(&format!("DetectLocalConfiguration.{field}"), &"\"\"", "must not be empty");
            }
        }
        for (index, range) in self.node_port_addresses.iter().enumerate() {
            if !ADDRESS_WORDS.contains(&range.as_str()) && range.parse::<IpNet>().is_err() {
                let problem = "must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'";
                invalid(&format!("NodePortAddresses[{index}]"), &quoted(range), problem);
            }
        }
        if !self.detect_local_mode.is_empty() && !LOCAL_MODES.contains(&self.detect_local_mode.as_str()) {
            let modes = LOCAL_MODES.map(|mode| format!("{mode:?}")).join(", ");
            mistakes.push(format!(
                "KubeProxyConfiguration.DetectLocalMode: Unsupported value: {:?}: supported values: {modes}, \"\"",
                self.detect_local_mode
            ));
        }
        mistakes
    }

    /// Fields that are set to something that is not done.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let local = !matches!(self.detect_local_mode.as_str(), "" | "ClusterCIDR");
        local.then_some("detectLocalMode").into_iter().collect()
    }
}

/// The invalid part of `IP:port`, or of an IP alone, and the error.
fn address_mistake(text: &str) -> Option<(&str, &'static str)> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return None;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return Some((text, "must be IP:port")) };
    if host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
        return Some((host, "must be a valid IP"));
    }
    port.parse::<u16>().is_err().then_some((port, "must be a valid port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn invalid_values_are_refused_in_upstreams_words() {
        for (fields, expected) in [
            (json!({}), ""),
            (json!({"nodePortAddresses": ["primary", "10.0.0.0/8", "all"]}), ""),
            (json!({"metricsBindAddress": "0.0.0.0", "healthzBindAddress": "[::]:1"}), ""),
            (json!({"clusterCIDR": "10.0.0.0/8,fd00::/8"}), ""),
            (
                json!({"nodePortAddresses": ["bad"]}),
                "NodePortAddresses[0]: Invalid value: \"bad\": must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'",
            ),
            (
                json!({"bindAddress": "x"}),
                "BindAddress: Invalid value: \"x\": not a valid textual representation of an IP address",
            ),
            (
                json!({"oomScoreAdj": 5000}),
                "KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 5000: must be within the range [-1000, 1000]",
            ),
            (
                json!({"detectLocalMode": "Nope"}),
                "DetectLocalMode: Unsupported value: \"Nope\": supported values: \"ClusterCIDR\", \"NodeCIDR\", \"BridgeInterface\", \"InterfaceNamePrefix\", \"\"",
            ),
            (
                json!({"detectLocalMode": "BridgeInterface"}),
                "DetectLocalConfiguration.InterfaceName: Invalid value: \"\": must not be empty",
            ),
            (
                json!({"metricsBindAddress": "0.0.0.0:99999"}),
                "MetricsBindAddress: Invalid value: \"99999\": must be a valid port",
            ),
            (
                json!({"metricsBindAddress": "localhost:1"}),
                "MetricsBindAddress: Invalid value: \"localhost\": must be a valid IP",
            ),
            (json!({"healthzBindAddress": "x"}), "HealthzBindAddress: Invalid value: \"x\": must be IP:port"),
            (
                json!({"clusterCIDR": "notacidr"}),
                "DetectLocalConfiguration.ClusterCIDRs[0]: Invalid value: \"notacidr\": must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)",
            ),
            (
                json!({"clusterCIDR": "10.0.0.0/8,10.1.0.0/16"}),
                "DetectLocalConfiguration.ClusterCIDRs: Invalid value: [\"10.0.0.0/8\",\"10.1.0.0/16\"]: must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]",
            ),
            (
                json!({"nftables": {"masqueradeBit": 32}}),
                "KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]",
            ),
            (
                json!({"nftables": {"syncPeriod": "1s", "minSyncPeriod": "5s"}}),
                "SyncPeriod: Invalid value: \"5s\": must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod",
            ),
            (
                json!({"conntrack": {"maxPerCore": -1}}),
                "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.MaxPerCore: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"mode": "bad"}),
                "Mode.ProxyMode: Invalid value: \"bad\": must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])",
            ),
        ] {
            let configuration: Configuration = serde_json::from_value(fields.clone()).unwrap();
            let expected: Vec<String> = Some(expected)
                .filter(|text| !text.is_empty())
                .map(|text| format!("KubeProxyConfiguration.{text}"))
                .into_iter()
                .collect();
            assert_eq!(configuration.mistakes(), expected, "{fields}");
        }
        let local: Configuration = serde_json::from_value(json!({"detectLocalMode": "NodeCIDR"})).unwrap();
        assert_eq!(local.without_effect(), ["detectLocalMode"]);
    }
}
