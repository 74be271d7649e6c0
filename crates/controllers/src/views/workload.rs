//! Workloads: what makes pods.

use client::Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CompiledSelector, Condition, Meta, by_labels, compact, is_default};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    pub metadata: Meta,
    pub spec: DeploymentSpec,
    pub status: DeploymentStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    pub replicas: i32,
    pub selector: CompiledSelector,
    pub template: Value,
    pub strategy: DeploymentStrategy,
    pub min_ready_seconds: i32,
    pub revision_history_limit: Option<i32>,
    pub paused: bool,
    pub progress_deadline_seconds: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStrategy {
    #[serde(rename = "type")]
    pub type_: String,
    pub rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    pub max_surge: Option<IntOrString>,
    pub max_unavailable: Option<IntOrString>,
    pub partition: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub unavailable_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub terminating_replicas: Option<i32>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "is_default")]
    pub collision_count: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSet {
    pub metadata: Meta,
    pub spec: ReplicaSetSpec,
    pub status: ReplicaSetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetSpec {
    pub replicas: i32,
    pub min_ready_seconds: i32,
    pub selector: CompiledSelector,
    pub template: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub fully_labeled_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub terminating_replicas: Option<i32>,
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
}

/// A replication controller: a replica set whose selector is a plain map.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, from = "RawReplicationController")]
pub struct ReplicationController(pub ReplicaSet);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawReplicationController {
    metadata: Meta,
    spec: RawReplicationControllerSpec,
    status: ReplicaSetStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawReplicationControllerSpec {
    replicas: i32,
    min_ready_seconds: i32,
    #[serde(deserialize_with = "by_labels")]
    selector: CompiledSelector,
    template: Value,
}

impl From<RawReplicationController> for ReplicationController {
    fn from(raw: RawReplicationController) -> Self {
        let RawReplicationControllerSpec { replicas, min_ready_seconds, selector, template } = raw.spec;
        ReplicationController(ReplicaSet {
            metadata: raw.metadata,
            spec: ReplicaSetSpec { replicas, min_ready_seconds, selector, template },
            status: raw.status,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSet {
    pub metadata: Meta,
    pub spec: DaemonSetSpec,
    pub status: DaemonSetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    pub selector: CompiledSelector,
    pub template: Value,
    pub update_strategy: DeploymentStrategy,
    pub min_ready_seconds: i32,
    pub revision_history_limit: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    pub current_number_scheduled: i32,
    pub number_misscheduled: i32,
    pub desired_number_scheduled: i32,
    pub number_ready: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_number_scheduled: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub number_available: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub number_unavailable: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub collision_count: Option<i32>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ControllerRevision {
    pub metadata: Meta,
    pub data: Value,
    pub revision: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    pub metadata: Meta,
    pub spec: JobSpec,
    pub status: JobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSpec {
    pub parallelism: Option<i32>,
    pub completions: Option<i32>,
    pub active_deadline_seconds: Option<i64>,
    pub backoff_limit: Option<i32>,
    pub backoff_limit_per_index: Option<i32>,
    pub max_failed_indexes: Option<i32>,
    pub selector: CompiledSelector,
    pub template: Value,
    pub ttl_seconds_after_finished: Option<i32>,
    pub completion_mode: String,
    pub suspend: bool,
    pub pod_failure_policy: Option<k8s_openapi::api::batch::v1::PodFailurePolicy>,
    pub success_policy: Option<SuccessPolicy>,
    pub pod_replacement_policy: String,
    pub managed_by: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SuccessPolicy {
    pub rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SuccessRule {
    pub succeeded_indexes: Option<String>,
    pub succeeded_count: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "is_default")]
    pub start_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub completion_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub active: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub succeeded: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub failed: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub terminating: Option<i32>,
    #[serde(skip_serializing_if = "is_default")]
    pub completed_indexes: String,
    #[serde(skip_serializing_if = "is_default")]
    pub failed_indexes: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub uncounted_terminated_pods: Option<UncountedPods>,
    #[serde(skip_serializing_if = "is_default")]
    pub ready: Option<i32>,
}

/// Pods that ended, whose finalizer may be gone already and who are not yet in the counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UncountedPods {
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub succeeded: Vec<Text>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub failed: Vec<Text>,
}

impl Job {
    /// Ended, well or not.
    pub fn is_finished(&self) -> bool {
        Condition::is_true(&self.status.conditions, "Complete")
            || Condition::is_true(&self.status.conditions, "Failed")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSet {
    pub metadata: Meta,
    pub spec: StatefulSetSpec,
    pub status: StatefulSetStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetSpec {
    pub replicas: i32,
    pub selector: CompiledSelector,
    pub template: Value,
    #[serde(deserialize_with = "compact")]
    pub volume_claim_templates: Vec<Value>,
    pub service_name: String,
    pub pod_management_policy: String,
    pub update_strategy: DeploymentStrategy,
    pub revision_history_limit: Option<i32>,
    pub min_ready_seconds: i32,
    pub persistent_volume_claim_retention_policy: RetentionPolicy,
    pub ordinals: Ordinals,
}

/// `Retain` or `Delete`; empty for the first.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetentionPolicy {
    pub when_deleted: String,
    pub when_scaled: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ordinals {
    pub start: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    pub replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub current_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    #[serde(skip_serializing_if = "is_default")]
    pub current_revision: String,
    #[serde(skip_serializing_if = "is_default")]
    pub update_revision: String,
    #[serde(skip_serializing_if = "is_default")]
    pub collision_count: Option<i32>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    pub available_replicas: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJob {
    pub metadata: Meta,
    pub spec: CronJobSpec,
    pub status: CronJobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobSpec {
    pub schedule: String,
    pub time_zone: Option<String>,
    pub starting_deadline_seconds: Option<i64>,
    pub concurrency_policy: String,
    pub suspend: bool,
    pub job_template: JobTemplate,
    pub successful_jobs_history_limit: Option<i32>,
    pub failed_jobs_history_limit: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    pub metadata: Meta,
    pub spec: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CronJobStatus {
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub active: Vec<JobReference>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_schedule_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_successful_time: Option<Time>,
}

/// A job as a cron job's status names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobReference {
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: String,
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub api_version: String,
    #[serde(skip_serializing_if = "is_default")]
    pub resource_version: String,
}
