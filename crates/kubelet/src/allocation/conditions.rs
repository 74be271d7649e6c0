//! How far a pod's resize is: the conditions `PodResizePending` and `PodResizeInProgress`, and the texts of its events.

use crate::figures::FIGURES;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

pub const PENDING: &str = "PodResizePending";
pub const IN_PROGRESS: &str = "PodResizeInProgress";

pub const INFEASIBLE: &str = "Infeasible";
pub const DEFERRED: &str = "Deferred";
const ERROR: &str = "Error";

/// How a deferred resize came to its end, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Accepted,
    Reverted,
    Terminated,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    pending: Option<Condition>,
    in_progress: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    reason: String,
    message: String,
    /// The pod's generation that it is about.
    generation: i64,
    probed: Timestamp,
    /// Since when it has this reason.
    since: Timestamp,
}

impl Condition {
    fn new(old: Option<&Condition>, reason: &str, message: &str, generation: i64, now: Timestamp) -> Self {
        let since = old.filter(|old| old.reason == reason).map_or(now, |old| old.since);
        Self { reason: reason.into(), message: message.into(), generation, probed: now, since }
    }

    fn show(&self, kind: &str) -> PodCondition {
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        PodCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: text(&self.reason),
            message: text(&self.message),
            last_probe_time: Some(Time(self.probed)),
            last_transition_time: Some(Time(self.since)),
            observed_generation: Some(self.generation).filter(|generation| *generation != 0),
        }
    }
}

impl Conditions {
    /// As the pod's status in the API has them.
    pub fn reported(pod: &Pod, now: Timestamp) -> Self {
        let all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut found = Self::default();
        for condition in all {
            let (reason, message) = (condition.reason.as_deref(), condition.message.as_deref());
            let own = Condition {
                since: condition.last_transition_time.as_ref().map_or(now, |time| time.0),
                ..Condition::new(
                    None,
                    reason.unwrap_or_default(),
                    message.unwrap_or_default(),
                    condition.observed_generation.unwrap_or_default(),
                    now,
                )
            };
            match condition.type_.as_str() {
                PENDING => found.pending = Some(own),
                IN_PROGRESS => found.in_progress = Some(own),
                _ => {}
            }
        }
        found
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_none() && self.in_progress.is_none()
    }

    pub fn list(&self) -> Vec<PodCondition> {
        let pending = self.pending.iter().map(|it| it.show(PENDING));
        pending.chain(self.in_progress.iter().map(|it| it.show(IN_PROGRESS))).collect()
    }

    /// Why the resize is not admitted.
    pub fn pending(&self) -> Option<&str> {
        self.pending.as_ref().map(|it| it.reason.as_str())
    }

    /// Since when it is pending, for this reason.
    pub fn pending_since(&self) -> Option<Timestamp> {
        self.pending.as_ref().map(|it| it.since)
    }

    pub fn is_in_progress(&self) -> bool {
        self.in_progress.is_some()
    }

    /// The resize is not admitted. Returns whether that is news.
    pub fn hold_back(&mut self, reason: &str, message: &str, generation: i64, now: Timestamp) -> bool {
        let old = self.pending.take();
        let news = old.as_ref().is_none_or(|old| old.reason != reason || old.generation != generation);
        self.pending = Some(Condition::new(old.as_ref(), reason, message, generation, now));
        news
    }

    /// The resize is no longer pending.
    pub fn resolve(&mut self, pod: Option<&Pod>, resolution: Resolution, now: Timestamp) {
        let Some(pending) = self.pending.take().filter(|it| it.reason == DEFERRED) else { return };
        let resolution = match resolution {
            Resolution::Accepted => "accepted",
            Resolution::Reverted => "reverted",
            Resolution::Terminated => "terminated",
        };
        let seconds = now.duration_since(pending.since).as_secs_f64();
        FIGURES.deferred_resize_seconds.with(&[resolution, priority_bucket(pod)]).observe(seconds);
    }

    /// Another resize was admitted, whatever became of the one before.
    pub fn begin(&mut self, generation: i64, now: Timestamp) {
        self.in_progress = Some(Condition::new(None, "", "", generation, now));
    }

    /// A resize is under way: of `generation`, unless it is known which.
    pub fn go_on(&mut self, generation: i64, now: Timestamp) {
        if self.in_progress.is_none() {
            self.begin(generation, now);
        }
    }

    /// Returns the generation to report the failure with, where it is news.
    pub fn fail(&mut self, message: &str, generation: i64, now: Timestamp) -> Option<i64> {
        let old = self.in_progress.take();
        let generation = old.as_ref().map_or(generation, |old| old.generation);
        let news = old.as_ref().is_none_or(|old| old.reason != ERROR || old.message != message);
        self.in_progress = Some(Condition::new(old.as_ref(), ERROR, message, generation, now));
        news.then_some(generation)
    }

    /// Returns the generation whose resize is complete, where one was under way.
    pub fn complete(&mut self) -> Option<i64> {
        self.in_progress.take().map(|it| it.generation)
    }
}

/// A pod's priority, as metrics class it.
pub fn priority_bucket(pod: Option<&Pod>) -> &'static str {
    let Some(pod) = pod else { return "unknown" };
    match pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default() {
        2_000_000_000.. => "system-critical",
        100_000.. => "high",
        1.. => "medium",
        0 => "normal",
        -999.. => "low",
        _ => "very-low",
    }
}

/// The text of an event: what happened, and what every container of the pod asks for.
pub fn event(what: &str, pod: &Pod, generation: i64, error: &str) -> String {
    let spec = pod.spec.as_ref();
    let list = |containers: &[Container]| containers.iter().map(OfContainer::from).collect::<Vec<_>>();
    let summary = Summary {
        init_containers: list(spec.and_then(|it| it.init_containers.as_deref()).unwrap_or_default()),
        containers: list(spec.map(|it| it.containers.as_slice()).unwrap_or_default()),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(summary) => format!("{what}: {summary}"),
        Err(_) => what.to_owned(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<OfContainer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<OfContainer>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// In upstream's order of fields.
#[derive(Serialize)]
struct OfContainer {
    name: String,
    resources: Resources,
}

#[derive(Serialize)]
struct Resources {
    #[serde(skip_serializing_if = "is_empty")]
    limits: serde_json::Value,
    #[serde(skip_serializing_if = "is_empty")]
    requests: serde_json::Value,
    #[serde(skip_serializing_if = "is_empty")]
    claims: serde_json::Value,
}

fn is_empty(value: &serde_json::Value) -> bool {
    value.is_null()
}

impl From<&Container> for OfContainer {
    fn from(container: &Container) -> Self {
        let ResourceRequirements { limits, requests, claims } =
            container.resources.clone().unwrap_or_default();
        let value = |list: Option<serde_json::Value>| list.unwrap_or_default();
        let resources = Resources {
            limits: value(limits.filter(|it| !it.is_empty()).map(|it| serde_json::json!(it))),
            requests: value(requests.filter(|it| !it.is_empty()).map(|it| serde_json::json!(it))),
            claims: value(claims.filter(|it| !it.is_empty()).map(|it| serde_json::json!(it))),
        };
        OfContainer { name: container.name.clone(), resources }
    }
}
