//! `endpointslice-controller`: for each service with a selector, which pods answer for it.
//!
//! Absent: topology-aware hints by CPU share (`service.kubernetes.io/topology-mode: Auto`);
//! `spec.trafficDistribution` is honoured.

pub(super) mod endpoints;
mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, EventRecorder, EventType, Index, Informer, Key, Text};
use controllers::many;
use controllers::views::{EndpointSlice, Node, Object, Pod, Service};
use controllers::{Builder, Context, Error, Next, Pods, Reconcile};
use serde_json::json;

use crate::Options;
pub(super) use slices::Change;

pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// When the newest change that a slice shows happened.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

struct Controller {
    events: EventRecorder,
    services: Informer<Service>,
    pods: Pods,
    /// Our slices by their services.
    slices: Index<EndpointSlice, Key>,
    nodes: Informer<Node>,
    per_slice: usize,
    triggers: Triggers,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let mut builder =
        context.builder("endpoint_slice", "endpointslice-controller", "endpoint-slice-controller").await?;
    let slices = builder.reads::<EndpointSlice>();
    let queue = builder.queue.clone();
    slices.on_event(move |event| {
        if let Some(key) = service_of(event.object()) {
            queue.add(key);
        }
    });
    let is_ours = |slice: &EndpointSlice| slice.metadata.labels.get(MANAGED_BY) == Some(MANAGER);
    let controller = Controller {
        events: builder.events.clone(),
        services: builder.reconciles(),
        pods: builder.pods(),
        slices: slices.index(move |slice| service_of(slice).filter(|_| is_ours(slice))),
        nodes: builder.reads(),
        per_slice: options.max_endpoints_per_slice.max(1),
        triggers: Triggers::default(),
    };
    watch_pods(&mut builder, *options.endpointslice_updates_batch_period);
    builder.run(options.concurrent_service_endpoint_syncs, controller).await
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.get(SERVICE_NAME)?;
    Some(Key { namespace: slice.metadata.namespace.clone().into(), name: Text::from(name).into() })
}

/// Queues the services that a changed pod matters to.
pub(super) fn watch_pods(builder: &mut Builder, batch: Duration) {
    let (services, queue) = (builder.adopters::<Service>(), builder.queue.clone());
    builder.pods().cache().on_event(move |event| {
        let new = event.object();
        let old = event.old();
        let relabelled = old.is_some_and(|old| old.metadata.labels != new.metadata.labels);
        if let Some(old) = old
            && !relabelled
            && !endpoints::differ(old, new)
        {
            return;
        }
        let before = old.filter(|_| relabelled);
        for pod in [Some(new), before].into_iter().flatten() {
            for service in services.matching(&pod.metadata) {
                queue.add_after(service.metadata.cache_key(), batch);
            }
        }
    });
}

/// The pods a service selects.
pub(super) fn selected(pods: &Pods, service: &Service) -> Vec<Arc<Pod>> {
    match service.spec.selector.labels() {
        Some(labels) => pods.selected(&service.metadata.namespace, labels),
        None => Vec::new(),
    }
}

/// Times of the last changes of pods and services that no slice carries yet.
#[derive(Default)]
pub(super) struct Triggers(parking_lot::Mutex<rustc_hash::FxHashMap<Key, State>>);

#[derive(Default)]
struct State {
    service: Option<jiff::Timestamp>,
    /// By uid.
    pods: rustc_hash::FxHashMap<Text, jiff::Timestamp>,
}

impl Triggers {
    /// The earliest time among what changed since the last call for this service.
    pub(super) fn newest(&self, key: &Key, service: &Service, pods: &[Arc<Pod>]) -> Option<jiff::Timestamp> {
        let mut states = self.0.lock();
        let state = states.entry(key.clone()).or_default();
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
            if state.pods.get(&pod.metadata.uid).is_none_or(|known| *known < time) {
                note(time);
            }
            seen.insert(pod.metadata.uid.clone(), time);
        }
        state.pods = seen;
        earliest
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(service) = self.services.get_key(key) else {
            // Its slices are the garbage collector's, by their owner.
            self.triggers.forget(key);
            return Ok(Next::Done);
        };
        if service.spec.selector.labels().is_none() || service.metadata.is_deleting() {
            return Ok(Next::Done);
        }
        let known = |node: &str| self.nodes.get(None, node).is_some();
        let (pods, skipped) = endpoints::published(&service, selected(&self.pods, &service), known);
        let existing = self.slices.get(key);
        let zone = |node: &str| self.nodes.get(None, node).and_then(|node| node.zone().map(str::to_owned));
        let trigger = self.triggers.newest(key, &service, &pods);
        let changes = slices::plan(&service, &pods, &existing, &zone, self.per_slice, trigger);
        let applied = many::try_all(changes.into_iter().map(|change| apply(client, change))).await;
        if let Err(error) = applied {
            if error.is_namespace_terminating() {
                return Ok(Next::Done);
            }
            if !error.is_conflict() {
                self.complain(&service, &error.to_string());
            }
            return Err(error.into());
        }
        match skipped.as_slice() {
            [] => return Ok(Next::Done),
            [only] => self.complain(&service, only),
            several => self.complain(&service, &format!("[{}]", several.join(", "))),
        }
        // The node may only not be known yet.
        Err(Error::NotYet(skipped.join(", ")))
    }
}

impl Controller {
    fn complain(&self, service: &Service, error: &str) {
        let message =
            format!("Error updating Endpoint Slices for Service {}: {error}", service.metadata.key());
        let reason = "FailedToUpdateEndpointSlices";
        self.events.event(&service.reference(), EventType::Warning, reason, &message);
    }
}

pub(super) async fn apply(client: &Client, change: Change) -> client::Result<()> {
    let body = |slice: &EndpointSlice| {
        let mut body = json!(slice);
        body["apiVersion"] = EndpointSlice::API_VERSION.into();
        body["kind"] = EndpointSlice::KIND.into();
        body
    };
    match change {
        Change::Create(slice) => {
            client.create::<EndpointSlice>(slice.metadata.namespace(), &body(&slice)).await.map(drop)
        }
        Change::Update(slice) => {
            let meta = &slice.metadata;
            client.update::<EndpointSlice>(meta.namespace(), &meta.name, &body(&slice)).await.map(drop)
        }
        Change::Delete(slice) => {
            let meta = &slice.metadata;
            let options = DeleteOptions::default().uid(meta.uid.clone());
            match client.delete::<EndpointSlice>(meta.namespace(), &meta.name, &options).await {
                Err(error) if error.is_not_found() => Ok(()),
                result => result,
            }
        }
    }
}
