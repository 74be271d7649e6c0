//! `horizontal-pod-autoscaler-controller`: as many pods as metrics ask for, written to the `scale` of whatever makes them.

mod behavior;
mod calculate;
mod metrics;
mod propose;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, EventType, Informer, Key, ResourceRef};
use controllers::views::{Condition, Object, Pod};
use controllers::{Context, Error, Kinds, Next, Pods, Reconcile, write_status};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::labels::Selector;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::Options;
use behavior::{Bounds, Memory};
use propose::Proposals;
use view::{Autoscaler, Status};

/// How often a scale is written while others write it, too.
const TRIES: usize = 5;

struct Controller {
    events: EventRecorder,
    autoscalers: Informer<Autoscaler>,
    pods: Pods,
    kinds: Kinds,
    options: Arc<Options>,
    scale_to_zero: bool,
    generations: bool,
    known: Mutex<FxHashMap<Key, Known>>,
}

/// What is remembered of an autoscaler.
#[derive(Default)]
struct Known {
    memory: Memory,
    /// Of its target, as it was last.
    selector: Option<Selector>,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let name = "horizontal-pod-autoscaler";
    let mut builder = context.builder("horizontalpodautoscaler", name, name).await?;
    let controller = Controller {
        events: builder.events.clone(),
        autoscalers: builder.reads(),
        pods: builder.pods(),
        kinds: context.kinds.clone(),
        options: options.clone(),
        scale_to_zero: context.gates.enabled("HPAScaleToZero"),
        generations: context.gates.enabled("HPAGeneration"),
        known: Mutex::default(),
    };
    let queue = builder.queue.clone();
    // Its own statuses would bring it back at once: what else changes waits for the next round.
    controller.autoscalers.on_keyed_event(move |key, event| {
        let same = |old: &Autoscaler, new: &Autoscaler| old.spec == new.spec;
        if !matches!(event, Event::Modified { old, new } if same(old, new)) {
            queue.add(key.clone());
        }
    });
    builder.run(options.concurrent_horizontal_pod_autoscaler_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(autoscaler) = self.autoscalers.get_key(key) else {
            self.known.lock().remove(key);
            return Ok(Next::Done);
        };
        let mut status = autoscaler.status.clone();
        let mut round = Round { controller: self, client, key, autoscaler: &autoscaler, status: &mut status };
        if let Err(error) = round.run().await {
            tracing::error!(%key, error, "autoscaling failed");
        }
        if let Err(error) = write_status(client, &*autoscaler, &autoscaler.status, &status).await {
            self.event(&autoscaler, EventType::Warning, "FailedUpdateStatus", &error.to_string());
        }
        // Also after a failure: metrics are asked for no more often.
        Ok(Next::After(*self.options.horizontal_pod_autoscaler_sync_period))
    }
}

impl Controller {
    fn event(&self, autoscaler: &Autoscaler, kind: EventType, reason: &str, message: &str) {
        self.events.event(&autoscaler.reference(), kind, reason, message);
    }

    fn with<T>(&self, key: &Key, act: impl FnOnce(&mut Known) -> T) -> T {
        act(self.known.lock().entry(key.clone()).or_default())
    }

    fn selected(&self, namespace: &str, selector: &Selector) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.cache.list_in(namespace);
        pods.retain(|pod| selector.matches_with(|key| pod.metadata.labels.get(key)));
        pods
    }

    /// The autoscalers whose targets have some of these pods.
    fn selecting(&self, namespace: &str, pods: &[Arc<Pod>]) -> Vec<Key> {
        let known = self.known.lock();
        let mut selecting: Vec<Key> = known
            .iter()
            .filter(|(key, known)| {
                let matches = |selector: &Selector| {
                    pods.iter().any(|pod| selector.matches_with(|key| pod.metadata.labels.get(key)))
                };
                *key.namespace == *namespace && known.selector.as_ref().is_some_and(matches)
            })
            .map(|(key, _)| key.clone())
            .collect();
        selecting.sort_unstable();
        selecting
    }
}

/// One look at an autoscaler.
struct Round<'a> {
    controller: &'a Controller,
    client: &'a Client,
    key: &'a Key,
    autoscaler: &'a Autoscaler,
    status: &'a mut Status,
}

/// A scale with where it was found.
struct Scale {
    resource: ResourceRef,
    whole: Value,
}

impl Scale {
    fn number(&self, pointer: &str) -> i32 {
        let number = self.whole.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    fn wanted(&self) -> i32 {
        self.number("/spec/replicas")
    }
}

/// The number to have, and why.
struct Decision {
    replicas: i32,
    why: String,
    metrics: Vec<Value>,
    /// Of metrics that others made up for.
    failure: Option<String>,
}

impl Round<'_> {
    async fn run(&mut self) -> Result<(), String> {
        let now = Timestamp::now();
        let mut scale = match self.scale().await {
            Ok(scale) => scale,
            Err(error) => {
                self.warn("FailedGetScale", &error);
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {error}");
                self.status.set("AbleToScale", false, "FailedGetScale", &message, now);
                return Err(error);
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.status.set("AbleToScale", true, "SucceededGetScale", message, now);
        let current = scale.wanted();
        self.controller.with(self.key, |known| known.memory.begin(current, now));
        let Some(decision) = self.decide(&scale, now).await? else {
            self.finish(current, current, Vec::new(), None);
            return Ok(());
        };
        let wanted = decision.replicas;
        if wanted == current {
            self.finish(current, current, decision.metrics, None);
            return decision.failure.map_or(Ok(()), Err);
        }
        if let Err(error) = self.write(&mut scale, wanted).await {
            self.warn(
                "FailedRescale",
                &format!("New size: {wanted}; reason: {}; error: {error}", decision.why),
            );
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            self.status.set("AbleToScale", false, "FailedUpdateScale", &message, now);
            let before = self.autoscaler.status.desired_replicas;
            self.finish(current, before, decision.metrics, None);
            return Err(error);
        }
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        self.status.set("AbleToScale", true, "SucceededRescale", &message, now);
        let message = format!("New size: {wanted}; reason: {}", decision.why);
        self.controller.event(self.autoscaler, EventType::Normal, "SuccessfulRescale", &message);
        self.controller.with(self.key, |known| known.memory.scaled(self.autoscaler, current, wanted, now));
        self.mark_zero(current, wanted, now);
        self.finish(current, wanted, decision.metrics, Some(now));
        decision.failure.map_or(Ok(()), Err)
    }

    fn warn(&self, reason: &str, message: &str) {
        self.controller.event(self.autoscaler, EventType::Warning, reason, message);
    }

    fn finish(&mut self, current: i32, desired: i32, metrics: Vec<Value>, scaled: Option<Timestamp>) {
        self.status.current_replicas = current;
        self.status.desired_replicas = desired;
        self.status.current_metrics = metrics;
        let generation = self.autoscaler.metadata.generation;
        self.status.observed_generation = self.controller.generations.then_some(generation);
        if let Some(now) = scaled {
            self.status.last_scale_time = Some(Time(now));
        }
    }

    fn least(&self) -> i32 {
        self.autoscaler.spec.min_replicas.unwrap_or(1)
    }

    /// Whether it was the controller that scaled to zero: only then it scales up again.
    fn is_at_zero(&self) -> bool {
        self.controller.scale_to_zero && Condition::is_true(&self.status.conditions, "ScaledToZero")
    }

    /// Metrics of pods say nothing where there are none.
    fn has_other_metrics(&self) -> bool {
        let metrics = &self.autoscaler.spec.metrics;
        metrics.iter().any(|metric| matches!(metric.type_.as_str(), "Object" | "External"))
    }

    fn mark_zero(&mut self, from: i32, to: i32, now: Timestamp) {
        if !self.controller.scale_to_zero {
            self.status.conditions.retain(|condition| condition.type_ != "ScaledToZero");
        } else if from > 0 && to == 0 && self.least() == 0 && self.has_other_metrics() {
            let message = "the HPA controller scaled the workload to zero";
            self.status.set("ScaledToZero", true, "ScaledToZero", message, now);
        } else {
            let message = "the HPA controller did not scale the workload to zero";
            self.status.set("ScaledToZero", false, "NotScaledToZero", message, now);
        }
    }

    /// Nothing where scaling is switched off.
    async fn decide(&mut self, scale: &Scale, now: Timestamp) -> Result<Option<Decision>, String> {
        let (current, least, most) = (scale.wanted(), self.least(), self.autoscaler.spec.max_replicas);
        let bound = |replicas, why: &str| {
            Ok(Some(Decision { replicas, why: why.to_owned(), metrics: Vec::new(), failure: None }))
        };
        let at_zero = self.is_at_zero();
        if current == 0 {
            if !at_zero || (least == 0 && !self.has_other_metrics()) {
                let message = "scaling is disabled since the replica count of the target is zero";
                self.status.set("ScalingActive", false, "ScalingDisabled", message, now);
                if !self.controller.scale_to_zero {
                    self.status.conditions.retain(|condition| condition.type_ != "ScaledToZero");
                }
                return Ok(None);
            }
        } else if current > most {
            return bound(most, "Current number of replicas above Spec.MaxReplicas");
        } else if current < least {
            return bound(least, "Current number of replicas below Spec.MinReplicas");
        }
        let Proposals { replicas, metric, metrics, failure } = self.proposals(scale, now).await?;
        let desired = replicas.max(0);
        let mut why = match desired.cmp(&current) {
            std::cmp::Ordering::Greater => format!("{metric} above target"),
            std::cmp::Ordering::Less => "All metrics below target".to_owned(),
            std::cmp::Ordering::Equal => String::new(),
        };
        let window = *self.controller.options.horizontal_pod_autoscaler_downscale_stabilization;
        let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
        let bounds = Bounds { current, least, most, window, now };
        let (autoscaler, status) = (self.autoscaler, &mut *self.status);
        let mut replicas = self
            .controller
            .with(self.key, |known| known.memory.normalize(autoscaler, status, desired, bounds));
        if current == 0 && at_zero && replicas < least {
            replicas = least;
            if why.is_empty() {
                "Current number of replicas below Spec.MinReplicas".clone_into(&mut why);
            }
        }
        Ok(Some(Decision { replicas, why, metrics, failure }))
    }

    /// What the metrics ask for; when nothing comes of that, the status says so.
    async fn proposals(&mut self, scale: &Scale, now: Timestamp) -> Result<Proposals, String> {
        let failed = match self.pods_of(scale, now) {
            Ok((selector, pods)) => match self.propose(scale, &selector, &pods, now).await {
                Ok(proposals) => return Ok(proposals),
                Err((metrics, error)) => (metrics, error),
            },
            Err(error) => (Vec::new(), error),
        };
        let (metrics, error) = failed;
        self.finish(scale.wanted(), self.autoscaler.status.desired_replicas, metrics, None);
        self.warn("FailedComputeMetricsReplicas", &error);
        Err(error)
    }

    /// The pods of the target, which no other autoscaler may have.
    fn pods_of(&mut self, scale: &Scale, now: Timestamp) -> Result<(String, Vec<Arc<Pod>>), String> {
        let text = scale.whole.pointer("/status/selector").and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            let error = "selector is required";
            self.warn("SelectorRequired", error);
            let message = "the HPA target's scale is missing a selector";
            self.status.set("ScalingActive", false, "InvalidSelector", message, now);
            return Err(error.to_owned());
        }
        let selector = match Selector::parse(text) {
            Ok(selector) => selector,
            Err(error) => {
                let error = format!(
                    "couldn't convert selector into a corresponding internal selector object: {error}"
                );
                self.warn("InvalidSelector", &error);
                self.status.set("ScalingActive", false, "InvalidSelector", &error, now);
                return Err(error);
            }
        };
        let pods = self.controller.selected(&self.key.namespace, &selector);
        self.controller.with(self.key, |known| known.selector = Some(selector));
        if let [first, second, ..] = self.controller.selecting(&self.key.namespace, &pods).as_slice() {
            let error = format!(
                "pods by selector {text} are controlled by more than one HPA (e.g. [{first} {second}])"
            );
            self.warn("AmbiguousSelector", &error);
            self.status.set("ScalingActive", false, "AmbiguousSelector", &error, now);
            return Err(error);
        }
        Ok((text.to_owned(), pods))
    }

    async fn scale(&self) -> Result<Scale, String> {
        let target = &self.autoscaler.spec.scale_target_ref;
        let group = match target.api_version.split('/').collect::<Vec<_>>().as_slice() {
            [_] => "",
            [group, _] => group,
            _ => return Err(format!("unexpected GroupVersion string: {}", target.api_version)),
        };
        self.controller.kinds.known_first().await;
        let known = self.controller.kinds.known();
        let Some(resource) = known.resource(group, &target.kind) else {
            return Err(format!("no matches for kind {:?} in group {group:?}", target.kind));
        };
        let api = self.client.at(resource);
        let whole = api.get_subresource(self.key.namespace(), &target.name, "scale").await;
        Ok(Scale { resource: resource.clone(), whole: whole.map_err(|error| error.to_string())? })
    }

    async fn write(&self, scale: &mut Scale, replicas: i32) -> Result<(), String> {
        let api = self.client.at(&scale.resource);
        let (namespace, name) = (self.key.namespace(), &self.autoscaler.spec.scale_target_ref.name);
        let mut tries = 0;
        loop {
            tries += 1;
            scale.whole["spec"]["replicas"] = replicas.into();
            let written: client::Result<Value> =
                api.update(namespace, name, Some("scale"), &scale.whole).await;
            match written {
                Err(error) if error.is_conflict() && tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let latest = api.get_subresource(namespace, name, "scale").await;
                    if let Ok(latest) = latest {
                        scale.whole = latest;
                    }
                }
                written => return written.map(drop).map_err(|error| error.to_string()),
            }
        }
    }
}
