//! The health port (10248), and figures under upstream's names.

use crate::run::Kubelet;
use bytes::Bytes;
use daemon::health::Checks;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Registers figures that are read when asked for.
pub fn register(kubelet: &Arc<Kubelet>) {
    let registry = daemon::metrics::registry();
    let of = Arc::downgrade(kubelet);
    registry.gauge_fn("kubelet_node_name", "The node's name. The count is always 1.", &["node"], move || {
        of.upgrade().map(|kubelet| (vec![kubelet.node_name.clone()], 1.0)).into_iter().collect()
    });
    let of = Arc::downgrade(kubelet);
    registry.gauge_fn(
        "kubelet_running_pods",
        "Number of pods that have a running pod sandbox",
        &[],
        move || {
            let count = of.upgrade().map_or(0, |kubelet| {
                let pods = kubelet.pods.all();
                let ready = |uid: &str| {
                    kubelet.pods.runtime_pod(uid).is_some_and(|it| it.sandboxes.iter().any(|s| s.ready))
                };
                pods.iter().filter(|pod| ready(crate::pods::uid(pod))).count()
            });
            #[allow(clippy::cast_precision_loss)]
            let value = count as f64;
            vec![(Vec::new(), value)]
        },
    );
}

/// Plain HTTP with `/healthz` alone.
pub async fn serve_health(kubelet: Arc<Kubelet>, listener: TcpListener, shutdown: CancellationToken) {
    register(&kubelet);
    let checks = Checks::new();
    let of = Arc::downgrade(&kubelet);
    checks.add("syncloop", move || match of.upgrade().and_then(|kubelet| kubelet.pleg.problem()) {
        Some(problem) if kubelet_is_old(&of.upgrade()) => Err(problem),
        _ => Ok(()),
    });
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "Accepting on the health port failed");
                    continue;
                }
            },
        };
        let (checks, stop) = (checks.clone(), shutdown.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let checks = checks.clone();
                async move {
                    let query = request.uri().query().unwrap_or_default().to_owned();
                    let path = request.uri().path().to_owned();
                    let answer = match path.strip_prefix("/healthz") {
                        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                            checks.answer("healthz", rest.trim_start_matches('/'), &query).await
                        }
                        _ => {
                            let mut answer =
                                http::Response::new(Full::new(Bytes::from("404 page not found\n")));
                            *answer.status_mut() = http::StatusCode::NOT_FOUND;
                            answer
                        }
                    };
                    Ok::<_, Infallible>(answer)
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = connection => if let Err(error) = result {
                    debug!(%error, "Connection to the health port ended");
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// A kubelet that just started has not listed the runtime yet and is well all the same.
fn kubelet_is_old(kubelet: &Option<Arc<Kubelet>>) -> bool {
    kubelet.as_ref().is_some_and(|kubelet| kubelet.started.elapsed().as_secs() > 60)
}
