//! What every controller is given.

use std::sync::Arc;

use client::{Client, EventRecorder, Failure, Informer, Informers, Key, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::identity::Identities;
use crate::options::Options;
use crate::support::pods;
use crate::views::Pod;

/// Pods by the uid of their managing owner.
pub const CONTROLLER_INDEX: &str = "controller";
/// Pods without a managing owner, by namespace.
pub const ORPHAN_INDEX: &str = "orphan";
/// Pods by `namespace/key=value` of each of their labels.
pub const LABEL_INDEX: &str = "label";
/// Pods by node name; empty for those not assigned yet.
pub const NODE_INDEX: &str = "node";

#[derive(Clone)]
pub struct Context {
    pub options: Arc<Options>,
    /// Caches shared by all controllers, filled with the daemon's own identity.
    pub informers: Informers,
    pub(crate) identities: Arc<Identities>,
    pub shutdown: CancellationToken,
}

impl Context {
    /// A client with the identity of a controller's service account, or the daemon's own.
    pub async fn client(&self, service_account: &str) -> Result<Client, Error> {
        Ok(self.identities.client(service_account).await?)
    }

    pub fn events(&self, client: &Client, component: &str) -> EventRecorder {
        EventRecorder::new(client.clone(), component, "")
    }

    pub fn queue(&self, name: &'static str) -> WorkQueue<Key> {
        WorkQueue::named(name)
    }

    /// Runs workers until the shutdown. A key whose reconciliation failed comes back later each time.
    pub async fn work<Reconcile, Reconciled>(
        &self,
        queue: WorkQueue<Key>,
        workers: usize,
        reconcile: Reconcile,
    ) where
        Reconcile: Fn(Key) -> Reconciled + Clone + Send + Sync + 'static,
        Reconciled: Future<Output = Result<(), Error>> + Send,
    {
        client::run_workers(queue, workers, self.shutdown.clone(), reconcile).await;
    }

    /// All pods, with the indexes that controllers use.
    pub fn pods(&self) -> Informer<Pod> {
        let pods: Informer<Pod> = self.informers.all();
        pods.add_index(CONTROLLER_INDEX, |pod| {
            pod.metadata.controller().map(|owner| owner.uid.to_string()).into_iter().collect()
        });
        pods.add_index(ORPHAN_INDEX, |pod| {
            pod.metadata
                .controller()
                .is_none()
                .then(|| pod.metadata.namespace.to_string())
                .into_iter()
                .collect()
        });
        pods.add_index(LABEL_INDEX, |pod| {
            let pair = |(key, value): (&str, &str)| label_key(&pod.metadata.namespace, key, value);
            pod.metadata.labels.iter().map(pair).collect()
        });
        pods.add_index(NODE_INDEX, |pod| vec![pod.spec.node_name.to_string()]);
        pods
    }
}

/// A key of [`LABEL_INDEX`].
pub fn label_key(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

/// Why a reconciliation failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{0} is another one, or being deleted, by now")]
    Changed(String),
    /// Nothing failed; what is to be known will be later.
    #[error("{0}")]
    NotYet(String),
    #[error("{0}")]
    Other(String),
}

impl Failure for Error {
    fn is_routine(&self) -> bool {
        match self {
            Error::Client(error) => error.is_routine(),
            Error::NotYet(_) => true,
            Error::Changed(_) | Error::Other(_) => false,
        }
    }
}

impl From<pods::Error> for Error {
    fn from(error: pods::Error) -> Self {
        match error {
            pods::Error::Client(error) => Error::Client(error),
            pods::Error::Changed(what) => Error::Changed(what),
        }
    }
}
