//! Strict decoding of request bodies: JSON and YAML → a tree in the model's field order.
//!
//! One pass over the document finds unknown fields, duplicate fields and wrong types, and words them as upstream's
//! decoder does, down to the names of its types. What comes out is canonical: fields in upstream's order, nulls and
//! unknown fields dropped, values that upstream always writes present, quantities and times in their canonical
//! spelling. So the JSON of the tree is the JSON that upstream would answer.

mod check;
mod custom;
mod node;
mod repeated;
mod request;
mod times;
mod yaml;

pub use request::{Expected, Format, Object, any, object, put_type_meta};

use crate::Tree;
use crate::model::MessageRef;

/// `fieldValidation`: what becomes of unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub tree: Tree,
    /// Unknown and duplicate fields, one text each (`unknown field "spec.foo"`).
    pub warnings: Vec<String>,
}

/// Why a body is not an object of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON or YAML at all.
    #[error("{0}")]
    Syntax(String),
    /// A value that does not fit its field.
    #[error("{0}")]
    Type(String),
    /// More objects inside than can be stored.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// Unknown or duplicate fields where they are refused.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Decodes JSON as an object of a message.
pub fn json(bytes: &[u8], message: MessageRef<'_>, strictness: Strictness) -> Result<Decoded, Error> {
    let node = node::parse_json(bytes).map_err(Error::Syntax)?;
    check::check(&node, check::Source::Json(bytes), message, strictness)
}

/// Decodes YAML as an object of a message.
pub fn yaml(bytes: &[u8], message: MessageRef<'_>, strictness: Strictness) -> Result<Decoded, Error> {
    yaml::parse(bytes).map_err(Error::Syntax)?.decoded(message, strictness)
}

/// Checks and orders a tree that came from elsewhere, a patch's result for instance.
pub fn tree(tree: &Tree, message: MessageRef<'_>, strictness: Strictness) -> Result<Decoded, Error> {
    check::check(&node::Node::from(tree), check::Source::Tree, message, strictness)
}

/// Whether YAML reads a plain scalar as text, and as nothing else.
pub fn is_yaml_text(text: &str) -> bool {
    yaml::is_text(text)
}

/// Keys that a YAML or JSON document gives twice, worded as upstream's reader of YAML words them.
pub fn repeated_keys(bytes: &[u8]) -> Vec<String> {
    yaml::parse(bytes).map(|document| document.repeated).unwrap_or_default()
}

/// Objects and lists within each other; beyond it a document is refused. Whatever walks a value may recurse.
pub const MAX_DEPTH: usize = 400;

/// A document without a model. Errors are worded as upstream's scanner words them.
pub fn untyped(bytes: &[u8]) -> Result<Tree, String> {
    node::parse_json(bytes).map(|node| node.to_tree())
}

/// An object as it is stored in JSON. The reader that is quick gives up on what is nested deeper than 128.
pub fn stored(bytes: &[u8]) -> Result<Tree, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| untyped(bytes).map_err(|_| error))
}

/// The error in text that should be a JSON object, if any.
pub fn object_problem(bytes: &[u8]) -> Option<String> {
    let kind = match node::parse_json(bytes) {
        Err(problem) => return Some(problem),
        Ok(node::Node::Object(..) | node::Node::Null) => return None,
        Ok(node::Node::Bool(_)) => "bool",
        Ok(node::Node::Number(_)) => "number",
        Ok(node::Node::String(_)) => "string",
        Ok(node::Node::Array(_)) => "array",
    };
    Some(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

#[cfg(test)]
mod tests;
