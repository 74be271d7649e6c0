//! What a cluster has from its first moment: namespaces, the default policy, priority classes, the `kubernetes` Service, …
//!
//! Each part brings the stored objects to what they should be and can run at any time, on any number of servers at once.
//! Parts run side by side; each is a post-start hook with its upstream name, and a server is ready when all have passed.

mod flow_control;
pub mod hooks;
mod kubernetes_service;
mod lease;
mod objects;
mod rbac;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use futures::StreamExt as _;
use registry::Kind;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::allocate::ServiceHook;
use crate::flow::Flows;
use crate::handlers::Server;
use crate::kinds;
use crate::options::Options;
pub use hooks::Hooks;
use watchcache::resources::Resources;

/// Writes under way at once within a part.
const PARALLEL: usize = 16;

const NAMESPACE_TRIES: usize = 500;
const NAMESPACE_WAIT: Duration = Duration::from_millis(2);

/// How often what somebody may have taken away is put back.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    /// The `kubernetes` Service and its endpoints.
    pub service: Duration,
    /// The system namespaces.
    pub namespaces: Duration,
    /// Service addresses and node ports.
    pub allocations: Duration,
}

impl Default for Periods {
    fn default() -> Periods {
        Periods {
            service: Duration::from_secs(10),
            namespaces: Duration::from_secs(60),
            allocations: Duration::from_secs(180),
        }
    }
}

/// What the parts need to know.
pub struct Bootstrap {
    pub resources: Arc<Resources>,
    pub server: Arc<Server>,
    pub store: Arc<dyn store::Store>,
    pub options: Options,
    /// Address at which clients in the cluster reach this server.
    pub advertise: IpAddr,
    pub services: Arc<ServiceHook>,
    pub flows: Arc<Flows>,
    pub policy: Arc<access::authz::rbac::Policy>,
    pub client_ca: Option<String>,
    pub request_header_ca: Option<String>,
    pub periods: Periods,
}

impl Bootstrap {
    /// Starts every part. Each marks its hook when it has passed once; some go on until `shutdown`.
    pub fn start(self: Arc<Self>, hooks: &Hooks, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let part = |names: &'static [&'static str]| (self.clone(), hooks.clone(), shutdown.clone(), names);
        let (me, done, stop, names) = part(&["start-system-namespaces-controller"]);
        tasks.spawn(async move {
            done.until_done(names, &stop, || objects::namespaces(&me)).await;
            while stop.run_until_cancelled(tokio::time::sleep(me.periods.namespaces)).await.is_some() {
                if let Err(status) = objects::namespaces(&me).await {
                    tracing::warn!(error = status.message, "Cannot restore the system namespaces");
                }
            }
        });
        let (me, done, stop, names) = part(&["rbac/bootstrap-roles"]);
        tasks.spawn(async move { done.until_done(names, &stop, || rbac::reconcile(&me)).await });
        let (me, done, stop, names) = part(&["scheduling/bootstrap-system-priority-classes"]);
        tasks.spawn(async move { done.until_done(names, &stop, || objects::priority_classes(&me)).await });
        let (me, done, stop, names) = part(&[
            "priority-and-fairness-config-producer",
            "priority-and-fairness-config-consumer",
            "priority-and-fairness-filter",
        ]);
        tasks.spawn(async move {
            done.until_done(names, &stop, || flow_control::ensure(&me)).await;
            flow_control::keep(&me, &me.flows, &stop).await;
        });
        let (me, done, stop, names) = part(&["start-cluster-authentication-info-controller"]);
        tasks.spawn(async move { done.until_done(names, &stop, || objects::authentication_info(&me)).await });
        let (me, done, stop, names) =
            part(&["start-kubernetes-service-cidr-controller", "bootstrap-controller"]);
        tasks.spawn(async move {
            done.until_done(names, &stop, || kubernetes_service::reconcile(&me)).await;
            kubernetes_service::keep(&me, &stop).await;
        });
        let (me, done, stop, names) = part(&["start-service-ip-repair-controllers"]);
        tasks.spawn(async move {
            done.until_done(names, &stop, || me.services.repair(&me.server)).await;
            me.services.keep(&me.server, me.periods.allocations, &stop).await;
        });
        let (me, done, stop, names) = part(&[
            "start-kube-apiserver-identity-lease-controller",
            "start-kube-apiserver-identity-lease-garbage-collector",
        ]);
        tasks.spawn(async move {
            done.until_done(names, &stop, || lease::renew(&me)).await;
            lease::keep(&me, &stop).await;
        });
        let (me, done, stop, names) = part(&["start-legacy-token-tracking-controller"]);
        tasks.spawn(async move { done.until_done(names, &stop, || objects::token_tracking(&me)).await });
    }

    /// Waits until admission knows the system namespaces. They may be on their way from this very server.
    async fn namespaces_known(&self) {
        let known = |name: &&str| self.resources.get(kinds::namespaces(), "", name).is_some();
        for _ in 0..NAMESPACE_TRIES {
            if objects::NAMESPACES.iter().all(known) {
                return;
            }
            tokio::time::sleep(NAMESPACE_WAIT).await;
        }
    }

    /// Creates the object unless one of its name is there. Answers whether it was created.
    async fn ensure(&self, resource: &Arc<Kind>, namespace: &str, object: Tree) -> Result<bool, Status> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if self.resources.get(resource, namespace, name).is_some() {
            return Ok(false);
        }
        match self.server.create(resource, namespace, object).await {
            Ok(_) => Ok(true),
            Err(status) if status.reason == "AlreadyExists" => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// [`Bootstrap::ensure`] for many, some at a time.
    async fn ensure_all(&self, objects: Vec<(&'static Arc<Kind>, String, Tree)>) -> Result<(), Status> {
        let writes: Vec<_> =
            objects
                .into_iter()
                .map(|(resource, namespace, object)| async move {
                    self.ensure(resource, &namespace, object).await
                })
                .collect();
        let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL);
        while let Some(result) = writes.next().await {
            result?;
        }
        Ok(())
    }
}
