//! Puts objects into the form, version and media type that was agreed on.

use std::io;
use std::sync::Arc;

use api::json;
use api::tree::Object;
use api::{Status, Tree};
use bytes::Bytes;
use daemon::aside::{LARGE_BODY, Parts, aside};
use http::{Response, StatusCode};
use registry::Kind;
use watchcache::converted;
use watchcache::entry::Entry;
use watchcache::scan;

use super::table;
use crate::body::Body;
use crate::negotiate::{Accepted, Form, MediaType, negotiated, tree_response};

/// What a request wants its objects to look like.
#[derive(Clone)]
pub struct Target {
    /// The resource at the request's version.
    pub resource: Arc<Kind>,
    pub media: MediaType,
    pub form: Form,
    /// The `apiVersion` of tables and of metadata alone.
    pub meta: &'static str,
    /// `includeObject` of tables.
    pub include: table::Include,
}

impl Target {
    pub fn new(resource: &Arc<Kind>, accepted: Accepted, include: table::Include) -> Target {
        let Accepted { media, form, meta, .. } = accepted;
        Target { resource: Arc::clone(resource), media, form, meta, include }
    }

    /// Whether an entry's own bytes are what is wanted.
    pub fn is_native(&self, entry: &Entry) -> bool {
        self.form == Form::Object && self.media != MediaType::Yaml && entry.is_at(&self.resource)
    }
}

/// A tree at the target's version in the target's form.
pub fn form(tree: Tree, target: &Target, headers: bool) -> Tree {
    match target.form {
        Form::Object => tree,
        Form::Metadata | Form::MetadataList => metadata(&tree, target),
        Form::Table => {
            let version = tree.pointer("/metadata/resourceVersion").cloned();
            let meta = version.map_or_else(|| json!({}), |version| json!({ "resourceVersion": version }));
            table::one(target, tree, headers, meta)
        }
    }
}

const METADATA: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `PartialObjectMetadata` of an object.
pub fn metadata(tree: &Tree, target: &Target) -> Tree {
    let mut metadata = tree.get("metadata").cloned().unwrap_or_default();
    // That of a custom resource lies in the order of its names.
    if target.resource.custom().is_some()
        && let Some(message) = api::tables::message(METADATA)
        && let Ok(ordered) = api::decode::tree(&metadata, message, api::decode::Strictness::Ignore)
    {
        metadata = ordered.tree;
    }
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": target.meta,
        "metadata": metadata,
    })
}

/// One object as an answer.
pub async fn object(code: StatusCode, entry: &Entry, target: &Target) -> Response<Body> {
    let large = entry.size() > LARGE_BODY;
    if let Some(answer) = aside(large, || native(code, entry, target)) {
        return answer;
    }
    match converted::again(entry, &target.resource).await {
        Ok(tree) => aside(large, || tree_response(code, target.media, &form(tree, target, true))),
        Err(status) => failed(target, &status),
    }
}

fn failed(target: &Target, status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    tree_response(code, target.media, &status.to_tree())
}

/// The entry's own bytes as an answer, where they serve.
fn native(code: StatusCode, entry: &Entry, target: &Target) -> Option<Response<Body>> {
    if target.is_native(entry) {
        match target.media {
            MediaType::Protobuf => {
                if let Some(bytes) = entry.proto() {
                    return Some(negotiated(code, MediaType::Protobuf, bytes));
                }
            }
            _ => {
                let json = entry.json();
                if json.is_empty() {
                    return Some(unreadable(entry, target));
                }
                let mut out = Vec::with_capacity(json.len() + 1);
                out.extend_from_slice(&json);
                out.push(b'\n');
                return Some(negotiated(code, MediaType::Json, out));
            }
        }
    }
    None
}

/// The answer for an object whose bytes hold something that the model does not know how to show.
fn unreadable(entry: &Entry, target: &Target) -> Response<Body> {
    let status = entry.read().err().unwrap_or_else(|| Status::internal("the object cannot be shown"));
    tree_response(StatusCode::INTERNAL_SERVER_ERROR, target.media, &status.to_tree())
}

/// The kind of lists.
fn list_kind(kind: &Kind) -> String {
    kind.custom().map_or_else(|| format!("{}List", kind.kind), |custom| custom.list_kind.clone())
}

/// A list's metadata.
#[derive(Default)]
pub struct ListMeta {
    pub resource_version: i64,
    pub continue_token: String,
    pub remaining: Option<i64>,
}

impl ListMeta {
    /// As the target shows it.
    fn of(&self, target: &Target) -> Tree {
        let mut meta = self.tree();
        // A list of custom resources says that nothing comes after it, too.
        if let (Some(_), Form::Object, Tree::Object(object)) =
            (target.resource.custom(), target.form, &mut meta)
        {
            object.entry("continue").or_insert_with(|| "".into());
            object.sort_keys();
        }
        meta
    }

    fn tree(&self) -> Tree {
        let mut meta = Object::new();
        meta.insert("resourceVersion", self.resource_version.to_string().into());
        if !self.continue_token.is_empty() {
            meta.insert("continue", self.continue_token.clone().into());
        }
        meta.extend(self.remaining.map(|remaining| ("remainingItemCount", remaining)));
        meta.into()
    }
}

/// How large the chunks of a streamed list are, about.
const CHUNK: usize = 64 << 10;

/// A list as an answer: streamed where the objects' own bytes serve.
pub async fn list(entries: Vec<Arc<Entry>>, meta: &ListMeta, target: &Target) -> Response<Body> {
    let native = entries.first().is_none_or(|entry| target.is_native(entry))
        && !entries.iter().any(|entry| entry.is_foreign());
    let api_version = target.resource.api_version();
    let kind = list_kind(&target.resource);
    if target.form == Form::Object && target.media == MediaType::Json && native {
        let meta = meta.of(target).to_string();
        let (head, tail) = match target.resource.custom() {
            None => (
                format!(
                    "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":["
                ),
                "]}\n".to_owned(),
            ),
            // Its members lie in the order of their names.
            Some(_) => (
                format!("{{\"apiVersion\":\"{api_version}\",\"items\":["),
                format!("],\"kind\":\"{kind}\",\"metadata\":{meta}}}\n"),
            ),
        };
        return match stream(entries, head.into_bytes(), tail.into_bytes(), json_chunk) {
            Ok(body) => negotiated(StatusCode::OK, MediaType::Json, body),
            Err(error) => unreadable_list(target, &error.to_string()),
        };
    }
    if target.form == Form::Object
        && target.media == MediaType::Protobuf
        && native
        && entries.iter().all(|entry| entry.proto_raw().is_some())
    {
        let head = proto_head(&entries, meta, &api_version, &kind);
        // contentEncoding and contentType of the envelope
        return match stream(entries, head, vec![0x1a, 0, 0x22, 0], proto_chunk) {
            Ok(body) => negotiated(StatusCode::OK, MediaType::Protobuf, body),
            Err(error) => unreadable_list(target, &error.to_string()),
        };
    }
    let bytes: usize = entries.iter().map(|entry| entry.size()).sum();
    let large = bytes > LARGE_BODY;
    match converted::all(&entries, &target.resource, large).await {
        Ok(trees) => aside(large, || tree_list(trees.into_iter(), meta.of(target), target)),
        Err(status) => failed(target, &unconverted_list(&target.resource.plural, status)),
    }
}

/// The answer to a list with an object that cannot be read.
fn unreadable_list(target: &Target, why: &str) -> Response<Body> {
    failed(target, &unreadable_status(&target.resource.plural, why))
}

fn unreadable_status(plural: &str, why: &str) -> Status {
    let message = format!("failed to read one or more {plural} from the storage: {why}");
    Status::failure(500, "StorageReadError", message)
}

/// The error of one object's conversion as that of a list.
pub fn unconverted_list(plural: &str, status: Status) -> Status {
    if status.code == 500 { unreadable_status(plural, &status.message) } else { status }
}

/// A list of trees at the target's version.
pub fn tree_list(trees: impl Iterator<Item = Tree>, meta: Tree, target: &Target) -> Response<Body> {
    let tree = match target.form {
        Form::Table => table::list(target, trees, meta),
        Form::Metadata | Form::MetadataList => {
            let items: Vec<Tree> = trees.map(|tree| metadata(&tree, target)).collect();
            let items = if items.is_empty() { Tree::Null } else { Tree::Array(items) };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": target.meta, "metadata": meta, "items": items})
        }
        Form::Object => {
            let kind = list_kind(&target.resource);
            let api_version = target.resource.api_version();
            if target.resource.custom().is_some() {
                let items: Vec<Tree> = trees.collect();
                let list = json!({"apiVersion": api_version, "items": items, "kind": kind, "metadata": meta});
                return tree_response(StatusCode::OK, target.media, &list);
            }
            // items of a typed list do not repeat its type
            let bare = trees.map(|mut tree| {
                if let Some(map) = tree.as_object_mut() {
                    map.remove("kind");
                    map.remove("apiVersion");
                }
                tree
            });
            let items: Vec<Tree> = bare.collect();
            json!({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items})
        }
    };
    tree_response(StatusCode::OK, target.media, &tree)
}

type Chunk = fn(&mut std::vec::IntoIter<Arc<Entry>>, &mut Vec<u8>, bool) -> io::Result<bool>;

/// Starts with `head`, then what `chunk` appends until it answers that there is no more, and `tail`. Short lists go out whole.
fn stream(entries: Vec<Arc<Entry>>, mut head: Vec<u8>, tail: Vec<u8>, chunk: Chunk) -> io::Result<Body> {
    let mut entries = entries.into_iter();
    let mut more = chunk(&mut entries, &mut head, true)?;
    if !more {
        head.extend_from_slice(&tail);
        return Ok(head.into());
    }
    let mut first = Some(head);
    // A client that reads fast must not keep a worker to itself.
    let mut parts = Parts::begin();
    Ok(Body::list(futures::stream::poll_fn(move |context| {
        if parts.over() {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        let next = match first.take() {
            Some(head) => Some(Ok(head)),
            None if more => {
                let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
                let made = chunk(&mut entries, &mut out, false);
                more = matches!(made, Ok(true));
                if matches!(made, Ok(false)) {
                    out.extend_from_slice(&tail);
                }
                Some(made.map(|_| out))
            }
            None => None,
        };
        std::task::Poll::Ready(next.map(|made| made.map(Bytes::from)))
    })))
}

fn json_chunk(
    entries: &mut std::vec::IntoIter<Arc<Entry>>,
    out: &mut Vec<u8>,
    mut first: bool,
) -> io::Result<bool> {
    while out.len() < CHUNK {
        let Some(entry) = entries.next() else { return Ok(false) };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        // Part of the list may be sent already, so the answer can only be cut off.
        if !entry.write_json_item(out) {
            return Err(io::Error::other(
                entry.read().err().map(|status| status.message).unwrap_or_default(),
            ));
        }
    }
    Ok(true)
}

fn proto_chunk(
    entries: &mut std::vec::IntoIter<Arc<Entry>>,
    out: &mut Vec<u8>,
    _first: bool,
) -> io::Result<bool> {
    while out.len() < CHUNK {
        let Some(entry) = entries.next() else { return Ok(false) };
        if let Some(raw) = entry.proto_raw() {
            scan::put_field(out, 2, &raw);
        }
    }
    Ok(true)
}

/// The envelope up to the first item; its length counts the items to come.
fn proto_head(entries: &[Arc<Entry>], meta: &ListMeta, api_version: &str, kind: &str) -> Vec<u8> {
    let mut list_meta = Vec::new();
    scan::put_field(&mut list_meta, 1, b"");
    scan::put_field(&mut list_meta, 2, meta.resource_version.to_string().as_bytes());
    scan::put_field(&mut list_meta, 3, meta.continue_token.as_bytes());
    if let Some(remaining) = meta.remaining {
        scan::put_varint(&mut list_meta, 4 << 3);
        scan::put_varint(&mut list_meta, remaining as u64);
    }
    let mut start = Vec::new();
    scan::put_field(&mut start, 1, &list_meta);
    let items: usize = entries
        .iter()
        .filter_map(|entry| entry.proto_raw())
        .map(|raw| 1 + scan::varint_size(raw.len() as u64) + raw.len())
        .sum();
    let mut type_meta = Vec::new();
    scan::put_field(&mut type_meta, 1, api_version.as_bytes());
    scan::put_field(&mut type_meta, 2, kind.as_bytes());
    let mut head = b"k8s\0".to_vec();
    scan::put_field(&mut head, 1, &type_meta);
    scan::put_varint(&mut head, 2 << 3 | 2);
    scan::put_varint(&mut head, (start.len() + items) as u64);
    head.extend_from_slice(&start);
    head
}

/// A tree (at the target's version) as an answer.
pub fn tree_object(code: StatusCode, tree: Tree, target: &Target) -> Response<Body> {
    let tree = form(tree, target, true);
    tree_response(code, target.media, &tree)
}
