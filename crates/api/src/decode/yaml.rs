//! YAML as upstream reads it: the values of version 1.1, merged keys, aliases that are expanded within bounds, and words for
//! what is wrong that are those of its reader. The syntax itself is the parser's, which knows version 1.2.

mod build;
mod events;
mod scalar;
mod text;

use super::check::{self, Source};
use super::node::Node;
use super::{Decoded, Error, Strictness};
use crate::model::MessageRef;

/// The first document of a body.
pub(super) struct Document {
    pub node: Node<'static>,
    /// Keys that are given twice, a text each.
    pub repeated: Vec<String>,
}

impl Document {
    /// The document as an object of a message. Keys given twice are one error, or a warning each.
    pub fn decoded(self, message: MessageRef<'_>, strictness: Strictness) -> Result<Decoded, Error> {
        let checked = check::check(&self.node, Source::Yaml, message, strictness);
        if self.repeated.is_empty() {
            return checked;
        }
        match (strictness, checked) {
            (Strictness::Ignore, checked) => checked,
            (Strictness::Warn, checked) => checked.map(|Decoded { tree, warnings }| Decoded {
                tree,
                warnings: [self.repeated, warnings].concat(),
            }),
            (Strictness::Strict, Ok(_)) => Err(Error::Strict(vec![in_one(&self.repeated)])),
            (Strictness::Strict, Err(Error::Strict(more))) => {
                Err(Error::Strict([vec![in_one(&self.repeated)], more].concat()))
            }
            (Strictness::Strict, other) => other,
        }
    }
}

/// Several complaints of the reader as one.
fn in_one(lines: &[String]) -> String {
    lines.iter().fold("yaml: unmarshal errors:".to_owned(), |text, line| text + "\n  " + line)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Document, String> {
    let text = text::decoded(bytes).map_err(|error| format!("yaml: {error}"))?;
    let items = events::items(&text).map_err(|error| format!("yaml: {error}"))?;
    build::document(&items)
}

pub(super) fn is_text(text: &str) -> bool {
    scalar::is_text(text)
}

#[cfg(test)]
mod tests;
