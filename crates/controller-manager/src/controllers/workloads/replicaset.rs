//! `replicaset-controller` and, over the same code, `replicationcontroller-controller`: as many pods as asked for.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Informer, Key, Text, View};
use controllers::pods::{self, PodControl, Pods};
use controllers::slow_start::slow_start;
use controllers::views::{Pod, ReplicaSet, ReplicationController};
use controllers::{Context, Error, Next, Owned, Reconcile, Selects, claim, write_status};

use crate::Options;
use plan::Step;

/// A replica set in all but name.
pub trait Replicas: View + Selects {
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

pub async fn run_replicasets(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let workers = options.concurrent_replicaset_syncs;
    run::<ReplicaSet>(context, "replicaset-controller", "replicaset", workers).await
}

pub async fn run_replicationcontrollers(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let workers = options.concurrent_rc_syncs;
    run::<ReplicationController>(context, "replication-controller", "replicationmanager", workers).await
}

struct Controller<V: Replicas> {
    control: PodControl,
    pods: Pods,
    sets: Informer<V>,
    siblings: Owned<V>,
}

async fn run<V: Replicas>(
    context: Context,
    account: &str,
    queue: &'static str,
    workers: usize,
) -> Result<(), Error> {
    let mut builder = context.builder(queue, account, account).await?;
    let controller = Controller {
        control: PodControl { events: builder.events.clone() },
        pods: builder.owns_pods::<V>(),
        sets: builder.reconciles::<V>(),
        siblings: context.owned::<V>(),
    };
    builder.run(workers, controller).await
}

impl<V: Replicas> Reconcile for Controller<V> {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(object) = self.sets.get_key(key) else { return Ok(Next::Done) };
        let set = object.set();
        if let Some(error) = set.spec.selector.error() {
            // Validation admits none such; there is nothing to retry.
            tracing::error!(object = %key, error, "Converting the pod selector failed");
            return Ok(Next::Done);
        }
        let is_running = |pod: &Pod| !pod.is_terminal();
        let owned = claim::claim(client, &*self.pods, &*object, &set.spec.selector, is_running).await?;
        let (active, terminating) = plan::sort_out(owned);
        let mut failure = None;
        if !set.metadata.is_deleting() {
            failure = self.manage(client, &object, &active).await;
        }
        let now = jiff::Timestamp::now();
        let complaint = failure.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        let status = plan::status(set, &active, terminating, complaint, now);
        write_status(client, &*object, &set.status, &status).await?;
        if let Some((_, error)) = failure {
            return Err(error.into());
        }
        Ok(Next::after(plan::again(set, &active, now).map(Duration::from_secs)))
    }
}

impl<V: Replicas> Controller<V> {
    async fn manage(
        &self,
        client: &Client,
        object: &Arc<V>,
        active: &[Arc<Pod>],
    ) -> Option<(&'static str, client::Error)> {
        let set = object.set();
        let crowd = || self.crowd(set);
        match plan::step(set, active, crowd, jiff::Timestamp::now()) {
            Step::Rest => None,
            Step::Create(count) => {
                let reference = set.metadata.controller_reference(V::API_VERSION, V::KIND);
                let prefix = format!("{}-", set.metadata.name);
                let pod = pods::from_template(&set.spec.template, &prefix, false, reference);
                let (pod, object, namespace) = (&pod, &**object, &set.metadata.namespace);
                let create = |_| self.control.create_unless_terminating(client, namespace, pod, object);
                let (_, failure) = slow_start(count, create).await;
                failure.map(|error| ("FailedCreate", error))
            }
            Step::Delete(pods) => {
                let failure = self.control.delete_all(client, &pods, &**object).await;
                failure.map(|error| ("FailedDelete", error))
            }
        }
    }

    /// How many pods of sets with the same owner there are on each node.
    fn crowd(&self, set: &ReplicaSet) -> impl Fn(&Pod) -> usize {
        let siblings = match set.metadata.controller() {
            Some(owner) => self.siblings.of(&owner.uid),
            None => Vec::new(),
        };
        let mut uids: Vec<Text> = siblings.iter().map(|sibling| sibling.meta().uid.clone()).collect();
        if uids.is_empty() {
            uids.push(set.metadata.uid.clone());
        }
        let mut counts = rustc_hash::FxHashMap::<Text, usize>::default();
        for uid in uids {
            for pod in self.pods.of(&uid) {
                if pod.is_active() {
                    *counts.entry(pod.spec.node_name.clone()).or_default() += 1;
                }
            }
        }
        move |pod: &Pod| counts.get(&pod.spec.node_name).copied().unwrap_or(0)
    }
}
