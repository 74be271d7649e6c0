//! Protobuf as upstream speaks it: one transcoder over the model's tables.
//!
//! Reading goes straight from wire bytes to JSON bytes or to a [`Tree`](crate::Tree), without a typed object
//! between; writing makes the bytes upstream's own marshaller makes: fields in tag order, values that are
//! not behind a pointer always present, map entries sorted by key. A few messages are leaves with a text of their own
//! (`Time`, `Quantity`, …). Input is never trusted: lengths and depth are checked, and nothing panics.
//!
//! Absent on purpose: groups (deprecated since proto2) and merging of a message field that stands twice; the last one counts.

mod encode;
pub mod envelope;
pub mod meta;
pub mod peek;
mod reader;
mod sink;
mod transcode;

pub use encode::tree_to_proto;
pub(crate) use encode::{put_bytes, put_nested, put_tag};
pub use envelope::TypeMeta;
pub(crate) use transcode::request_to_tree;
pub use transcode::{object_to_json, object_to_tree, proto_to_json, proto_to_tree};

/// How many messages may lie inside each other.
const MAX_DEPTH: usize = 120;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unexpected EOF")]
    Truncated,
    #[error("malformed protobuf: {0}")]
    Malformed(&'static str),
    #[error("exceeded max depth")]
    TooDeep,
    #[error("describes more than can be stored")]
    TooLarge,
    #[error("embedded content is not JSON")]
    NotJson,
    #[error("does not match the protobuf encoding prefix [k8s\\0]")]
    NoMagic,
    #[error("the value of {field} of {message} does not fit its type")]
    Mismatch { message: String, field: String },
}
