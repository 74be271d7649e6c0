//! `daemonset-controller`: a pod on every node that fits.

mod fit;
mod fits;
mod places;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, EventRecorder, EventType, Informer, Key};
use controllers::pods::{self, PodControl, Pods};
use controllers::slow_start::slow_start;
use controllers::views::{ControllerRevision, DaemonSet, DaemonSetStatus, Node, Object, Pod};
use controllers::{Context, Error, Next, Owned, Reconcile, claim, write_status};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::history::{self, Naming};
use crate::Options;
use fits::AllFits;
use plan::Plan;

/// Label with the revision of the template that a pod was made from.
const REVISION_HASH: &str = "controller-revision-hash";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

struct Controller {
    events: EventRecorder,
    control: PodControl,
    sets: Informer<DaemonSet>,
    pods: Pods,
    nodes: Informer<Node>,
    revisions: Owned<ControllerRevision>,
    fits: Arc<Mutex<AllFits>>,
    /// Failed pods killed so far, per set and node.
    failures: Mutex<plan::Backoff>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("daemonset", "daemon-set-controller", "daemonset-controller").await?;
    let (pods, nodes) = (builder.pods(), builder.reads::<Node>());
    let (counted, known) = (pods.clone(), nodes.clone());
    builder.owns_after::<Pod, DaemonSet>(move |event| {
        let owner = event.object().metadata.controller();
        owner.map_or(Duration::ZERO, |owner| gather(known.len(), counted.count_of(&owner.uid)))
    });
    let controller = Controller {
        events: builder.events.clone(),
        control: PodControl { events: builder.events.clone() },
        sets: builder.reconciles(),
        pods,
        nodes,
        revisions: builder.owns::<ControllerRevision, DaemonSet>(),
        fits: Arc::default(),
        failures: Mutex::default(),
    };
    let (queue, fits) = (builder.queue.clone(), controller.fits.clone());
    controller.nodes.on_event(move |event| {
        // Most of it is heartbeats.
        if event.old().is_none_or(|old| fit::differs(old, event.object())) {
            fits.lock().apply(event, |set| queue.add(set.clone()));
        }
    });
    builder.run(options.concurrent_daemonset_syncs, controller).await
}

/// How long changes of pods are gathered before their set is reconciled, which walks all nodes and its pods. A walk for each
/// change would be nodes times nodes in a rollout; this makes it a small share of a core at any size, and no wait where
/// both are few.
fn gather(nodes: usize, pods: usize) -> Duration {
    const WALKED_IN_A_MILLISECOND: usize = 100;
    let wait = (nodes + pods) / WALKED_IN_A_MILLISECOND;
    Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(set) = self.sets.get_key(key) else {
            self.failures.lock().forget(&key.to_string());
            self.fits.lock().forget(key);
            return Ok(Next::Done);
        };
        let selector = &set.spec.selector;
        if selector.error().is_some() || selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.events.event(&set.reference(), EventType::Warning, "SelectingAll", message);
            return Ok(Next::Done);
        }
        if set.metadata.is_deleting() {
            return Ok(Next::Done);
        }
        let revisions = claim::claim(client, &self.revisions, &*set, selector, |_| true).await?;
        let naming = Naming::OfTemplate { template: &set.spec.template, label: REVISION_HASH };
        let collisions = set.status.collision_count;
        let history =
            history::current(client, &*set, &set.spec.template, revisions, naming, collisions).await?;
        let history = match history {
            Ok(history) => history,
            Err(collision) => {
                let status = DaemonSetStatus { collision_count: Some(collision.count), ..set.status.clone() };
                write_status(client, &*set, &set.status, &status).await?;
                return Err(Error::Other(collision.to_string()));
            }
        };
        let revision = history.current.metadata.labels.get(REVISION_HASH).unwrap_or_default();
        let pods = claim::claim(client, &*self.pods, &*set, selector, |pod| !pod.is_terminal()).await?;
        let now = jiff::Timestamp::now();
        // The nodes are read under the lock: what changes after that is applied after this.
        let fits = self.fits.lock().of(key, &set, || self.nodes.list());
        let places = places::places(&fits, &pods);
        let input = plan::Input { set: &set, places: &places, revision, now };
        let plan = plan::plan(&input, &mut self.failures.lock());
        let again = Next::after(plan.again);
        let failure = self.execute(client, &set, revision, plan).await;
        if failure.is_none() {
            let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
            let surplus = history.old.len().saturating_sub(limit);
            let is_live = |revision: &ControllerRevision| {
                let hash = revision.metadata.labels.get(REVISION_HASH);
                pods.iter().any(|pod| pod.metadata.labels.get(REVISION_HASH) == hash)
            };
            history::forget_old(client, &history.old, surplus, is_live).await?;
        }
        let (status, seconds) = plan::status(&input);
        write_status(client, &*set, &set.status, &status).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(again.or(Next::after(seconds.map(Duration::from_secs)))),
        }
    }
}

impl Controller {
    async fn execute(
        &self,
        client: &Client,
        set: &Arc<DaemonSet>,
        revision: &str,
        plan: Plan,
    ) -> Option<client::Error> {
        for (kind, reason, message) in &plan.events {
            self.events.event(&set.reference(), *kind, reason, message);
        }
        let deletions = self.control.delete_all(client, &plan.delete, &**set);
        let template = template(set, revision);
        let prefix = format!("{}-", set.metadata.name);
        let reference = set.metadata.controller_reference(DaemonSet::API_VERSION, DaemonSet::KIND);
        let base = pods::from_template(&template, &prefix, false, reference);
        let (base, nodes, namespace) = (&base, &plan.create, &set.metadata.namespace);
        let creations = slow_start(nodes.len(), |index| async move {
            let mut pod = base.clone();
            fit::pin(&mut pod["spec"], &nodes[index]);
            self.control.create_unless_terminating(client, namespace, &pod, &**set).await
        });
        let (deleted, (_, failure)) = tokio::join!(deletions, creations);
        failure.or(deleted)
    }
}

/// The template with the labels and tolerations that daemon pods get besides.
fn template(set: &DaemonSet, revision: &str) -> Value {
    let mut template = set.spec.template.clone();
    let labels = &mut template["metadata"]["labels"];
    labels[REVISION_HASH] = revision.into();
    if let Some(generation) = set.metadata.annotation(GENERATION_ANNOTATION) {
        labels[GENERATION_LABEL] = generation.into();
    }
    let given = template["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let added = fit::added(&template).into_iter().map(|toleration| json!(toleration));
    let added = added.filter(|tree| !given.contains(tree));
    let all: Vec<Value> = given.iter().cloned().chain(added).collect();
    template["spec"]["tolerations"] = all.into();
    template
}
