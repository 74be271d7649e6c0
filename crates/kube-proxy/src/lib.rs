//! kube-proxy: Services and EndpointSlices become nftables rules, by difference, one transaction a sync.
//!
//! Deliberately absent: the iptables and IPVS modes, topology hints, health check node ports.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod base;
pub mod config;
pub mod conntrack;
pub mod model;
pub mod options;
pub mod program;
pub mod rules;
pub mod server;
pub mod state;
pub mod sync;
pub mod view;

use std::sync::Arc;

use anyhow::Context as _;
use client::{Client, Config, EventRecorder, Informers};
use packetfilter::PacketFilter;
use tokio_util::sync::CancellationToken;

use crate::config::Configuration;

/// Programs the host's packet filter until `shutdown`. The rules stay when it stops, so that traffic goes on.
pub async fn run(
    configuration: Configuration,
    filter: Arc<dyn PacketFilter>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    daemon::limits::set_oom_score(configuration.oom_score_adj.unwrap_or(-999));
    conntrack::set_limits(&configuration.conntrack);
    let node = configuration.node_name()?;
    let mut config = Config::from_kubeconfig_or_cluster(configuration.kubeconfig())
        .context("credentials for the API server")?
        .with_user_agent(&daemon::version::user_agent("kube-proxy"));
    config.rate = configuration.client_connection.rate();
    let client = Client::new(config)?;
    let informers = Informers::new(client.clone());
    let events = EventRecorder::new(client, "kube-proxy", &node);
    let health = Arc::new(sync::Health::default());
    let proxier = sync::Proxier::new(
        &informers,
        configuration.clone(),
        node.clone(),
        filter,
        health.clone(),
        events.clone(),
    )?;
    let started = client::ObjectReference {
        kind: "Node".into(),
        name: node.clone(),
        uid: node,
        ..client::ObjectReference::default()
    };
    events.event(&started, client::EventType::Normal, "Starting", "");
    let (served, ()) =
        tokio::join!(server::serve(&configuration, health, shutdown.clone()), proxier.run(shutdown.clone()));
    events.shutdown().await;
    informers.shutdown().await;
    served
}
