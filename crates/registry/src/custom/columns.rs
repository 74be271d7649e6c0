//! Tables of custom resources: the name, and what the definition's paths lead to.

use api::Tree;
use jiff::Timestamp;

use super::Custom;
use crate::columns::{Definition, human_duration};
use crate::tree::text;

pub(crate) fn definitions(custom: &Custom) -> Vec<Definition<'_>> {
    let name = Definition {
        name: "Name",
        ty: "string",
        format: "name",
        description: crate::columns::everywhere("Name"),
        priority: 0,
    };
    let own = custom.columns.iter().map(|column| Definition {
        name: &column.name,
        ty: &column.ty,
        format: &column.format,
        description: &column.description,
        priority: column.priority,
    });
    std::iter::once(name).chain(own).collect()
}

/// An object's cells, one per column.
pub(crate) fn cells(custom: &Custom, object: &Tree, now: Timestamp) -> Vec<Tree> {
    let own = custom.columns.iter().map(|column| {
        let found = column.path.find(object).first().copied().unwrap_or(&Tree::Null);
        cell(&column.ty, found, now)
    });
    std::iter::once(Tree::from(text(object, "metadata.name"))).chain(own).collect()
}

fn cell(ty: &str, value: &Tree, now: Timestamp) -> Tree {
    match (ty, value) {
        (_, Tree::Null) => Tree::Null,
        ("string", Tree::String(text)) => Tree::from(text.as_str()),
        ("string", other) => Tree::from(String::from_utf8_lossy(&api::json::to_vec(other)).into_owned()),
        ("integer", Tree::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64))
            .map_or(Tree::Null, Tree::from),
        ("number", Tree::Number(number)) => number.as_f64().map_or(Tree::Null, Tree::from),
        ("boolean", Tree::Bool(value)) => Tree::Bool(*value),
        ("date", Tree::String(text)) => match text.parse::<Timestamp>() {
            Ok(at) => Tree::from(human_duration(now.as_second() - at.as_second())),
            Err(_) => Tree::from("<invalid>"),
        },
        _ => Tree::Null,
    }
}
