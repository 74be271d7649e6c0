//! The parts and how they hang together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use access::authn::{Authenticator, RequestHeader, ServiceAccounts, StaticTokens};
use access::authz::{Authorizer, node, rbac};
use access::impersonation::Impersonation;
use access::keys;
use access::reviews::Reviews;
use access::tokens::Issuer;
use daemon::features::FeatureGates;
use daemon::health::Checks;
use daemon::serving::authority::Authority;
use daemon::serving::identity::ProxyHeaders;
use store::Store;
use store::etcd::Etcd;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchcache::feed::Storage;
use watchcache::resources::Resources;

use super::Error;
use crate::aggregator::registration::Registration;
use crate::aggregator::{Aggregator, Controller};
use crate::allocate::ServiceHook;
use crate::authz::changes::Changes;
use crate::authz::escalation::Escalation;
use crate::bootstrap::{Bootstrap, Hooks, Periods};
use crate::extensions::Extensions;
use crate::flow::Flows;
use crate::handlers;
use crate::layers::Front;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::service_routing::ServiceRouter;
use crate::settings::Settings;

/// The three stages of shutdown, in order.
pub struct Lives<'a> {
    /// Shutdown was requested: no longer ready.
    pub shutdown: &'a CancellationToken,
    /// No new connections, and watches end.
    pub stop: &'a CancellationToken,
    /// All requests are done.
    pub background: &'a CancellationToken,
}

/// Everything that answers requests, with its background work started.
pub async fn front(
    options: &Options,
    gates: &FeatureGates,
    store: Arc<dyn Store>,
    advertise: IpAddr,
    lives: &Lives<'_>,
    tunnels: &TaskTracker,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Front>, Error> {
    let background = lives.background;
    let settings = Settings::of(options);
    let storage = Storage {
        // the server's own resources are cached even where they are not served
        resources: registry::kind::all()
            .iter()
            .filter(|kind| kind.enabled || settings.served.includes(kind))
            .collect(),
        compaction: *options.etcd_compaction_interval,
        json: options.stores_json(),
    };
    let resources = Resources::with_storage(store.clone(), lives.stop.clone(), &storage);
    let feeding = resources.clone();
    tasks.spawn(async move { feeding.run().await });
    let services = Arc::new(ServiceHook::new(
        resources.clone(),
        &options.service_cluster_ip_range,
        options.service_node_port_range,
    ));

    let client_ca = authority(options.client_ca_file.as_deref(), background, tasks)?;
    let header_ca = authority(options.requestheader_client_ca_file.as_deref(), background, tasks)?;
    let issuer = Arc::new(issuer(options, advertise, &resources)?);
    let authenticator =
        Arc::new(authenticator(options, gates, &resources, &issuer, client_ca.clone(), header_ca.clone())?);
    let policy = Arc::new(rbac::Policy::default());
    let graph = Arc::new(node::Graph::new(resources.clone()));
    let authorizer = Arc::new(Authorizer::new(&options.authorization_mode, policy.clone(), graph.clone()));

    let reviews = Reviews { authenticator: authenticator.clone(), authorizer: authorizer.clone() };
    let escalation = Escalation { authorizer: authorizer.clone() };
    let changes = Changes { authorizer: authorizer.clone(), resources: resources.clone() };
    let server = handlers::Server::with_settings(
        resources.clone(),
        authorizer.clone(),
        Some(Arc::new(reviews)),
        Some(issuer.clone()),
        vec![services.clone(), Arc::new(escalation), Arc::new(changes)],
        settings,
        |name| options.admission.admits(name) && gated(name, gates),
    );
    let absent = options.admission.absent();
    if !absent.is_empty() {
        tracing::warn!("admission plugins {} are accepted and have no effect yet", absent.join(", "));
    }
    daemon::absent::warn_of_flags(options.without_effect());
    let _ = server.address.set(SocketAddr::new(advertise, options.secure_port()).to_string());

    let extensions = Extensions::new(server.clone(), resources.clone());
    let router = ServiceRouter::new(resources.clone(), server.settings.routing.clone());
    let aggregator = Aggregator::new(resources.clone(), router, options, tunnels.clone());
    let aggregator = Arc::new(aggregator.map_err(Error::Options)?);
    let aggregating = Controller::new(aggregator.clone(), server.clone());
    let registration = Registration::new(server.clone());
    let (front_authorizer, proxied) = (authorizer.clone(), resources.clone());
    let hooks = Hooks::new(options.proxy_client_cert_file.is_some());
    let flows = Arc::new(Flows::default());
    let bootstrap = Arc::new(Bootstrap {
        resources: resources.clone(),
        server: server.clone(),
        store: store.clone(),
        options: options.clone(),
        advertise,
        services: services.clone(),
        flows: flows.clone(),
        policy: policy.clone(),
        client_ca: client_ca.as_ref().map(Authority::pem),
        request_header_ca: header_ca.as_ref().map(Authority::pem),
        periods: Periods::default(),
    });
    let (marks, stop, classified) = (hooks.clone(), background.clone(), flows.clone());
    tasks.spawn(async move {
        if stop.run_until_cancelled(resources.synced()).await.is_none() {
            return;
        }
        if stop.run_until_cancelled(services.load()).await.is_none() {
            return;
        }
        let mut parts = JoinSet::new();
        policy.run(&resources, &stop, &mut parts);
        classified.run(&resources, &stop, &mut parts);
        if authorizer.uses_node() {
            graph.run(&stop, &mut parts);
        }
        let (served, waiting) = tokio::sync::oneshot::channel();
        let serves = stop.clone();
        parts.spawn(async move { extensions.run(serves, || _ = served.send(())).await });
        // What was served before is served before this server is ready.
        let _ = stop.run_until_cancelled(waiting).await;
        marks.mark("generic-apiserver-start-informers");
        marks.mark("storage-readiness");
        parts.spawn(aggregating.run(marks.clone(), stop.clone()));
        parts.spawn(registration.run(marks.clone(), stop.clone()));
        bootstrap.start(&marks, &stop, &mut parts);
        while parts.join_next().await.is_some() {}
    });

    let (healthz, livez, readyz) = health(&hooks, &store, lives.shutdown);
    let checks = [("healthz", &healthz), ("livez", &livez), ("readyz", &readyz)].into_iter();
    let paths = checks.flat_map(|(endpoint, checks)| {
        checks.names().into_iter().map(move |name| format!("/{endpoint}/{name}"))
    });
    let _ = server.checks.set(paths.collect());
    Ok(Arc::new(Front {
        server,
        authenticator,
        authorizer: front_authorizer,
        impersonation: Impersonation::new(gates.enabled("ConstrainedImpersonation")),
        issuer,
        aggregator,
        proxy: Proxy::new(proxied, options, tunnels.clone()).map_err(Error::Options)?,
        healthz,
        livez,
        readyz,
        flows,
        turns: crate::turn::Turns::new(options.max_requests_inflight, options.max_mutating_requests_inflight),
        timeout: *options.request_timeout,
        streams_need_create: gates.enabled("AuthorizePodWebsocketUpgradeCreatePermission"),
    }))
}

/// Whether the feature is on that an admission plugin belongs to.
fn gated(plugin: &str, gates: &FeatureGates) -> bool {
    match plugin {
        "PodTopologyLabels" => gates.enabled("PodTopologyLabelsAdmission"),
        "PodGroupProtection" => gates.enabled("GenericWorkload"),
        _ => true,
    }
}

/// etcd, by its flags. Does not wait for it.
pub async fn connect(options: &Options) -> Result<Arc<dyn Store>, Error> {
    let etcd = Etcd::connect(&store::etcd::Options {
        servers: options.etcd_servers.clone(),
        ca_file: options.etcd_cafile.clone(),
        cert_file: options.etcd_certfile.clone(),
        key_file: options.etcd_keyfile.clone(),
        ..Default::default()
    })
    .await?;
    Ok(crate::metrics::storage::measured(etcd))
}

fn authority(
    path: Option<&std::path::Path>,
    background: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<Option<Authority>, Error> {
    let Some(path) = path else { return Ok(None) };
    let authority = Authority::from_file(path)?;
    tasks.spawn(authority.clone().watch(background.clone()));
    Ok(Some(authority))
}

fn issuer(options: &Options, advertise: IpAddr, resources: &Arc<Resources>) -> Result<Issuer, Error> {
    let mut verifiers = Vec::new();
    for path in &options.service_account_key_file {
        verifiers.extend(keys::verifiers(path)?);
    }
    let Some(signing) = &options.service_account_signing_key_file else {
        return Err(Error::Options("--service-account-signing-key-file is a required flag".into()));
    };
    let jwks_uri = match options.service_account_jwks_uri.as_str() {
        "" => {
            let host = match options.external_hostname.as_str() {
                "" => SocketAddr::new(advertise, options.secure_port()).to_string(),
                name => format!("{name}:{}", options.secure_port()),
            };
            format!("https://{host}/openid/v1/jwks")
        }
        uri => uri.to_owned(),
    };
    Ok(Issuer {
        resources: resources.clone(),
        issuer: options.service_account_issuer.first().cloned().unwrap_or_default(),
        api_audiences: options.api_audiences.clone(),
        signer: keys::signer(signing)?,
        verifiers,
        jwks_uri,
        max_seconds: options.service_account_max_token_expiration.as_secs() as i64,
        extend: options.service_account_extend_token_expiration,
    })
}

fn authenticator(
    options: &Options,
    gates: &FeatureGates,
    resources: &Arc<Resources>,
    issuer: &Issuer,
    client_ca: Option<Authority>,
    header_ca: Option<Authority>,
) -> Result<Authenticator, Error> {
    let static_tokens = match &options.token_auth_file {
        Some(path) => StaticTokens::from_file(path).map_err(Error::Options)?,
        None => StaticTokens::default(),
    };
    let or_default = |set: &[String], default: &str| match set {
        [] if default.is_empty() => Vec::new(),
        [] => vec![default.to_owned()],
        set => set.to_vec(),
    };
    Ok(Authenticator {
        client_ca,
        request_header: header_ca.map(|authority| RequestHeader {
            authority,
            allowed_names: options.requestheader_allowed_names.clone(),
            headers: ProxyHeaders {
                username: or_default(&options.requestheader_username_headers, "x-remote-user"),
                uid: options.requestheader_uid_headers.clone(),
                group: or_default(&options.requestheader_group_headers, "x-remote-group"),
                extra_prefix: or_default(&options.requestheader_extra_headers_prefix, "x-remote-extra-"),
            },
        }),
        service_accounts: ServiceAccounts {
            issuers: options.service_account_issuer.clone(),
            verifiers: issuer.verifiers.clone(),
            resources: resources.clone(),
            api_audiences: options.api_audiences.clone(),
            lookup: options.service_account_lookup,
        },
        static_tokens,
        bootstrap_tokens: options.enable_bootstrap_token_auth,
        anonymous: options.anonymous.clone(),
        resources: resources.clone(),
        api_audiences: options.api_audiences.clone(),
        uid_of_certificate: gates.enabled("AllowParsingUserUIDFromCertAuth"),
    })
}

/// The checks of the three endpoints, named and ordered as upstream's.
fn health(hooks: &Hooks, store: &Arc<dyn Store>, shutdown: &CancellationToken) -> (Checks, Checks, Checks) {
    let (healthz, livez, readyz) = (Checks::new(), Checks::new(), Checks::new());
    for (checks, ready) in [(&healthz, false), (&livez, false), (&readyz, true)] {
        if !ready {
            checks.add("loopback-serving-certificate", || Ok(()));
        }
        etcd(checks, "etcd", store);
        if ready {
            etcd(checks, "etcd-readiness", store);
            let synced = hooks.clone();
            checks.add("informer-sync", move || match synced.passed("generic-apiserver-start-informers") {
                true => Ok(()),
                false => Err("caches are not synced".to_owned()),
            });
        }
        hooks.checks(checks);
        if ready {
            let shutdown = shutdown.clone();
            checks.add("shutdown", move || match shutdown.is_cancelled() {
                true => Err("process is shutting down".to_owned()),
                false => Ok(()),
            });
        }
    }
    (healthz, livez, readyz)
}

fn etcd(checks: &Checks, name: &str, store: &Arc<dyn Store>) {
    let store = store.clone();
    checks.add_async(name, move || {
        let store = store.clone();
        Box::pin(async move {
            match tokio::time::timeout(Duration::from_secs(2), store.revision()).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("error getting data from etcd: context deadline exceeded".to_owned()),
            }
        })
    });
}
