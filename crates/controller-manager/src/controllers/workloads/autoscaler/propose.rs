//! What each metric of an autoscaler asks for, and which of them decides.

use std::sync::Arc;

use controllers::selector::printed;
use controllers::views::Pod;
use jiff::{SignedDuration, Timestamp};
use machinery::quantity::{Format, Quantity};
use serde_json::{Value, json};

use super::calculate::{self, Input, Tolerances};
use super::view::{Identifier, Metric, Named, Resource};
use super::{Round, Scale, metrics};

/// The highest of what the metrics ask for.
pub(super) struct Proposals {
    pub(super) replicas: i32,
    /// The metric that decided, in words.
    pub(super) metric: String,
    pub(super) metrics: Vec<Value>,
    /// Of the metrics that could not be used, where the others do.
    pub(super) failure: Option<String>,
}

/// What one metric asks for.
struct Proposed {
    replicas: i32,
    metric: String,
    status: Value,
}

/// Why a metric could not be used.
struct Failed {
    /// Of the event and the condition.
    reason: &'static str,
    cause: String,
    /// The cause, with what was being done.
    whole: String,
}

/// What the target is now.
struct Now<'a> {
    there: i32,
    selector: &'a str,
    input: Input<'a>,
}

/// A target, which the API server has read before. One too large to count in thousandths is not reached, nor is the largest
/// that is not.
fn milli(text: &str) -> i64 {
    Quantity::parse(text).map_or(i64::MAX, |amount| calculate::thousandths(&amount))
}

fn amount(milli: i64, format: Format) -> String {
    Quantity::from_milli(milli.into(), format).to_string()
}

fn decimal(milli: i64) -> String {
    amount(milli, Format::DecimalSi)
}

fn share(text: Option<&String>, default: f64) -> f64 {
    text.and_then(|text| Quantity::parse(text).ok()).map_or(default, |amount| amount.nanos() as f64 / 1e9)
}

impl Round<'_> {
    fn tolerances(&self) -> Tolerances {
        let default = self.controller.options.horizontal_pod_autoscaler_tolerance;
        let behavior = self.autoscaler.spec.behavior.as_ref();
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref()?.tolerance.as_ref());
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref()?.tolerance.as_ref());
        Tolerances { down: share(down, default), up: share(up, default) }
    }

    /// The highest proposal. Nothing shrinks while a metric is missing; the statuses are given in any case.
    pub(super) async fn propose(
        &mut self,
        scale: &Scale,
        selector: &str,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> Result<Proposals, (Vec<Value>, String)> {
        let options = &self.controller.options;
        let time = |time: std::time::Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let wanted = scale.wanted();
        let input = Input {
            pods,
            current: wanted,
            tolerances: self.tolerances(),
            initialization: time(*options.horizontal_pod_autoscaler_cpu_initialization_period),
            readiness_delay: time(*options.horizontal_pod_autoscaler_initial_readiness_delay),
            now,
        };
        let state = Now { there: scale.number("/status/replicas"), selector, input };
        let all = &self.autoscaler.spec.metrics;
        let (mut highest, mut statuses) = (None::<(i32, String)>, Vec::with_capacity(all.len()));
        let (mut first, mut failures) = (None, 0);
        for metric in all {
            match self.one(metric, &state).await {
                Ok(Proposed { replicas, metric, status }) => {
                    statuses.push(status);
                    if highest.as_ref().is_none_or(|(most, _)| *most == 0 || replicas > *most) {
                        highest = Some((replicas, metric));
                    }
                }
                Err(failed) => {
                    statuses.push(json!({"type": ""}));
                    self.warn(failed.reason, &failed.cause);
                    failures += 1;
                    first.get_or_insert(failed);
                }
            }
        }
        let failure = first.as_ref().map(|first| {
            let count = all.len();
            format!("invalid metrics ({failures} invalid out of {count}), first error is: {}", first.whole)
        });
        let (replicas, metric) = highest.unwrap_or_default();
        if let (Some(first), Some(failure)) = (&first, &failure)
            && (failures >= all.len() || replicas < wanted)
        {
            let message = format!("the HPA was unable to compute the replica count: {}", first.cause);
            self.status.set("ScalingActive", false, first.reason, &message, now);
            return Err((statuses, failure.clone()));
        }
        let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
        self.status.set("ScalingActive", true, "ValidMetricFound", &message, now);
        Ok(Proposals { replicas, metric, metrics: statuses, failure })
    }

    async fn one(&self, metric: &Metric, now: &Now<'_>) -> Result<Proposed, Failed> {
        match metric {
            Metric { resource: Some(resource), .. } => {
                let done = self.resource(resource, now).await.map_err(|cause| Failed {
                    reason: "FailedGetResourceMetric",
                    whole: format!("failed to get {} resource metric value: {cause}", resource.name),
                    cause,
                })?;
                let words = match done.utilization {
                    true => format!("{} resource utilization (percentage of request)", resource.name),
                    false => format!("{} resource", resource.name),
                };
                let status =
                    json!({"type": "Resource", "resource": {"name": resource.name, "current": done.current}});
                Ok(Proposed { replicas: done.replicas, metric: words, status })
            }
            Metric { container_resource: Some(resource), .. } => {
                let Resource { name, container, .. } = resource;
                let done = self.resource(resource, now).await.map_err(|cause| Failed {
                    reason: "FailedGetContainerResourceMetric",
                    whole: format!("failed to get {container} container metric value: {cause}"),
                    cause,
                })?;
                let words = match done.utilization {
                    true => format!("{name} container resource utilization (percentage of request)"),
                    false => format!("{name} resource"),
                };
                let part = json!({"name": name, "container": container, "current": done.current});
                let status = json!({"type": "ContainerResource", "containerResource": part});
                Ok(Proposed { replicas: done.replicas, metric: words, status })
            }
            Metric { pods: Some(named), .. } => self.pods(named, now).await,
            Metric { object: Some(named), .. } => self.object(named, now).await,
            Metric { external: Some(named), .. } => self.external(named, now).await,
            Metric { type_, .. } => {
                let cause = format!("unknown metric source type {type_:?}");
                Err(Failed { reason: "InvalidMetricSourceType", whole: cause.clone(), cause })
            }
        }
    }

    async fn resource(&self, resource: &Resource, now: &Now<'_>) -> Result<OfResource, String> {
        let Resource { name, container, target } = resource;
        let format = if name == "memory" { Format::BinarySi } else { Format::DecimalSi };
        let samples =
            || metrics::of_resource(self.client, &self.key.namespace, now.selector, name, container);
        if let Some(average) = &target.average_value {
            let failed = |error| format!("failed to get {name} usage: {error}");
            let samples = samples().await.map_err(failed)?;
            let done = calculate::by_average(&now.input, samples, name, milli(average)).map_err(failed)?;
            let current = json!({"averageValue": amount(done.usage, format)});
            return Ok(OfResource { replicas: done.replicas, utilization: false, current });
        }
        let Some(target) = target.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
        };
        let failed = |error| format!("failed to get {name} utilization: {error}");
        let samples = samples().await.map_err(failed)?;
        let done = calculate::by_utilization(&now.input, samples, name, container, target).map_err(failed)?;
        let current =
            json!({"averageUtilization": done.utilization, "averageValue": amount(done.usage, format)});
        Ok(OfResource { replicas: done.replicas, utilization: true, current })
    }

    async fn pods(&self, named: &Named, now: &Now<'_>) -> Result<Proposed, Failed> {
        let failed = |cause: String| Failed {
            reason: "FailedGetPodsMetric",
            whole: format!("failed to get pods metric value: {cause}"),
            cause,
        };
        let samples = metrics::of_pods(self.client, &self.key.namespace, now.selector, &named.metric).await;
        let target = milli(named.target.average_value.as_deref().unwrap_or_default());
        let done = calculate::by_average(&now.input, samples.map_err(failed)?, "", target).map_err(failed)?;
        let current = json!({"averageValue": decimal(done.usage)});
        let status = json!({"type": "Pods", "pods": {"metric": named.metric, "current": current}});
        let metric = format!("pods metric {}", named.metric.name);
        Ok(Proposed { replicas: done.replicas, metric, status })
    }

    async fn object(&self, named: &Named, now: &Now<'_>) -> Result<Proposed, Failed> {
        let Named { metric, described_object, target } = named;
        let failed = |cause: String, during: &str| Failed {
            reason: "FailedGetObjectMetric",
            whole: format!("failed to get object metric value: {during}{cause}"),
            cause,
        };
        let value = async || {
            let (kinds, namespace) = (&self.controller.kinds, &self.key.namespace);
            metrics::of_object(self.client, kinds, namespace, described_object, metric).await
        };
        let (replicas, words, current) = if let Some(target) = &target.value {
            let usage = value().await.map_err(|error| failed(error, ""))?;
            let replicas = calculate::by_value(&now.input, usage, milli(target));
            let words = format!("{} metric {}", described_object.kind, metric.name);
            (replicas.map_err(|error| failed(error, ""))?, words, json!({"value": decimal(usage)}))
        } else if let Some(target) = &target.average_value {
            let during = format!("failed to get {} object metric: ", metric.name);
            let usage = value().await.map_err(|error| failed(error, &during))?;
            let (replicas, usage) =
                calculate::by_share(now.there, now.input.tolerances, usage, milli(target));
            (replicas, external(metric), json!({"averageValue": decimal(usage)}))
        } else {
            let cause =
                "invalid object metric source: neither a value target nor an average value target was set";
            return Err(failed(cause.to_owned(), ""));
        };
        let part = json!({"metric": metric, "current": current, "describedObject": described_object});
        Ok(Proposed { replicas, metric: words, status: json!({"type": "Object", "object": part}) })
    }

    async fn external(&self, named: &Named, now: &Now<'_>) -> Result<Proposed, Failed> {
        let Named { metric, target, .. } = named;
        let name = &metric.name;
        let failed = |cause: String, during: &str| Failed {
            reason: "FailedGetExternalMetric",
            whole: format!("failed to get {name} external metric value: {during}{cause}"),
            cause,
        };
        let value = async || metrics::of_external(self.client, &self.key.namespace, metric).await;
        let (replicas, current) = if let Some(target) = &target.average_value {
            let during = format!("failed to get {name} external metric: ");
            let usage = value().await.map_err(|error| failed(error, &during))?;
            let (replicas, usage) =
                calculate::by_share(now.there, now.input.tolerances, usage, milli(target));
            (replicas, json!({"averageValue": decimal(usage)}))
        } else if let Some(target) = &target.value {
            let during = format!("failed to get external metric {name}: ");
            let usage = value().await.map_err(|error| failed(error, &during))?;
            let replicas = calculate::by_value(&now.input, usage, milli(target));
            (replicas.map_err(|error| failed(error, &during))?, json!({"value": decimal(usage)}))
        } else {
            let cause =
                "invalid external metric source: neither a value target nor an average value target was set";
            return Err(failed(cause.to_owned(), ""));
        };
        let status = json!({"type": "External", "external": {"metric": metric, "current": current}});
        Ok(Proposed { replicas, metric: external(metric), status })
    }
}

/// What the use of a resource asks for.
struct OfResource {
    replicas: i32,
    utilization: bool,
    current: Value,
}

fn external(metric: &Identifier) -> String {
    format!("external metric {}({})", metric.name, printed(metric.selector.as_ref()))
}
