//! `statefulset-controller`: pods with ordinals, each with claims of its own, made and changed in order.

mod claims;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Text};
use controllers::pods::{self, Pods};
use controllers::slow_start::slow_start;
use controllers::views::{
    ControllerRevision, Object, OwnerReference, Partial, PersistentVolumeClaim, Pod, StatefulSet,
};
use controllers::{Context, Error, Next, Owned, Reconcile, claim, write_status_with};
use serde_json::{Value, json};

use super::history::{self, Naming};
use crate::Options;
use claims::Claims;
use plan::{Plan, Revision, Step};

/// Label of pods with the name of the revision that they were made of.
const REVISION: &str = "controller-revision-hash";
/// Label of revisions with the hash of their data.
const DATA_HASH: &str = "controller.kubernetes.io/hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

struct Controller {
    events: EventRecorder,
    sets: Informer<StatefulSet>,
    pods: Pods,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Owned<ControllerRevision>,
    several_unavailable: bool,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "statefulset-controller";
    let mut builder = context.builder("statefulset", account, account).await?;
    let controller = Controller {
        events: builder.events.clone(),
        sets: builder.reconciles(),
        pods: builder.owns_pods::<StatefulSet>(),
        claims: builder.reads(),
        revisions: builder.owns::<ControllerRevision, StatefulSet>(),
        several_unavailable: context.gates.enabled("MaxUnavailableStatefulSet"),
    };
    let (queue, sets) = (builder.queue.clone(), controller.sets.clone());
    controller.claims.on_keyed_event(move |key, event| {
        // A new pod waits until the claim of the one before is gone.
        if matches!(event, Event::Deleted(_)) {
            for set in claims::sets(&key.name) {
                let set = Key::new(&key.namespace, set);
                let has = |set: &StatefulSet| claims::has(set, &key.name);
                if sets.get_key(&set).is_some_and(|set| has(&set)) {
                    queue.add(set);
                }
            }
        }
    });
    builder.run(options.concurrent_statefulset_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Next::Done) };
        let selector = &set.spec.selector;
        if let Some(error) = selector.error() {
            tracing::error!(object = %key, error, "Converting the selector failed");
            return Ok(Next::Done);
        }
        let revisions = claim::claim(client, &self.revisions, &*set, selector, |_| true).await?;
        let is_member = |pod: &Pod| plan::ordinal(&set, pod).is_some();
        let mut pods = claim::claim(client, &*self.pods, &*set, selector, is_member).await?;
        pods.sort_by_key(|pod| plan::ordinal(&set, pod));
        let collisions = Some(set.status.collision_count.unwrap_or(0));
        let naming = Naming::OfData { label: DATA_HASH };
        let history =
            history::current(client, &*set, &set.spec.template, revisions, naming, collisions).await?;
        let history = match history {
            Ok(history) => history,
            Err(collision) => {
                let mut status = set.status.clone();
                status.collision_count = Some(collision.count);
                write_status_with::<StatefulSet>(client, &set.metadata, &status).await?;
                return Err(Error::Other(collision.to_string()));
            }
        };
        let update = &history.current;
        let mut old = history.old.iter();
        let current = old.find(|revision| revision.metadata.name == set.status.current_revision);
        let revision = |revision: &ControllerRevision| Revision {
            name: revision.metadata.name.clone(),
            template: history::template(&revision.data),
        };
        let claims = |name: &str| self.claims.get(set.metadata.namespace(), name);
        let plan = plan::plan(&plan::Input {
            set: &set,
            current: revision(current.unwrap_or(update)),
            update: revision(update),
            pods: &pods,
            claims: &claims,
            several_unavailable: self.several_unavailable,
            now: jiff::Timestamp::now(),
        });
        let failure = self.execute(client, &set, &plan).await.err();
        if plan::differs(&set.status, &plan.status) {
            write_status_with::<StatefulSet>(client, &set.metadata, &plan.status).await?;
        }
        let live = |revision: &ControllerRevision| {
            let name = &revision.metadata.name;
            current.is_some_and(|current| current.metadata.name == *name)
                || pods.iter().any(|pod| pod.metadata.labels.get(REVISION) == Some(name.as_str()))
        };
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        if let Ok(limit) = usize::try_from(limit) {
            let unused = history.old.iter().filter(|revision| !live(revision)).count();
            history::forget_old(client, &history.old, unused.saturating_sub(limit), live).await?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(Next::after(plan.again.map(Duration::from_secs))),
        }
    }
}

impl Controller {
    /// Takes the steps, stage by stage: those of one stage at once where pods need no order.
    async fn execute(&self, client: &Client, set: &StatefulSet, plan: &Plan) -> Result<(), Error> {
        for stage in &plan.stages {
            if plan.in_order {
                for step in stage {
                    self.take(client, set, plan, step).await?;
                }
            } else if let (_, Some(error)) =
                slow_start(stage.len(), |at| self.take(client, set, plan, &stage[at])).await
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn take(&self, client: &Client, set: &StatefulSet, plan: &Plan, step: &Step) -> Result<(), Error> {
        match step {
            Step::Create { ordinal, updated } => {
                let revision = if *updated { &plan.update } else { &plan.current };
                self.create(client, set, &pod(set, revision, *ordinal), *ordinal).await
            }
            Step::CreateClaims(pod, ordinal) => {
                self.create_claims(client, set, &pod.metadata.name, *ordinal).await?;
                self.retain(client, set, &Claims::of(set, *ordinal, &pod.metadata)).await
            }
            Step::Repair(pod, ordinal) => {
                let result = self.repair(client, set, pod, *ordinal).await;
                self.report(set, "Update", &pod.metadata.name, result)
            }
            Step::Retain(pod, ordinal) => {
                self.retain(client, set, &Claims::of(set, *ordinal, &pod.metadata)).await
            }
            Step::Delete(pod) => {
                let meta = &pod.metadata;
                let options = DeleteOptions::default().uid(meta.uid.clone());
                let result = match client.delete::<Pod>(meta.namespace(), &meta.name, &options).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                    _ => Ok(()),
                };
                self.report(set, "Delete", &meta.name, result)
            }
        }
    }

    async fn create(
        &self,
        client: &Client,
        set: &StatefulSet,
        pod: &Value,
        ordinal: i32,
    ) -> Result<(), Error> {
        let name = plan::pod_name(set, ordinal);
        if let Err(error) = self.create_claims(client, set, &name, ordinal).await {
            return self.report(set, "Create", &name, Err(error));
        }
        let created = match client.create::<pods::PartialPod>(set.metadata.namespace(), pod).await {
            // An earlier one of that name has not gone yet, or somebody else's has it.
            Err(error) if error.is_already_exists() => return Err(error.into()),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => return self.report(set, "Create", &name, Err(error.into())),
            Ok(created) => created.0.metadata,
        };
        if let Err(error) = self.retain(client, set, &Claims::of(set, ordinal, &created)).await {
            return self.report(set, "Update", &name, Err(error));
        }
        self.report(set, "Create", &name, Ok(()))
    }

    /// Makes the claims that a pod lacks.
    async fn create_claims(
        &self,
        client: &Client,
        set: &StatefulSet,
        pod: &str,
        ordinal: i32,
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace();
        let mut failures = Vec::new();
        for (name, body) in claims::wanted(set, ordinal) {
            match self.claims.get(namespace, &name) {
                Some(claim) if claim.metadata.is_deleting() => {
                    failures.push(format!("pvc {name} is being deleted"));
                }
                Some(_) => {}
                None => {
                    let result = client.create::<PersistentVolumeClaim>(namespace, &body).await;
                    let in_set = format!("Claim {name} Pod {pod} in StatefulSet {}", set.metadata.name);
                    match result {
                        Ok(_) => self.event(set, "SuccessfulCreate", &format!("Create {in_set} success")),
                        Err(error) if error.is_already_exists() => {
                            failures.push(format!("failed to create PVC {name}: {error}"));
                        }
                        Err(error) => {
                            let in_set = in_set.replacen(" Pod", " for Pod", 1);
                            let message = format!("Create {in_set} failed error: {error}");
                            self.event(set, "FailedCreate", &message);
                            failures.push(format!("failed to create PVC {name}: {error}"));
                        }
                    }
                }
            }
        }
        match failures.as_slice() {
            [] => Ok(()),
            [only] => Err(Error::Other(only.clone())),
            several => Err(Error::Other(format!("[{}]", several.join(", ")))),
        }
    }

    /// Makes the owners of a pod's claims what the retention policy says.
    async fn retain(&self, client: &Client, set: &StatefulSet, claims: &Claims<'_>) -> Result<(), Error> {
        for name in claims::names(set, claims.ordinal) {
            let Some(claim) = self.claims.get(set.metadata.namespace(), &name) else { continue };
            if claims.has_other_controller(&claim.metadata) {
                let message = format!(
                    "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                self.event(set, "ConflictingController", &message);
            }
            if claims.is_right(&claim.metadata) {
                continue;
            }
            let result = own(client, &claim, claims.owners(&claim.metadata)).await;
            result.map_err(|error| {
                Error::Other(format!("could not update claim {name} for delete policy ownerRefs: {error}"))
            })?;
        }
        Ok(())
    }

    /// Gives a pod its labels and claims back. What cannot be changed of it the API server refuses.
    async fn repair(&self, client: &Client, set: &StatefulSet, pod: &Pod, ordinal: i32) -> Result<(), Error> {
        let (meta, resource) = (&pod.metadata, client::ResourceRef::of::<Pod>());
        let api = client.at(&resource);
        let mut whole: Value = api.get(meta.namespace(), &meta.name).await?;
        if whole["metadata"]["uid"] != meta.uid.as_str() {
            return Ok(());
        }
        let labels = &mut whole["metadata"]["labels"];
        labels[POD_NAME] = meta.name.as_str().into();
        labels[POD_INDEX] = ordinal.to_string().into();
        if !plan::has_storage(set, pod, ordinal) {
            claims::mount(set, &mut whole["spec"], ordinal);
            self.create_claims(client, set, &meta.name, ordinal).await?;
        }
        self.retain(client, set, &Claims::of(set, ordinal, meta)).await?;
        api.update::<Partial>(meta.namespace(), &meta.name, None, &whole).await?;
        Ok(())
    }

    /// Records what became of a pod.
    fn report(
        &self,
        set: &StatefulSet,
        verb: &str,
        pod: &str,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.metadata.name);
        match &result {
            Ok(()) => self.event(set, &format!("Successful{verb}"), &format!("{what} successful")),
            Err(error) => self.event(set, &format!("Failed{verb}"), &format!("{what} failed error: {error}")),
        }
        result
    }

    fn event(&self, set: &StatefulSet, reason: &str, message: &str) {
        let kind = if reason.starts_with("Successful") { EventType::Normal } else { EventType::Warning };
        self.events.event(&set.reference(), kind, reason, message);
    }
}

/// Writes the owners of a claim. The controller's role does not let it patch claims.
async fn own(
    client: &Client,
    claim: &PersistentVolumeClaim,
    owners: Vec<OwnerReference>,
) -> client::Result<()> {
    let (meta, resource) = (&claim.metadata, client::ResourceRef::of::<PersistentVolumeClaim>());
    let api = client.at(&resource);
    let mut whole: Value = api.get(meta.namespace(), &meta.name).await?;
    // Under the version that was looked at.
    whole["metadata"]["resourceVersion"] = meta.resource_version.as_str().into();
    whole["metadata"]["ownerReferences"] = json!(owners);
    api.update::<Partial>(meta.namespace(), &meta.name, None, &whole).await.map(drop)
}

/// The pod of an ordinal, of a revision.
fn pod(set: &StatefulSet, revision: &Revision, ordinal: i32) -> Value {
    let meta = &set.metadata;
    let name = plan::pod_name(set, ordinal);
    let owner = meta.controller_reference(StatefulSet::API_VERSION, StatefulSet::KIND);
    let mut pod = pods::from_template(&revision.template, &name, true, owner);
    pod["metadata"]["generateName"] = format!("{}-", meta.name).into();
    let labels = &mut pod["metadata"]["labels"];
    labels[POD_NAME] = name.as_str().into();
    labels[POD_INDEX] = ordinal.to_string().into();
    labels[REVISION] = revision.name.as_str().into();
    pod["spec"]["hostname"] = name.into();
    if !set.spec.service_name.is_empty() {
        pod["spec"]["subdomain"] = Text::from(&set.spec.service_name).as_str().into();
    }
    claims::mount(set, &mut pod["spec"], ordinal);
    pod
}
