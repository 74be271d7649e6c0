//! The health port (10248), and figures under upstream's names.

use crate::run::Kubelet;
use bytes::Bytes;
use daemon::health::Checks;
use daemon::metrics::Samples;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Registers figures that are read when asked for.
pub fn register(kubelet: &Arc<Kubelet>) {
    register_counts(kubelet);
    crate::allocation::resize::register(kubelet);
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

/// Counts of what is known of pods and containers now.
fn register_counts(kubelet: &Arc<Kubelet>) {
    let registry = daemon::metrics::registry();
    let gauge = |name: &str, help: &str, labels: &[&'static str], read: fn(&Kubelet) -> Samples| {
        let of = Arc::downgrade(kubelet);
        registry.gauge_fn(name, help, labels, move || of.upgrade().map(|it| read(&it)).unwrap_or_default());
    };
    gauge(
        "kubelet_running_containers",
        "Number of containers currently running",
        &["container_state"],
        |kubelet| {
            let mut counts = BTreeMap::new();
            for pod in kubelet.pods.all() {
                let runtime = kubelet.pods.runtime_pod(crate::pods::uid(&pod));
                for container in runtime.iter().flat_map(|it| &it.containers) {
                    let state = format!("{:?}", container.state).to_lowercase();
                    *counts.entry(state).or_insert(0.0) += 1.0;
                }
            }
            counts.into_iter().map(|(state, count)| (vec![state], count)).collect()
        },
    );
    gauge(
        "kubelet_desired_pods",
        "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
        &["static"],
        |kubelet| count_pods(kubelet, |_| true),
    );
    gauge(
        "kubelet_active_pods",
        "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
        &["static"],
        |kubelet| {
            count_pods(kubelet, |pod| {
                let status = kubelet.pods.status(crate::pods::uid(pod));
                !crate::pods::phase_is_terminal(status.as_ref().and_then(|it| it.phase.as_deref()))
            })
        },
    );
    gauge(
        "kubelet_mirror_pods",
        "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
        &[],
        |kubelet| {
            let count = u32::try_from(kubelet.pods.mirrors().len()).unwrap_or(u32::MAX);
            vec![(Vec::new(), f64::from(count))]
        },
    );
    gauge("kubelet_cgroup_version", "cgroup version on the hosts.", &[], |kubelet| {
        vec![(Vec::new(), if kubelet.cgroups.is_v2() { 2.0 } else { 1.0 })]
    });
}

fn count_pods(kubelet: &Kubelet, counts: impl Fn(&Pod) -> bool) -> Samples {
    let pods = kubelet.pods.all();
    let of = |is_static: bool| {
        let found = pods.iter().filter(|pod| crate::pods::is_static(pod) == is_static && counts(pod)).count();
        f64::from(u32::try_from(found).unwrap_or(u32::MAX))
    };
    vec![(vec![String::new()], of(false)), (vec!["true".into()], of(true))]
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
