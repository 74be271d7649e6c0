//! `namespace-controller`: empties a namespace that is being deleted, whatever kinds it holds, and then lets it go.

mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, Informer, Key, ListOptions, Propagation, WorkQueue};
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Error};
use crate::support::discovery::{self, Discovery, Served};
use crate::views::{Namespace, Object, Partial};
use plan::{Patience, Remaining};

const FINALIZER: &str = "kubernetes";
/// Pods that end one after the other are one reason to look again.
const AFTER_A_POD: Duration = Duration::from_millis(200);

struct Controller {
    client: Client,
    namespaces: Informer<Namespace>,
    queue: WorkQueue<Key>,
    /// Namespaces in which something is left.
    waits: Mutex<HashMap<Key, Patience>>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("namespace-controller").await?;
    let queue = context.queue("namespace");
    let namespaces: Informer<Namespace> = context.informers.all();
    let touch = queue.clone();
    namespaces.on_keyed_event(move |key, event| {
        if event.object().metadata.is_deleting() {
            touch.add(key.clone());
        }
    });
    namespaces.synced().await;
    // The rest of a namespace waits for its pods, which may need a moment or an hour to end.
    let (touch, known) = (queue.clone(), namespaces.clone());
    let pods = context.pods();
    pods.on_keyed_event(move |key, event| {
        let leaves = |namespace: &Namespace| namespace.metadata.is_deleting();
        if matches!(event, Event::Deleted(_))
            && known.get(None, &key.namespace).is_some_and(|namespace| leaves(&namespace))
        {
            touch.add_after(Key::new("", &key.namespace), AFTER_A_POD);
        }
    });
    pods.synced().await;
    let workers = context.options.concurrent_namespace_syncs;
    let period = *context.options.namespace_sync_period;
    let controller = Arc::new(Controller {
        client,
        namespaces: namespaces.clone(),
        queue: queue.clone(),
        waits: Mutex::default(),
    });
    let again = queue.clone();
    let work = context.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    // `--namespace-sync-period`: what is on its way out is looked at without cause, too
    let resync = async {
        if period.is_zero() {
            return std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(period).await;
            for namespace in
                namespaces.list().into_iter().filter(|namespace| namespace.metadata.is_deleting())
            {
                again.add(Key::new("", &namespace.metadata.name));
            }
        }
    };
    tokio::select! {
        _ = work => {}
        () = resync => {}
    }
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get_key(key) else {
            self.waits.lock().remove(key);
            return Ok(());
        };
        if !namespace.metadata.is_deleting()
            || !namespace.spec.finalizers.iter().any(|name| name == FINALIZER)
        {
            return Ok(());
        }
        let name = namespace.metadata.name.as_str();
        if namespace.status.phase != "Terminating" {
            // The API server sets the phase together with the time; this is for one that does not.
            let conditions = namespace.status.conditions.clone();
            return self.write_conditions(&namespace, conditions).await;
        }
        let (discovered, discovery_error) = match discovery::discover(&self.client).await {
            Ok(discovered) if discovered.failed.is_empty() => (discovered, None),
            Ok(discovered) => {
                let failed = discovered.failed.join(", ");
                (discovered, Some(format!("unable to retrieve the complete list of server APIs: {failed}")))
            }
            Err(error) => (Discovery::default(), Some(error.to_string())),
        };
        let mut remaining = Remaining::default();
        let mut failures = Vec::new();
        let mut wait = None;
        let (pods, others) = plan::order(discovered.resources);
        for stage in [pods, others] {
            self.empty(name, stage, &mut remaining, &mut failures, &mut wait).await;
            // Whatever the pods use is kept until the last of them has ended.
            if !remaining.is_empty() || !failures.is_empty() {
                break;
            }
        }
        let now = jiff::Timestamp::now();
        let conditions = plan::conditions(
            &namespace.status.conditions,
            discovery_error.as_deref(),
            &failures,
            &remaining,
            now,
        );
        if conditions != namespace.status.conditions {
            self.write_conditions(&namespace, conditions).await?;
        }
        if let Some(error) = discovery_error {
            return Err(Error::Other(error));
        }
        if !failures.is_empty() {
            return Err(Error::Other(failures.join(", ")));
        }
        if !remaining.is_empty() {
            let mut waits = self.waits.lock();
            let wait = waits.entry(key.clone()).or_default().next(remaining.count(), wait);
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        self.finalize(&namespace).await
    }

    /// Deletes everything of these resources, and notes what is still there afterwards.
    async fn empty(
        &self,
        namespace: &str,
        resources: Vec<Served>,
        remaining: &mut Remaining,
        failures: &mut Vec<String>,
        wait: &mut Option<Duration>,
    ) {
        // Bounded: an API server should not be asked for a hundred lists at once.
        for part in resources.chunks(16) {
            let results =
                futures::future::join_all(part.iter().map(|served| self.empty_one(namespace, served))).await;
            for (served, result) in part.iter().zip(results) {
                match result {
                    Ok((left, delay)) => {
                        remaining.note(&served.resource, &left);
                        if let Some(delay) = delay {
                            *wait = Some(wait.map_or(delay, |known| known.min(delay)));
                        }
                    }
                    Err(error) => failures.push(error.to_string()),
                }
            }
        }
    }

    async fn empty_one(
        &self,
        namespace: &str,
        served: &Served,
    ) -> client::Result<(Vec<Partial>, Option<Duration>)> {
        let api = self.client.at(&served.resource).metadata_only();
        let space = Some(namespace);
        if !served.can("list") {
            return Ok((Vec::new(), None));
        }
        let gone = |error: &client::Error| error.is_not_found() || error.code() == Some(405);
        // Most kinds have nothing here: a list costs less than a deletion.
        let present = match api.list::<Partial>(space, &ListOptions::default()).await {
            Ok(list) => list.items,
            Err(error) if gone(&error) => return Ok((Vec::new(), None)),
            Err(error) => return Err(error),
        };
        if present.iter().all(|object| object.metadata.is_deleting()) {
            let delay = present.iter().filter_map(grace).max();
            return Ok((present, delay));
        }
        let options = DeleteOptions::default().propagation(Propagation::Background);
        if served.can("deletecollection") {
            match api.delete_collection(space, &options, &ListOptions::default()).await {
                Err(error) if !gone(&error) => return Err(error),
                _ => {}
            }
        } else {
            for object in &present {
                match api.delete(space, &object.metadata.name, &options).await {
                    Err(error) if !gone(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        let left = match api.list::<Partial>(space, &ListOptions::default()).await {
            Ok(list) => list.items,
            Err(error) if gone(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let delay = left.iter().filter_map(grace).max();
        Ok((left, delay))
    }

    async fn write_conditions(
        &self,
        namespace: &Namespace,
        conditions: Vec<crate::views::Condition>,
    ) -> Result<(), Error> {
        let meta = &namespace.metadata;
        let body = json!({
            "apiVersion": Namespace::API_VERSION,
            "kind": Namespace::KIND,
            "metadata": meta,
            "spec": namespace.spec,
            "status": {"phase": "Terminating", "conditions": conditions},
        });
        match self.client.update_status::<Namespace>(None, &meta.name, &body).await {
            // Written meanwhile by someone else: the next round reads that.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    /// Takes our finalizer away; with the last one the API server removes the namespace.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let name = &namespace.metadata.name;
        let fresh: Namespace = match self.client.get(None, name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result?,
        };
        let body = plan::finalized(&fresh, FINALIZER);
        let resource = client::ResourceRef::of::<Namespace>();
        match self.client.at(&resource).update::<Partial>(None, name, Some("finalize"), &body).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }
}

/// How long an object may take to go by itself; most end sooner.
fn grace(object: &Partial) -> Option<Duration> {
    let seconds = object.metadata.deletion_grace_period_seconds.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(10)) / 2)
}

/// Counts by name, in order.
type Counts = BTreeMap<String, usize>;
