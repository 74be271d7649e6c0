//! Metadata, conditions and references, common to all views.

use std::collections::BTreeMap;

use client::{Key, ObjectReference, Text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{Labels, compact, is_default, null_default};

/// `metadata` without `managedFields`: an update that leaves these out keeps the stored ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub generate_name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "is_default")]
    pub generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub creation_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub deletion_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub deletion_grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub labels: Labels,
    #[serde(deserialize_with = "null_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub owner_references: Vec<OwnerReference>,
    #[serde(deserialize_with = "compact", skip_serializing_if = "is_default")]
    pub finalizers: Vec<String>,
}

/// Who owns an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: Text,
    pub kind: Text,
    pub name: Text,
    pub uid: Text,
    #[serde(skip_serializing_if = "is_default")]
    pub controller: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub block_owner_deletion: Option<bool>,
}

impl Meta {
    /// `namespace/name`, or the name alone for objects of the whole cluster.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    pub fn cache_key(&self) -> Key {
        Key { namespace: self.namespace.clone().into(), name: self.name.as_str().into() }
    }

    /// None for objects of the whole cluster.
    pub fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|own| own == name)
    }

    /// The owner that manages this object, if one does.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }

    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub fn created(&self) -> jiff::Timestamp {
        self.creation_timestamp.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// A reference that makes the object with this metadata the managing owner of another one.
    pub fn controller_reference(&self, api_version: &str, kind: &str) -> OwnerReference {
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: (&self.name).into(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// A view with metadata.
pub trait HasMeta: Send + Sync + 'static {
    fn meta(&self) -> &Meta;
}

/// A view of a kind that is known at compile time.
pub trait Object: HasMeta {
    const API_VERSION: &'static str;
    const KIND: &'static str;

    /// As events name it.
    fn reference(&self) -> ObjectReference {
        let meta = self.meta();
        ObjectReference {
            api_version: Self::API_VERSION.to_owned(),
            kind: Self::KIND.to_owned(),
            namespace: (&meta.namespace).into(),
            name: meta.name.clone(),
            uid: (&meta.uid).into(),
            resource_version: meta.resource_version.clone(),
            field_path: String::new(),
        }
    }
}

/// Any object, its metadata alone, without what only users read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Lean {
    #[serde(deserialize_with = "lean")]
    pub metadata: Meta,
}

impl HasMeta for Lean {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

fn lean<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Meta, D::Error> {
    let meta = Meta::deserialize(deserializer)?;
    let (annotations, labels, generate_name) = Default::default();
    Ok(Meta { annotations, labels, generate_name, ..meta })
}

/// Any object, its metadata alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Partial {
    pub api_version: String,
    pub kind: String,
    pub metadata: Meta,
}

/// A status condition, in the widest form any kind uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: String,
    #[serde(skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub last_probe_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_heartbeat_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_update_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub reason: String,
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

impl Condition {
    pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
        conditions.iter().find(|condition| condition.type_ == type_)
    }

    pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
        Self::find(conditions, type_).is_some_and(|condition| condition.status == "True")
    }

    pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
        conditions.retain(|condition| condition.type_ != type_);
    }
}
