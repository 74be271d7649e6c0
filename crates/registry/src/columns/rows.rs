//! Rows of tables: what a row has beside its cells, and what the rows of a list make of each other.

use std::cmp::Reverse;

use api::Tree;
use api::json;
use jiff::Timestamp;

use super::cells;
use crate::kind::Kind;
use crate::tree::{get, number, object_mut, text};

/// An object as a row of a table.
pub struct Row {
    pub cells: Vec<Tree>,
    /// What clients that highlight rows look at; null for most.
    pub conditions: Tree,
    pub object: Tree,
}

/// The row of one object by itself.
pub fn row(resource: &Kind, object: Tree, now: Timestamp) -> Row {
    let conditions = match (&*resource.group, &*resource.plural) {
        ("", "pods") => completed(&object),
        _ => Tree::Null,
    };
    Row { cells: cells(resource, &object, now), conditions, object }
}

/// The rows of a list, in the order in which they are shown.
pub fn rows(resource: &Kind, objects: impl Iterator<Item = Tree>, now: Timestamp) -> Vec<Row> {
    let mut rows: Vec<Row> = objects.map(|object| row(resource, object, now)).collect();
    match (&*resource.group, &*resource.plural) {
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            let precedence = |row: &Row| number(&row.object, "spec.matchingPrecedence");
            let name = |row: &Row| text(&row.object, "metadata.name").to_owned();
            rows.sort_by_cached_key(|row| (precedence(row), name(row)));
        }
        ("storage.k8s.io", "storageclasses") => mark_default(&mut rows),
        _ => {}
    }
    rows
}

/// Takes away of an object's metadata what only its own version has.
pub fn shown_metadata(resource: &Kind, object: &mut Tree) {
    if (&*resource.group, &*resource.plural) == ("apps", "daemonsets")
        && let Some(annotations) = object_mut(object, "metadata.annotations")
    {
        annotations.remove("deprecated.daemonset.template.generation");
        if annotations.is_empty() {
            object_mut(object, "metadata").map(|metadata| metadata.remove("annotations"));
        }
    }
}

fn completed(pod: &Tree) -> Tree {
    let phase = text(pod, "status.phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Tree::Null,
    };
    json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}])
}

/// Of classes that are marked as default, the newest is.
fn mark_default(rows: &mut [Row]) {
    const KEYS: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_marked =
        |row: &Row| KEYS.iter().any(|key| get(&row.object, "metadata.annotations")[*key] == "true");
    let newest = |row: &&mut Row| {
        let (created, name) = ("metadata.creationTimestamp", "metadata.name");
        (text(&row.object, created).to_owned(), Reverse(text(&row.object, name).to_owned()))
    };
    if let Some(default) = rows.iter_mut().filter(|row| is_marked(row)).max_by_key(newest) {
        default.cells[0] = format!("{} (default)", text(&default.object, "metadata.name")).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str, plural: &str) -> &'static Kind {
        crate::kind::built_in(group, "v1", plural).unwrap()
    }

    fn names(group: &str, plural: &str, objects: Vec<Tree>) -> Vec<Tree> {
        let rows = rows(of(group, plural), objects.into_iter(), Timestamp::UNIX_EPOCH);
        rows.into_iter().map(|row| row.cells[0].clone()).collect()
    }

    #[test]
    fn flow_schemas_are_shown_in_order_of_precedence() {
        let schema = |name: &str, precedence: i64| json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence}});
        let all = vec![schema("a", 900), schema("c", 5), schema("b", 5)];
        assert_eq!(names("flowcontrol.apiserver.k8s.io", "flowschemas", all), ["b", "c", "a"]);
    }

    #[test]
    fn the_default_storage_class_is_marked_among_others() {
        let class = |name: &str, second: u32, annotation: &str| {
            json!({"metadata": {"name": name, "creationTimestamp": format!("2026-11-30T00:00:0{second}Z"),
                "annotations": {annotation: "true"}}, "provisioner": "a.b/c"})
        };
        let key = "storageclass.kubernetes.io/is-default-class";
        let old = "storageclass.beta.kubernetes.io/is-default-class";
        let all = vec![class("a", 1, key), class("b", 3, old), class("c", 3, key), class("d", 4, "a.b/c")];
        assert_eq!(names("storage.k8s.io", "storageclasses", all), ["a", "b (default)", "c", "d"]);
        let one = row(of("storage.k8s.io", "storageclasses"), class("a", 1, key), Timestamp::UNIX_EPOCH);
        assert_eq!(one.cells[0], "a");
    }

    #[test]
    fn pods_that_ended_say_so() {
        let row = |phase: &str| {
            row(of("", "pods"), json!({"status": {"phase": phase}}), Timestamp::UNIX_EPOCH).conditions
        };
        assert_eq!(row("Running"), Tree::Null);
        assert_eq!(row("Succeeded")[0]["message"], "The pod has completed successfully.");
        assert_eq!(
            row("Failed"),
            json!([{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}])
        );
    }

    #[test]
    fn a_daemon_set_shows_no_annotation_of_its_version() {
        let annotation = "deprecated.daemonset.template.generation";
        for (annotations, expect) in [
            (json!({annotation: "1", "a": "b"}), json!({"metadata": {"annotations": {"a": "b"}}})),
            (json!({annotation: "1"}), json!({"metadata": {}})),
        ] {
            let mut object = json!({"metadata": {"annotations": annotations}});
            shown_metadata(of("apps", "daemonsets"), &mut object);
            assert_eq!(object, expect);
        }
    }
}
