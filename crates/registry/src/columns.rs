//! Tables: which columns a kind has, and an object's cells. Names, types and order are upstream's, for `kubectl get`
//! prints them as they come.

mod apps;
mod cluster;
mod format;
mod network;
mod pods;
mod rows;
mod server;
mod storage;

use std::collections::HashMap;
use std::sync::LazyLock;

use api::Tree;
use api::model::Resource;
use jiff::Timestamp;

pub use format::{age, human_duration};
pub use rows::{Row, row, rows, shown_metadata};

use crate::kind::Kind;
use crate::tree::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI's type of the cells: `string`, `integer`, `boolean`, `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object.
    pub format: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

const fn string(name: &'static str) -> Column {
    column(name, "string", 0)
}

const fn wide(name: &'static str) -> Column {
    column(name, "string", 1)
}

const fn integer(name: &'static str) -> Column {
    column(name, "integer", 0)
}

const fn boolean(name: &'static str) -> Column {
    column(name, "boolean", 0)
}

const NAME: Column = Column { format: "name", ..string("Name") };
const AGE: Column = string("Age");
const CREATED: Column = column("Created At", "date", 0);

/// A kind's printer: its columns, and the cells of an object at a time.
struct Printer {
    group: &'static str,
    plural: &'static str,
    columns: &'static [Column],
    cells: fn(&Tree, Timestamp) -> Vec<Tree>,
}

static PRINTERS: &[&[Printer]] = &[
    pods::PRINTERS,
    apps::PRINTERS,
    network::PRINTERS,
    storage::PRINTERS,
    cluster::PRINTERS,
    server::PRINTERS,
];

static PLAIN: Printer = Printer { group: "", plural: "", columns: &[NAME, CREATED], cells: plain };
/// Kinds without columns of their own that are defined by others show their age.
static CUSTOM: Printer = Printer { group: "", plural: "", columns: &[NAME, AGE], cells: custom };

fn printer(resource: &Resource) -> &'static Printer {
    let own = |printer: &&Printer| printer.group == resource.group && printer.plural == resource.plural;
    match PRINTERS.iter().flat_map(|list| list.iter()).find(own) {
        Some(printer) => printer,
        None if resource.storage_json
            && resource.group.contains('.')
            && !resource.group.ends_with(".k8s.io") =>
        {
            &CUSTOM
        }
        None => &PLAIN,
    }
}

/// A column as a table defines it.
pub struct Definition<'k> {
    pub name: &'k str,
    pub ty: &'k str,
    pub format: &'k str,
    pub description: &'k str,
    pub priority: i64,
}

/// The columns of a kind.
pub fn definitions(kind: &Kind) -> Vec<Definition<'_>> {
    match kind.custom() {
        Some(custom) => crate::custom::columns::definitions(custom),
        None => printer(kind)
            .columns
            .iter()
            .map(|column| Definition {
                name: column.name,
                ty: column.ty,
                format: column.format,
                description: description(kind, column.name),
                priority: column.priority.into(),
            })
            .collect(),
    }
}

/// Whether a kind has columns of its own.
pub fn are_own(kind: &Kind) -> bool {
    kind.custom().is_some() || !std::ptr::eq(printer(kind), &raw const PLAIN)
}

/// What columns show, a line each: the resource (`*` for those that many have), the column, the text; with tabs between them.
static DESCRIPTIONS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (column, text) = line.rsplit_once('\t')?;
        Some((column, text.replace("\\n", "\n")))
    };
    include_str!("columns/descriptions.txt").lines().filter_map(line).collect()
});

/// What a column shows that many kinds have.
pub(crate) fn everywhere(column: &str) -> &'static str {
    DESCRIPTIONS.get(format!("*\t{column}").as_str()).map_or("", String::as_str)
}

/// What a column of a resource shows.
pub(crate) fn description(resource: &Resource, column: &str) -> &'static str {
    let dot = if resource.group.is_empty() { "" } else { "." };
    let own = DESCRIPTIONS.get(format!("{}{dot}{}\t{column}", resource.plural, resource.group).as_str());
    own.or_else(|| DESCRIPTIONS.get(format!("*\t{column}").as_str())).map_or("", String::as_str)
}

/// An object's cells, one per column.
pub fn cells(kind: &Kind, object: &Tree, now: Timestamp) -> Vec<Tree> {
    match kind.custom() {
        Some(custom) => crate::custom::columns::cells(custom, object, now),
        None => (printer(kind).cells)(object, now),
    }
}

fn name(object: &Tree) -> Tree {
    text(object, "metadata.name").into()
}

fn plain(object: &Tree, _: Timestamp) -> Vec<Tree> {
    vec![name(object), text(object, "metadata.creationTimestamp").into()]
}

fn custom(object: &Tree, now: Timestamp) -> Vec<Tree> {
    vec![name(object), age(object, now)]
}

#[cfg(test)]
mod tests;
