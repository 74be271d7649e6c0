//! What is read of autoscalers and the scales of their targets.

use client::View;
use controllers::views::{Condition, HasMeta, Meta, Object, compact, is_default, null_default};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Autoscaler {
    pub metadata: Meta,
    pub spec: Spec,
    pub status: Status,
}

impl View for Autoscaler {
    type Of = HorizontalPodAutoscaler;
}

impl HasMeta for Autoscaler {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for Autoscaler {
    const API_VERSION: &'static str = "autoscaling/v2";
    const KIND: &'static str = "HorizontalPodAutoscaler";
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub scale_target_ref: Reference,
    pub min_replicas: Option<i32>,
    pub max_replicas: i32,
    #[serde(deserialize_with = "compact")]
    pub metrics: Vec<Metric>,
    pub behavior: Option<Behavior>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    pub kind: String,
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub api_version: String,
}

/// One metric; the part of its type is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metric {
    #[serde(rename = "type")]
    pub type_: String,
    pub resource: Option<Resource>,
    pub container_resource: Option<Resource>,
    pub pods: Option<Named>,
    pub object: Option<Named>,
    pub external: Option<Named>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resource {
    pub name: String,
    pub container: String,
    pub target: Target,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Named {
    pub metric: Identifier,
    pub described_object: Reference,
    pub target: Target,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identifier {
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    pub value: Option<String>,
    pub average_value: Option<String>,
    pub average_utilization: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    pub scale_up: Option<Rules>,
    pub scale_down: Option<Rules>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    pub stabilization_window_seconds: Option<i64>,
    pub select_policy: Option<String>,
    #[serde(deserialize_with = "compact")]
    pub policies: Vec<Policy>,
    pub tolerance: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    #[serde(rename = "type")]
    pub type_: String,
    pub value: i32,
    pub period_seconds: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_scale_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub current_replicas: i32,
    pub desired_replicas: i32,
    #[serde(deserialize_with = "null_default")]
    pub current_metrics: Vec<Value>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
}

impl Status {
    pub(super) fn set(
        &mut self,
        type_: &str,
        state: bool,
        reason: &str,
        message: &str,
        now: jiff::Timestamp,
    ) {
        let status = if state { "True" } else { "False" };
        let known = Condition::find(&self.conditions, type_).filter(|known| known.status == status);
        let since = known.and_then(|known| known.last_transition_time.clone()).unwrap_or(Time(now));
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Some(since),
            ..Condition::default()
        };
        match self.conditions.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => self.conditions.push(condition),
        }
    }
}
