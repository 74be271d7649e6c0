//! Flags. With `--config` the file says everything but the node's name, as upstream.

use std::path::PathBuf;

use anyhow::bail;
use daemon::flags::Unsupported;

use crate::config::Configuration;

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
    /// Remove all rules and exit.
    #[arg(long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub logging: daemon::flags::Logging,
}

/// Upstream's flags that have no effect here.
pub const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "feature-gates", boolean: false },
    Unsupported { name: "profiling", boolean: true },
    Unsupported { name: "bind-address", boolean: false },
    Unsupported { name: "kube-api-qps", boolean: false },
    Unsupported { name: "kube-api-burst", boolean: false },
    Unsupported { name: "kube-api-content-type", boolean: false },
    Unsupported { name: "oom-score-adj", boolean: false },
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
                configuration.mode = self.proxy_mode.unwrap_or_default();
                configuration.cluster_cidr = self.cluster_cidr.unwrap_or_default();
                configuration.node_port_addresses = self.nodeport_addresses;
                configuration.nftables.masquerade_all = self.masquerade_all;
                configuration.healthz_bind_address = self.healthz_bind_address.unwrap_or_default();
                configuration.metrics_bind_address = self.metrics_bind_address.unwrap_or_default();
                configuration
            }
        };
        if let Some(name) = self.hostname_override {
            configuration.hostname_override = name;
        }
        match configuration.mode.as_str() {
            "" | "nftables" => Ok(configuration),
            "iptables" | "ipvs" => {
                bail!("proxy mode {:?} is not supported, only \"nftables\" is", configuration.mode)
            }
            other => bail!("unknown proxy mode {other:?}"),
        }
    }
}
