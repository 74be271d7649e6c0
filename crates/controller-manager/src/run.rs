//! The daemon's life: connect, serve, become leader, run the controllers, stop.

use std::sync::Arc;

use client::{Client, Config, Election, EventRecorder, Informers, LeaderElector, Outcome};
use daemon::health::Checks;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::identity::Identities;
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
    #[error("the controller {0} failed: {1}")]
    Controller(String, String),
}

/// Runs until `shutdown`, or until the lead is lost.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    options.check().map_err(Error::Options)?;
    daemon::absent::warn_of_flags(options.without_effect());
    let selection = registry::select(&options.controllers).map_err(Error::Controllers)?;
    for name in &selection.absent {
        tracing::error!(controller = name, "Controller is not implemented and will not run");
    }
    let mut gates = daemon::features::FeatureGates::default();
    gates.parse(&options.feature_gates)?;

    let mut config = Config::from_kubeconfig_or_cluster(Some(&options.kubeconfig))?;
    if !options.master.is_empty() {
        config.server = Config::new(&options.master)?.server;
    }
    let root = Client::new(config.with_user_agent(&daemon::version::user_agent("kube-controller-manager")))?;

    let stop = shutdown.child_token();
    let healthz = Checks::default();
    let serving = serve::start(&options, &root, healthz.clone(), stop.clone()).await?;
    tracing::info!(version = daemon::version::GIT_VERSION, "Starting");
    let outcome = if options.leader_elect {
        let work = |stop| controllers(&options, &root, &selection.run, &healthz, stop);
        lead(&options, &root, &healthz, shutdown, work).await
    } else {
        controllers(&options, &root, &selection.run, &healthz, shutdown).await
    };
    stop.cancel();
    serving.finish().await;
    outcome
}

async fn lead<Leading>(
    options: &Options,
    root: &Client,
    healthz: &Checks,
    shutdown: CancellationToken,
    work: impl FnOnce(CancellationToken) -> Leading,
) -> Result<(), Error>
where
    Leading: Future<Output = Result<(), Error>>,
{
    let mut election =
        Election::new(&options.leader_elect_resource_namespace, &options.leader_elect_resource_name);
    election.lease_duration = *options.leader_elect_lease_duration;
    election.renew_deadline = *options.leader_elect_renew_deadline;
    election.retry_period = *options.leader_elect_retry_period;
    let events = EventRecorder::new(root.clone(), "kube-controller-manager", "");
    let result = std::cell::RefCell::new(Ok(()));
    let elector = LeaderElector::new(root.clone(), election).with_events(events);
    let health = elector.health();
    healthz.add("leaderElection", move || health.check());
    let outcome = elector
        .run(shutdown, |stop| async {
            let ended = work(stop).await;
            *result.borrow_mut() = ended;
        })
        .await;
    match outcome {
        Outcome::Shutdown => result.into_inner(),
        Outcome::Lost => Err(Error::LeaderElectionLost),
    }
}

/// Runs the named controllers until `stop`. One that ends by itself is an error: the daemon is restarted
/// rather than left half working.
async fn controllers(
    options: &Options,
    root: &Client,
    names: &[&'static str],
    healthz: &Checks,
    stop: CancellationToken,
) -> Result<(), Error> {
    let each_its_own = options.use_service_account_credentials;
    let identities = Identities::new(root.clone(), each_its_own, options.rate(), stop.clone())?;
    let identities = Arc::new(identities);
    let context = Context {
        options: Arc::new(options.clone()),
        informers: Informers::new(root.clone()),
        identities: identities.clone(),
        shutdown: stop.clone(),
    };
    let mut running = JoinSet::new();
    for entry in registry::CONTROLLERS.iter().filter(|entry| names.contains(&entry.name)) {
        tracing::info!(controller = entry.name, "Starting controller");
        let ended = (entry.run)(context.clone());
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
            Ok((name, Ok(()))) => (name, None),
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
