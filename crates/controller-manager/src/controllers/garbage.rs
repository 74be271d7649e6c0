//! `garbage-collector-controller`: what is owned goes when its last owner goes.
//!
//! Metadata of every resource that can be deleted, listed and watched is followed into a graph of owners. What
//! the graph knows for certain (an owner seen alive, or seen deleted) is believed; an owner it never saw is
//! asked for. Deletions and patches carry uid and resource version, so acting on an outdated
//! graph is refused by the API server and tried again.

mod graph;
mod monitor;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{
    Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Informers, Key, ObjectReference, Patch,
    Propagation, ResourceRef, Scope, Selectors, WorkQueue,
};
use parking_lot::{Mutex, RwLock};
use serde_json::json;

use crate::context::{Context, Error};
use crate::support::discovery::{self, Discovery};
use crate::views::{OwnerReference as Owner, Partial, Pod};
use graph::{Answer, Graph, Identity, Named, Seen, Todo, Verdict, Verified, named};
use monitor::{FOREGROUND, Monitor, ORPHAN, Object, pod_seen, seen};

/// How often discovery is asked for new resources.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);

struct Controller {
    client: Client,
    events: EventRecorder,
    informers: Informers,
    pods: Informer<Pod>,
    graph: Mutex<Graph>,
    queue: WorkQueue<Key>,
    /// By group and kind, as owner references name them.
    kinds: RwLock<HashMap<(String, String), ResourceRef>>,
    monitors: Mutex<HashMap<ResourceRef, Arc<Monitor>>>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    if !context.options.enable_garbage_collector {
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let client = context.client("generic-garbage-collector").await?;
    let queue = context.queue("garbage_collector");
    let controller = Arc::new(Controller {
        events: context.events(&client, "garbage-collector-controller"),
        client,
        informers: context.informers.clone(),
        pods: context.pods(),
        graph: Mutex::default(),
        queue: queue.clone(),
        kinds: RwLock::default(),
        monitors: Mutex::default(),
    });
    while let Err(error) = controller.refresh().await {
        tracing::warn!(%error, "discovering resources");
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    let started: Vec<_> = controller.monitors.lock().values().cloned().collect();
    // A resource that cannot be listed must not keep the others from being collected.
    let synced = futures::future::join_all(started.iter().map(|monitor| monitor.synced()));
    if tokio::time::timeout(Duration::from_secs(30), synced).await.is_err() {
        tracing::warn!("not every resource could be listed yet, collecting garbage of the others");
    }
    let refreshing = async {
        loop {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                () = tokio::time::sleep(DISCOVERY_PERIOD) => {}
            }
            if let Err(error) = controller.refresh().await {
                tracing::warn!(%error, "discovering resources");
            }
        }
    };
    let worker = controller.clone();
    let workers = context.work(queue, context.options.concurrent_gc_syncs, move |key| {
        let controller = worker.clone();
        async move { controller.reconcile(&key.name).await }
    });
    tokio::join!(refreshing, workers);
    Ok(())
}

impl Controller {
    /// Follows what discovery lists, and nothing else.
    async fn refresh(self: &Arc<Self>) -> client::Result<()> {
        let Discovery { resources, failed } = discovery::discover(&self.client).await?;
        let kind = |resource: &ResourceRef| (resource.group.to_string(), resource.kind.to_string());
        {
            let mut kinds = self.kinds.write();
            if failed.is_empty() {
                kinds.clear();
            }
            kinds.extend(resources.iter().map(|served| (kind(&served.resource), served.resource.clone())));
        }
        let followed = |plural: &str| plural != "events";
        let wanted: Vec<ResourceRef> = resources
            .into_iter()
            .filter(|served| ["delete", "list", "watch"].iter().all(|verb| served.can(verb)))
            .map(|served| served.resource)
            .filter(|resource| followed(&resource.plural))
            .collect();
        let mut todo = Vec::new();
        let mut monitors = self.monitors.lock();
        if failed.is_empty() {
            monitors.retain(|resource, monitor| match &**monitor {
                Monitor::Metadata(informer, followed) if !wanted.contains(resource) => {
                    self.informers.stop(informer);
                    let mut graph = self.graph.lock();
                    followed.store(false, Ordering::Relaxed);
                    todo.extend(graph.forget(resource));
                    false
                }
                _ => true,
            });
        }
        for resource in wanted {
            if monitors.contains_key(&resource) {
                continue;
            }
            let monitor = self.follow(&resource);
            monitors.insert(resource, Arc::new(monitor));
        }
        self.enqueue(todo);
        Ok(())
    }

    fn follow(self: &Arc<Self>, resource: &ResourceRef) -> Monitor {
        let (controller, shared) = (Arc::downgrade(self), Arc::new(resource.clone()));
        let followed = Arc::new(AtomicBool::new(true));
        if resource == self.pods.resource() {
            self.pods.on_event(move |event| {
                if let Some(controller) = controller.upgrade() {
                    let seen = pod_seen(&shared, &event.object().metadata);
                    controller.take_in(seen, is_deletion(event), &followed);
                }
            });
            return Monitor::Pods(self.pods.clone());
        }
        let informer = self.informers.watch_at(resource.clone(), Scope::All, Selectors::none(), true);
        let following = followed.clone();
        informer.on_event(move |event: &Event<Object>| {
            if let Some(controller) = controller.upgrade() {
                let seen = seen(&shared, &event.object().metadata);
                controller.take_in(seen, is_deletion(event), &following);
            }
        });
        Monitor::Metadata(informer, followed)
    }

    fn take_in(&self, seen: Seen, deletion: bool, followed: &AtomicBool) {
        let todo = {
            let mut graph = self.graph.lock();
            if !followed.load(Ordering::Relaxed) {
                return;
            }
            if deletion { graph.remove(seen.uid) } else { graph.insert(seen) }
        };
        self.enqueue(todo);
    }

    fn enqueue(&self, todo: Vec<Todo>) {
        for Todo(uid) in todo {
            self.queue.add(Key::new("", &uid));
        }
    }

    async fn reconcile(&self, uid: &str) -> Result<(), Error> {
        let Some((identity, verdict)) = self.judge(uid).await? else { return Ok(()) };
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Verify => self.verify(&identity).await,
            Verdict::Orphan(dependents) => self.orphan(&identity, dependents).await,
            Verdict::Release => self.remove_finalizer(&identity, FOREGROUND).await,
            Verdict::DeleteDependents(dependents) => {
                for dependent in dependents {
                    self.queue.add(Key::new("", &dependent));
                }
                Ok(())
            }
            Verdict::Disown(owners) => self.disown(&identity, owners).await,
            Verdict::Delete { propagation, unblock } => {
                if let Some(owners) = unblock {
                    // In a circle everyone would wait for everyone.
                    return self.disown(&identity, owners).await;
                }
                self.delete(&identity, propagation).await
            }
        }
    }

    /// Judges an object, asking the API server about owners the graph cannot vouch for.
    async fn judge(&self, uid: &str) -> Result<Option<(Identity, Verdict)>, Error> {
        let mut answers: HashMap<Named, bool> = HashMap::new();
        loop {
            let asked = {
                let graph = self.graph.lock();
                match graph.judge(uid, &answers) {
                    Ok(found) => return Ok(found),
                    Err(asked) => asked,
                }
            };
            for (owner, namespace) in asked {
                self.report_foreign_owner(uid, &owner, &namespace);
                let answer = self.ask(&owner, &namespace).await?;
                if answer == Answer::Absent {
                    self.graph.lock().note_absent(&owner, &namespace);
                }
                answers.insert(named(&owner, &namespace), answer != Answer::Absent);
            }
        }
    }

    /// Warns, with an event, about a reference into another namespace: it has no effect, and its object may be deleted.
    fn report_foreign_owner(&self, uid: &str, owner: &Owner, namespace: &str) {
        let object = {
            let graph = self.graph.lock();
            if !graph.lives_elsewhere(owner, namespace) {
                return;
            }
            let Some(identity) = graph.identity(uid) else { return };
            ObjectReference {
                api_version: identity.api_version.to_string(),
                kind: identity.kind.to_string(),
                namespace: identity.namespace.to_string(),
                name: identity.name.to_string(),
                uid: identity.uid.to_string(),
                ..Default::default()
            }
        };
        let Owner { api_version, kind, name, uid, .. } = owner;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        );
        self.events.event(&object, EventType::Warning, "OwnerRefInvalidNamespace", &message);
    }

    /// Whether the owner a reference names is there, with that uid.
    async fn ask(&self, owner: &Owner, namespace: &str) -> Result<Answer, Error> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = self.kinds.read().get(&(group.to_owned(), owner.kind.to_string())).cloned();
        let Some(resource) = resource else {
            // The kind may be a new one, which discovery will show.
            return Err(Error::NotYet(format!(
                "unable to get REST mapping for {}/{}",
                owner.api_version, owner.kind
            )));
        };
        if resource.namespaced && namespace.is_empty() {
            tracing::warn!(kind = %owner.kind, name = %owner.name, "a cluster-scoped object names a namespaced owner");
            return Ok(Answer::Unreachable);
        }
        let space = resource.namespaced.then_some(namespace);
        match self.client.at(&resource).metadata_only().get::<Partial>(space, &owner.name).await {
            Ok(found) if *found.metadata.uid == *owner.uid => Ok(Answer::Alive),
            Ok(_) => Ok(Answer::Absent),
            Err(error) if error.is_not_found() => Ok(Answer::Absent),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for an owner that no watch has shown.
    async fn verify(&self, identity: &Identity) -> Result<(), Error> {
        let owner = Owner {
            api_version: identity.api_version.clone(),
            kind: identity.kind.clone(),
            name: (&*identity.name).into(),
            uid: identity.uid.clone(),
            ..Default::default()
        };
        let answer = self.ask(&owner, &identity.namespace).await?;
        let verified = self.graph.lock().verified(identity, answer);
        match verified {
            Verified::Settled => Ok(()),
            Verified::AskAgain => {
                Err(Error::NotYet(format!("{} {} was not watched yet", owner.kind, owner.name)))
            }
            Verified::Judge(todo) => {
                self.enqueue(todo);
                Ok(())
            }
        }
    }

    async fn delete(&self, identity: &Identity, propagation: Propagation) -> Result<(), Error> {
        let options = DeleteOptions::default()
            .uid(&*identity.uid)
            .resource_version(&*identity.version)
            .propagation(propagation);
        let Some(resource) = &identity.resource else { return Ok(()) };
        match self.client.at(resource).delete(space(identity), &identity.name, &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => {
                tracing::debug!(kind = %resource.kind, object = %format!("{}/{}", identity.namespace, identity.name), ?propagation, "deleting");
                Ok(result?)
            }
        }
    }

    /// Writes an object's owners: those that are left, or the same ones not blocking any more.
    async fn disown(&self, identity: &Identity, owners: Vec<Owner>) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": identity.uid,
            "resourceVersion": identity.version,
            "ownerReferences": owners,
        }});
        self.patch(identity, patch).await
    }

    async fn patch(&self, identity: &Identity, patch: serde_json::Value) -> Result<(), Error> {
        let Some(resource) = &identity.resource else { return Ok(()) };
        let api = self.client.at(resource).metadata_only();
        match api.patch::<Partial>(space(identity), &identity.name, None, Patch::Merge(patch)).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    /// Frees the dependents, and then lets the owner go.
    async fn orphan(
        &self,
        identity: &Identity,
        dependents: Vec<(Identity, Vec<Owner>)>,
    ) -> Result<(), Error> {
        let freed = dependents
            .into_iter()
            .map(|(dependent, owners)| async move { self.disown(&dependent, owners).await });
        let results = futures::future::join_all(freed).await;
        results.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.remove_finalizer(identity, ORPHAN).await
    }

    async fn remove_finalizer(&self, identity: &Identity, finalizer: &str) -> Result<(), Error> {
        let Some(resource) = &identity.resource else { return Ok(()) };
        let api = self.client.at(resource).metadata_only();
        let current = match api.get::<Partial>(space(identity), &identity.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result?.metadata,
        };
        if *current.uid != *identity.uid || !current.finalizers.iter().any(|name| name == finalizer) {
            return Ok(());
        }
        let finalizers: Vec<_> = current.finalizers.iter().filter(|name| *name != finalizer).collect();
        self.patch(
            identity,
            json!({"metadata": {"resourceVersion": current.resource_version, "finalizers": finalizers}}),
        )
        .await
    }
}

fn is_deletion<V>(event: &Event<V>) -> bool {
    matches!(event, Event::Deleted(_))
}

fn space(identity: &Identity) -> Option<&str> {
    (!identity.namespace.is_empty()).then_some(&*identity.namespace)
}
