//! Cluster DNS: answers for the cluster's domain out of Services and EndpointSlices, as the Kubernetes DNS
//! specification 1.1.0 has them, and the host's name servers for every other name.
//!
//! Deliberately absent: zone transfer, wildcards, and a check that a pod record's pod exists.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod directory;
pub mod handler;
pub mod options;
pub mod question;
pub mod view;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;
use client::{Client, Config, Informers};
use hickory_server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::handler::Handler;
use crate::options::Options;

/// How long a TCP connection may be silent.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait for a slow TCP reader.
const TCP_BUFFER: usize = 32;

/// Serves until `shutdown`. Queries are answered once the caches have synced; `/readyz` says so.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = Config::from_kubeconfig_or_cluster(options.kubeconfig.as_deref())?;
    let informers = Informers::new(Client::new(config.with_user_agent("cluster-dns"))?);
    let directory = Directory::new(&informers);

    let checks = daemon::health::Checks::new();
    let synced = directory.clone();
    checks.add("informer-sync", move || {
        if synced.has_synced() {
            Ok(())
        } else {
            Err("services and endpoint slices are not listed yet".into())
        }
    });
    let health_listener = daemon::serving::bind(options.health_listen, false).context("health address")?;
    let health = daemon::serving::serve(
        health_listener,
        None,
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let checks = checks.clone();
            async move { Ok::<_, Infallible>(checks.answer_uri(request.uri()).await) }
        }),
        daemon::serving::Options::default(),
        shutdown.clone(),
    );

    let mut server = Server::new(Handler::new(&options.cluster_domain, directory.clone())?);
    server.register_socket(UdpSocket::bind(options.listen).await.context("DNS address, UDP")?);
    server.register_listener(
        TcpListener::bind(options.listen).await.context("DNS address, TCP")?,
        TCP_IDLE,
        TCP_BUFFER,
    );
    tracing::info!(address = %options.listen, domain = options.cluster_domain, "serving DNS");

    let health = async {
        health.await;
        shutdown.cancelled().await;
    };
    tokio::join!(health, async {
        shutdown.cancelled().await;
        if let Err(error) = server.shutdown_gracefully().await {
            tracing::warn!(%error, "DNS server did not stop cleanly");
        }
    });
    informers.shutdown().await;
    Ok(())
}
