//! Pods made, deleted, claimed and watched on behalf of a workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::views::OwnerReference;
use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, View, WorkQueue};
use machinery::labels::Selector;
use serde_json::{Map, Value, json};

use super::claim::{self, Claim};
use super::expectations::Expectations;
use super::selector::matches;
use crate::context::{CONTROLLER_INDEX, ORPHAN_INDEX};
use crate::views::{Meta, Object, Partial, Pod};

/// A pod after a workload's template. `name` is a prefix that ends in `-`, or whole with `exact`.
pub fn from_template(template: &Value, name: &str, exact: bool, owner: OwnerReference) -> Value {
    let empty = Map::new();
    let meta = template.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut metadata = Map::new();
    metadata.insert(if exact { "name" } else { "generateName" }.to_owned(), name.into());
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = meta.get(field).filter(|value| !value.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec").cloned()})
}

/// The labels of a template.
pub fn template_labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Creates and deletes pods, and records events on their owner.
#[derive(Clone)]
pub struct PodControl {
    pub client: Client,
    pub events: EventRecorder,
}

impl PodControl {
    pub async fn create(&self, namespace: &str, pod: &Value, owner: &impl Object) -> client::Result<Partial> {
        match self.client.create::<PartialPod>(Some(namespace), pod).await {
            Ok(created) => {
                let name = &created.0.metadata.name;
                self.events.event(
                    &owner.reference(),
                    EventType::Normal,
                    "SuccessfulCreate",
                    &format!("Created pod: {name}"),
                );
                Ok(created.0)
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    self.events.event(
                        &owner.reference(),
                        EventType::Warning,
                        "FailedCreate",
                        &format!("Error creating: {error}"),
                    );
                }
                Err(error)
            }
        }
    }

    /// A pod that is gone already counts as deleted, without an event.
    pub async fn delete(&self, pod: &Meta, owner: &impl Object) -> client::Result<()> {
        let options = DeleteOptions::default().uid(pod.uid.clone());
        match self.client.delete::<Pod>(Some(&pod.namespace), &pod.name, &options).await {
            Ok(()) => {
                self.events.event(
                    &owner.reference(),
                    EventType::Normal,
                    "SuccessfulDelete",
                    &format!("Deleted pod: {}", pod.name),
                );
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                self.events.event(
                    &owner.reference(),
                    EventType::Warning,
                    "FailedDelete",
                    &format!("Error deleting: {error}"),
                );
                Err(error)
            }
        }
    }
}

/// The answer to a pod's creation, of which only metadata is of interest.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct PartialPod(pub Partial);

impl View for PartialPod {
    type Of = k8s_openapi::api::core::v1::Pod;
}

/// The pods that belong to `owner`, after adopting and releasing. Adoption first asks the API server,
/// through `V`, whether the owner is still the one that is cached.
pub async fn claim<V: View + Object>(
    client: &Client,
    pods: &Informer<Pod>,
    owner: &V,
    selector: &Selector,
) -> Result<Vec<Arc<Pod>>, Error> {
    let meta = owner.meta();
    let mut owned = Vec::new();
    for pod in pods.by_index(CONTROLLER_INDEX, &meta.uid) {
        match claim::judge(meta, &pod.metadata, matches(selector, &pod.metadata.labels)) {
            Claim::Keep => owned.push(pod),
            Claim::Release => claim::release::<Pod>(client, &pod.metadata, &meta.uid).await?,
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    let mut checked = false;
    for pod in pods.by_index(ORPHAN_INDEX, &meta.namespace) {
        // An ended pod is of no use to anyone but a job, which names its pods itself.
        let wanted = !pod.is_terminal() || V::KIND == "Job";
        if !wanted
            || claim::judge(meta, &pod.metadata, matches(selector, &pod.metadata.labels)) != Claim::Adopt
        {
            continue;
        }
        if !checked {
            let fresh: V = client.get::<V>(Some(&meta.namespace), &meta.name).await?;
            if fresh.meta().uid != meta.uid || fresh.meta().is_deleting() {
                return Err(Error::Changed(format!("{} {}", V::KIND, meta.key())));
            }
            checked = true;
        }
        let reference = meta.controller_reference(V::API_VERSION, V::KIND);
        match claim::adopt::<Pod>(client, &pod.metadata, &reference).await {
            Ok(()) => owned.push(pod),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(owned)
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{0} is another one, or being deleted, by now")]
    Changed(String),
}

/// Queues a workload whenever something about its pods changes, and lowers what it expects.
pub struct Watch {
    pub queue: WorkQueue<Key>,
    pub expectations: Arc<Expectations>,
    pub kind: &'static str,
    /// How long pods that ended wait for others that end at about the same time.
    pub gather: Duration,
}

impl Watch {
    /// `is_current(key, uid)` says whether the workload of that name is the one with that uid; `matching(pod)`
    /// lists the workloads that would adopt a pod nobody owns.
    pub fn start(
        self,
        pods: &Informer<Pod>,
        is_current: impl Fn(&Key, &str) -> bool + Send + Sync + 'static,
        matching: impl Fn(&Pod) -> Vec<Key> + Send + Sync + 'static,
    ) {
        pods.on_event(move |event| {
            let owner = |pod: &Pod| {
                let reference = pod.metadata.controller().filter(|owner| owner.kind == self.kind)?;
                let key = Key::new(&pod.metadata.namespace, &reference.name);
                is_current(&key, &reference.uid).then_some(key)
            };
            let ended = |old: &Pod, new: &Pod| new.is_terminal() && !old.is_terminal();
            let touch = |pod: &Pod| match owner(pod) {
                Some(key) => self.queue.add(key),
                None if pod.metadata.controller().is_none() => {
                    matching(pod).into_iter().for_each(|key| self.queue.add(key));
                }
                None => {}
            };
            match event {
                Event::Added(pod) => {
                    if let Some(key) = owner(pod) {
                        self.expectations.created(&key);
                        if pod.metadata.is_deleting() {
                            self.expectations.deleted(&key, &pod.metadata.uid);
                        }
                    }
                    touch(pod);
                }
                Event::Modified { old, new } => {
                    if old.metadata.controller() != new.metadata.controller()
                        && let Some(key) = owner(old)
                    {
                        self.queue.add(key);
                    }
                    if new.metadata.is_deleting()
                        && let Some(key) = owner(new)
                    {
                        self.expectations.deleted(&key, &new.metadata.uid);
                    }
                    if ended(old, new)
                        && !self.gather.is_zero()
                        && let Some(key) = owner(new)
                    {
                        self.queue.add_after(key, self.gather);
                        return;
                    }
                    let orphan = new.metadata.controller().is_none();
                    let relabelled = old.metadata.labels != new.metadata.labels
                        || old.metadata.controller() != new.metadata.controller();
                    if !orphan || relabelled {
                        touch(new);
                    }
                }
                Event::Deleted(pod) => {
                    if let Some(key) = owner(pod) {
                        self.expectations.deleted(&key, &pod.metadata.uid);
                        self.queue.add(key);
                    }
                }
            }
        });
    }
}
