//! What all controllers of a daemon share: caches, identities, feature gates, the kinds that are served.

use std::any::{Any, TypeId};
use std::sync::Arc;

use client::{Failure, Informer, Informers, RateLimit, View, WorkQueue};
use daemon::features::FeatureGates;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio_util::sync::CancellationToken;

use crate::identity::Identities;
use crate::owned::{Adopters, Owned, Selects};
use crate::pods::Pods;
use crate::views::Object;
use crate::{Builder, Kinds};

#[derive(Clone)]
pub struct Context {
    /// Caches shared by all controllers, filled with the daemon's own identity.
    pub informers: Informers,
    pub gates: Arc<FeatureGates>,
    pub kinds: Kinds,
    pub shutdown: CancellationToken,
    identities: Arc<Identities>,
    indexed: Arc<Indexed>,
}

/// Caches with their indexes, by type: each index is made once, however many controllers use it.
type Indexed = Mutex<FxHashMap<TypeId, Box<dyn Any + Send>>>;

impl Context {
    pub fn new(
        informers: Informers,
        identities: Arc<Identities>,
        gates: Arc<FeatureGates>,
        shutdown: CancellationToken,
    ) -> Context {
        let kinds = Kinds::new(informers.clone());
        Context { informers, gates, kinds, shutdown, identities, indexed: Arc::default() }
    }

    /// Begins a controller: `queue` names its work queue in metrics, `account` its service account, `component` who its
    /// events are from.
    pub async fn builder(
        &self,
        queue: &'static str,
        account: &str,
        component: &str,
    ) -> Result<Builder, Error> {
        self.builder_with(queue, RateLimit::default(), account, component).await
    }

    /// The same; a key that fails waits as `backoff` says.
    pub async fn builder_with(
        &self,
        queue: &'static str,
        backoff: RateLimit,
        account: &str,
        component: &str,
    ) -> Result<Builder, Error> {
        let client = self.identities.client(account).await?;
        Ok(Builder::new(self.clone(), WorkQueue::new(queue, backoff), client, component))
    }

    /// A controller with the daemon's own identity.
    pub fn own_builder(&self, queue: &'static str, component: &str) -> Builder {
        Builder::new(self.clone(), WorkQueue::named(queue), self.informers.client().clone(), component)
    }

    /// Objects with their owners.
    pub fn owned<V: View + Object>(&self) -> Owned<V> {
        self.indexed(|| Owned::new(self.informers.all()))
    }

    /// Objects that select others.
    pub fn adopters<O: View + Selects>(&self) -> Adopters<O> {
        self.indexed(|| Adopters::new(self.informers.all()))
    }

    pub fn pods(&self) -> Pods {
        let owned = self.owned();
        self.indexed(|| Pods::new(owned))
    }

    pub fn all<V: View>(&self) -> Informer<V> {
        self.informers.all()
    }

    fn indexed<T: Clone + Send + 'static>(&self, make: impl FnOnce() -> T) -> T {
        let mut indexed = self.indexed.lock();
        let entry = indexed.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(make()));
        entry.downcast_ref::<T>().expect("the entry of a type is of that type").clone()
    }
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
