//! `Table`: objects as rows, the way `kubectl get` asks for them.

use api::json;
use api::tree::Object;
use api::{Status, Tree};

use super::render::{Target, metadata};

/// `includeObject`: what a row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    pub fn parse(query: &str) -> Result<Include, Status> {
        match crate::request_info::parameter(query, "includeObject").as_deref() {
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// A table of objects; the column definitions are left out where an earlier table of the same watch had them.
pub fn table(target: &Target, objects: impl Iterator<Item = Tree>, headers: bool, meta: Tree) -> Tree {
    let now = jiff::Timestamp::now();
    let rows: Vec<Tree> = objects
        .map(|object| {
            let cells = super::columns::cells(&target.resource, &object, now);
            let mut row = Object::new();
            row.insert("cells", Tree::Array(cells));
            let shown = match target.include {
                Include::None => Tree::Null,
                Include::Metadata => metadata(&object, target),
                Include::Object => object,
            };
            row.insert("object", shown);
            Tree::Object(row)
        })
        .collect();
    let none = rows.is_empty() && !registry::columns::are_own(&target.resource);
    let rows = if none { Tree::Null } else { Tree::Array(rows) };
    let definitions = if headers { super::columns::definitions(&target.resource) } else { Tree::Null };
    json!({
        "kind": "Table",
        "apiVersion": target.meta,
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}
