//! `replicaset-controller` and, over the same code, `replicationcontroller-controller`: as many pods as asked for.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Event, Informer, Key, Text, View, WorkQueue};
use serde_json::json;

use crate::context::{Context, Error};
use crate::support::expectations::Expectations;
use crate::support::pods::{self, PodControl};
use crate::support::selector;
use crate::support::slow_start::slow_start;
use crate::views::{Object, Pod, ReplicaSet, ReplicationController};
use plan::Step;

/// What is a replica set in all but name.
pub trait Replicas: View + Object {
    fn set(&self) -> &ReplicaSet;
}

impl Replicas for ReplicaSet {
    fn set(&self) -> &ReplicaSet {
        self
    }
}

impl Replicas for ReplicationController {
    fn set(&self) -> &ReplicaSet {
        &self.0
    }
}

pub async fn run_replicasets(context: Context) -> Result<(), Error> {
    let workers = context.options.concurrent_replicaset_syncs;
    run::<ReplicaSet>(context, "replicaset-controller", "replicaset", workers).await
}

pub async fn run_replicationcontrollers(context: Context) -> Result<(), Error> {
    let workers = context.options.concurrent_rc_syncs;
    run::<ReplicationController>(context, "replication-controller", "replicationmanager", workers).await
}

struct Controller<V: Replicas> {
    pods: PodControl,
    pod_cache: Informer<Pod>,
    sets: Informer<V>,
    expectations: Arc<Expectations>,
    queue: WorkQueue<Key>,
}

/// The index of sets by the uid of what owns them.
const OWNER: &str = "owner";

async fn run<V: Replicas>(
    context: Context,
    account: &str,
    queue: &'static str,
    workers: usize,
) -> Result<(), Error> {
    let client = context.client(account).await?;
    let pods = PodControl { events: context.events(&client, account), client };
    let sets: Informer<V> = context.informers.all();
    sets.add_index(OWNER, |set| {
        set.meta().controller().map(|owner| owner.uid.to_string()).into_iter().collect()
    });
    let queue = context.queue(queue);
    let expectations = Arc::new(Expectations::default());
    let controller = Arc::new(Controller {
        pods,
        pod_cache: context.pods(),
        sets: sets.clone(),
        expectations: expectations.clone(),
        queue: queue.clone(),
    });

    let on_set = (queue.clone(), expectations.clone());
    sets.on_keyed_event(move |key, event| {
        if let Event::Deleted(_) = event {
            on_set.1.forget(key);
        }
        on_set.0.add(key.clone());
    });
    sets.synced().await;
    let (current, matching) = (sets.clone(), sets.clone());
    pods::Watch { queue: queue.clone(), expectations, kind: V::KIND, gather: Duration::ZERO }.start(
        &controller.pod_cache,
        move |key, uid| current.get_key(key).is_some_and(|set| set.meta().uid == uid),
        move |pod| would_adopt(&matching, pod),
    );
    controller.pod_cache.synced().await;
    context
        .work(queue, workers, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

fn would_adopt<V: Replicas>(sets: &Informer<V>, pod: &Pod) -> Vec<Key> {
    if pod.metadata.labels.is_empty() {
        return Vec::new();
    }
    let selects = |set: &Arc<V>| {
        let compiled = selector::compile(set.set().spec.selector.as_ref());
        compiled.is_ok_and(|selector| selector::matches(&selector, &pod.metadata.labels))
    };
    let sets = sets.list_in(&pod.metadata.namespace).into_iter().filter(selects);
    sets.map(|set| Key::new(&set.meta().namespace, &set.meta().name)).collect()
}

impl<V: Replicas> Controller<V> {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(object) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let set = object.set();
        let settled = self.expectations.settled(key, &self.queue);
        let selector = match selector::compile(set.spec.selector.as_ref()) {
            Ok(selector) => selector,
            Err(error) => {
                // Validation lets none such through; there is nothing to retry.
                tracing::error!(object = %key, %error, "converting the pod selector");
                return Ok(());
            }
        };
        let owned = pods::claim(&self.pods.client, &self.pod_cache, &*object, &selector).await?;
        let (active, terminating) = plan::sort_out(owned);
        let mut failure = None;
        if settled && !set.metadata.is_deleting() {
            failure = self.manage(&object, key, &active).await;
        }
        let now = jiff::Timestamp::now();
        let complaint = failure.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        let status = plan::status(set, &active, terminating, complaint, now);
        let again = plan::again(set, &active, now);
        self.write_status(&object, status).await?;
        if let Some((_, error)) = failure {
            return Err(error.into());
        }
        if let Some(seconds) = again {
            self.queue.add_after(key.clone(), Duration::from_secs(seconds));
        }
        Ok(())
    }

    async fn manage(
        &self,
        object: &Arc<V>,
        key: &Key,
        active: &[Arc<Pod>],
    ) -> Option<(&'static str, client::Error)> {
        let set = object.set();
        let crowd = || self.crowd(set);
        match plan::step(set, active, crowd, jiff::Timestamp::now()) {
            Step::Rest => None,
            Step::Create(count) => {
                self.expectations.set(key, count, []);
                let reference = set.metadata.controller_reference(V::API_VERSION, V::KIND);
                let prefix = format!("{}-", set.metadata.name);
                let pod = pods::from_template(&set.spec.template, &prefix, false, reference);
                let (pod, object) = (&pod, &**object);
                let (succeeded, failure) = slow_start(count, |_| async move {
                    match self.pods.create(&object.meta().namespace, pod, object).await {
                        Ok(_) => Ok(()),
                        // The pod will not be, and the set neither before long.
                        Err(error) if error.is_namespace_terminating() => {
                            self.expectations.created(key);
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                })
                .await;
                if failure.is_some() {
                    self.expectations.lower_creations(key, count - succeeded);
                }
                failure.map(|error| ("FailedCreate", error))
            }
            Step::Delete(pods) => {
                self.expectations.set(key, 0, pods.iter().map(|pod| pod.metadata.uid.clone()));
                let deletions = pods.iter().map(|pod| async {
                    let result = self.pods.delete(&pod.metadata, &**object).await;
                    if result.is_err()
                        || self.pod_cache.get(Some(&pod.metadata.namespace), &pod.metadata.name).is_none()
                    {
                        self.expectations.deleted(key, &pod.metadata.uid);
                    }
                    result
                });
                let results = futures::future::join_all(deletions).await;
                results.into_iter().find_map(Result::err).map(|error| ("FailedDelete", error))
            }
        }
    }

    /// How many pods of sets with the same owner there are on each node.
    fn crowd(&self, set: &ReplicaSet) -> impl Fn(&Pod) -> usize {
        let siblings = match set.metadata.controller() {
            Some(owner) => self.sets.by_index(OWNER, &owner.uid),
            None => Vec::new(),
        };
        let mut uids: Vec<Text> = siblings.iter().map(|sibling| sibling.meta().uid.clone()).collect();
        if uids.is_empty() {
            uids.push(set.metadata.uid.clone());
        }
        let mut counts = rustc_hash::FxHashMap::<Text, usize>::default();
        for uid in uids {
            for pod in self.pod_cache.by_index(crate::context::CONTROLLER_INDEX, &uid) {
                if pod.is_active() {
                    *counts.entry(pod.spec.node_name.clone()).or_default() += 1;
                }
            }
        }
        move |pod: &Pod| counts.get(&pod.spec.node_name).copied().unwrap_or(0)
    }

    async fn write_status(
        &self,
        object: &Arc<V>,
        status: crate::views::ReplicaSetStatus,
    ) -> client::Result<()> {
        let set = object.set();
        if status == set.status {
            return Ok(());
        }
        let meta = &set.metadata;
        let body = json!({"apiVersion": V::API_VERSION, "kind": V::KIND, "metadata": meta, "status": status});
        match self.pods.client.update_status::<V>(Some(&meta.namespace), &meta.name, &body).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result.map(drop),
        }
    }
}
