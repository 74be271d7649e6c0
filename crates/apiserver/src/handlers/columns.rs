//! The columns of tables, from the registry.

use api::Tree;
use api::json;
use api::model::Resource;

pub use registry::columns::cells;

/// Column definitions as a table shows them.
pub fn definitions(resource: &Resource) -> Tree {
    let columns = registry::columns::columns(resource).iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.ty,
            "format": column.format,
            "description": registry::columns::description(resource, column.name),
            "priority": column.priority,
        })
    });
    Tree::Array(columns.collect())
}
