//! Flags.

use std::net::SocketAddr;

#[derive(clap::Parser, Debug)]
#[command(name = "cluster-dns")]
pub struct Options {
    /// Credentials for the API server; without it those of the pod are used.
    #[arg(long)]
    pub kubeconfig: Option<String>,
    /// The domain to answer for.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where DNS is served, over UDP and TCP.
    #[arg(long, default_value = "0.0.0.0:53")]
    pub listen: SocketAddr,
    /// Where /healthz, /livez and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
    #[command(flatten)]
    pub logging: daemon::flags::Logging,
}
