//! Custom resources: kinds whose model and rules are made from a definition while the server runs. Pure: a definition goes
//! in, kinds come out.

pub(crate) mod columns;
mod compile;
mod defaults;
pub mod definition;
mod embedded;
mod expressions;
mod formats;
mod kinds;
mod lists;
mod publish;
mod rule;
mod schema;
mod values;
mod warnings;

use api::model::Text;
use machinery::jsonpath::JsonPath;

pub use kinds::{VERBS, kinds};
pub use publish::schemas;

/// What is particular about a kind that a definition makes.
pub struct Custom {
    /// The definition's UID: a definition of the same name that is made anew is another one.
    pub definition: String,
    /// The definition is being deleted: no objects are made any more.
    pub terminating: bool,
    /// Its expressions may take long to evaluate.
    pub costly: bool,
    pub columns: Vec<Column>,
    pub scale: Option<ScalePaths>,
    /// Labels of field selectors (`spec.color`).
    pub selectable: Vec<Text>,
    /// The warning that every request gets.
    pub deprecated: Option<String>,
    /// `openAPIV3Schema` of the version as JSON; null where there is none.
    pub published: Box<[u8]>,
    /// The name of lists (`WidgetList`).
    pub list_kind: String,
}

/// A column of a table.
pub struct Column {
    pub name: String,
    pub ty: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: JsonPath,
}

/// Where the numbers of a scale stand, as paths such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub selector: Option<String>,
}

#[cfg(test)]
mod tests;
