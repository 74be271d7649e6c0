//! The columns of tables, from the registry.

use api::Tree;
use api::json;
use registry::Kind;

/// Column definitions as a table shows them.
pub fn definitions(kind: &Kind) -> Tree {
    let columns = registry::columns::definitions(kind).into_iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.ty,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    Tree::Array(columns.collect())
}
