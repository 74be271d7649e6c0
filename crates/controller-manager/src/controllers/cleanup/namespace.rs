//! `namespace-controller`: empties a namespace that is being deleted, whatever kinds it holds, and then lets it go.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, Informer, Key, ListOptions, Propagation};
use controllers::kinds::discovery::{self, Discovery, Served};
use controllers::views::{Condition, Namespace, Object, Partial};
use controllers::{Context, Error, Next, Reconcile};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::json;

use crate::Options;
use plan::{Patience, Remaining};

const FINALIZER: &str = "kubernetes";
/// Pods that end one after the other are one reason to look again.
const AFTER_A_POD: Duration = Duration::from_millis(200);

struct Controller {
    namespaces: Informer<Namespace>,
    /// Namespaces in which something is left.
    waits: Mutex<FxHashMap<Key, Patience>>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "namespace-controller";
    let mut builder = context.builder("namespace", account, account).await?;
    let namespaces = builder.reads::<Namespace>();
    let queue = builder.queue.clone();
    namespaces.on_keyed_event(move |key, event| {
        if event.object().metadata.is_deleting() {
            queue.add(key.clone());
        }
    });
    // The rest of a namespace waits for its pods, which may need a moment or an hour to end.
    let (queue, known) = (builder.queue.clone(), namespaces.clone());
    builder.pods().cache().on_keyed_event(move |key, event| {
        if matches!(event, Event::Deleted(_))
            && known.get(None, &key.namespace).is_some_and(|namespace| namespace.metadata.is_deleting())
        {
            queue.add_after(Key::new("", &key.namespace), AFTER_A_POD);
        }
    });
    // `--namespace-sync-period`: what is on its way out is looked at without cause, too.
    let (queue, leaving, period) =
        (builder.queue.clone(), namespaces.clone(), *options.namespace_sync_period);
    let resync = async move {
        if period.is_zero() {
            return std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(period).await;
            for namespace in leaving.list().iter().filter(|namespace| namespace.metadata.is_deleting()) {
                queue.add(namespace.metadata.cache_key());
            }
        }
    };
    let controller = Controller { namespaces, waits: Mutex::default() };
    tokio::select! {
        ended = builder.run(options.concurrent_namespace_syncs, controller) => ended,
        () = resync => Ok(()),
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(namespace) = self.namespaces.get_key(key) else {
            self.waits.lock().remove(key);
            return Ok(Next::Done);
        };
        if !namespace.metadata.is_deleting()
            || !namespace.spec.finalizers.iter().any(|name| name == FINALIZER)
        {
            return Ok(Next::Done);
        }
        let name = namespace.metadata.name.as_str();
        if namespace.status.phase != "Terminating" {
            // The API server sets the phase together with the time; this is for one that does not.
            let conditions = namespace.status.conditions.clone();
            write_conditions(client, &namespace, conditions).await?;
            return Ok(Next::Done);
        }
        let (discovered, discovery_error) = match discovery::discover(client).await {
            Ok(discovered) if discovered.failed.is_empty() => (discovered, None),
            Ok(discovered) => {
                let failed = discovered.failed.join(", ");
                (discovered, Some(format!("unable to retrieve the complete list of server APIs: {failed}")))
            }
            Err(error) => (Discovery::default(), Some(error.to_string())),
        };
        // The cache may be behind a namespace of the same name that was made meanwhile.
        if leaving(client, &namespace).await?.is_none() {
            return Ok(Next::Done);
        }
        let mut remaining = Remaining::default();
        let mut failures = Vec::new();
        let mut wait = None;
        let (pods, others) = plan::order(discovered.resources);
        for stage in [pods, others] {
            empty(client, name, stage, &mut remaining, &mut failures, &mut wait).await;
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
            write_conditions(client, &namespace, conditions).await?;
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
            return Ok(Next::After(wait));
        }
        finalize(client, &namespace).await?;
        Ok(Next::Done)
    }
}

/// Deletes everything of these resources, and notes what is still there afterwards.
async fn empty(
    client: &Client,
    namespace: &str,
    resources: Vec<Served>,
    remaining: &mut Remaining,
    failures: &mut Vec<String>,
    wait: &mut Option<Duration>,
) {
    // Bounded: an API server should not be asked for a hundred lists at once.
    for part in resources.chunks(16) {
        let results =
            futures::future::join_all(part.iter().map(|served| empty_one(client, namespace, served))).await;
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
    client: &Client,
    namespace: &str,
    served: &Served,
) -> client::Result<(Vec<Partial>, Option<Duration>)> {
    let api = client.at(&served.resource).metadata_only();
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
    client: &Client,
    namespace: &Namespace,
    conditions: Vec<Condition>,
) -> Result<(), Error> {
    let meta = &namespace.metadata;
    let body = json!({
        "apiVersion": Namespace::API_VERSION,
        "kind": Namespace::KIND,
        "metadata": meta,
        "spec": namespace.spec,
        "status": {"phase": "Terminating", "conditions": conditions},
    });
    match client.update_status::<Namespace>(None, &meta.name, &body).await {
        // Written meanwhile by someone else: the next round reads that.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

/// The namespace as the API server has it now, where it is that very one and on its way out.
async fn leaving(client: &Client, namespace: &Namespace) -> Result<Option<Namespace>, Error> {
    match client.get::<Namespace>(None, &namespace.metadata.name).await {
        Err(error) if error.is_not_found() => Ok(None),
        result => Ok(Some(result?).filter(|now| plan::is_leaving(namespace, now))),
    }
}

/// Takes our finalizer away; with the last one the API server removes the namespace.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let name = &namespace.metadata.name;
    let Some(fresh) = leaving(client, namespace).await? else { return Ok(()) };
    let body = plan::finalized(&fresh, FINALIZER);
    let resource = client::ResourceRef::of::<Namespace>();
    match client.at(&resource).update::<Partial>(None, name, Some("finalize"), &body).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

/// How long an object may take to go by itself; most end sooner.
fn grace(object: &Partial) -> Option<Duration> {
    let seconds = object.metadata.deletion_grace_period_seconds.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(10)) / 2)
}

/// Counts by name, in order.
type Counts = BTreeMap<String, usize>;
