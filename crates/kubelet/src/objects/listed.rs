//! All objects of a kind, watched from the first time that a pod needs them: most nodes never do.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use client::{Informer, Informers, Scope, Selectors, View};
use tokio::sync::broadcast;

use super::{Change, Error};

/// How long the first pod waits for them.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Listed<T: View> {
    informers: Informers,
    selectors: Selectors,
    changes: broadcast::Sender<Change>,
    change: Arc<dyn Fn(&T) -> Change + Send + Sync>,
    informer: OnceLock<Informer<T>>,
}

impl<T: View> Listed<T> {
    /// `change` says of what a change of an object is one.
    pub fn new(
        informers: Informers,
        selectors: Selectors,
        changes: broadcast::Sender<Change>,
        change: impl Fn(&T) -> Change + Send + Sync + 'static,
    ) -> Self {
        Self { informers, selectors, changes, change: Arc::new(change), informer: OnceLock::new() }
    }

    pub async fn informer(&self) -> Result<&Informer<T>, Error> {
        let informer = self.informer.get_or_init(|| self.watch());
        match tokio::time::timeout(PATIENCE, informer.synced()).await {
            Ok(()) => Ok(informer),
            Err(_) => Err(Error::Other(format!("{} informer has not yet synced", informer.resource().kind))),
        }
    }

    fn watch(&self) -> Informer<T> {
        let informer = self.informers.watch::<T>(Scope::All, self.selectors.clone());
        let (changes, change) = (self.changes.clone(), self.change.clone());
        informer.on_event(move |event| {
            // Fails only without a receiver.
            let _ = changes.send(change(event.object()));
        });
        informer
    }
}
