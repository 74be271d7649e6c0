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

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Patch};
use controllers::hash::{POD_TEMPLATE_HASH, same_template};
use controllers::views::{Deployment, DeploymentStatus, Object, Partial, Pod, ReplicaSet};
use controllers::{Context, Error, Next, Owned, Pods, Reconcile, claim, write_status_with};
use serde_json::{Value, json};

use crate::Options;
use plan::{Action, Input, Plan};
use rollback::Rollback;

struct Controller {
    events: EventRecorder,
    deployments: Informer<Deployment>,
    sets: Owned<ReplicaSet>,
    pods: Pods,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "deployment-controller";
    let mut builder = context.builder("deployment", account, account).await?;
    let controller = Controller {
        events: builder.events.clone(),
        deployments: builder.reconciles(),
        sets: builder.owns::<ReplicaSet, Deployment>(),
        pods: builder.pods(),
    };
    // Recreation waits for the last old pod to end.
    let (queue, deployments, sets) =
        (builder.queue.clone(), controller.deployments.clone(), controller.sets.cache.clone());
    controller.pods.cache().on_event(move |event| {
        let Event::Deleted(pod) = event else { return };
        let owner_key = |meta: &controllers::views::Meta, kind: &str| {
            let owner = meta.controller().filter(|owner| owner.kind == kind)?;
            Some(Key { namespace: meta.namespace.clone().into(), name: owner.name.clone().into() })
        };
        let set = owner_key(&pod.metadata, ReplicaSet::KIND).and_then(|key| sets.get_key(&key));
        let Some(key) = set.and_then(|set| owner_key(&set.metadata, Deployment::KIND)) else { return };
        if deployments.get_key(&key).is_some_and(|one| one.spec.strategy.type_ == "Recreate") {
            queue.add(key);
        }
    });
    builder.run(options.concurrent_deployment_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(Next::Done) };
        let selector = &deployment.spec.selector;
        if let Some(error) = selector.error() {
            tracing::error!(object = %key, error, "Converting the selector failed");
            return Ok(Next::Done);
        }
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.report(&deployment, EventType::Warning, "SelectingAll", message);
            if deployment.status.observed_generation < deployment.metadata.generation {
                let status = DeploymentStatus {
                    observed_generation: deployment.metadata.generation,
                    ..deployment.status.clone()
                };
                write_status(client, &deployment, &status, None).await?;
            }
            return Ok(Next::Done);
        }
        let sets = claim::claim(client, &self.sets, &*deployment, selector, |_| true).await?;
        let plan = {
            let has_running_pods = |uid: &str| self.pods.any_of(uid, |pod: &Pod| !pod.is_terminal());
            plan::plan(&Input {
                deployment: &deployment,
                sets: &sets,
                has_running_pods: &has_running_pods,
                now: jiff::Timestamp::now(),
            })
        };
        self.execute(client, &deployment, &sets, plan).await
    }
}

impl Controller {
    async fn execute(
        &self,
        client: &Client,
        deployment: &Deployment,
        sets: &[Arc<ReplicaSet>],
        plan: Plan,
    ) -> Result<Next, Error> {
        let mut status = plan.status;
        for action in plan.actions {
            match action {
                Action::Create { name, hash, replicas, annotations } => {
                    match self.create(client, deployment, &name, &hash, replicas, annotations).await {
                        Ok(()) => {}
                        Err(error) if error.is_namespace_terminating() => return Ok(Next::Done),
                        Err(error) if error.is_already_exists() => {
                            return self.collided(client, deployment, &name, error).await;
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
                            write_status(client, deployment, &status, None).await?;
                            return Err(error.into());
                        }
                    }
                }
                Action::Update { name, from, to, annotations, min_ready_seconds } => {
                    let Some(set) = sets.iter().find(|set| set.metadata.name == name) else { continue };
                    self.update(client, deployment, set, (from, to), annotations, min_ready_seconds).await?;
                }
                Action::Delete { name } => {
                    let Some(set) = sets.iter().find(|set| set.metadata.name == name) else { continue };
                    let options = DeleteOptions::default().uid(set.metadata.uid.clone());
                    let namespace = set.metadata.namespace();
                    match client.delete::<ReplicaSet>(namespace, &name, &options).await {
                        Err(error) if !error.is_not_found() => return Err(error.into()),
                        _ => {}
                    }
                }
                Action::Rollback(rollback) => return self.roll_back(client, deployment, rollback).await,
            }
        }
        write_status(client, deployment, &status, plan.revision).await?;
        Ok(Next::after(plan.again.map(Duration::from_secs)))
    }

    async fn create(
        &self,
        client: &Client,
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
        client.create::<ReplicaSet>(Some(&meta.namespace), &set).await?;
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.report(deployment, EventType::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    /// The name of the set to be is taken: by an earlier try of ours, which the cache has not seen, or by
    /// another template with the same hash, and then the next try gets another hash.
    async fn collided(
        &self,
        client: &Client,
        deployment: &Deployment,
        name: &str,
        error: client::Error,
    ) -> Result<Next, Error> {
        let meta = &deployment.metadata;
        let existing: ReplicaSet = client.get(Some(&meta.namespace), name).await?;
        let ours = existing.metadata.is_controlled_by(&meta.uid)
            && same_template(&existing.spec.template, &deployment.spec.template);
        if ours {
            return Ok(Next::After(Duration::from_millis(50)));
        }
        let status = DeploymentStatus {
            collision_count: Some(deployment.status.collision_count.unwrap_or(0) + 1),
            ..deployment.status.clone()
        };
        write_status(client, deployment, &status, None).await?;
        Err(error.into())
    }

    async fn update(
        &self,
        client: &Client,
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
        client.patch::<ReplicaSet>(Some(&meta.namespace), &meta.name, None, Patch::Merge(patch)).await?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {from} to {to}", meta.name);
            self.report(deployment, EventType::Normal, "ScalingReplicaSet", &message);
        }
        Ok(())
    }

    async fn roll_back(
        &self,
        client: &Client,
        deployment: &Deployment,
        rollback: Rollback,
    ) -> Result<Next, Error> {
        let (meta, resource) = (&deployment.metadata, client::ResourceRef::of::<Deployment>());
        let api = client.at(&resource);
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
        Ok(Next::Done)
    }

    fn report(&self, deployment: &Deployment, kind: EventType, reason: &str, message: &str) {
        self.events.event(&deployment.reference(), kind, reason, message);
    }
}

async fn write_status(
    client: &Client,
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
    write_status_with::<Deployment>(client, &meta, status).await?;
    Ok(())
}
