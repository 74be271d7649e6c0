//! `Table`: objects as rows, the way `kubectl get` asks for them.

use api::json;
use api::tree::Object;
use api::{Status, Tree};
use registry::columns::Row;

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
        match access::request_info::parameter(query, "includeObject").as_deref() {
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// A table of one object; the column definitions are left out where an earlier table of the same watch had them.
pub fn one(target: &Target, object: Tree, headers: bool, meta: Tree) -> Tree {
    let row = registry::columns::row(&target.resource, object, jiff::Timestamp::now());
    table(target, vec![row], headers, meta)
}

/// A table of all objects of a list.
pub fn list(target: &Target, objects: impl Iterator<Item = Tree>, meta: Tree) -> Tree {
    let rows = registry::columns::rows(&target.resource, objects, jiff::Timestamp::now());
    table(target, rows, true, meta)
}

fn table(target: &Target, rows: Vec<Row>, headers: bool, meta: Tree) -> Tree {
    let shown = |row: Row| {
        let mut shown = Object::new();
        shown.insert("cells", Tree::Array(row.cells));
        if !row.conditions.is_null() {
            shown.insert("conditions", row.conditions);
        }
        let mut object = row.object;
        let object = match target.include {
            Include::None => Tree::Null,
            Include::Metadata => {
                registry::columns::shown_metadata(&target.resource, &mut object);
                metadata(&object, target)
            }
            Include::Object => object,
        };
        shown.insert("object", object);
        Tree::Object(shown)
    };
    let rows: Vec<Tree> = rows.into_iter().map(shown).collect();
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
