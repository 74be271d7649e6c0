//! Tables: which columns a kind has, and an object's cells. Names, types and order are upstream's, for `kubectl get`
//! prints them as they come.

mod apps;
mod cluster;
mod format;
mod network;
mod pods;
mod server;
mod storage;

use api::Tree;
use api::model::Resource;
use jiff::Timestamp;

pub use format::{age, human_duration};

use crate::tree::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI's type of the cells: `string`, `integer`, `boolean`, `date`.
    pub ty: &'static str,
    /// `name` for the column that names the object.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", description: "", priority }
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

const NAME: Column = Column {
    name: "Name",
    ty: "string",
    format: "name",
    description: "The object's name, unique within its namespace (or the cluster).",
    priority: 0,
};
const AGE: Column = Column {
    name: "Age",
    ty: "string",
    format: "",
    description: "How long ago the object was created.",
    priority: 0,
};
const CREATED: Column = Column {
    name: "Created At",
    ty: "date",
    format: "",
    description: "When the object was created, by the server's clock.",
    priority: 0,
};

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

/// The columns of a resource.
pub fn columns(resource: &Resource) -> &'static [Column] {
    printer(resource).columns
}

/// An object's cells, one per column.
pub fn cells(resource: &Resource, object: &Tree, now: Timestamp) -> Vec<Tree> {
    (printer(resource).cells)(object, now)
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
