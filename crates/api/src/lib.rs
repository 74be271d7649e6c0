//! The model: what every Kubernetes kind is, once.
//!
//! Resources (names, verbs, subresources), messages (fields, wire tags, list and merge semantics), the
//! JSON ↔ protobuf transcoder and strict decoding over them, and the API's `Status`. Typed objects are
//! `k8s-openapi`'s, re-exported. Nothing here does I/O.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bounds;
pub mod convert;
pub mod decode;
pub mod discovery;
pub mod json;
pub mod model;
pub mod openapi;
pub mod quantity;
pub mod raw;
pub mod status;
pub mod tables;
pub mod text;
pub mod tree;
pub mod wire;

pub use k8s_openapi;
/// For [`json!`].
#[doc(hidden)]
pub use serde_json;
pub use status::Status;
pub use tree::Tree;
