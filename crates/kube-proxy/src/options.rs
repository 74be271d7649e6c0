//! Flags. With `--config` the file says everything but the node's name, as upstream.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use daemon::features::FeatureGates;
use daemon::flags::Unsupported;

use crate::config::{Configuration, Conntrack, DetectLocal};

#[derive(clap::Parser, Debug)]
#[command(name = "kube-proxy")]
pub struct Options {
    /// The path to the configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to kubeconfig file with authorization information.
    #[arg(long)]
    pub kubeconfig: Option<String>,
    /// If non-empty, will be used as the name of the node that kube-proxy is running on.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Which proxy mode to use: `nftables`.
    #[arg(long)]
    pub proxy_mode: Option<String>,
    /// The CIDR range of pods in the cluster.
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    /// Node addresses on which node ports are served: CIDR blocks or `primary`.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Masquerade all traffic sent via Service cluster IPs.
    #[arg(long)]
    pub masquerade_all: bool,
    /// Where the health checks are served.
    #[arg(long)]
    pub healthz_bind_address: Option<String>,
    /// Where the metrics are served.
    #[arg(long)]
    pub metrics_bind_address: Option<String>,
    /// Connections tracked, a core; 0 leaves the limit as it is.
    #[arg(long)]
    pub conntrack_max_per_core: Option<i64>,
    /// The least that the limit is set to, whatever the cores.
    #[arg(long)]
    pub conntrack_min: Option<i64>,
    /// name=true|false pairs; no gate changes anything here.
    #[arg(long, default_value = "")]
    pub feature_gates: String,
    /// The address of the node: it serves node ports, and may use load balancers where its range may.
    #[arg(long)]
    pub bind_address: Option<String>,
    /// How far from being killed when memory runs out: -1000 to 1000.
    #[arg(long, allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// How traffic of local pods is recognised: ClusterCIDR.
    #[arg(long)]
    pub detect_local_mode: Option<String>,
    #[arg(long)]
    pub pod_bridge_interface: Option<String>,
    #[arg(long)]
    pub pod_interface_name_prefix: Option<String>,
    /// Requests per second to the API server, negative for no limit; without this and the burst there is none either.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_qps: Option<f32>,
    /// Requests that may come at once where there is a limit per second.
    #[arg(long, allow_hyphen_values = true)]
    pub kube_api_burst: Option<i32>,
    /// Remove all rules and exit.
    #[arg(long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub logging: daemon::flags::Logging,
}

const fn flag(name: &'static str, boolean: bool) -> Unsupported {
    Unsupported { name, boolean }
}

/// Upstream's flags that are accepted and change nothing. Not among them: those that make it do something else and exit, which are refused.
pub const UNSUPPORTED: &[Unsupported] = &[
    flag("bind-address-hard-fail", true),
    flag("config-sync-period", false),
    flag("conntrack-tcp-be-liberal", true),
    flag("conntrack-tcp-timeout-close-wait", false),
    flag("conntrack-tcp-timeout-established", false),
    flag("conntrack-udp-timeout", false),
    flag("conntrack-udp-timeout-stream", false),
    flag("iptables-localhost-nodeports", true),
    flag("iptables-masquerade-bit", false),
    flag("iptables-min-sync-period", false),
    flag("iptables-sync-period", false),
    flag("ipvs-exclude-cidrs", false),
    flag("ipvs-min-sync-period", false),
    flag("ipvs-scheduler", false),
    flag("ipvs-strict-arp", true),
    flag("ipvs-sync-period", false),
    flag("ipvs-tcp-timeout", false),
    flag("ipvs-tcpfin-timeout", false),
    flag("ipvs-udp-timeout", false),
    flag("kube-api-content-type", false),
    flag("master", false),
    flag("profiling", true),
    flag("show-hidden-metrics-for-version", false),
];

impl Options {
    pub fn configuration(self) -> anyhow::Result<Configuration> {
        let mut configuration = match &self.config {
            Some(path) => {
                daemon::config::load(path, "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration")?
            }
            None => {
                let mut configuration = Configuration::default();
                configuration.client_connection.kubeconfig = self.kubeconfig.unwrap_or_default();
                configuration.client_connection.qps = self.kube_api_qps;
                configuration.client_connection.burst = self.kube_api_burst;
                configuration.mode = self.proxy_mode.unwrap_or_default();
                configuration.cluster_cidr = self.cluster_cidr.unwrap_or_default();
                configuration.node_port_addresses = self.nodeport_addresses;
                configuration.nftables.masquerade_all = self.masquerade_all;
                configuration.healthz_bind_address = self.healthz_bind_address.unwrap_or_default();
                configuration.conntrack =
                    Conntrack { max_per_core: self.conntrack_max_per_core, min: self.conntrack_min };
                configuration.metrics_bind_address = self.metrics_bind_address.unwrap_or_default();
                configuration.bind_address = self.bind_address.unwrap_or_default();
                configuration.oom_score_adj = self.oom_score_adj;
                configuration.detect_local_mode = self.detect_local_mode.unwrap_or_default();
                configuration.detect_local = DetectLocal {
                    bridge_interface: self.pod_bridge_interface.unwrap_or_default(),
                    interface_name_prefix: self.pod_interface_name_prefix.unwrap_or_default(),
                };
                configuration
            }
        };
        let mut gates = FeatureGates::default();
        let checked =
            gates.parse(&self.feature_gates).and_then(|()| gates.set_all(&configuration.feature_gates));
        checked.context("failed complete")?;
        if let Some(name) = self.hostname_override {
            configuration.hostname_override = name;
        }
        match configuration.mistakes().as_slice() {
            [] => {}
            [only] => bail!("failed validate: {only}"),
            all => bail!("failed validate: [{}]", all.join(", ")),
        }
        if !matches!(configuration.mode.as_str(), "" | "nftables") {
            bail!("proxy mode {:?} is not supported, only \"nftables\" is", configuration.mode);
        }
        daemon::absent::warn_of_fields(configuration.without_effect());
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_rate_holds_where_one_is_given() {
        let rate = |flags: &[&str]| {
            let options = Options::parse_from(["kube-proxy"].iter().chain(flags));
            let connection = options.configuration().unwrap().client_connection;
            connection.rate().map(|rate| (rate.per_second, rate.burst))
        };
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&["--kube-api-qps=7", "--kube-api-burst=9"]), Some((7.0, 9)));
        assert_eq!(rate(&["--kube-api-burst=0"]), Some((5.0, 10)));
    }
}
