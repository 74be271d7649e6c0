//! `resourceclaim-controller`: makes the resource claims that pods describe by templates, reserves claims for pods that
//! were bound without the scheduler, and releases those whose pods have ended.
//!
//! Absent: claims of pod groups (the feature `DRAWorkloadResourceClaims` is off by default).

pub(super) mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Index, Informer, Key, Patch};
use controllers::views::{Consumer, Object, Pod, PodResourceClaim, ResourceClaim, ResourceClaimTemplate};
use controllers::{Context, Draft, Error, Next, Pods, Reconcile};
use serde_json::{Value, json};

use crate::{Options, metrics};
use plan::{Named, needs_claims};

/// Keeps a claim that is allocated.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// The entry of the pod that a claim was made for.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
const MANAGER: &str = "ResourceClaimController";

struct Controller {
    events: EventRecorder,
    pods: Pods,
    claims: Informer<ResourceClaim>,
    by_owner: Index<ResourceClaim, String>,
    templates: Informer<ResourceClaimTemplate>,
    admin_access: bool,
    prioritized_lists: bool,
}

/// A key of the queue, which has those of pods and of claims.
fn key(kind: &str, namespace: &str, name: &str) -> Key {
    Key::new(namespace, &format!("{kind}:{name}"))
}

fn of_pod(pod: &Pod) -> Key {
    key("pod", &pod.metadata.namespace, &pod.metadata.name)
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let account = "resource-claim-controller";
    let mut builder = context.builder("resource_claim", account, "resource_claim").await?;
    let claims: Informer<ResourceClaim> = builder.reads();
    metrics::volumes::follow_device_claims(&claims);
    let controller = Controller {
        events: builder.events.clone(),
        pods: builder.pods(),
        by_owner: claims.index(|claim: &ResourceClaim| claim.owner().map(|owner| owner.uid.to_string())),
        claims: claims.clone(),
        templates: builder.reads(),
        admin_access: context.gates.enabled("DRAAdminAccess"),
        prioritized_lists: context.gates.enabled("DRAPrioritizedList"),
    };
    let pods = controller.pods.cache();
    let users = pods.index(|pod: &Pod| {
        let names = plan::names(pod).map(str::to_owned).collect::<Vec<_>>();
        names.into_iter().map(|name| (pod.metadata.namespace.clone(), name)).collect::<Vec<_>>()
    });
    let by_template = pods.index(|pod: &Pod| {
        let templates =
            pod.spec.resource_claims.iter().filter_map(|claim| claim.resource_claim_template_name.clone());
        templates.map(|name| (pod.metadata.namespace.clone(), name)).collect::<Vec<_>>()
    });
    let queue = builder.queue.clone();
    pods.on_event(move |event| {
        let pod = event.object();
        let is_gone = matches!(event, Event::Deleted(_));
        if is_gone || !needs_claims(pod) {
            plan::names(pod).for_each(|name| queue.add(key("claim", &pod.metadata.namespace, name)));
        }
        if !is_gone && plan::gets_claims(pod) && !pod.spec.resource_claims.is_empty() {
            queue.add(of_pod(pod));
        }
    });
    let queue = builder.queue.clone();
    claims.on_keyed_event(move |own, event| {
        if !matches!(event, Event::Deleted(_)) {
            queue.add(key("claim", &own.namespace, &own.name));
        }
        let users = users.get(&((&*own.namespace).into(), own.name.to_string()));
        users.iter().filter(|pod| plan::gets_claims(pod)).for_each(|pod| queue.add(of_pod(pod)));
    });
    let queue = builder.queue.clone();
    controller.templates.on_keyed_event(move |own, event| {
        if !matches!(event, Event::Deleted(_)) {
            let users = by_template.get(&((&*own.namespace).into(), (&*own.name).into()));
            users.iter().filter(|pod| plan::gets_claims(pod)).for_each(|pod| queue.add(of_pod(pod)));
        }
    });
    builder.run(options.concurrent_resourceclaim_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        match key.name.split_once(':') {
            Some(("pod", name)) => self.reconcile_pod(&Key::new(&key.namespace, name), client).await?,
            Some((_, name)) => self.reconcile_claim(&Key::new(&key.namespace, name), client).await?,
            None => {}
        }
        Ok(Next::Done)
    }
}

impl Controller {
    async fn reconcile_pod(&self, key: &Key, client: &Client) -> Result<(), Error> {
        let Some(pod) = self.pods.cache.get_key(key).filter(|pod| plan::gets_claims(pod)) else {
            return Ok(());
        };
        let mut made = Vec::new();
        for claim in &pod.spec.resource_claims {
            match self.provide(client, &pod, claim).await {
                Ok(name) => made.extend(name.map(|name| (claim.name.to_string(), name))),
                Err(error) => {
                    let message = format!("PodResourceClaim {}: {error}", claim.name);
                    let reason = "FailedResourceClaimCreation";
                    self.events.event(&pod.reference(), EventType::Warning, reason, &message);
                    return Err(Error::Other(format!("pod {key}, {message}")));
                }
            }
        }
        if !made.is_empty() {
            // Its own status is waited for: the rest is done when the names are seen.
            return self.write_names(client, &pod, made).await;
        }
        if pod.spec.node_name.is_empty() {
            // The scheduler reserves them.
            return Ok(());
        }
        for claim in &pod.spec.resource_claims {
            let Named::Claim { name, is_generated } = plan::named(&pod, claim).map_err(Error::Other)? else {
                continue;
            };
            let Some(claim) = self.claims.get(pod.metadata.namespace(), name) else { return Ok(()) };
            if is_generated {
                plan::check_owner(&pod, &claim).map_err(Error::Other)?;
            }
            if claim.status.allocation.is_some() && !claim.is_reserved_for(&pod.metadata.uid) {
                self.reserve(client, &pod, claim).await?;
            }
        }
        Ok(())
    }

    /// The name of the claim that was made for an entry of the pod; none where nothing had to be.
    async fn provide(
        &self,
        client: &Client,
        pod: &Pod,
        entry: &PodResourceClaim,
    ) -> Result<Option<String>, Error> {
        let meta = &pod.metadata;
        match plan::named(pod, entry)
            .map_err(|error| Error::Other(format!("checking for claim before creating it: {error}")))?
        {
            Named::Unneeded => return Ok(None),
            Named::Claim { name, is_generated } => {
                let is_ours = |claim: &ResourceClaim| !is_generated || plan::check_owner(pod, claim).is_ok();
                // The cache may not have it yet.
                let found = match self.claims.get(meta.namespace(), name) {
                    Some(claim) => Some(claim),
                    None => match client.get::<ResourceClaim>(meta.namespace(), name).await {
                        Err(error) if error.is_not_found() => None,
                        found => Some(Arc::new(found?)),
                    },
                };
                if found.is_some_and(|claim| is_ours(&claim)) {
                    return Ok(None);
                }
            }
            Named::NotYet => {}
        }
        let Some(template) = &entry.resource_claim_template_name else { return Ok(None) };
        // One that was made before, and whose name was not written.
        let is_for = |claim: &&Arc<ResourceClaim>| claim.metadata.annotation(POD_CLAIM) == Some(&*entry.name);
        if let Some(orphan) = self.by_owner.get(&*meta.uid).iter().find(is_for) {
            return Ok(Some(orphan.metadata.name.clone()));
        }
        let Some(found) = self.templates.get(meta.namespace(), template) else {
            let missing = format!("resourceclaimtemplate.resource.k8s.io {:?} not found", template.as_str());
            return Err(Error::Other(format!("resource claim template {:?}: {missing}", template.as_str())));
        };
        if !self.admin_access && found.needs_admin_access() {
            return Err(Error::Other("admin access is requested, but the feature is disabled".to_owned()));
        }
        if !self.prioritized_lists && found.has_prioritized_list() {
            let message = "template includes a prioritized list of subrequests, but the feature is disabled";
            return Err(Error::Other(message.to_owned()));
        }
        let body = plan::claim(pod, entry, &found);
        let created = client.create::<ResourceClaim>(meta.namespace(), &body).await;
        metrics::claim_created(found.needs_admin_access(), created.is_err());
        let created = created.map_err(|error| Error::Other(format!("create ResourceClaim : {error}")))?;
        Ok(Some(created.metadata.name))
    }

    async fn write_names(
        &self,
        client: &Client,
        pod: &Pod,
        made: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let meta = &pod.metadata;
        let body = json!({
            "apiVersion": Pod::API_VERSION, "kind": Pod::KIND,
            "metadata": {"name": meta.name, "namespace": meta.namespace},
            "status": {"resourceClaimStatuses": plan::statuses(pod, made)},
        });
        let patch = Patch::Apply { manager: MANAGER.into(), force: true, object: body };
        let written = client.patch::<Pod>(meta.namespace(), &meta.name, Some("status"), patch).await;
        written.map(drop).map_err(|error| {
            Error::Other(format!("update pod {} ResourceClaimStatuses: {error}", meta.key()))
        })
    }

    async fn reserve(&self, client: &Client, pod: &Pod, claim: Arc<ResourceClaim>) -> Result<(), Error> {
        let mut draft = Draft::new(client, claim);
        let consumer = json!({"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid});
        let change = |claim: &mut Value| match claim["status"]["reservedFor"].as_array_mut() {
            Some(all) => all.push(consumer),
            None => claim["status"]["reservedFor"] = json!([consumer]),
        };
        let key = draft.seen.metadata.key();
        let reserved = draft.update_status(change).await;
        reserved.map_err(|error| match error {
            Error::Client(error) if error.is_conflict() => Error::Client(error),
            error => Error::Other(format!("reserve claim {key}: {error}")),
        })
    }

    async fn reconcile_claim(&self, key: &Key, client: &Client) -> Result<(), Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(()) };
        let mut remaining = Vec::new();
        for consumer in &claim.status.reserved_for {
            if self.still_needs(client, key, consumer).await? {
                remaining.push(consumer.clone());
            }
        }
        let mut draft = Draft::new(client, claim.clone());
        let is_protected = claim.metadata.has_finalizer(FINALIZER);
        let is_unused = remaining.is_empty();
        if remaining.len() < claim.status.reserved_for.len() {
            let change = |claim: &mut Value| {
                claim["status"]["reservedFor"] = json!(remaining);
                if is_unused && is_protected {
                    // What others may use then is chosen for them.
                    claim["status"]["allocation"] = Value::Null;
                }
            };
            draft.update_status(change).await?;
            if draft.seen.status.allocation.is_none() {
                draft.remove_finalizer(FINALIZER).await?;
            }
        } else if is_protected && is_unused && claim.metadata.is_deleting() {
            if claim.status.allocation.is_some() {
                draft.update_status(|claim| claim["status"]["allocation"] = Value::Null).await?;
            }
            draft.remove_finalizer(FINALIZER).await?;
        }
        if !is_unused {
            return Ok(());
        }
        // The garbage collector deletes claims of pods that are gone; a pod that has ended may stay for long.
        if let Some(owner) = claim.owner()
            && let Some(pod) = self.pods.cache.get(Some(&key.namespace), &owner.name)
            && (pod.metadata.uid != owner.uid || !needs_claims(&pod))
        {
            let options = DeleteOptions::default().uid(claim.metadata.uid.clone());
            match client.delete::<ResourceClaim>(Some(&key.namespace), &key.name, &options).await {
                Err(error) if !error.is_not_found() => {
                    return Err(Error::Other(format!("delete unused generated claim {key}: {error}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a claim stays reserved for a consumer.
    async fn still_needs(&self, client: &Client, claim: &Key, consumer: &Consumer) -> Result<bool, Error> {
        if !consumer.api_group.is_empty() || consumer.resource != "pods" {
            // Nothing is known about other consumers.
            return Ok(true);
        }
        if let Some(pod) = self.pods.cache.get(Some(&claim.namespace), &consumer.name) {
            return Ok(pod.metadata.uid == consumer.uid && needs_claims(&pod));
        }
        // It may be so new that the cache does not have it.
        match client.get::<Pod>(Some(&claim.namespace), &consumer.name).await {
            Err(error) if error.is_not_found() => Ok(false),
            found => Ok(found?.metadata.uid == consumer.uid),
        }
    }
}
