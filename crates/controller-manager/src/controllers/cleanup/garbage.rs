//! `garbage-collector-controller`: what is owned goes when its last owner goes.
//!
//! Metadata of every resource that can be deleted, listed and watched is followed into a graph of owners. What
//! the graph knows for certain (an owner seen alive, or seen deleted) is believed; an owner it never saw is
//! asked for. Deletions and patches carry uid and resource version, so acting on an outdated
//! graph is refused by the API server and tried again.

mod graph;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{
    Client, DeleteOptions, EventRecorder, EventType, Key, ObjectReference, Patch, Progress, Propagation,
    ResourceRef, WorkQueue,
};
use controllers::kinds::{Known, MetaCache};
use controllers::many::try_all;
use controllers::views::{Meta, OwnerReference as Owner, Partial};
use controllers::{Context, Error, Kinds, Next, Reconcile};
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::json;

use crate::Options;
use graph::{Answer, Graph, Identity, Named, Seen, Todo, Verdict, Verified, named};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How long the collection of other garbage waits for a resource that cannot be listed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Controller {
    events: EventRecorder,
    kinds: Kinds,
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Key>,
}

/// Resources whose objects are in the graph. The flag says whether one still is: its cache may be in the middle of an event
/// when it is given up.
#[derive(Default)]
struct Followed(HashMap<ResourceRef, Arc<AtomicBool>>);

/// A store that was put back has owners again that were gone.
struct Restored(Arc<Mutex<Graph>>);

impl Progress for Restored {
    fn restored(&self) {
        self.0.lock().forget_absent();
    }
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    if !options.enable_garbage_collector {
        context.shutdown.cancelled().await;
        return Ok(());
    }
    let account = "generic-garbage-collector";
    let builder = context.builder("garbage_collector", account, "garbage-collector-controller").await?;
    let controller = Controller {
        events: builder.events.clone(),
        kinds: context.kinds.clone(),
        graph: Arc::default(),
        queue: builder.queue.clone(),
    };
    let following = controller.clone();
    let work = async {
        let mut changes = following.kinds.changes();
        let mut followed = Followed::default();
        let _ = changes.wait_for(|known| known.round > 0).await;
        let started = following.follow(&changes.borrow_and_update().clone(), &mut followed);
        // A resource that cannot be listed must not keep the others from being collected.
        let synced = join_all(started.iter().map(|cache| cache.synced()));
        if tokio::time::timeout(PATIENCE, synced).await.is_err() {
            tracing::warn!("Not every resource could be listed yet, collecting garbage of the others");
        }
        let refresh = async {
            while changes.changed().await.is_ok() {
                let known = changes.borrow_and_update().clone();
                following.follow(&known, &mut followed);
            }
        };
        tokio::select! {
            () = refresh => Ok(()),
            ended = builder.run(options.concurrent_gc_syncs, controller) => ended,
        }
    };
    context.shutdown.run_until_cancelled(work).await.unwrap_or(Ok(()))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        self.collect(&key.name, client).await?;
        Ok(Next::Done)
    }
}

impl Controller {
    /// Follows the resources that discovery lists and that can be collected, and no others. Returns the new ones.
    fn follow(&self, known: &Known, followed: &mut Followed) -> Vec<Arc<dyn MetaCache>> {
        let collectable = |resource: &ResourceRef| {
            let served = known.resources.iter().find(|served| served.resource == *resource);
            served.is_some_and(|served| ["delete", "list", "watch"].iter().all(|verb| served.can(verb)))
        };
        let mut todo = Vec::new();
        followed.0.retain(|resource, flag| {
            let stays = collectable(resource);
            if !stays {
                let mut graph = self.graph.lock();
                flag.store(false, Ordering::Relaxed);
                todo.extend(graph.forget(resource));
            }
            stays
        });
        enqueue(&self.queue, todo);
        let wanted = known.resources.iter().map(|served| &served.resource);
        let wanted = wanted.filter(|resource| !is_event(resource) && collectable(resource));
        let mut started = Vec::new();
        for resource in wanted {
            if followed.0.contains_key(resource) {
                continue;
            }
            let flag = Arc::new(AtomicBool::new(true));
            followed.0.insert(resource.clone(), flag.clone());
            let cache = self.kinds.metadata(resource);
            let (graph, queue, shared) = (self.graph.clone(), self.queue.clone(), Arc::new(resource.clone()));
            cache.on_change(Box::new(move |_, _, meta, is_last| {
                let todo = {
                    let mut graph = graph.lock();
                    if !flag.load(Ordering::Relaxed) {
                        return;
                    }
                    if is_last { graph.remove(&meta.uid) } else { graph.insert(seen(&shared, meta)) }
                };
                enqueue(&queue, todo);
            }));
            cache.follow(Arc::new(Restored(self.graph.clone())));
            started.push(cache);
        }
        started
    }

    async fn collect(&self, uid: &str, client: &Client) -> Result<(), Error> {
        let Some((identity, verdict)) = self.judge(client, uid).await? else { return Ok(()) };
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Verify => self.verify(client, &identity).await,
            Verdict::Orphan(dependents) => self.orphan(client, &identity, dependents).await,
            Verdict::Release => self.remove_finalizer(client, &identity, FOREGROUND).await,
            Verdict::DeleteDependents(dependents) => {
                for dependent in dependents {
                    self.queue.add(Key::new("", &dependent));
                }
                Ok(())
            }
            Verdict::Disown(owners) => self.disown(client, &identity, owners).await,
            Verdict::Delete { propagation, unblock } => {
                if let Some(owners) = unblock {
                    // In a circle everyone would wait for everyone.
                    return self.disown(client, &identity, owners).await;
                }
                self.delete(client, &identity, propagation).await
            }
        }
    }

    /// Judges an object, asking the API server about owners the graph cannot vouch for.
    async fn judge(&self, client: &Client, uid: &str) -> Result<Option<(Identity, Verdict)>, Error> {
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
                let answer = self.ask(client, &owner, &namespace).await?;
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
    async fn ask(&self, client: &Client, owner: &Owner, namespace: &str) -> Result<Answer, Error> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let known = self.kinds.known();
        let Some(resource) = known.resource(group, &owner.kind) else {
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
        match client.at(resource).metadata_only().get::<Partial>(space, &owner.name).await {
            Ok(found) if *found.metadata.uid == *owner.uid => Ok(Answer::Alive),
            Ok(_) => Ok(Answer::Absent),
            Err(error) if error.is_not_found() => Ok(Answer::Absent),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for an owner that no watch has shown.
    async fn verify(&self, client: &Client, identity: &Identity) -> Result<(), Error> {
        let owner = Owner {
            api_version: identity.api_version.clone(),
            kind: identity.kind.clone(),
            name: (&*identity.name).into(),
            uid: identity.uid.clone(),
            ..Default::default()
        };
        let answer = self.ask(client, &owner, &identity.namespace).await?;
        let verified = self.graph.lock().verified(identity, answer);
        match verified {
            Verified::Settled => Ok(()),
            Verified::AskAgain => {
                Err(Error::NotYet(format!("{} {} was not watched yet", owner.kind, owner.name)))
            }
            Verified::Judge(todo) => {
                enqueue(&self.queue, todo);
                Ok(())
            }
        }
    }

    async fn delete(
        &self,
        client: &Client,
        identity: &Identity,
        propagation: Propagation,
    ) -> Result<(), Error> {
        let options = DeleteOptions::default()
            .uid(&*identity.uid)
            .resource_version(&*identity.version)
            .propagation(propagation);
        let Some(resource) = &identity.resource else { return Ok(()) };
        match client.at(resource).delete(space(identity), &identity.name, &options).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => {
                tracing::debug!(kind = %resource.kind, object = %format!("{}/{}", identity.namespace, identity.name), ?propagation, "deleting");
                Ok(result?)
            }
        }
    }

    /// Writes an object's owners: those that are left, or the same ones not blocking any more.
    async fn disown(&self, client: &Client, identity: &Identity, owners: Vec<Owner>) -> Result<(), Error> {
        let metadata =
            json!({"uid": identity.uid, "resourceVersion": identity.version, "ownerReferences": owners});
        patch(client, identity, json!({"metadata": metadata})).await
    }

    /// Frees the dependents, and then lets the owner go.
    async fn orphan(
        &self,
        client: &Client,
        identity: &Identity,
        dependents: Vec<(Identity, Vec<Owner>)>,
    ) -> Result<(), Error> {
        let freed = dependents
            .into_iter()
            .map(|(dependent, owners)| async move { self.disown(client, &dependent, owners).await });
        try_all(freed).await?;
        self.remove_finalizer(client, identity, ORPHAN).await
    }

    async fn remove_finalizer(
        &self,
        client: &Client,
        identity: &Identity,
        finalizer: &str,
    ) -> Result<(), Error> {
        let Some(resource) = &identity.resource else { return Ok(()) };
        let api = client.at(resource).metadata_only();
        let current = match api.get::<Partial>(space(identity), &identity.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result?.metadata,
        };
        if *current.uid != *identity.uid || !current.finalizers.iter().any(|name| name == finalizer) {
            return Ok(());
        }
        let finalizers: Vec<_> = current.finalizers.iter().filter(|name| *name != finalizer).collect();
        patch(
            client,
            identity,
            json!({"metadata": {"resourceVersion": current.resource_version, "finalizers": finalizers}}),
        )
        .await
    }
}

async fn patch(client: &Client, identity: &Identity, patch: serde_json::Value) -> Result<(), Error> {
    let Some(resource) = &identity.resource else { return Ok(()) };
    let api = client.at(resource).metadata_only();
    match api.patch::<Partial>(space(identity), &identity.name, None, Patch::Merge(patch)).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

/// Events go by themselves, and there are many.
fn is_event(resource: &ResourceRef) -> bool {
    resource.plural == "events" && matches!(&*resource.group, "" | "events.k8s.io")
}

fn enqueue(queue: &WorkQueue<Key>, todo: Vec<Todo>) {
    for Todo(uid) in todo {
        queue.add(Key::new("", &uid));
    }
}

fn seen<'a>(resource: &Arc<ResourceRef>, meta: &'a Meta) -> Seen<'a> {
    Seen {
        resource: resource.clone(),
        name: &meta.name,
        namespace: &meta.namespace,
        uid: &meta.uid,
        version: &meta.resource_version,
        owners: &meta.owner_references,
        deleting: meta.is_deleting(),
        foreground: meta.has_finalizer(FOREGROUND),
        orphan: meta.has_finalizer(ORPHAN),
    }
}

fn space(identity: &Identity) -> Option<&str> {
    (!identity.namespace.is_empty()).then_some(&*identity.namespace)
}
