//! The patches of the API: JSON patch (RFC 6902, with the API's habits), JSON merge patch (RFC 7386) and
//! strategic merge patch over the model. Server-side apply is in [`crate::ownership::apply`].

mod json;
mod order;
mod strategic;

use api::Tree;
use api::status::Status;
use api::tree::Object;

pub use json::json;
pub use strategic::strategic;

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch is not one.
    #[error("{0}")]
    Malformed(String),
    /// There is too much of it.
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    /// The patch cannot be applied to this object.
    #[error("the server rejected our request due to an error in our request")]
    Rejected(Rejection),
    /// The patch contradicts itself or the model.
    #[error("{0}")]
    Internal(String),
}

/// Why an operation of a JSON patch does not apply, which answers to clients leave out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// The value that was tested for is another one.
    pub tested: bool,
    pub words: String,
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let (code, reason) = match error {
            Error::Malformed(_) => (400, "BadRequest"),
            Error::TooLarge(_) => (413, "RequestEntityTooLarge"),
            Error::Rejected(_) => (422, "Invalid"),
            Error::Internal(_) => (500, ""),
        };
        let details = matches!(error, Error::Rejected(_)).then(Default::default);
        Status {
            status: "Failure".to_owned(),
            message: error.to_string(),
            reason: reason.to_owned(),
            details,
            code,
            metadata: Default::default(),
        }
    }
}

/// JSON merge patch: null removes, objects merge, anything else replaces.
pub fn merge(target: &Tree, patch: &Tree) -> Result<Tree, Error> {
    if !patch.is_object() {
        return Err(not_a_map("error decoding patch: ", patch));
    }
    let mut result = target.clone();
    merge_into(&mut result, patch)?;
    Ok(result)
}

/// Takes apart what is kept as text. What no tree can hold cannot be patched from within.
fn open(tree: &mut Tree) -> Result<(), Error> {
    if api::raw::kept(tree).is_some() {
        *tree = api::raw::opened(tree).ok_or_else(|| Error::Rejected(Rejection::default()))?;
    }
    Ok(())
}

fn merge_into(target: &mut Tree, patch: &Tree) -> Result<(), Error> {
    let Tree::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    open(target)?;
    if !target.is_object() {
        *target = Tree::Object(Default::default());
    }
    let Tree::Object(target) = target else { return Ok(()) };
    remove_nulls(target, patch, |_| true);
    for (key, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        merge_into(target.entry(key.clone()).or_insert(Tree::Null), value)?;
    }
    Ok(())
}

/// Removes what the patch has as null, in one pass: removing a member moves those behind it.
fn remove_nulls(target: &mut Object, patch: &Object, concerns: impl Fn(&str) -> bool) {
    if patch.iter().any(|(key, value)| value.is_null() && concerns(key)) {
        target.retain(|key, _| !concerns(key) || !patch.get(key).is_some_and(Tree::is_null));
    }
}

fn not_a_map(prefix: &str, patch: &Tree) -> Error {
    let kind = match patch {
        Tree::Array(_) => "array",
        Tree::String(_) => "string",
        Tree::Number(_) => "number",
        Tree::Bool(_) => "bool",
        _ => return Error::Malformed("Invalid JSON Patch".to_owned()),
    };
    Error::Malformed(format!(
        "{prefix}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

#[cfg(test)]
mod tests;
