//! `endpointslice-controller`: for each service with a selector, which pods answer for it.
//!
//! Absent: topology-aware hints by CPU share (`service.kubernetes.io/topology-mode: Auto`);
//! `spec.trafficDistribution` is honoured.

pub(super) mod endpoints;
mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, DeleteOptions, Event, EventRecorder, EventType, Informer, Key, Text, WorkQueue};
use serde_json::json;

use crate::context::{Context, Error, LABEL_INDEX, label_key};
use crate::support::expectations::Expectations;
use crate::support::selector::has_all;
use crate::views::{EndpointSlice, Node, Object, Pod, Service};
use slices::Change;

pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// When the newest change that a slice shows happened.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Slices by `namespace/service`.
const SERVICE_INDEX: &str = "service";

struct Controller {
    client: Client,
    events: EventRecorder,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    per_slice: usize,
    triggers: Triggers,
    /// Slices written and not seen in the cache yet.
    expectations: Arc<Expectations>,
    queue: WorkQueue<Key>,
}

pub async fn run(context: Context) -> Result<(), Error> {
    let client = context.client("endpointslice-controller").await?;
    let events = context.events(&client, "endpoint-slice-controller");
    let queue = context.queue("endpoint_slice");
    let services: Informer<Service> = context.informers.all();
    let slices: Informer<EndpointSlice> = context.informers.all();
    slices.add_index(SERVICE_INDEX, |slice| {
        let labels = &slice.metadata.labels;
        let ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
        let service = labels.get(SERVICE_NAME).filter(|_| ours);
        service.map(|service| format!("{}/{service}", slice.metadata.namespace)).into_iter().collect()
    });
    let nodes: Informer<Node> = context.informers.all();
    let pods = context.pods();
    let expectations = Arc::new(Expectations::default());
    services.enqueue_to(queue.clone());
    services.synced().await;
    nodes.synced().await;

    let (touch, seen) = (queue.clone(), expectations.clone());
    slices.on_event(move |event| {
        let slice = event.object();
        let Some(service) = slice.metadata.labels.get(SERVICE_NAME) else { return };
        let key = Key::new(&slice.metadata.namespace, service);
        if let Event::Added(_) = event {
            seen.created(&key);
        }
        if let Event::Deleted(_) = event {
            seen.deleted(&key, &slice.metadata.uid);
        }
        touch.add(key);
    });
    slices.synced().await;
    watch_pods(&pods, &services, &queue, *context.options.endpointslice_updates_batch_period);
    pods.synced().await;

    let workers = context.options.concurrent_service_endpoint_syncs;
    let per_slice = context.options.max_endpoints_per_slice.max(1);
    let triggers = Triggers::default();
    let controller = Arc::new(Controller {
        client,
        events,
        services,
        pods,
        slices,
        nodes,
        per_slice,
        triggers,
        expectations,
        queue: queue.clone(),
    });
    context
        .work(queue, workers, move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(&key).await }
        })
        .await;
    Ok(())
}

/// Queues the services that a changed pod matters to.
pub(super) fn watch_pods(
    pods: &Informer<Pod>,
    services: &Informer<Service>,
    queue: &WorkQueue<Key>,
    batch: std::time::Duration,
) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.on_event(move |event| {
        let new = event.object();
        let old = event.old();
        let relabelled = old.is_some_and(|old| old.metadata.labels != new.metadata.labels);
        if let Some(old) = old
            && !relabelled
            && !endpoints::differ(old, new)
        {
            return;
        }
        for service in services.list_in(&new.metadata.namespace) {
            let selects = |pod: &Pod| {
                !service.spec.selector.is_empty() && has_all(&pod.metadata.labels, &service.spec.selector)
            };
            if selects(new) || (relabelled && old.is_some_and(|old| selects(old))) {
                queue.add_after(Key::new(&service.metadata.namespace, &service.metadata.name), batch);
            }
        }
    });
}

/// The pods a service selects.
pub(super) fn selected(pods: &Informer<Pod>, service: &Service) -> Vec<Arc<Pod>> {
    // The index finds those with one of the labels; the others are compared.
    let Some((key, value)) = service.spec.selector.iter().next_back() else { return Vec::new() };
    let mut found = pods.by_index(LABEL_INDEX, &label_key(&service.metadata.namespace, key, value));
    found.retain(|pod| has_all(&pod.metadata.labels, &service.spec.selector));
    found.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
    found
}

/// Times of the last changes of pods and services that no slice carries yet.
#[derive(Default)]
pub(super) struct Triggers(parking_lot::Mutex<rustc_hash::FxHashMap<String, State>>);

#[derive(Default)]
struct State {
    service: Option<jiff::Timestamp>,
    pods: rustc_hash::FxHashMap<String, jiff::Timestamp>,
}

impl Triggers {
    /// The earliest time among what changed since the last call for this service.
    pub(super) fn newest(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<jiff::Timestamp> {
        let mut states = self.0.lock();
        let state = states.entry(service.metadata.key()).or_default();
        let mut earliest: Option<jiff::Timestamp> = None;
        let mut note =
            |time: jiff::Timestamp| earliest = Some(earliest.map_or(time, |known| known.min(time)));
        let created = service.metadata.created();
        if state.service != Some(created) {
            note(created);
            state.service = Some(created);
        }
        let mut seen = rustc_hash::FxHashMap::default();
        for pod in pods {
            let time = pod.ready_since().or_else(|| {
                let ready = pod.condition("Ready")?;
                ready.last_transition_time.as_ref().map(|time| time.0)
            });
            let time = time.unwrap_or_else(|| pod.metadata.created());
            if state.pods.get(&pod.metadata.name).is_none_or(|known| *known < time) {
                note(time);
            }
            seen.insert(pod.metadata.name.clone(), time);
        }
        state.pods = seen;
        earliest
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(&key.to_string());
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let text = key.to_string();
        let Some(service) = self.services.get_key(key) else {
            // Its slices are the garbage collector's, by their owner.
            self.triggers.forget(key);
            self.expectations.forget(key);
            return Ok(());
        };
        if service.spec.selector.is_empty() || service.metadata.is_deleting() {
            return Ok(());
        }
        if !self.expectations.settled(key, &self.queue) {
            return Ok(());
        }
        let known = |node: &str| self.nodes.get(None, node).is_some();
        let (pods, skipped) = endpoints::published(&service, selected(&self.pods, &service), known);
        let existing = self.slices.by_index(SERVICE_INDEX, &text);
        let zone = |node: &str| self.nodes.get(None, node).and_then(|node| node.zone().map(str::to_owned));
        let trigger = self.triggers.newest(&service, &pods);
        let changes = slices::plan(&service, &pods, &existing, &zone, self.per_slice, trigger);
        let created = changes.iter().filter(|change| matches!(change, Change::Create(_))).count();
        let deleted: Vec<Text> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Delete(slice) => Some(slice.metadata.uid.clone()),
                _ => None,
            })
            .collect();
        if created > 0 || !deleted.is_empty() {
            self.expectations.set(key, created, deleted);
        }
        let results =
            futures::future::join_all(changes.into_iter().map(|change| self.apply(key, change))).await;
        let failure = results.into_iter().find_map(Result::err);
        if let Some(error) = failure {
            // The failed writes will never be seen in the cache, so their expectations are dropped.
            self.expectations.forget(key);
            if error.is_namespace_terminating() {
                return Ok(());
            }
            if !error.is_conflict() {
                self.complain(&service, &error.to_string());
            }
            return Err(error.into());
        }
        match skipped.as_slice() {
            [] => return Ok(()),
            [only] => self.complain(&service, only),
            several => self.complain(&service, &format!("[{}]", several.join(", "))),
        }
        // The node may only not be known yet.
        Err(Error::NotYet(skipped.join(", ")))
    }

    fn complain(&self, service: &Service, error: &str) {
        let message =
            format!("Error updating Endpoint Slices for Service {}: {error}", service.metadata.key());
        let reason = "FailedToUpdateEndpointSlices";
        self.events.event(&service.reference(), EventType::Warning, reason, &message);
    }

    async fn apply(&self, key: &Key, change: Change) -> client::Result<()> {
        let body = |slice: &EndpointSlice| {
            let mut body = json!(slice);
            body["apiVersion"] = EndpointSlice::API_VERSION.into();
            body["kind"] = EndpointSlice::KIND.into();
            body
        };
        match change {
            Change::Create(slice) => {
                let namespace = Some(slice.metadata.namespace.as_str());
                self.client.create::<EndpointSlice>(namespace, &body(&slice)).await.map(drop)
            }
            Change::Update(slice) => {
                let meta = &slice.metadata;
                let result = self
                    .client
                    .update::<EndpointSlice>(Some(&meta.namespace), &meta.name, &body(&slice))
                    .await;
                result.map(drop)
            }
            Change::Delete(slice) => {
                let meta = &slice.metadata;
                let options = DeleteOptions::default().uid(meta.uid.clone());
                match self.client.delete::<EndpointSlice>(Some(&meta.namespace), &meta.name, &options).await {
                    Err(error) if error.is_not_found() => {
                        self.expectations.deleted(key, &meta.uid);
                        Ok(())
                    }
                    result => result,
                }
            }
        }
    }
}
