//! `kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration`: the fields that have an effect.

mod validation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use client::Rate;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Configuration {
    pub client_connection: ClientConnection,
    pub hostname_override: String,
    pub mode: String,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub node_port_addresses: Vec<String>,
    pub nftables: Nftables,
    pub conntrack: Conntrack,
    pub feature_gates: BTreeMap<String, bool>,
    /// Read before the rest, by [`daemon::flags::Logging::with_file`].
    pub logging: Value,
    pub bind_address: String,
    pub oom_score_adj: Option<i32>,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub qps: Option<f32>,
    pub burst: Option<i32>,
}

impl ClientConnection {
    /// How fast the proxy may ask, where that is limited.
    pub fn rate(&self) -> Option<Rate> {
        Rate::given(self.qps, self.burst, Rate { per_second: 5.0, burst: 10 })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Nftables {
    /// The bit of the packet mark that asks for masquerading; 14 by default.
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub sync_period: Option<daemon::flags::Duration>,
    pub min_sync_period: Option<daemon::flags::Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conntrack {
    pub max_per_core: Option<i64>,
    pub min: Option<i64>,
}

/// Changes that come together are one transaction: this long is waited for more of them.
const GATHER: Duration = Duration::from_millis(10);
const FULL_SYNC: Duration = Duration::from_secs(30);

impl Configuration {
    pub fn kubeconfig(&self) -> Option<&str> {
        Some(self.client_connection.kubeconfig.as_str()).filter(|path| !path.is_empty())
    }

    /// The node's name: the override, else the host's name in lower case.
    pub fn node_name(&self) -> anyhow::Result<String> {
        let name = match self.hostname_override.trim() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname").context("this host's name")?,
            name => name.to_owned(),
        };
        Ok(name.trim().to_lowercase())
    }

    pub fn cluster_networks(&self) -> anyhow::Result<Vec<IpNet>> {
        let parts = self.cluster_ranges().into_iter();
        parts.map(|part| part.parse().with_context(|| format!("clusterCIDR {part:?}"))).collect()
    }

    fn cluster_ranges(&self) -> Vec<&str> {
        self.cluster_cidr.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    pub fn masquerade_mark(&self) -> u32 {
        1 << self.nftables.masquerade_bit.unwrap_or(14).clamp(0, 31)
    }

    pub fn min_sync_period(&self) -> Duration {
        self.nftables.min_sync_period.as_ref().map_or(GATHER, |period| **period)
    }

    pub fn sync_period(&self) -> Duration {
        self.nftables
            .sync_period
            .as_ref()
            .map(|period| **period)
            .filter(|period| !period.is_zero())
            .unwrap_or(FULL_SYNC)
    }

    pub fn health_address(&self) -> anyhow::Result<SocketAddr> {
        address(&self.healthz_bind_address, "0.0.0.0", 10256).context("healthzBindAddress")
    }

    pub fn metrics_address(&self) -> anyhow::Result<SocketAddr> {
        address(&self.metrics_bind_address, "127.0.0.1", 10249).context("metricsBindAddress")
    }
}

/// The configuration in effect, as `/configz` shows it.
pub fn document(configuration: &Configuration) -> anyhow::Result<Value> {
    let Configuration { client_connection, hostname_override, cluster_cidr, node_port_addresses, .. } =
        configuration;
    let (nftables, conntrack) = (&configuration.nftables, &configuration.conntrack);
    let period = |period: Duration| daemon::flags::Duration(period).to_string();
    Ok(json!({"kubeproxy.config.k8s.io": {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {"kubeconfig": client_connection.kubeconfig},
        "hostnameOverride": hostname_override,
        "healthzBindAddress": configuration.health_address()?.to_string(),
        "metricsBindAddress": configuration.metrics_address()?.to_string(),
        "mode": "nftables",
        "clusterCIDR": cluster_cidr,
        "nodePortAddresses": node_port_addresses,
        "nftables": {
            "masqueradeBit": nftables.masquerade_bit.unwrap_or(14),
            "masqueradeAll": nftables.masquerade_all,
            "syncPeriod": period(configuration.sync_period()),
            "minSyncPeriod": period(configuration.min_sync_period()),
        },
        "conntrack": {"maxPerCore": conntrack.max_per_core, "min": conntrack.min},
    }}))
}

/// `address:port`, or either alone.
fn address(text: &str, host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    if text.is_empty() {
        return Ok(SocketAddr::new(host.parse()?, port));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(address),
        Err(_) => Ok(SocketAddr::new(text.parse()?, port)),
    }
}
