//! One object of a cache: its bytes as they are sent, and what can be asked of it without decoding them.

use std::sync::{Arc, Weak};

use api::model::Text;
use api::wire::envelope;
use api::{Status, Tree};
use bytes::Bytes;
use parking_lot::Mutex;
use registry::Kind;

use crate::scan;
use crate::stored::{self, Stored};

/// One object at one revision. The bytes carry the resource version.
pub struct Entry {
    pub kind: Arc<Stored>,
    /// The key in the store below the kind's prefix: `namespace/name`, or `name`.
    pub key: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Box<str>,
    pub resource_version: i64,
    attributes: Attributes,
    bytes: Encoded,
    /// As JSON, with kind and apiVersion: made when it is first read as that, and then kept. Events make do without.
    json: Mutex<Option<Bytes>>,
    /// The version that it is stored at, where that is another than the cache's, to which a webhook converts.
    foreign: Option<Box<str>>,
    /// What is known of it at other versions.
    views: Mutex<Vec<View>>,
    /// As a tree, for as long as somebody has that.
    shared: Mutex<Weak<Tree>>,
}

/// What an object can be selected by.
pub struct Attributes {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the selectable fields of its version, in their order.
    fields: Box<[Box<str>]>,
}

/// An object at another version than its own.
struct View {
    version: Text,
    attributes: Attributes,
    /// The whole of it, where a webhook made it and it is worth keeping.
    json: Option<Bytes>,
}

enum Encoded {
    /// A watch frame (length, type, object) of which the object is `object..`, and its content without envelope `raw`.
    Proto {
        frame: Bytes,
        object: usize,
        raw: (usize, usize),
        frame_type: &'static str,
    },
    Json(Bytes),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "StorageError: corrupt object, Code: 7, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision={revision}: {cause}"
    )]
    Undecodable { key: String, revision: i64, cause: String },
}

impl From<Error> for Status {
    /// Shows the object's key below the root.
    fn from(error: Error) -> Status {
        let Error::Undecodable { key, revision, cause } = error;
        let key = key.strip_prefix("/registry").unwrap_or(&key).to_owned();
        Status::internal(Error::Undecodable { key, revision, cause })
    }
}

impl Error {
    /// The answer to a list with such an object.
    pub fn of_list(&self, plural: &str) -> Status {
        let message = format!("failed to read one or more {plural} from the storage: {self}");
        Status::failure(500, "StorageReadError", message)
    }
}

impl Entry {
    /// From a stored value. `frame_type` is the event for which the bytes are laid out to be sent without copying.
    pub fn decode(
        kind: &Arc<Stored>,
        key: Arc<str>,
        value: &[u8],
        revision: i64,
        frame_type: &'static str,
    ) -> Result<Entry, Error> {
        let failed =
            |cause: String| Error::Undecodable { key: format!("{}{key}", kind.prefix), revision, cause };
        let mut version = itoa::Buffer::new();
        // an object of a dry run has none
        let version = if revision == 0 { "" } else { version.format(revision) };
        if !envelope::is_enveloped(value) {
            let mut tree = api::decode::stored(value).map_err(|error| failed(error.to_string()))?;
            let foreign = crate::legacy::foreign(kind, &tree);
            if foreign.is_some() {
                let entry = Entry::from_tree(kind, key, tree, revision)?;
                return Ok(Entry { foreign, ..entry });
            }
            crate::legacy::upgrade(kind, &mut tree).map_err(failed)?;
            if kind.resource.custom().is_some() {
                // Its schema may be another one than when it was written.
                let message = kind.message();
                let read = api::decode::tree(&tree, message, api::decode::Strictness::Ignore);
                tree = read.map_err(|error| failed(error.to_string()))?.tree;
                let filled = kind.resource.strategy(None).default(&mut tree);
                filled.map_err(|error| failed(error.to_string()))?;
            }
            return Entry::from_tree(kind, key, tree, revision);
        }
        let opened = envelope::unwrap(value).map_err(|error| failed(error.to_string()))?;
        if !scan::is_whole(opened.raw) {
            return Err(failed("unexpected EOF".to_owned()));
        }
        let version_stored = opened.type_meta.api_version;
        let completed = if version_stored != kind.api_version && !version_stored.is_empty() {
            Some(crate::legacy::upgraded(kind, version_stored, value).map_err(failed)?)
        } else if kind.resource.profile.completed_on_read {
            completed(kind, value)
        } else {
            None
        };
        let stored = completed.as_deref().unwrap_or(opened.raw);
        let mut raw = Vec::with_capacity(stored.len() + version.len() + 4);
        scan::with_resource_version(stored, version, &mut raw);
        let mut object = Vec::with_capacity(raw.len() + 64);
        let type_meta = envelope::TypeMeta { api_version: &kind.api_version, kind: &kind.resource.kind };
        envelope::wrap(type_meta, &raw, &mut object);
        let frame = proto_frame(frame_type, &object);
        let at = frame.len() - object.len();
        // the envelope ends with two empty fields of two bytes each
        let raw_end = frame.len() - 4;
        let raw_range = (raw_end - raw.len(), raw_end);
        let meta = scan::meta(&raw);
        let (namespace, name) = split(&key, kind);
        let entry = Entry {
            kind: Arc::clone(kind),
            namespace: namespace.into(),
            name: name.into(),
            uid: meta.uid.into(),
            resource_version: revision,
            attributes: Attributes {
                labels: meta.labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
                fields: kind.fields.iter().map(|(_, path)| path.read(&raw).into()).collect(),
            },
            bytes: Encoded::Proto { frame: frame.into(), object: at, raw: raw_range, frame_type },
            json: Mutex::default(),
            foreign: None,
            views: Mutex::default(),
            shared: Mutex::default(),
            key,
        };
        Ok(entry)
    }

    fn from_tree(kind: &Arc<Stored>, key: Arc<str>, mut tree: Tree, revision: i64) -> Result<Entry, Error> {
        set_resource_version(&mut tree, revision);
        if kind.resource.custom().is_some() {
            tree.sort_all_objects();
        }
        let (namespace, name) = split(&key, kind);
        Ok(Entry {
            kind: Arc::clone(kind),
            namespace: namespace.into(),
            name: name.into(),
            uid: tree.pointer("/metadata/uid").and_then(Tree::as_str).unwrap_or_default().into(),
            resource_version: revision,
            attributes: Attributes::of(&tree, &kind.fields),
            bytes: Encoded::Json(api::json::to_vec(&tree).into()),
            json: Mutex::default(),
            foreign: None,
            views: Mutex::default(),
            shared: Mutex::default(),
            key,
        })
    }

    /// The same object as of a later revision: what a delete's event shows.
    pub fn at(&self, revision: i64, frame_type: &'static str) -> Result<Entry, Error> {
        match &self.bytes {
            Encoded::Proto { frame, object, .. } => {
                Entry::decode(&self.kind, Arc::clone(&self.key), &frame[*object..], revision, frame_type)
            }
            Encoded::Json(json) => {
                Entry::decode(&self.kind, Arc::clone(&self.key), json, revision, frame_type)
            }
        }
    }

    /// Whether both are the same object with the same content. Revisions count, for they are in the bytes.
    pub fn has_same_bytes(&self, other: &Entry) -> bool {
        match (&self.bytes, &other.bytes) {
            (Encoded::Proto { raw: own, .. }, Encoded::Proto { raw, .. }) => {
                self.slice(*own) == other.slice(*raw)
            }
            (Encoded::Json(own), Encoded::Json(other)) => own == other,
            _ => false,
        }
    }

    /// The object, decoded at its storage version (which for nearly all kinds is the only one), with kind and apiVersion.
    /// Decodes the object, for an answer or as the base of a write.
    pub fn read(&self) -> Result<Tree, Status> {
        let read = match &self.bytes {
            Encoded::Proto { frame, object, .. } => {
                api::wire::object_to_tree(&frame[*object..], self.kind.message())
                    .map_err(|error| error.to_string())
            }
            Encoded::Json(json) => api::decode::stored(json).map_err(|error| error.to_string()),
        };
        read.map_err(|cause| {
            let error = self.undecodable(cause);
            self.kind.report_unreadable(&error);
            error.into()
        })
    }

    /// [`Entry::read`] for those who change nothing: they have one tree together.
    pub fn shared(&self) -> Result<Arc<Tree>, Status> {
        if let Some(tree) = self.shared.lock().upgrade() {
            return Ok(tree);
        }
        let tree = Arc::new(self.read()?);
        *self.shared.lock() = Arc::downgrade(&tree);
        Ok(tree)
    }

    /// Whether it is stored at another version than the cache's, and only a webhook converts it.
    pub fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// Whether it is stored at this version, which is not the cache's.
    fn is_foreign_of(&self, kind: &Kind) -> bool {
        self.foreign.as_deref().is_some_and(|version| version == kind.api_version())
    }

    /// Whether its bytes are of this version.
    pub fn is_at(&self, kind: &Kind) -> bool {
        self.foreign.is_none() && self.kind.resource.is_same_version(kind)
    }

    /// What a webhook made of it for this version.
    pub fn converted(&self, kind: &Kind) -> Option<Tree> {
        let views = self.views.lock();
        let view = views.iter().find(|view| view.version == kind.version)?;
        api::decode::stored(view.json.as_ref()?).ok()
    }

    pub fn has_converted(&self, kind: &Kind) -> bool {
        self.views.lock().iter().any(|view| view.version == kind.version && view.json.is_some())
    }

    /// Keeps what a webhook made of it for this version.
    pub fn keep_converted(&self, kind: &Kind, tree: &mut Tree) -> Result<(), Status> {
        if self.is_foreign_of(kind) {
            kind.complete(tree)?;
        }
        self.see(kind, tree, Some(api::json::to_vec(tree).into()));
        Ok(())
    }

    /// Keeps what it can be selected by at this version.
    pub fn keep_attributes(&self, kind: &Kind, tree: &Tree) {
        self.see(kind, tree, None);
    }

    fn see(&self, kind: &Kind, tree: &Tree, json: Option<Bytes>) {
        let attributes = Attributes::of(tree, &stored::selectable(kind));
        let view = View { version: kind.version.clone(), attributes, json };
        let mut views = self.views.lock();
        views.retain(|other| other.version != view.version);
        views.push(view);
    }

    /// What it can be selected by at its own version.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Looks at what it can be selected by at this version; `None` where nobody has seen it at that yet.
    pub fn attributes_at<T>(&self, kind: &Kind, look: impl FnOnce(&Attributes) -> T) -> Option<T> {
        if self.is_at(kind) {
            return Some(look(&self.attributes));
        }
        let views = self.views.lock();
        views.iter().find(|view| view.version == kind.version).map(|view| look(&view.attributes))
    }

    /// The error of a conversion as that of the object.
    pub fn unconverted(&self, status: Status) -> Status {
        if status.code == 500 { self.undecodable(status.message).into() } else { status }
    }

    /// The object as JSON at its storage version, with kind and apiVersion.
    pub fn json(&self) -> Bytes {
        if let Encoded::Json(json) = &self.bytes {
            return json.clone();
        }
        if let Some(json) = self.json.lock().as_ref() {
            return json.clone();
        }
        let mut out = Vec::with_capacity(self.size() * 2);
        self.write_json(&mut out);
        out.shrink_to_fit();
        let json = Bytes::from(out);
        *self.json.lock() = Some(json.clone());
        json
    }

    /// Drops the JSON: of a state that is history hardly anybody asks for it.
    pub fn forget_json(&self) {
        self.json.lock().take();
        self.views.lock().iter_mut().for_each(|view| view.json = None);
    }

    /// Appends what [`Entry::json`] answers, without making it if it is not there; `false` where it cannot be read.
    pub fn write_json(&self, out: &mut Vec<u8>) -> bool {
        if let Some(json) = self.json.lock().as_ref() {
            out.extend_from_slice(json);
            return !json.is_empty();
        }
        match &self.bytes {
            Encoded::Proto { frame, object, .. } => {
                // Only the outer fields were checked when the object was read.
                let before = out.len();
                let written = api::wire::object_to_json(&frame[*object..], self.kind.message(), out);
                if let Err(error) = &written {
                    out.truncate(before);
                    self.kind.report_unreadable(&self.undecodable(error.to_string()));
                }
                written.is_ok()
            }
            Encoded::Json(json) => {
                out.extend_from_slice(json);
                true
            }
        }
    }

    fn undecodable(&self, cause: String) -> Error {
        let key = format!("{}{}", self.kind.prefix, self.key);
        Error::Undecodable { key, revision: self.resource_version, cause }
    }

    /// Appends the object as JSON without kind and apiVersion, as it stands in a list; `false` where it cannot be read.
    pub fn write_json_item(&self, out: &mut Vec<u8>) -> bool {
        let kind = &self.kind;
        if kind.resource.custom().is_some() {
            return self.write_json(out);
        }
        let head = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", kind.resource.kind, kind.api_version);
        match self.json().strip_prefix(head.as_bytes()) {
            Some(rest) => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            None => {
                let Ok(mut tree) = self.read() else { return false };
                if let Some(map) = tree.as_object_mut() {
                    map.remove("kind");
                    map.remove("apiVersion");
                }
                api::json::write(&tree, out);
            }
        }
        true
    }

    fn slice(&self, range: (usize, usize)) -> &[u8] {
        match &self.bytes {
            Encoded::Proto { frame, .. } => &frame[range.0..range.1],
            Encoded::Json(_) => &[],
        }
    }

    /// The object in its protobuf envelope, at its storage version; `None` for kinds stored as JSON.
    pub fn proto(&self) -> Option<Bytes> {
        match &self.bytes {
            Encoded::Proto { frame, object, .. } => Some(frame.slice(*object..)),
            Encoded::Json(_) => None,
        }
    }

    /// The object's protobuf content without envelope.
    pub fn proto_raw(&self) -> Option<Bytes> {
        match &self.bytes {
            Encoded::Proto { frame, raw, .. } => Some(frame.slice(raw.0..raw.1)),
            Encoded::Json(_) => None,
        }
    }

    /// The whole protobuf watch frame of an event of this type. Copies only for a type other than the entry's own.
    pub fn proto_watch_frame(&self, event_type: &str) -> Option<Bytes> {
        match &self.bytes {
            Encoded::Proto { frame, frame_type, .. } if *frame_type == event_type => Some(frame.clone()),
            Encoded::Proto { frame, object, .. } => Some(proto_frame(event_type, &frame[*object..]).into()),
            Encoded::Json(_) => None,
        }
    }

    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.attributes.label(key)
    }

    /// The value of the kind's field with this index.
    pub fn field(&self, index: usize) -> &str {
        self.attributes.field(index)
    }

    /// Roughly the memory it holds.
    pub fn size(&self) -> usize {
        match &self.bytes {
            Encoded::Proto { frame, .. } => frame.len() + 300,
            Encoded::Json(json) => json.len() + 300,
        }
    }
}

impl Attributes {
    fn of(object: &Tree, fields: &[(String, scan::Path)]) -> Attributes {
        let labels = object.pointer("/metadata/labels").and_then(Tree::as_object);
        let text = |value: &Tree| value.as_str().unwrap_or_default().into();
        Attributes {
            labels: labels
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.as_str().into(), text(value)))
                .collect(),
            fields: fields.iter().map(|(_, path)| path.read_tree(object).into()).collect(),
        }
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| **own == *key).map(|(_, value)| &**value)
    }

    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", |value| value)
    }
}

/// The object's content with the defaults that it was stored without; `None` when it has them.
fn completed(kind: &Stored, value: &[u8]) -> Option<Vec<u8>> {
    let before = api::wire::object_to_tree(value, kind.message()).ok()?;
    let mut tree = before.clone();
    kind.resource.strategy(None).default(&mut tree).ok()?;
    if tree == before {
        return None;
    }
    let mut raw = Vec::with_capacity(value.len() + 64);
    api::wire::tree_to_proto(&tree, kind.message(), &mut raw).ok()?;
    Some(raw)
}

/// A `WatchEvent` with the object's envelope inside, length in front.
pub fn proto_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let inner = 1 + scan::varint_size(object.len() as u64) + object.len();
    let length = 1
        + scan::varint_size(event_type.len() as u64)
        + event_type.len()
        + 1
        + scan::varint_size(inner as u64)
        + inner;
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    scan::put_field(&mut frame, 1, event_type.as_bytes());
    scan::put_varint(&mut frame, 2 << 3 | 2);
    scan::put_varint(&mut frame, inner as u64);
    scan::put_field(&mut frame, 1, object);
    frame
}

/// Sets `metadata.resourceVersion`, in its place in the order of JSON.
pub fn set_resource_version(tree: &mut Tree, revision: i64) {
    if revision == 0 {
        return;
    }
    if let Some(metadata) = tree.get_mut("metadata").and_then(Tree::as_object_mut) {
        let text = Tree::from(revision.to_string());
        if let Some(present) = metadata.get_mut("resourceVersion") {
            *present = text;
        } else {
            let before = ["name", "generateName", "namespace", "selfLink", "uid"];
            let at = metadata.keys().take_while(|key| before.contains(&key.as_str())).count();
            metadata.insert_at(at, "resourceVersion", text);
        }
    }
}

fn split<'a>(key: &'a str, kind: &Stored) -> (&'a str, &'a str) {
    if kind.is_namespaced() { key.split_once('/').unwrap_or(("", key)) } else { ("", key) }
}
