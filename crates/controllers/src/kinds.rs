//! The kinds that the API server serves: what they are called, and the metadata of their objects.
//!
//! A kind that has a view of its own here is watched once, as that view, and its metadata is lent; of all others the metadata
//! alone is watched, when somebody asks for it.

pub mod discovery;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Informers, Key, Progress, ResourceRef, Scope, Selectors, View};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::views::{self, HasMeta, Lean, Meta, Object};
use discovery::{Discovery, Served};

/// How often discovery is asked for new kinds.
const PERIOD: Duration = Duration::from_secs(30);

/// Clones share it.
#[derive(Clone)]
pub struct Kinds {
    inner: Arc<Inner>,
}

struct Inner {
    informers: Informers,
    known: watch::Sender<Arc<Known>>,
    /// Metadata that is watched for its own sake.
    watched: Mutex<HashMap<ResourceRef, Informer<Lean>>>,
}

/// What is served, as discovery said last.
#[derive(Debug, Default)]
pub struct Known {
    /// How often discovery has answered.
    pub round: u64,
    pub resources: Vec<Served>,
    /// Group versions whose server did not answer: what they serve is as it was.
    pub failed: Vec<String>,
    by_kind: HashMap<(String, String), ResourceRef>,
}

impl Known {
    /// A resource by its plural, in its group's preferred version.
    pub fn named(&self, group: &str, plural: &str) -> Option<&ResourceRef> {
        let mut resources = self.resources.iter().map(|served| &served.resource);
        resources.find(|resource| resource.group == group && resource.plural == plural)
    }

    /// The same, where its objects can be followed.
    pub fn followed(&self, group: &str, plural: &str) -> Option<&ResourceRef> {
        let named = |served: &&Served| served.resource.group == group && served.resource.plural == plural;
        let served = self.resources.iter().find(named)?;
        (served.can("list") && served.can("watch")).then_some(&served.resource)
    }

    /// The resource of a kind, in its group's preferred version.
    pub fn resource(&self, group: &str, kind: &str) -> Option<&ResourceRef> {
        self.by_kind.get(&(group.to_owned(), kind.to_owned()))
    }

    fn after(&self, Discovery { mut resources, failed }: Discovery) -> Known {
        let mut by_kind = HashMap::new();
        if !failed.is_empty() {
            let answers = |served: &Served| resources.iter().any(|other| other.resource == served.resource);
            let rest: Vec<_> = self.resources.iter().filter(|served| !answers(served)).cloned().collect();
            resources.extend(rest);
        }
        for served in &resources {
            let kind = (served.resource.group.to_string(), served.resource.kind.to_string());
            by_kind.entry(kind).or_insert_with(|| served.resource.clone());
        }
        Known { round: self.round + 1, resources, failed, by_kind }
    }
}

impl Kinds {
    pub(crate) fn new(informers: Informers) -> Kinds {
        let inner = Inner { informers, known: watch::Sender::default(), watched: Mutex::default() };
        Kinds { inner: Arc::new(inner) }
    }

    /// Follows discovery until the shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut wait;
        loop {
            wait = match self.refresh().await {
                Ok(()) => PERIOD,
                Err(error) => {
                    tracing::warn!(%error, "Discovering resources failed");
                    if self.known().round == 0 { Duration::from_secs(1) } else { PERIOD }
                }
            };
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    async fn refresh(&self) -> client::Result<()> {
        let discovery = discovery::discover(self.inner.informers.client()).await?;
        let known = Arc::new(self.known().after(discovery));
        self.inner.watched.lock().retain(|resource, informer| {
            let served = known.resources.iter().any(|served| served.resource == *resource);
            if !served {
                self.inner.informers.stop(informer);
            }
            served
        });
        self.inner.known.send_replace(known);
        Ok(())
    }

    pub fn known(&self) -> Arc<Known> {
        self.inner.known.borrow().clone()
    }

    /// Is informed each time that discovery has answered.
    pub fn changes(&self) -> watch::Receiver<Arc<Known>> {
        self.inner.known.subscribe()
    }

    /// Waits for the first answer.
    pub async fn known_first(&self) {
        // The sender lives as long as this.
        let _ = self.changes().wait_for(|known| known.round > 0).await;
    }

    /// The metadata of a resource's objects; watched from now on if it was not.
    pub fn metadata(&self, resource: &ResourceRef) -> Arc<dyn MetaCache> {
        if let Some(lent) = lent(&self.inner.informers, resource) {
            return lent;
        }
        let mut watched = self.inner.watched.lock();
        let informer = watched.entry(resource.clone()).or_insert_with(|| {
            self.inner.informers.watch_at(resource.clone(), Scope::All, Selectors::none(), true)
        });
        Arc::new(informer.clone())
    }
}

/// A cache of objects, as far as their metadata goes.
pub trait MetaCache: Send + Sync {
    /// Adds a handler of each change: key, state before, present or last state, and whether it is the last.
    fn on_change(&self, handler: OnChange);

    fn synced(&self) -> BoxFuture<'static, ()>;

    fn is_synced(&self) -> bool;

    /// Whether it changes no more, as its kind is not served any longer.
    fn is_stopped(&self) -> bool;

    /// Has `follower` informed of what the cache has reached.
    fn follow(&self, follower: Arc<dyn Progress>);

    /// How many objects there are in a namespace.
    fn count_in(&self, namespace: &str) -> usize;
}

pub type OnChange = Box<dyn Fn(&Key, Option<&Meta>, &Meta, bool) + Send + Sync>;

impl<V: HasMeta> MetaCache for Informer<V> {
    fn on_change(&self, handler: OnChange) {
        self.on_keyed_event(move |key, event| {
            let old = event.old().map(|old| old.meta());
            handler(key, old, event.object().meta(), matches!(event, Event::Deleted(_)));
        });
    }

    fn synced(&self) -> BoxFuture<'static, ()> {
        let informer = self.clone();
        Box::pin(async move { Informer::synced(&informer).await })
    }

    fn is_synced(&self) -> bool {
        self.has_synced()
    }

    fn is_stopped(&self) -> bool {
        Informer::is_stopped(self)
    }

    fn follow(&self, follower: Arc<dyn Progress>) {
        Informer::follow(self, follower);
    }

    fn count_in(&self, namespace: &str) -> usize {
        Informer::count_in(self, namespace)
    }
}

/// The cache of the view of a resource, where it has one that controllers keep whole anyway.
fn lent(informers: &Informers, resource: &ResourceRef) -> Option<Arc<dyn MetaCache>> {
    type Lend = fn(&Informers, &ResourceRef) -> Option<Arc<dyn MetaCache>>;
    fn lend<V: View + Object>(informers: &Informers, resource: &ResourceRef) -> Option<Arc<dyn MetaCache>> {
        (*resource == ResourceRef::of::<V>()).then(|| Arc::new(informers.all::<V>()) as Arc<dyn MetaCache>)
    }
    const LENT: &[Lend] = &[
        lend::<views::Pod>,
        lend::<views::Node>,
        lend::<views::Service>,
        lend::<views::Namespace>,
        lend::<views::Endpoints>,
        lend::<views::EndpointSlice>,
        lend::<views::Lease>,
        lend::<views::Deployment>,
        lend::<views::ReplicaSet>,
        lend::<views::ReplicationController>,
        lend::<views::DaemonSet>,
        lend::<views::ControllerRevision>,
        lend::<views::Job>,
        lend::<views::StatefulSet>,
        lend::<views::CronJob>,
        lend::<views::PersistentVolume>,
        lend::<views::PersistentVolumeClaim>,
        lend::<views::ResourceClaim>,
        lend::<views::ResourceSlice>,
        lend::<views::StorageClass>,
        lend::<views::VolumeAttachment>,
    ];
    LENT.iter().find_map(|lend| lend(informers, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_a_group_that_does_not_answer_are_remembered() {
        let served = |group: &'static str, kind: &'static str| Served {
            resource: ResourceRef {
                group: group.into(),
                version: "v1".into(),
                plural: kind.to_lowercase().into(),
                kind: kind.into(),
                namespaced: true,
            },
            verbs: Vec::new(),
        };
        let all = vec![served("", "Pod"), served("example.com", "Widget")];
        let first = Known::default().after(Discovery { resources: all, failed: Vec::new() });
        assert!(first.resource("example.com", "Widget").is_some() && first.resource("", "Widget").is_none());
        let failed = vec!["example.com/v1".to_owned()];
        let second = first.after(Discovery { resources: vec![served("", "Pod")], failed });
        assert!(second.resource("example.com", "Widget").is_some());
        let third = second.after(Discovery { resources: vec![served("", "Pod")], failed: Vec::new() });
        assert!(third.resource("example.com", "Widget").is_none());
        assert_eq!(third.round, 3);
    }
}
