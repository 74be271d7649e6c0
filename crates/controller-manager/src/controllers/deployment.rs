//! `deployment-controller`: rolls a template out over replica sets.

mod annotations;
mod plan;
mod progress;
mod rollback;
mod rolling;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Patch, WorkQueue};
use serde_json::{Value, json};

use crate::context::{CONTROLLER_INDEX, Context, Error};
use crate::support::claim::{self, Claim};
use crate::support::hash::{POD_TEMPLATE_HASH, same_template};
use crate::support::selector;
use crate::views::{Deployment, DeploymentStatus, Object, Partial, Pod, ReplicaSet};
use plan::{Action, Input, Plan};
use rollback::Rollback;

struct Controller {
    client: Client,
    events: EventRecorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    queue: WorkQueue<Key>,
}

/// Replica sets by the uid of their managing owner, and those without one by namespace.
const OWNER: &str = "owner";
const ORPHANS: &str = "orphans";

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("deployment-controller").await?;
    let events = context.events(&client, "deployment-controller");
    let queue = context.queue("deployment");
    let deployments: Informer<Deployment> = context.informers.all();
    let sets: Informer<ReplicaSet> = context.informers.all();
    sets.add_index(OWNER, |set| {
        set.metadata.controller().map(|owner| owner.uid.to_string()).into_iter().collect()
    });
    sets.add_index(ORPHANS, |set| {
        set.metadata.controller().is_none().then(|| set.metadata.namespace.to_string()).into_iter().collect()
    });
    let pods = context.pods();
    deployments.enqueue_to(queue.clone());
    deployments.synced().await;

    let (touch, known) = (queue.clone(), deployments.clone());
    sets.on_event(move |event| {
        for set in [event.old(), Some(event.object())].into_iter().flatten() {
            owners(&known, set).into_iter().for_each(|key| touch.add(key));
        }
    });
    sets.synced().await;

    // Recreation waits for the last old pod to end.
    let (touch, known, by_uid) = (queue.clone(), deployments.clone(), sets.clone());
    pods.on_event(move |event| {
        let Event::Deleted(pod) = event else { return };
        let Some(owner) = pod.metadata.controller().filter(|owner| owner.kind == ReplicaSet::KIND) else {
            return;
        };
        let Some(set) = by_uid.get(Some(&pod.metadata.namespace), &owner.name) else { return };
        for key in owners(&known, &set) {
            if known.get_key(&key).is_some_and(|deployment| deployment.spec.strategy.type_ == "Recreate") {
                touch.add(key);
            }
        }
    });
    pods.synced().await;

    let workers = context.options.concurrent_deployment_syncs;
    let controller = Arc::new(Controller { client, events, deployments, sets, pods, queue: queue.clone() });
    context
        .work(queue, workers, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

/// The deployments a change of a replica set matters to.
fn owners(deployments: &Informer<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    let meta = &set.metadata;
    if let Some(owner) = meta.controller() {
        let key = Key::new(&meta.namespace, &owner.name);
        let current = owner.kind == Deployment::KIND
            && deployments.get_key(&key).is_some_and(|deployment| deployment.metadata.uid == owner.uid);
        return if current { vec![key] } else { Vec::new() };
    }
    if meta.labels.is_empty() {
        return Vec::new();
    }
    let selects = |deployment: &Arc<Deployment>| {
        let compiled = selector::compile(deployment.spec.selector.as_ref());
        compiled.is_ok_and(|selector| selector::matches(&selector, &meta.labels))
    };
    let found = deployments.list_in(&meta.namespace).into_iter().filter(selects);
    found.map(|deployment| Key::new(&meta.namespace, &deployment.metadata.name)).collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(()) };
        let selector = match selector::compile(deployment.spec.selector.as_ref()) {
            Ok(selector) => selector,
            Err(error) => {
                tracing::error!(object = %key, %error, "converting the selector");
                return Ok(());
            }
        };
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.report(&deployment, EventType::Warning, "SelectingAll", message);
            if deployment.status.observed_generation < deployment.metadata.generation {
                let status = DeploymentStatus {
                    observed_generation: deployment.metadata.generation,
                    ..deployment.status.clone()
                };
                self.write_status(&deployment, &status, None).await?;
            }
            return Ok(());
        }
        let sets = self.claim(&deployment, &selector).await?;
        let plan = {
            let has_running_pods =
                |uid: &str| self.pods.by_index(CONTROLLER_INDEX, uid).iter().any(|pod| !pod.is_terminal());
            plan::plan(&Input {
                deployment: &deployment,
                sets: &sets,
                has_running_pods: &has_running_pods,
                now: jiff::Timestamp::now(),
            })
        };
        self.execute(&deployment, &sets, plan).await
    }

    /// The deployment's replica sets, after adopting and releasing.
    async fn claim(
        &self,
        deployment: &Deployment,
        selector: &machinery::labels::Selector,
    ) -> Result<Vec<ReplicaSet>, Error> {
        let meta = &deployment.metadata;
        let mut sets = Vec::new();
        let mut checked = false;
        let owned = self.sets.by_index(OWNER, &meta.uid);
        let orphans = self.sets.by_index(ORPHANS, &meta.namespace);
        for set in owned.into_iter().chain(orphans) {
            match claim::judge(meta, &set.metadata, selector::matches(selector, &set.metadata.labels)) {
                Claim::Ignore => {}
                Claim::Keep => sets.push((*set).clone()),
                Claim::Release => {
                    claim::release::<ReplicaSet>(&self.client, &set.metadata, &meta.uid).await?
                }
                Claim::Adopt => {
                    if !checked {
                        let fresh: Deployment = self.client.get(Some(&meta.namespace), &meta.name).await?;
                        if fresh.metadata.uid != meta.uid || fresh.metadata.is_deleting() {
                            return Err(Error::Changed(format!("Deployment {}", meta.key())));
                        }
                        checked = true;
                    }
                    let owner = meta.controller_reference(Deployment::API_VERSION, Deployment::KIND);
                    match claim::adopt::<ReplicaSet>(&self.client, &set.metadata, &owner).await {
                        Ok(()) => sets.push((*set).clone()),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(sets)
    }

    async fn execute(&self, deployment: &Deployment, sets: &[ReplicaSet], plan: Plan) -> Result<(), Error> {
        let mut status = plan.status;
        for action in plan.actions {
            match action {
                Action::Create { name, hash, replicas, annotations } => {
                    match self.create(deployment, &name, &hash, replicas, annotations).await {
                        Ok(()) => {}
                        Err(error) if error.is_namespace_terminating() => return Ok(()),
                        Err(error) if error.is_already_exists() => {
                            return self.collided(deployment, &name, error).await;
                        }
                        Err(error) => {
                            let message = format!("Failed to create new replica set {name:?}: {error}");
                            self.report(deployment, EventType::Warning, "ReplicaSetCreateError", &message);
                            // Nothing of what was planned came about.
                            status = deployment.status.clone();
                            progress::set_progressing(
                                &mut status,
                                jiff::Timestamp::now(),
                                deployment,
                                "False",
                                "ReplicaSetCreateError",
                                || message,
                            );
                            self.write_status(deployment, &status, None).await?;
                            return Err(error.into());
                        }
                    }
                }
                Action::Update { name, from, to, annotations, min_ready_seconds } => {
                    let Some(set) = sets.iter().find(|set| set.metadata.name == name) else { continue };
                    self.update(deployment, set, (from, to), annotations, min_ready_seconds).await?;
                }
                Action::Delete { name } => {
                    let Some(set) = sets.iter().find(|set| set.metadata.name == name) else { continue };
                    let options = DeleteOptions::default().uid(set.metadata.uid.clone());
                    match self
                        .client
                        .delete::<ReplicaSet>(Some(&set.metadata.namespace), &name, &options)
                        .await
                    {
                        Err(error) if !error.is_not_found() => return Err(error.into()),
                        _ => {}
                    }
                }
                Action::Rollback(rollback) => return self.roll_back(deployment, rollback).await,
            }
        }
        self.write_status(deployment, &status, plan.revision).await?;
        if let Some(seconds) = plan.again {
            let key = Key::new(&deployment.metadata.namespace, &deployment.metadata.name);
            self.queue.add_after(key, Duration::from_secs(seconds));
        }
        Ok(())
    }

    async fn create(
        &self,
        deployment: &Deployment,
        name: &str,
        hash: &str,
        replicas: i32,
        annotations: BTreeMap<String, String>,
    ) -> client::Result<()> {
        let meta = &deployment.metadata;
        let template = plan::with_hash(&deployment.spec.template, hash);
        let mut selector = json!(deployment.spec.selector);
        selector["matchLabels"][POD_TEMPLATE_HASH] = hash.into();
        let set = json!({
            "apiVersion": ReplicaSet::API_VERSION,
            "kind": ReplicaSet::KIND,
            "metadata": {
                "name": name,
                "namespace": meta.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [meta.controller_reference(Deployment::API_VERSION, Deployment::KIND)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": selector,
                "template": template,
            },
        });
        self.client.create::<ReplicaSet>(Some(&meta.namespace), &set).await?;
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.report(deployment, EventType::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    /// The name of the set to be is taken: by an earlier try of ours, which the cache has not seen, or by
    /// another template with the same hash, and then the next try gets another hash.
    async fn collided(&self, deployment: &Deployment, name: &str, error: client::Error) -> Result<(), Error> {
        let meta = &deployment.metadata;
        let existing: ReplicaSet = self.client.get(Some(&meta.namespace), name).await?;
        let ours = existing.metadata.is_controlled_by(&meta.uid)
            && same_template(&existing.spec.template, &deployment.spec.template);
        if ours {
            let key = Key::new(&meta.namespace, &meta.name);
            self.queue.add_after(key, Duration::from_millis(50));
            return Ok(());
        }
        let status = DeploymentStatus {
            collision_count: Some(deployment.status.collision_count.unwrap_or(0) + 1),
            ..deployment.status.clone()
        };
        self.write_status(deployment, &status, None).await?;
        Err(error.into())
    }

    async fn update(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        (from, to): (i32, i32),
        annotations: BTreeMap<String, String>,
        min_ready_seconds: i32,
    ) -> Result<(), Error> {
        let meta = &set.metadata;
        let seconds_differ = min_ready_seconds != set.spec.min_ready_seconds;
        if from == to && annotations == meta.annotations && !seconds_differ {
            return Ok(());
        }
        let mut spec = json!({"replicas": to});
        if seconds_differ {
            spec["minReadySeconds"] = min_ready_seconds.into();
        }
        let patch = json!({
            "metadata": {"resourceVersion": meta.resource_version, "annotations": annotations},
            "spec": spec,
        });
        self.client.patch::<ReplicaSet>(Some(&meta.namespace), &meta.name, None, Patch::Merge(patch)).await?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {from} to {to}", meta.name);
            self.report(deployment, EventType::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    async fn roll_back(&self, deployment: &Deployment, rollback: Rollback) -> Result<(), Error> {
        let (meta, resource) = (&deployment.metadata, client::ResourceRef::of::<Deployment>());
        let api = self.client.at(&resource);
        let mut whole: Value = api.get(Some(&meta.namespace), &meta.name).await?;
        if whole["metadata"]["resourceVersion"] != meta.resource_version {
            return Err(Error::NotYet(format!("Deployment {} is a newer one", meta.key())));
        }
        whole["metadata"]["annotations"] = json!(rollback.annotations);
        if let Some(template) = rollback.template {
            whole["spec"]["template"] = template;
        }
        api.update::<Partial>(Some(&meta.namespace), &meta.name, None, &whole).await?;
        let (kind, reason, message) = rollback.event;
        self.report(deployment, kind, reason, &message);
        Ok(())
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        status: &DeploymentStatus,
        revision: Option<String>,
    ) -> Result<(), Error> {
        if *status == deployment.status && revision.is_none() {
            return Ok(());
        }
        let mut meta = deployment.metadata.clone();
        if let Some(revision) = revision {
            meta.annotations.insert(annotations::REVISION.to_owned(), revision);
        }
        let body = json!({
            "apiVersion": Deployment::API_VERSION,
            "kind": Deployment::KIND,
            "metadata": meta,
            "status": status,
        });
        self.client.update_status::<Deployment>(Some(&meta.namespace), &meta.name, &body).await?;
        Ok(())
    }

    fn report(&self, deployment: &Deployment, kind: EventType, reason: &str, message: &str) {
        self.events.event(&deployment.reference(), kind, reason, message);
    }
}
