//! Puts the server together and runs it: listener first, then caches, then what a cluster starts with.

mod assemble;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use daemon::features::{FeatureGates, Gate};
use daemon::serving::{self, TlsConfig};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::options::Options;

/// How long running requests and proxied streams may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// The gates this server acts on.
pub const GATES: &[Gate] = &[];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error("failed to create listener: failed to listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] serving::Error),
    #[error(transparent)]
    Keys(#[from] access::keys::Error),
    #[error("unable to create storage backend: {0}")]
    Store(#[from] store::Error),
}

/// Runs until `shutdown`, then drains.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let address = SocketAddr::new(options.serving.bind_address, options.secure_port());
    let listener = serving::bind(address, options.serving.permit_port_sharing)
        .map_err(|source| Error::Listen { address, source })?;
    let options = options.complete().map_err(Error::Options)?;
    let store = assemble::connect(&options).await?;
    serve(options, store, listener, shutdown).await
}

/// [`run`] with complete options on a store and a listener that are there already, for tests.
pub async fn serve(
    mut options: Options,
    store: Arc<dyn Store>,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    if let Ok(bound) = listener.local_addr() {
        options.serving.secure_port = Some(bound.port());
    }
    let mut gates = FeatureGates::new(GATES);
    for text in &options.feature_gates {
        gates.parse(text).map_err(|error| Error::Options(error.to_string()))?;
    }
    tracing::info!("Version: {}", daemon::version::GIT_VERSION);
    let advertise = options.advertise_address.unwrap_or_else(own_address);
    let tls = tls(&options, advertise)?;

    // Background work ends when the requests have drained: a last request may still write.
    let background = CancellationToken::new();
    let tunnels = TaskTracker::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(tls.clone().watch(background.clone()));
    let stop = delayed(&shutdown, *options.shutdown_delay_duration, &mut tasks);
    let lives = assemble::Lives { shutdown: &shutdown, stop: &stop, background: &background };
    let front = assemble::front(&options, &gates, store, advertise, &lives, &tunnels, &mut tasks).await?;

    // Lives until background work has ended, which still writes through it.
    let _serving = front.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    let streams = match options.serving.http2_max_streams_per_connection {
        0 => serving::Options::default().max_streams,
        set => set,
    };
    let serving_options = serving::Options {
        max_streams: streams,
        http2: !options.serving.disable_http2_serving,
        drain: DRAIN,
    };
    tracing::info!(
        "Serving securely on {}",
        SocketAddr::new(options.serving.bind_address, options.secure_port())
    );
    daemon::notify::ready();
    serving::serve(listener, Some(tls), service, serving_options, stop).await;

    tunnels.close();
    let _ = tokio::time::timeout(Duration::from_millis(500), tunnels.wait()).await;
    background.cancel();
    let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
    Ok(())
}

/// `--shutdown-delay-duration`: requests are still taken while load balancers notice.
fn delayed(shutdown: &CancellationToken, delay: Duration, tasks: &mut JoinSet<()>) -> CancellationToken {
    if delay.is_zero() {
        return shutdown.clone();
    }
    let (stop, shutdown) = (CancellationToken::new(), shutdown.clone());
    let cancel = stop.clone();
    tasks.spawn(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(delay).await;
        cancel.cancel();
    });
    stop
}

fn tls(options: &Options, advertise: IpAddr) -> Result<TlsConfig, Error> {
    let mut names: Vec<String> = ["kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost"]
        .map(str::to_owned)
        .to_vec();
    if !options.external_hostname.is_empty() {
        names.insert(0, options.external_hostname.clone());
    }
    let addresses = [advertise, IpAddr::from([127, 0, 0, 1])];
    Ok(TlsConfig::from_flags(&options.serving, "apiserver", &names, &addresses)?)
}

/// The address this machine speaks from: that of its default route. Nothing is sent.
fn own_address() -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    route().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}
