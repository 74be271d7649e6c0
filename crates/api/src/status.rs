//! `meta/v1 Status`: how the API answers a request that failed, and some that did not.

mod constructors;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

pub use constructors::MODIFIED;

/// The most causes that an answer names. What checks an object stops about there.
pub const MAX_CAUSES: usize = 512;

/// A `Status` body and the HTTP code it travels with. Serialized, it is a whole object with its kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{message}")]
pub struct Status {
    pub metadata: ListMeta,
    /// `Success` or `Failure`.
    pub status: String,
    pub message: String,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, …
    pub reason: String,
    pub details: Option<Details>,
    pub code: u16,
}

/// What a `Status` needs of `ListMeta`: where to go on after an expired list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource name, or the kind for `Invalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    /// The object as a tree, in upstream's order of fields.
    pub fn to_tree(&self) -> crate::Tree {
        crate::Tree::of(self).unwrap_or_default()
    }

    /// The object as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        crate::json::to_vec(&self.to_tree())
    }

    /// The object as enveloped protobuf.
    pub fn to_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let type_meta = crate::wire::TypeMeta { api_version: "v1", kind: "Status" };
        if let Some(message) = crate::tables::kind_message("", "v1", "Status") {
            let tree = self.to_tree();
            // a Status always fits its own message
            let _ = crate::wire::envelope::wrap_with(type_meta, &mut out, |out| {
                crate::wire::tree_to_proto(&tree, message, out)
            });
        }
        out
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.serialize_entry("metadata", &self.metadata)?;
        for (name, text) in [("status", &self.status), ("message", &self.message), ("reason", &self.reason)] {
            if !text.is_empty() {
                map.serialize_entry(name, text)?;
            }
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        if self.code != 0 {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

fn is_zero(value: &i32) -> bool {
    *value == 0
}
