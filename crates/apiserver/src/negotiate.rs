//! Content negotiation: what a client accepts, and how an answer is put in that form.

use std::borrow::Cow;

use api::Status;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;

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

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub media: MediaType,
    pub form: Form,
}

pub const JSON: &str = "application/json";
pub const YAML: &str = "application/yaml";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What can be had of an object, and what more of a collection, which can be watched.
const OBJECTS: [&str; 3] = [JSON, YAML, PROTOBUF];
const STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

impl MediaType {
    pub fn content_type(self) -> &'static str {
        match self {
            MediaType::Json => JSON,
            MediaType::Yaml => YAML,
            MediaType::Protobuf => PROTOBUF,
        }
    }
}

/// The best of what the client accepts for an object.
pub fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    route(headers, &OBJECTS)?;
    choose(headers, &[MediaType::Json, MediaType::Yaml, MediaType::Protobuf])
}

/// The best of what the client accepts for a list.
pub fn accepted_list(headers: &HeaderMap) -> Result<Accepted, Status> {
    route(headers, &[&OBJECTS[..], &STREAMS].concat())?;
    choose(headers, &[MediaType::Json, MediaType::Yaml, MediaType::Protobuf])
}

/// The best of what the client accepts for a watch.
pub fn accepted_stream(headers: &HeaderMap) -> Result<Accepted, Status> {
    accepted_list(headers)?;
    choose(headers, &[MediaType::Json, MediaType::Protobuf])
}

/// For answers that have no table and no metadata form; what cannot be had becomes JSON.
pub fn accepted_plain(headers: &HeaderMap) -> MediaType {
    accepted(headers).map_or(MediaType::Json, |accepted| accepted.media)
}

/// What a client accepts. What is no text is a type that nobody has, and not as if nothing were asked for.
pub fn accept(headers: &HeaderMap) -> String {
    let texts = headers.get_all(ACCEPT).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    texts.collect::<Vec<_>>().join(",")
}

/// The type of a body, empty where it names none. What is no text is a type that nobody knows.
pub fn content_type(headers: &HeaderMap) -> Cow<'_, str> {
    headers.get(CONTENT_TYPE).map_or_else(Default::default, |value| String::from_utf8_lossy(value.as_bytes()))
}

/// The first look, at types without their parameters. A range such as `application/*` is not known here.
fn route(headers: &HeaderMap, available: &[&str]) -> Result<(), Status> {
    let text = accept(headers);
    let known = |clause: &str| {
        let range = clause.split(';').next().unwrap_or_default().trim();
        range == "*/*" || OBJECTS.contains(&range)
    };
    if text.is_empty() || text.split(',').any(known) {
        Ok(())
    } else {
        Err(Status::not_acceptable(available))
    }
}

/// The second, at the forms of them.
fn choose(headers: &HeaderMap, offered: &[MediaType]) -> Result<Accepted, Status> {
    let text = accept(headers);
    if text.trim().is_empty() {
        return Ok(Accepted { media: MediaType::Json, form: Form::Object });
    }
    let mut clauses: Vec<Clause<'_>> = text.split(',').map(Clause::parse).collect();
    // stable: among equals the client's order counts
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    for clause in clauses {
        let Some(form) = clause.form else { continue };
        let media = match clause.range {
            "*/*" | "application/*" => Some(MediaType::Json),
            JSON => Some(MediaType::Json),
            YAML => Some(MediaType::Yaml),
            PROTOBUF => Some(MediaType::Protobuf),
            _ => None,
        };
        if let Some(media) = media.filter(|media| offered.contains(media)) {
            return Ok(Accepted { media, form });
        }
    }
    let streams = offered.len() < OBJECTS.len();
    Err(Status::representation_not_acceptable(if streams { &STREAMS } else { &OBJECTS }))
}

/// The best of what the client accepts for a document that has no other form; the first that is offered, if it accepts any.
pub fn best(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let text = accept(headers);
    let mut clauses: Vec<Clause<'_>> = text.split(',').map(Clause::parse).collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses.iter().find_map(|clause| match clause.range.trim() {
        "" | "*/*" | "application/*" => offered.first().copied(),
        range => offered.iter().copied().find(|offered| *offered == range),
    })
}

struct Clause<'a> {
    range: &'a str,
    /// In thousandths.
    quality: u32,
    /// `None`: a form that is not to be had.
    form: Option<Form>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Clause<'a> {
        let mut parts = text.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let (mut quality, mut kind, mut group, mut version) = (1000, "", "", "");
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name.trim() {
                "q" => {
                    quality = value.parse::<f64>().map_or(0, |value| (value.clamp(0.0, 1.0) * 1000.0) as u32)
                }
                "as" => kind = value,
                "g" => group = value,
                "v" => version = value,
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", _, _) => Some(Form::Object),
            ("Table", "meta.k8s.io", "v1") => Some(Form::Table),
            ("PartialObjectMetadata", "meta.k8s.io", "v1") => Some(Form::Metadata),
            ("PartialObjectMetadataList", "meta.k8s.io", "v1") => Some(Form::MetadataList),
            _ => None,
        };
        Clause { range, quality, form }
    }
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

/// A tree in a media type. `message` names the model's message for protobuf; without one the answer is JSON.
pub fn tree_response(code: StatusCode, media: MediaType, tree: &api::Tree) -> Response<Body> {
    let (media, bytes) = encode_tree(media, tree);
    response(code, media.content_type(), bytes)
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
    let api_version = tree.get("apiVersion")?.as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
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
    let mut answer = match accepted_plain(headers) {
        MediaType::Protobuf => response(code, PROTOBUF, status.to_proto()),
        MediaType::Yaml => response(code, YAML, yaml(&status.to_tree())),
        MediaType::Json => {
            let mut bytes = status.to_json();
            bytes.push(b'\n');
            response(code, JSON, bytes)
        }
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
