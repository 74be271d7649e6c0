//! The daemon put together: configuration, clients, port, election, scheduling.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use client::delegated::{
    Authentication, AuthenticationOptions, Authorization, AuthorizationOptions, FrontProxyOptions,
};
use client::{Client, Config, Election, EventRecorder, Informers, LeaderElector, Material, Outcome, Rate};
use daemon::features::FeatureGates;
use daemon::health::Checks;
use daemon::serving::{self, TlsConfig};
use hyper::service::service_fn;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{API_VERSION, Configuration, KIND, LeaderElection};
use crate::driver::Scheduler;
use crate::options::Options;
use crate::{metrics, server};

/// Upstream's `--secure-port`.
const PORT: u16 = 10259;

/// Runs until `shutdown`. Losing the lead is an error: the process is to end and be started again.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut gates = FeatureGates::default();
    gates.parse(&options.feature_gates)?;
    let configuration = Configuration::from_options(&options)?;
    let written = {
        let mut tree = serde_json::to_value(&configuration)?;
        tree["apiVersion"] = API_VERSION.into();
        tree["kind"] = KIND.into();
        tree
    };
    if !options.write_config_to.is_empty() {
        std::fs::write(&options.write_config_to, serde_json::to_string_pretty(&written)?)?;
        return Ok(());
    }
    let profiles = configuration.profiles()?;
    let kubeconfig = configuration.client_connection.kubeconfig.as_str();
    let rate = configuration.client_connection.rate();
    let client = connect(kubeconfig, &options.master, "scheduler", rate)?;
    let host = host_name();

    let election = &configuration.leader_election;
    let elector = match election.leader_elect {
        true => {
            let lease_client = connect(kubeconfig, &options.master, "leader-election", None)?;
            Some(elector(election, lease_client, &client))
        }
        false => None,
    };
    let own = elector.as_ref().map_or_else(|| client.clone(), |it| client.while_leading(it.health()));
    let informers = Informers::new(client.clone());
    let scheduler = Scheduler::new(own, &informers, profiles, configuration.backoff(), &host, &gates);
    metrics::register(&scheduler);

    set_flag_values(&options, election);
    let healthz = Checks::default();
    if !election.leader_elect {
        healthz.add("ping", || Ok(()));
    }
    let tasks = TaskTracker::new();
    // The port outlives the scheduling, so that the last state can be read.
    let stop_port = CancellationToken::new();
    if options.serving.secure_port != Some(0) {
        let own = Own { scheduler: &scheduler, written: &written, healthz: healthz.clone() };
        serve(&options, &client, &own, &tasks, &shutdown, &stop_port).await?;
    }

    let result = if let Some(elector) = elector {
        let health = elector.health();
        healthz.add("leaderElection", move || health.check());
        let leading = scheduler.clone();
        match elector.run(shutdown.clone(), |stop| async move { leading.run(stop).await }).await {
            Outcome::Shutdown => Ok(()),
            Outcome::Lost => Err(anyhow!("leaderelection lost")),
        }
    } else {
        scheduler.run(shutdown.clone()).await;
        // Upstream's takes every end for a failure where nobody was elected, one that was asked for, too.
        Err(anyhow!("finished without leader elect"))
    };
    stop_port.cancel();
    informers.shutdown().await;
    tasks.close();
    tasks.wait().await;
    result
}

fn elector(settings: &LeaderElection, lease_client: Client, events: &Client) -> LeaderElector {
    let mut own = Election::new(&settings.resource_namespace, &settings.resource_name);
    own.lease_duration = *settings.lease_duration;
    own.renew_deadline = *settings.renew_deadline;
    own.retry_period = *settings.retry_period;
    own.release_on_shutdown = true;
    LeaderElector::new(lease_client, own).with_events(EventRecorder::new(
        events.clone(),
        "default-scheduler",
        "",
    ))
}

fn connect(kubeconfig: &str, master: &str, part: &str, rate: Option<Rate>) -> anyhow::Result<Client> {
    let mut config = if kubeconfig.is_empty() && !master.is_empty() {
        Config::new(master)?
    } else {
        Config::from_kubeconfig_or_cluster(Some(kubeconfig))?
    };
    if !master.is_empty() {
        config.server = Config::new(master)?.server;
    }
    config.rate = rate;
    let agent = format!("{}/{part}", daemon::version::user_agent("kube-scheduler"));
    Ok(Client::new(config.with_user_agent(&agent))?)
}

/// Sets the values of flags whose defaults are the configuration's.
fn set_flag_values(options: &Options, election: &LeaderElection) {
    let set = daemon::flags::set_value;
    set("secure-port", &options.serving.secure_port.unwrap_or(PORT));
    set("leader-elect", &election.leader_elect);
    set("leader-elect-lease-duration", &election.lease_duration);
    set("leader-elect-renew-deadline", &election.renew_deadline);
    set("leader-elect-retry-period", &election.retry_period);
    set("leader-elect-resource-lock", &election.resource_lock);
    set("leader-elect-resource-name", &election.resource_name);
    set("leader-elect-resource-namespace", &election.resource_namespace);
}

/// What the secure port shows: the scheduler's state, its configuration, its health.
struct Own<'a> {
    scheduler: &'a Arc<Scheduler>,
    written: &'a serde_json::Value,
    healthz: Checks,
}

async fn serve(
    options: &Options,
    client: &Client,
    own: &Own<'_>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    // Without a kubeconfig of their own, the scheduler's own identity asks.
    let other = |path: &str| -> anyhow::Result<Client> {
        if path.is_empty() { Ok(client.clone()) } else { connect(path, &options.master, "delegated", None) }
    };
    let client_ca = &options.client_ca_file;
    let authentication = AuthenticationOptions {
        client_ca: (!client_ca.is_empty()).then(|| Material::File(client_ca.into())),
        front_proxy: FrontProxyOptions::of_flags(&options.request_header),
        lookup: !options.authentication_skip_lookup,
        cache: *options.authentication_token_webhook_cache_ttl,
        ..Default::default()
    };
    authentication.check()?;
    let authorization = AuthorizationOptions {
        always_allow_paths: options.authorization_always_allow_paths.clone(),
        cache_allowed: *options.authorization_webhook_cache_authorized_ttl,
        cache_denied: *options.authorization_webhook_cache_unauthorized_ttl,
        ..Default::default()
    };
    let readyz = Checks::default();
    let ending = shutdown.clone();
    readyz.add("shutdown", move || {
        if ending.is_cancelled() { Err("process is shutting down".into()) } else { Ok(()) }
    });
    let synced = Arc::downgrade(own.scheduler);
    readyz.add("sched-handler-sync", move || match synced.upgrade() {
        Some(own) if own.synced() => Ok(()),
        _ => Err("waiting for handlers to sync".into()),
    });
    let livez = Checks::default();
    livez.add("ping", || Ok(()));
    let server = Arc::new(server::Server {
        authentication: Authentication::new(other(&options.authentication_kubeconfig)?, authentication),
        authorization: Authorization::new(other(&options.authorization_kubeconfig)?, authorization),
        healthz: own.healthz.clone(),
        scheduler: own.scheduler.clone(),
        livez,
        readyz,
        configuration: serde_json::json!({"componentconfig": own.written}).to_string(),
    });
    let port = options.serving.secure_port.unwrap_or(PORT);
    let address = SocketAddr::new(options.serving.bind_address, port);
    let names = ["localhost".to_string()];
    let tls =
        TlsConfig::from_flags(&options.serving, "kube-scheduler", &names, &[options.serving.bind_address])?;
    let listener = serving::bind(address, options.serving.permit_port_sharing)
        .with_context(|| format!("failed to create listener: failed to listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "Serving securely");
    tasks.spawn(tls.clone().watch(stop.clone()));
    let service = service_fn(move |request| server.clone().answer(request));
    let limits = serving::Options { http2: !options.serving.disable_http2_serving, ..Default::default() };
    tasks.spawn(serving::serve(listener, Some(tls), service, limits, stop.clone()));
    Ok(())
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase()
}
