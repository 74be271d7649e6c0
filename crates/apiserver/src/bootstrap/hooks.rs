//! Which post-start hooks have passed, for the health checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use daemon::health::Checks;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Upstream's hooks in its order. Those of parts that this server does not have pass with the start.
const NAMES: &[(&str, bool)] = &[
    ("start-apiserver-admission-initializer", false),
    ("generic-apiserver-start-informers", true),
    ("priority-and-fairness-config-consumer", true),
    ("priority-and-fairness-filter", true),
    ("storage-object-count-tracker-hook", false),
    ("start-apiextensions-informers", false),
    ("start-apiextensions-controllers", false),
    ("crd-informer-synced", false),
    ("start-system-namespaces-controller", true),
    ("peer-endpoint-reconciler-controller", false),
    ("start-cluster-authentication-info-controller", true),
    ("start-kube-apiserver-identity-lease-controller", true),
    ("start-kube-apiserver-identity-lease-garbage-collector", true),
    ("storage-readiness", true),
    ("start-legacy-token-tracking-controller", true),
    ("start-service-ip-repair-controllers", true),
    ("rbac/bootstrap-roles", true),
    ("scheduling/bootstrap-system-priority-classes", true),
    ("priority-and-fairness-config-producer", true),
    ("bootstrap-controller", true),
    ("start-kubernetes-service-cidr-controller", true),
    (RELOAD, false),
    ("start-kube-aggregator-informers", false),
    ("apiservice-status-local-available-controller", false),
    ("apiservice-status-remote-available-controller", false),
    ("apiservice-registration-controller", true),
    ("apiservice-discovery-controller", true),
    ("kube-apiserver-autoregistration", true),
    ("autoregister-completion", true),
    ("apiservice-openapi-controller", false),
    ("apiservice-openapiv3-controller", false),
];

/// There only where there are files to be followed.
const RELOAD: &str = "aggregator-reload-proxy-client-cert";

const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks(Arc::new(Mutex::new(NAMES.iter().map(|(name, ours)| (*name, !ours)).collect())))
    }
}

impl Hooks {
    /// Those of a server with or without a certificate for aggregated APIs.
    pub fn new(has_certificate: bool) -> Hooks {
        let hooks = Hooks::default();
        if !has_certificate {
            hooks.0.lock().remove(RELOAD);
        }
        hooks
    }

    pub fn mark(&self, name: &'static str) {
        self.0.lock().insert(name, true);
    }

    pub fn passed(&self, name: &str) -> bool {
        self.0.lock().get(name).copied().unwrap_or(true)
    }

    /// Adds a check per hook.
    pub fn checks(&self, checks: &Checks) {
        let known: Vec<&str> = self.0.lock().keys().copied().collect();
        for (name, _) in NAMES.iter().filter(|(name, _)| known.contains(name)) {
            let hooks = self.clone();
            let shown = match *name {
                "autoregister-completion" => (*name).to_owned(),
                name => format!("poststarthook/{name}"),
            };
            checks.add(&shown, move || match hooks.passed(name) {
                true => Ok(()),
                false => Err("not finished".to_owned()),
            });
        }
    }

    /// Runs a part until it passes, then marks its hooks.
    pub async fn until_done<F: Future<Output = Result<(), Status>>>(
        &self,
        names: &'static [&'static str],
        shutdown: &CancellationToken,
        run: impl Fn() -> F,
    ) {
        let mut wait = RETRY;
        loop {
            match shutdown.run_until_cancelled(run()).await {
                None => return,
                Some(Ok(())) => break,
                Some(Err(status)) => {
                    tracing::warn!(
                        hook = names[0],
                        error = status.message,
                        "Bootstrap step failed, trying again"
                    );
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(RETRY_MOST);
        }
        names.iter().for_each(|name| self.mark(name));
    }
}
