//! A request's body as an object of the kind that its path names, with the answers upstream gives to others.

use crate::tree::Object as Members;

use super::node::{self, Node};
use super::{Decoded, Error, Strictness, check, yaml};
use crate::model::MessageRef;
use crate::{Status, Tree, tables, wire};

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// The kind a handler takes.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// What its objects are made of; `None` where the tables say it.
    pub message: Option<MessageRef<'a>>,
}

impl<'a> Expected<'a> {
    /// A kind of the tables.
    pub const fn built_in(group: &'a str, version: &'a str, kind: &'a str) -> Expected<'a> {
        Expected { group, version, kind, message: None }
    }
}

/// A decoded object, with `kind` and `apiVersion` in its tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    pub tree: Tree,
    pub warnings: Vec<String>,
}

/// How upstream names the place where its scheme is made, in the message about unknown kinds.
const SCHEME: &str = "pkg/runtime/scheme.go:111";

/// The type that upstream reads `kind` and `apiVersion` with.
const TYPE_META: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

/// Decodes a body as an object of a built-in kind. Where it leaves out `kind` and `apiVersion`, the expected ones are taken.
/// Expected in `meta.k8s.io`, a kind may come in any group (`DeleteOptions`).
pub fn object(
    body: &[u8],
    format: Format,
    expected: Expected<'_>,
    strictness: Strictness,
) -> Result<Object, Status> {
    let unrecognized = |error: &str| {
        let summary = summary(body);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error} ({summary})",
            expected.kind
        ))
    };
    let mut tree;
    let found;
    let result;
    match format {
        Format::Protobuf => {
            if body.is_empty() {
                return Err(unrecognized("empty data"));
            }
            if body.len() == wire::envelope::MAGIC.len() && wire::envelope::is_enveloped(body) {
                return Err(unrecognized("empty body"));
            }
            if !wire::envelope::is_enveloped(body) {
                return Err(unrecognized(
                    "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
                ));
            }
            let envelope = wire::envelope::unwrap(body).map_err(|error| unrecognized(&error.to_string()))?;
            let meta = envelope.type_meta;
            found = Found::resolve(meta.kind, meta.api_version, expected)
                .map_err(|error| unrecognized(&error))?;
            let message = found.message(expected)?;
            result = wire::request_to_tree(envelope.raw, message)
                .map(|tree| Decoded { tree, warnings: Vec::new() })
                .map_err(|error| match error {
                    wire::Error::TooLarge => Error::TooLarge,
                    other => Error::Type(other.to_string()),
                });
        }
        Format::Json | Format::Yaml => {
            let document = match format {
                Format::Yaml => Some(yaml::parse(body).map_err(|error| unrecognized(&error))?),
                _ => None,
            };
            let json;
            let node = match &document {
                Some(document) => &document.node,
                None => {
                    json = node::parse_json(body).map_err(|error| {
                        unrecognized(&format!("couldn't get version/kind; json parse error: {error}"))
                    })?;
                    &json
                }
            };
            let type_meta = type_meta(node).map_err(|error| {
                unrecognized(&format!("couldn't get version/kind; json parse error: {error}"))
            })?;
            if let Some(missing) = custom_type_meta(&type_meta, expected, body) {
                return Err(match missing {
                    Missing::Kind(error) => unrecognized(&error),
                    Missing::Version(status) => *status,
                });
            }
            found =
                Found::resolve(&type_meta.0, &type_meta.1, expected).map_err(|error| unrecognized(&error))?;
            let message = found.message(expected)?;
            result = match document {
                Some(document) => document.decoded(message, strictness),
                None => check::check(node, check::Source::Json(body), message, strictness),
            };
        }
    }
    let decoded = result.map_err(|error| match error {
        Error::TooLarge => Status::too_large_to_store(),
        other => found.cannot(expected, &other.to_string()),
    })?;
    let custom = expected.message.is_some_and(|message| message.custom);
    if found.kind != expected.kind && !custom {
        let (from, to) = (&found, expected);
        let internal =
            if to.group.is_empty() { "core" } else { to.group.split('.').next().unwrap_or_default() };
        let error = format!(
            "converting ({}.{}) to ({internal}.{}): unknown conversion",
            from.version, from.kind, to.kind
        );
        return Err(found.cannot(expected, &error));
    }
    // options are the same in every group, and evictions in both versions of theirs
    let any_version =
        expected.group == "meta.k8s.io" || (expected.kind == "Eviction" && found.group == expected.group);
    if !any_version && (found.group.as_str(), found.version.as_str()) != (expected.group, expected.version) {
        let (data, wanted) =
            (group_version(&found.group, &found.version), group_version(expected.group, expected.version));
        return Err(Status::bad_request(format!(
            "the API version in the data ({data}) does not match the expected API version ({wanted})"
        )));
    }
    tree = decoded.tree;
    put_type_meta(&mut tree, &found.kind, &group_version(&found.group, &found.version));
    Ok(Object { tree, warnings: decoded.warnings })
}

/// Decodes a body without a model, for custom resources: duplicate fields are all that can be wrong.
pub fn any(body: &[u8], format: Format) -> Result<Decoded, String> {
    let node = match format {
        Format::Yaml => {
            let document = yaml::parse(body)?;
            return Ok(Decoded { tree: document.node.to_tree(), warnings: document.repeated });
        }
        Format::Json => node::parse_json(body)?,
        Format::Protobuf => return Err("custom resources have no protobuf encoding".to_owned()),
    };
    let mut warnings = Vec::new();
    duplicates(&node, &mut String::new(), &mut warnings);
    Ok(Decoded { tree: node.to_tree(), warnings })
}

fn duplicates(node: &Node<'_>, path: &mut String, warnings: &mut Vec<String>) {
    let length = path.len();
    match node {
        Node::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                duplicates(item, path, warnings);
                path.truncate(length);
            }
        }
        Node::Object(entries, _) => {
            let mut seen = std::collections::HashSet::with_capacity(entries.len());
            for (key, value) in entries {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                if !seen.insert(key) && warnings.len() < check::MAX_PROBLEMS {
                    let warning = format!("duplicate field \"{path}\"");
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                }
                duplicates(value, path, warnings);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What a custom resource must say of itself.
enum Missing {
    Kind(String),
    Version(Box<Status>),
}

/// Of a custom resource nothing says what it is but itself.
fn custom_type_meta(meta: &(String, String), expected: Expected<'_>, body: &[u8]) -> Option<Missing> {
    expected.message.filter(|message| message.custom)?;
    if meta.0.is_empty() {
        let text = String::from_utf8_lossy(body);
        return Some(Missing::Kind(format!("Object 'Kind' is missing in '{text}'")));
    }
    let wanted = group_version(expected.group, expected.version);
    let status = || {
        Status::bad_request(format!(
            "the API version in the data () does not match the expected API version ({wanted})"
        ))
    };
    meta.1.is_empty().then(|| Missing::Version(Box::new(status())))
}

struct Found {
    group: String,
    version: String,
    kind: String,
}

impl Found {
    /// What the body says, and the expected kind and version where it says nothing.
    fn resolve(kind: &str, api_version: &str, expected: Expected<'_>) -> Result<Self, String> {
        let mut parts = api_version.split('/');
        let (group, version) = match (parts.next(), parts.next(), parts.next()) {
            (Some(""), None, _) | (None, _, _) => (expected.group, expected.version),
            (Some(version), None, _) => ("", version),
            (Some(group), Some(version), None) => (group, version),
            _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
        };
        let kind = if kind.is_empty() { expected.kind } else { kind };
        Ok(Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() })
    }

    fn message<'a>(&self, expected: Expected<'a>) -> Result<MessageRef<'a>, Status> {
        let Self { group, version, kind } = self;
        let same = group == expected.group && version == expected.version && kind == expected.kind;
        // Whatever a custom resource says that it is, the rules look at it.
        let custom = expected.message.is_some_and(|message| message.custom);
        let own = (same || custom).then_some(expected.message);
        own.flatten().or_else(|| tables::kind_message(group, version, kind)).ok_or_else(|| {
            let version = group_version(&self.group, &self.version);
            self.cannot(
                expected,
                &format!(
                    "no kind \"{}\" is registered for version \"{version}\" in scheme \"{SCHEME}\"",
                    self.kind
                ),
            )
        })
    }

    fn cannot(&self, expected: Expected<'_>, error: &str) -> Status {
        let Self { kind, version, .. } = self;
        Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {error}",
            expected.kind
        ))
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The document's `kind` and `apiVersion`.
fn type_meta(node: &Node<'_>) -> Result<(String, String), String> {
    let found = match node {
        Node::Object(..) | Node::Null => "",
        Node::Array(_) => "array",
        Node::String(_) => "string",
        Node::Number(_) => "number",
        Node::Bool(_) => "bool",
    };
    if !found.is_empty() {
        return Err(format!("json: cannot unmarshal {found} into Go value of type {TYPE_META}"));
    }
    let text = |name: &str| match node.get(name) {
        None | Some(Node::Null) => Ok(String::new()),
        Some(Node::String(text)) => Ok(text.clone().into_owned()),
        Some(other) => {
            let found = match other {
                Node::Bool(_) => "bool",
                Node::Number(_) => "number",
                Node::Array(_) => "array",
                _ => "object",
            };
            Err(format!("json: cannot unmarshal {found} into Go struct field .{name} of type string"))
        }
    };
    Ok((text("kind")?, text("apiVersion")?))
}

/// `kind` and `apiVersion` first, whether they were there or not.
pub fn put_type_meta(tree: &mut Tree, kind: &str, api_version: &str) {
    let Tree::Object(map) = tree else { return };
    if map.contains_key("kind") && map.contains_key("apiVersion") {
        map.insert("kind", Tree::from(kind));
        map.insert("apiVersion", Tree::from(api_version));
        return;
    }
    let mut ordered = Members::with_capacity(map.len() + 2);
    ordered.insert("kind", Tree::from(kind));
    ordered.insert("apiVersion", Tree::from(api_version));
    for (key, value) in std::mem::take(map) {
        ordered.entry(key).or_insert(value);
    }
    *map = ordered;
}

/// The start of a body, as far as a message shows it.
fn summary(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let start = &body[..body.len().min(SHOWN)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned(),
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > SHOWN { text + " ..." } else { text }
}
