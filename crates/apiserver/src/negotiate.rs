//! Content negotiation: what a client accepts, and how an answer is put in that form.

mod accept;

use std::borrow::Cow;

use api::Status;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;

pub use accept::{Endpoint, OBJECTS, STREAMS, accept, best, choose, route};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
    Protobuf,
}

/// In what shape an object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    /// Only metadata: `PartialObjectMetadata`.
    Metadata,
    /// Only metadata of a list: `PartialObjectMetadataList`.
    MetadataList,
}

/// Result of content negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub media: MediaType,
    pub form: Form,
    /// The `apiVersion` that the other forms have.
    pub meta: &'static str,
    /// Whether it is for people to read.
    pub pretty: bool,
}

impl Default for Accepted {
    fn default() -> Accepted {
        Accepted { media: MediaType::Json, form: Form::Object, meta: "meta.k8s.io/v1", pretty: false }
    }
}

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

impl MediaType {
    pub fn content_type(self) -> &'static str {
        match self {
            MediaType::Json => JSON,
            MediaType::Yaml => YAML,
            MediaType::Protobuf => PROTOBUF,
        }
    }
}

/// The type of a body, empty where it names none. What is no text is a type that nobody knows.
pub fn content_type(headers: &HeaderMap) -> Cow<'_, str> {
    headers.get(CONTENT_TYPE).map_or_else(Default::default, |value| String::from_utf8_lossy(value.as_bytes()))
}

/// An answer of whole bytes.
pub fn response(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Marks an answer in the form that was agreed on, which documents and pages are not.
#[derive(Clone, Copy)]
pub struct Negotiated;

/// [`response`], of an object.
pub fn negotiated(code: StatusCode, media: MediaType, body: impl Into<Body>) -> Response<Body> {
    let mut answer = response(code, media.content_type(), body);
    answer.extensions_mut().insert(Negotiated);
    answer
}

/// A tree in a media type. `message` names the model's message for protobuf; without one the answer is JSON.
pub fn tree_response(code: StatusCode, media: MediaType, tree: &api::Tree) -> Response<Body> {
    let (media, bytes) = encode_tree(media, tree);
    negotiated(code, media, bytes)
}

/// Encodes a tree that says its kind and apiVersion. What has no protobuf form becomes JSON.
pub fn encode_tree(media: MediaType, tree: &api::Tree) -> (MediaType, Bytes) {
    match media {
        MediaType::Json => {}
        MediaType::Yaml => return (MediaType::Yaml, yaml(tree)),
        MediaType::Protobuf => {
            if let Some(bytes) = proto(tree) {
                return (MediaType::Protobuf, bytes.into());
            }
        }
    }
    let mut out = api::json::to_vec(tree);
    out.push(b'\n');
    (MediaType::Json, out.into())
}

/// The tree in a protobuf envelope, where its kind has a message.
pub fn proto(tree: &api::Tree) -> Option<Vec<u8>> {
    let kind = tree.get("kind")?.as_str()?;
    // discovery's first documents have no version
    let api_version = tree.get("apiVersion").and_then(api::Tree::as_str).unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let version = if version.is_empty() { "v1" } else { version };
    let message = api::tables::kind_message(group, version, kind)?;
    let mut out = Vec::with_capacity(1024);
    let type_meta = api::wire::TypeMeta { api_version, kind };
    api::wire::envelope::wrap_with(type_meta, &mut out, |out| api::wire::tree_to_proto(tree, message, out))
        .ok()?;
    Some(out)
}

pub fn yaml(tree: &api::Tree) -> Bytes {
    let mut out = String::new();
    crate::yaml::write(tree, &mut out);
    out.into()
}

/// A `Status` as an answer, in the client's media type.
pub fn status_response(headers: &HeaderMap, status: &Status) -> Response<Body> {
    // a success says no code
    let code = if status.code == 0 { 200 } else { status.code };
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let accepted = choose(headers, Endpoint::Plain);
    let mut answer = match accepted.map(|accepted| accepted.media) {
        Some(MediaType::Protobuf) => negotiated(code, MediaType::Protobuf, status.to_proto()),
        Some(MediaType::Yaml) => negotiated(code, MediaType::Yaml, yaml(&status.to_tree())),
        Some(MediaType::Json) => {
            let mut bytes = status.to_json();
            bytes.push(b'\n');
            negotiated(code, MediaType::Json, bytes)
        }
        // the failure itself counts for more than the form of it
        None => response(code, JSON, serde_json::to_vec_pretty(&status.to_tree()).unwrap_or_default()),
    };
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Upstream's answer where nothing is served.
pub fn page_not_found() -> Response<Body> {
    let mut answer = response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n");
    answer.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}
