//! `daemonset-controller`: a pod on every node that fits.

mod fit;
mod history;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Patch, WorkQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{Context, Error};
use crate::support::claim::{self, Claim};
use crate::support::expectations::Expectations;
use crate::support::hash;
use crate::support::pods::{self, PodControl};
use crate::support::selector;
use crate::support::slow_start::slow_start;
use crate::views::{ControllerRevision, DaemonSet, DaemonSetStatus, Node, Object, Pod};
use fit::Needs;
use plan::Plan;

/// Label with the revision of the template that a pod was made from.
const REVISION_HASH: &str = "controller-revision-hash";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";
/// Revisions by the uid of their managing owner, and those without one by namespace.
const OWNER: &str = "owner";
const ORPHANS: &str = "orphans";

struct Controller {
    client: Client,
    events: EventRecorder,
    pods: PodControl,
    sets: Informer<DaemonSet>,
    pod_cache: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
    expectations: Arc<Expectations>,
    queue: WorkQueue<Key>,
    /// Failed pods killed so far, per set and node.
    failures: Mutex<plan::Backoff>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("daemon-set-controller").await?;
    let events = context.events(&client, "daemonset-controller");
    let queue = context.queue("daemonset");
    let sets: Informer<DaemonSet> = context.informers.all();
    let nodes: Informer<Node> = context.informers.all();
    let revisions: Informer<ControllerRevision> = context.informers.all();
    revisions.add_index(OWNER, |revision| {
        revision.metadata.controller().map(|owner| owner.uid.to_string()).into_iter().collect()
    });
    revisions.add_index(ORPHANS, |revision| {
        revision
            .metadata
            .controller()
            .is_none()
            .then(|| revision.metadata.namespace.to_string())
            .into_iter()
            .collect()
    });
    let pod_cache = context.pods();
    let expectations = Arc::new(Expectations::default());
    sets.enqueue_to(queue.clone());
    sets.synced().await;
    let (touch, known) = (queue.clone(), sets.clone());
    nodes.on_event(move |event| {
        // Most of it is heartbeats.
        if event.old().is_some_and(|old| !fit::differs(old, event.object())) {
            return;
        }
        for set in known.list() {
            let needs = Needs::of(&set.spec.template);
            let changed = match event {
                Event::Modified { old, new } => needs.fit(old) != needs.fit(new),
                // A node that is gone leaves pods that nobody else deletes.
                Event::Added(node) | Event::Deleted(node) => needs.fit(node).runs,
            };
            if changed {
                touch.add(Key::new(&set.metadata.namespace, &set.metadata.name));
            }
        }
    });
    nodes.synced().await;
    let touch = queue.clone();
    revisions.on_event(move |event| {
        if let Some(owner) =
            event.object().metadata.controller().filter(|owner| owner.kind == DaemonSet::KIND)
        {
            touch.add(Key::new(&event.object().metadata.namespace, &owner.name));
        }
    });
    revisions.synced().await;
    let (current, matching) = (sets.clone(), sets.clone());
    pods::Watch {
        queue: queue.clone(),
        expectations: expectations.clone(),
        kind: DaemonSet::KIND,
        gather: Duration::ZERO,
    }
    .start(
        &pod_cache,
        move |key, uid| current.get_key(key).is_some_and(|set| set.metadata.uid == uid),
        move |pod| would_adopt(&matching, pod),
    );
    pod_cache.synced().await;
    let workers = context.options.concurrent_daemonset_syncs;
    let pods = PodControl { client: client.clone(), events: events.clone() };
    let controller = Arc::new(Controller {
        client,
        events,
        pods,
        sets,
        pod_cache,
        nodes,
        revisions,
        expectations,
        queue: queue.clone(),
        failures: Mutex::default(),
    });
    context
        .work(queue, workers, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

fn would_adopt(sets: &Informer<DaemonSet>, pod: &Pod) -> Vec<Key> {
    let selects = |set: &Arc<DaemonSet>| {
        let compiled = selector::compile(set.spec.selector.as_ref());
        compiled.is_ok_and(|selector| selector::matches(&selector, &pod.metadata.labels))
    };
    let found = sets.list_in(&pod.metadata.namespace).into_iter().filter(selects);
    found.map(|set| Key::new(&set.metadata.namespace, &set.metadata.name)).collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(set) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            self.failures.lock().forget(&key.to_string());
            return Ok(());
        };
        let selector = match selector::compile(set.spec.selector.as_ref()) {
            Ok(selector) if !selector.is_everything() => selector,
            _ => {
                let message = "This daemon set is selecting all pods. A non-empty selector is required.";
                self.report(&set, EventType::Warning, "SelectingAll", message);
                return Ok(());
            }
        };
        if set.metadata.is_deleting() {
            return Ok(());
        }
        let (current, old) = self.history(&set, &selector).await?;
        let revision = current.metadata.labels.get(REVISION_HASH).unwrap_or_default();
        let settled = self.expectations.settled(key, &self.queue);
        let pods = pods::claim(&self.client, &self.pod_cache, &*set, &selector).await?;
        let nodes = self.nodes.list();
        let now = jiff::Timestamp::now();
        let fits = plan::fits(&set, &nodes);
        let input = plan::Input { set: &set, fits: &fits, pods: &pods, revision, now };
        let mut failure = None;
        if settled {
            let plan = plan::plan(&input, &mut self.failures.lock());
            if let Some(wait) = plan.again {
                self.queue.add_after(key.clone(), wait);
            }
            failure = self.execute(&set, key, revision, plan).await;
            if failure.is_none() {
                self.forget_old(&set, old, &pods).await?;
            }
        }
        let (mut status, again) = plan::status(&input);
        if !settled {
            status.observed_generation = set.status.observed_generation;
        }
        self.write_status(&set, status).await?;
        if let Some(seconds) = again {
            self.queue.add_after(key.clone(), Duration::from_secs(seconds));
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn execute(
        &self,
        set: &Arc<DaemonSet>,
        key: &Key,
        revision: &str,
        plan: Plan,
    ) -> Option<client::Error> {
        for (kind, reason, message) in &plan.events {
            self.report(set, *kind, reason, message);
        }
        if plan.create.is_empty() && plan.delete.is_empty() {
            return None;
        }
        self.expectations.set(key, plan.create.len(), plan.delete.iter().map(|pod| pod.metadata.uid.clone()));
        let deletions = plan.delete.iter().map(|pod| async {
            let result = self.pods.delete(&pod.metadata, &**set).await;
            if result.is_err()
                || self.pod_cache.get(Some(&pod.metadata.namespace), &pod.metadata.name).is_none()
            {
                self.expectations.deleted(key, &pod.metadata.uid);
            }
            result
        });
        let template = template(set, revision);
        let prefix = format!("{}-", set.metadata.name);
        let reference = set.metadata.controller_reference(DaemonSet::API_VERSION, DaemonSet::KIND);
        let base = pods::from_template(&template, &prefix, false, reference);
        let (base, nodes) = (&base, &plan.create);
        let creations = slow_start(nodes.len(), |index| async move {
            let mut pod = base.clone();
            fit::pin(&mut pod["spec"], &nodes[index]);
            match self.pods.create(&set.metadata.namespace, &pod, &**set).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_namespace_terminating() => {
                    self.expectations.created(key);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        });
        let (deleted, (succeeded, failure)) = tokio::join!(futures::future::join_all(deletions), creations);
        if failure.is_some() {
            self.expectations.lower_creations(key, nodes.len() - succeeded);
        }
        failure.or_else(|| deleted.into_iter().find_map(Result::err))
    }

    /// The revision of the present template, made where there is none, and the others, oldest first.
    async fn history(
        &self,
        set: &DaemonSet,
        selector: &machinery::labels::Selector,
    ) -> Result<(ControllerRevision, Vec<ControllerRevision>), Error> {
        let meta = &set.metadata;
        let mut revisions = Vec::new();
        let found = self.revisions.by_index(OWNER, &meta.uid).into_iter();
        for revision in found.chain(self.revisions.by_index(ORPHANS, &meta.namespace)) {
            match claim::judge(
                meta,
                &revision.metadata,
                selector::matches(selector, &revision.metadata.labels),
            ) {
                Claim::Keep => revisions.push((*revision).clone()),
                Claim::Adopt => {
                    let owner = meta.controller_reference(DaemonSet::API_VERSION, DaemonSet::KIND);
                    claim::adopt::<ControllerRevision>(&self.client, &revision.metadata, &owner).await?;
                    revisions.push((*revision).clone());
                }
                Claim::Release => {
                    claim::release::<ControllerRevision>(&self.client, &revision.metadata, &meta.uid).await?;
                }
                Claim::Ignore => {}
            }
        }
        revisions.sort_by_key(|revision| revision.revision);
        let data = history::data(&set.spec.template);
        let newest = revisions.last().map_or(0, |revision| revision.revision);
        let current = revisions.iter().rposition(|revision| hash::same_tree(&revision.data, &data));
        let Some(index) = current else {
            let made = self.make_revision(set, data, newest + 1).await?;
            return Ok((made, revisions));
        };
        let mut current = revisions.remove(index);
        if current.revision < newest {
            // An earlier template is the current one again.
            let patch = json!({"revision": newest + 1});
            let name = current.metadata.name.clone();
            current = self.client.patch(Some(&meta.namespace), &name, None, Patch::Merge(patch)).await?;
        }
        Ok((current, revisions))
    }

    async fn make_revision(
        &self,
        set: &DaemonSet,
        data: Value,
        number: i64,
    ) -> Result<ControllerRevision, Error> {
        let meta = &set.metadata;
        let hash = hash::hash(&set.spec.template, set.status.collision_count);
        let mut labels = pods::template_labels(&set.spec.template);
        labels.insert(REVISION_HASH.to_owned(), hash.clone());
        let name = format!("{}-{hash}", meta.name);
        let body = json!({
            "apiVersion": ControllerRevision::API_VERSION,
            "kind": ControllerRevision::KIND,
            "metadata": {
                "name": name,
                "namespace": meta.namespace,
                "labels": labels,
                "annotations": meta.annotations,
                "ownerReferences": [meta.controller_reference(DaemonSet::API_VERSION, DaemonSet::KIND)],
            },
            "data": data,
            "revision": number,
        });
        match self.client.create::<ControllerRevision>(Some(&meta.namespace), &body).await {
            Err(error) if error.is_already_exists() => {
                let existing: ControllerRevision = self.client.get(Some(&meta.namespace), &name).await?;
                if existing.metadata.is_controlled_by(&meta.uid) && hash::same_tree(&existing.data, &data) {
                    return Ok(existing);
                }
                let count = set.status.collision_count.unwrap_or(0) + 1;
                let status = DaemonSetStatus { collision_count: Some(count), ..set.status.clone() };
                self.write_status(set, status).await?;
                Err(Error::Other(format!(
                    "found a hash collision for DaemonSet {}, bumped its collisionCount to {count}",
                    meta.key()
                )))
            }
            result => Ok(result?),
        }
    }

    /// Deletes revisions beyond the limit that no pod was made of.
    async fn forget_old(
        &self,
        set: &DaemonSet,
        old: Vec<ControllerRevision>,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let surplus = old.len().saturating_sub(limit);
        let live = |revision: &&ControllerRevision| {
            let hash = revision.metadata.labels.get(REVISION_HASH);
            pods.iter().any(|pod| pod.metadata.labels.get(REVISION_HASH) == hash)
        };
        for revision in old.iter().filter(|revision| !live(revision)).take(surplus) {
            let options = DeleteOptions::default().uid(revision.metadata.uid.clone());
            let name = &revision.metadata.name;
            match self
                .client
                .delete::<ControllerRevision>(Some(&set.metadata.namespace), name, &options)
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    async fn write_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> Result<(), Error> {
        if status == set.status {
            return Ok(());
        }
        let meta = &set.metadata;
        let body = json!({
            "apiVersion": DaemonSet::API_VERSION,
            "kind": DaemonSet::KIND,
            "metadata": meta,
            "status": status,
        });
        match self.client.update_status::<DaemonSet>(Some(&meta.namespace), &meta.name, &body).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    fn report(&self, set: &DaemonSet, kind: EventType, reason: &str, message: &str) {
        self.events.event(&set.reference(), kind, reason, message);
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
