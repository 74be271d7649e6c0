//! Volumes and claims.

use serde::Deserialize;

use super::{Meta, null_default, pod::Quantities};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PersistentVolumeClaim {
    pub metadata: Meta,
    pub spec: ClaimSpec,
    pub status: ClaimStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    pub storage_class_name: Option<String>,
    pub volume_name: String,
    pub volume_attributes_class_name: Option<String>,
    pub resources: ClaimResources,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimResources {
    #[serde(deserialize_with = "null_default")]
    pub requests: Quantities,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    pub phase: String,
    pub current_volume_attributes_class_name: Option<String>,
    #[serde(deserialize_with = "null_default")]
    pub allocated_resources: Quantities,
}
