//! The daemon's life: connect, serve, become leader, run the controllers, stop.

use std::sync::Arc;

use ::controllers::{Context, Identities};
use client::{Client, Config, Election, EventRecorder, Informers, LeaderElector, LeaderHealth, Outcome};
use daemon::features::FeatureGates;
use daemon::health::Checks;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::registry;
use crate::serve;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Controllers(String),
    #[error("{0}")]
    Options(String),
    #[error("{0}")]
    Features(#[from] daemon::features::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error("leaderelection lost")]
    LeaderElectionLost,
    #[error("starting the thread that keeps the lease: {0}")]
    Lease(std::io::Error),
    #[error("the controller {0} failed: {1}")]
    Controller(String, String),
}

/// Runs until `shutdown`, or until the lead is lost.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    options.check().map_err(Error::Options)?;
    daemon::absent::warn_of_flags(options.without_effect());
    let mut gates = FeatureGates::default();
    gates.parse(&options.feature_gates)?;
    let selection = registry::select(&options.controllers, &gates).map_err(Error::Controllers)?;
    let gates = Arc::new(gates);
    for name in &selection.absent {
        tracing::error!(controller = name, "Controller is not implemented and will not run");
    }

    let mut config = Config::from_kubeconfig_or_cluster(Some(&options.kubeconfig))?;
    if !options.master.is_empty() {
        config.server = Config::new(&options.master)?.server;
    }
    let config = config.with_user_agent(&daemon::version::user_agent("kube-controller-manager"));
    let root = Client::new(config.clone())?;

    let stop = shutdown.child_token();
    let healthz = Checks::default();
    let serving = serve::start(&options, &root, healthz.clone(), stop.clone()).await?;
    tracing::info!(version = daemon::version::GIT_VERSION, "Starting");
    let outcome = if options.leader_elect {
        let work = async |stop, health| {
            let root = root.while_leading(health);
            controllers(&options, &root, &selection.run, gates, &healthz, stop).await
        };
        lead(&options, config, &healthz, shutdown, work).await
    } else {
        controllers(&options, &root, &selection.run, gates, &healthz, shutdown).await
    };
    stop.cancel();
    serving.finish().await;
    outcome
}

/// Runs `work` while this process leads. The lease is kept by a thread with a runtime and connections of its own: however
/// much the controllers have to do, it is renewed in time.
async fn lead(
    options: &Options,
    config: Config,
    healthz: &Checks,
    shutdown: CancellationToken,
    work: impl AsyncFnOnce(CancellationToken, LeaderHealth) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut election =
        Election::new(&options.leader_elect_resource_namespace, &options.leader_elect_resource_name);
    election.lease_duration = *options.leader_elect_lease_duration;
    election.renew_deadline = *options.leader_elect_renew_deadline;
    election.retry_period = *options.leader_elect_retry_period;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Lease)?;
    let (leads, led) = oneshot::channel::<(CancellationToken, LeaderHealth)>();
    let (ended, end) = oneshot::channel::<()>();
    let healthz = healthz.clone();
    let elect = async move {
        let client = Client::new(config)?;
        let events = EventRecorder::new(client.clone(), "kube-controller-manager", "");
        let elector = LeaderElector::new(client, election).with_events(events);
        let (health, own) = (elector.health(), elector.health());
        healthz.add("leaderElection", move || health.check());
        let lead = |stop| async {
            // Either fails when the other side is gone, which ends the lead as well.
            if leads.send((stop, own)).is_ok() {
                let _ = end.await;
            }
        };
        Ok::<Outcome, Error>(elector.run(shutdown, lead).await)
    };
    let thread = std::thread::Builder::new().name("lease".to_owned());
    let (outcome, lease) = oneshot::channel();
    let elect = move || drop(outcome.send(runtime.block_on(elect)));
    let thread = thread.spawn(elect).map_err(Error::Lease)?;
    tokio::pin!(lease);
    let mut result = Ok(());
    let outcome = tokio::select! {
        outcome = &mut lease => outcome,
        Ok((stop, health)) = led => {
            let worked = async {
                result = work(stop, health).await;
                let _ = ended.send(());
                std::future::pending::<()>().await;
            };
            tokio::select! {
                outcome = &mut lease => outcome,
                () = worked => unreachable!("it does not end"),
            }
        }
    };
    // It has sent its outcome and ends at once.
    let _ = thread.join();
    match outcome {
        Ok(Ok(Outcome::Shutdown)) => result,
        Ok(Err(error)) => Err(error),
        Ok(Ok(Outcome::Lost)) | Err(_) => Err(Error::LeaderElectionLost),
    }
}

/// Runs the named controllers until `stop`. One that ends by itself is an error: the daemon is restarted
/// rather than left half working.
async fn controllers(
    options: &Options,
    root: &Client,
    names: &[&'static str],
    gates: Arc<FeatureGates>,
    healthz: &Checks,
    stop: CancellationToken,
) -> Result<(), Error> {
    let each_its_own = options.use_service_account_credentials;
    let identities = Identities::new(root.clone(), each_its_own, options.rate(), stop.clone())?;
    let identities = Arc::new(identities);
    let context = Context::new(Informers::new(root.clone()), identities.clone(), gates, stop.clone());
    let options = Arc::new(options.clone());
    let mut running = JoinSet::new();
    let (kinds, until) = (context.kinds.clone(), stop.clone());
    running.spawn(async move {
        kinds.run(until).await;
        ("discovery", Ok(()))
    });
    crate::metrics::register();
    for entry in registry::CONTROLLERS.iter().filter(|entry| names.contains(&entry.name)) {
        tracing::info!(controller = entry.name, "Starting controller");
        let ended = (entry.run)(context.clone(), options.clone());
        // a controller that ends also ends the daemon
        healthz.add(entry.name, || Ok(()));
        running.spawn(async move { (entry.name, ended.await) });
    }
    let mut failure = None;
    let mut deadline = None;
    loop {
        let joined = match deadline {
            None => tokio::select! {
                joined = running.join_next() => joined,
                () = stop.cancelled() => {
                    deadline = Some(tokio::time::Instant::now() + *options.controller_shutdown_timeout);
                    continue;
                }
            },
            Some(at) => match tokio::time::timeout_at(at, running.join_next()).await {
                Ok(joined) => joined,
                Err(_) => {
                    tracing::error!("Controllers did not stop in time");
                    break;
                }
            },
        };
        let Some(joined) = joined else { break };
        let (name, error) = match joined {
            // None has a reason to end before it is asked to.
            Ok((name, Ok(()))) => (name, (!stop.is_cancelled()).then(|| "it ended by itself".to_owned())),
            Ok((name, Err(error))) => (name, Some(error.to_string())),
            Err(error) => ("", Some(error.to_string())),
        };
        match error {
            Some(error) if !stop.is_cancelled() => {
                tracing::error!(controller = name, error, "Controller failed");
                failure.get_or_insert(Error::Controller(name.to_owned(), error));
                stop.cancel();
            }
            _ => tracing::debug!(controller = name, "Controller stopped"),
        }
    }
    running.shutdown().await;
    context.informers.shutdown().await;
    identities.finish().await;
    failure.map_or(Ok(()), Err)
}
