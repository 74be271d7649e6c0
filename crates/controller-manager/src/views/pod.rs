//! Pods, as far as the controllers read them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{Condition, Meta, compact, is_default};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    pub metadata: Meta,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: String,
    pub hostname: String,
    pub subdomain: String,
    pub restart_policy: String,
    pub host_network: bool,
    pub service_account_name: String,
    pub active_deadline_seconds: Option<i64>,
    #[serde(deserialize_with = "compact")]
    pub tolerations: Vec<Toleration>,
    #[serde(deserialize_with = "compact")]
    pub containers: Vec<Container>,
    #[serde(deserialize_with = "compact")]
    pub init_containers: Vec<Container>,
    /// Kept as it came; a daemon pod's names its node.
    pub affinity: Option<Box<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub restart_policy: String,
    #[serde(deserialize_with = "compact")]
    pub ports: Vec<ContainerPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: String,
    pub container_port: i32,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    #[serde(skip_serializing_if = "is_default")]
    pub operator: String,
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
    #[serde(skip_serializing_if = "is_default")]
    pub effect: String,
    #[serde(skip_serializing_if = "is_default")]
    pub toleration_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub reason: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "compact")]
    pub pod_ips: Vec<PodIp>,
    pub start_time: Option<Time>,
    #[serde(deserialize_with = "compact")]
    pub conditions: Vec<Condition>,
    #[serde(deserialize_with = "compact")]
    pub container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "compact")]
    pub init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodIp {
    pub ip: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: String,
    pub restart_count: i32,
    pub state: ContainerState,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    pub exit_code: i32,
    pub finished_at: Option<Time>,
}

impl Pod {
    pub fn is_ready(&self) -> bool {
        Condition::is_true(&self.status.conditions, "Ready")
    }

    /// Since when the pod is ready, if it is.
    pub fn ready_since(&self) -> Option<jiff::Timestamp> {
        let condition = Condition::find(&self.status.conditions, "Ready")?;
        (condition.status == "True").then_some(())?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i32, now: jiff::Timestamp) -> bool {
        if !self.is_ready() {
            return false;
        }
        min_ready_seconds == 0
            || self
                .ready_since()
                .is_some_and(|since| since.as_second() + i64::from(min_ready_seconds) <= now.as_second())
    }

    /// Ran to its end, well or not.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Counts towards what its controller wants.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.metadata.is_deleting()
    }

    pub fn restarts(&self) -> i32 {
        self.status.container_statuses.iter().map(|status| status.restart_count).sum()
    }

    /// Every address, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let single = self.status.pod_ips.is_empty().then_some(self.status.pod_ip.as_str());
        self.status
            .pod_ips
            .iter()
            .map(|address| address.ip.as_str())
            .chain(single)
            .filter(|address| !address.is_empty())
    }
}
