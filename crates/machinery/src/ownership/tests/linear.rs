//! Work and answers that stay in proportion to what a client sends.

use std::fmt::Write as _;

use super::super::compare::compare;
use super::super::managers::Managers;
use super::super::{Element, Set, work};
use super::*;
use api::status::{MAX_CAUSES, Status};

/// By how much the input of the second measurement is longer.
const TIMES: usize = 8;

/// Steps that do not depend on the length: how many collide in a table is chance.
const CHANCE: usize = 100;

/// Checks that work on an input of `TIMES` the length is not far more than `TIMES` as much.
fn linear(what: &str, length: usize, mut act: impl FnMut(usize) -> usize) {
    let (short, long) = (act(length), act(length * TIMES));
    assert!(
        long <= 2 * TIMES * (short + CHANCE),
        "{what}: {short} steps, and {long} for {TIMES} times the length"
    );
}

/// A set of fields whose keys descend.
fn descending(count: usize) -> String {
    let keys = (0..count).rev().map(|key| format!(r#""f:k{key:07}":{{}}"#));
    format!("{{{}}}", keys.collect::<Vec<_>>().join(","))
}

/// An object with entries that each own one key of its data.
fn owned(operation: &str, count: usize, fields: impl Fn(usize) -> String) -> Tree {
    let entry = |index: usize| {
        let fields = api::raw::fields(fields(index));
        json!({"manager": format!("m{index:06}"), "operation": operation, "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let mut object = config(count);
    object["metadata"]["managedFields"] = Tree::Array((0..count).map(entry).collect());
    object
}

fn one_key(index: usize) -> String {
    format!(r#"{{"f:data":{{"f:k{index:07}":{{}}}}}}"#)
}

fn config(count: usize) -> Tree {
    let data: api::tree::Object = (0..count).map(|key| (format!("k{key:07}"), Tree::from("v"))).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": Tree::Object(data)})
}

#[test]
fn reading_a_set() {
    linear("descending keys", 500, |count| {
        let text = descending(count);
        work::of(|| Set::parse(&text).unwrap())
    });
    linear("descending keys within a set", 500, |count| {
        let text = descending(count);
        let set = Set::parse(&text).unwrap();
        work::of(|| set.within(&text).unwrap())
    });
    // a key that comes again and again has what is below it the last time
    let text = r#"{"f:b":{"f:x":{}},"f:a":{},"f:b":{"f:y":{}},"f:b":{}}"#;
    let set = Set::parse(text).unwrap();
    assert_eq!(set.to_text(), r#"{"f:a":{},"f:b":{".":{},"f:y":{}}}"#);
}

#[test]
fn uniting_many_sets() {
    let sets = |count| (0..count).map(|key| Set::parse(&one_key(key)).unwrap()).collect::<Vec<_>>();
    linear("sets", 200, |count| {
        let sets = sets(count);
        work::of(|| Set::union_of(sets))
    });
    let one_by_one = sets(9).iter().rev().fold(Set::default(), |all, set| all.union(set));
    assert_eq!(Set::union_of(sets(9)), one_by_one);
}

#[test]
fn entries_of_many_managers() {
    for operation in ["Update", "Apply"] {
        linear("read", 200, |count| {
            let object = owned(operation, count, one_key);
            work::of(|| Managers::stored(&object).unwrap())
        });
        linear("sent", 200, |count| {
            let object = owned(operation, count, one_key);
            let stored = Managers::stored(&object).unwrap();
            work::of(|| Managers::sent(&object, &stored).unwrap())
        });
        linear("update that changes all", 200, |count| {
            let mut object = Object::new(config_maps());
            object.live = object.kind.typed(&config(count));
            let mut new = owned(operation, count, one_key);
            for value in new["data"].as_object_mut().unwrap().values_mut() {
                *value = Tree::from("w");
            }
            work::of(|| object.update("u", &new))
        });
        linear("update that changes what others own", 200, |count| {
            let mut object = Object::new(config_maps());
            object.live = object.kind.typed(&config(count));
            let mut new = owned(operation, count, |index| one_key(index + count));
            for value in new["data"].as_object_mut().unwrap().values_mut() {
                *value = Tree::from("w");
            }
            work::of(|| object.update("u", &new))
        });
        linear("apply that leaves out what it applied", 200, |count| {
            let mut object = Object::new(config_maps());
            let mut live = owned(operation, count, one_key);
            let mut own = live["metadata"]["managedFields"][0].clone();
            own["operation"] = Tree::from("Apply");
            own["manager"] = Tree::from("u");
            live["metadata"]["managedFields"].as_array_mut().unwrap().push(own);
            object.live = object.kind.typed(&live);
            work::of(|| object.apply("u", &json!({"metadata": {"name": "c"}}), false).unwrap())
        });
    }
    linear("scale", 200, |count| {
        let paths = |_: &str| Some(Some(vec!["spec".to_owned(), "replicas".to_owned()]));
        let object = owned("Update", count, |_| r#"{"f:spec":{"f:replicas":{}}}"#.to_owned());
        let scale = super::super::scale::to_scale(&object, &paths).unwrap();
        let scale = json!({"metadata": {"managedFields": scale}});
        work::of(|| super::super::scale::to_parent(&object, &scale, "v1", &paths).unwrap())
    });
}

#[test]
fn values_within_values() {
    let nested = |depth: usize, last: i32| {
        let mut value = Tree::from(last);
        for _ in 0..depth {
            value = json!({"a": value});
        }
        json!({"spec": {"x": value}})
    };
    linear("objects", 40, |depth| {
        let (old, new) = (nested(depth, 1), nested(depth, 2));
        work::of(|| compare(&old, &new, Type::Deduced).unwrap())
    });
}

#[test]
fn long_elements_are_cut_in_paths() {
    let long = Element::field(&"é".repeat(1000)).in_path();
    assert!(long.len() < 600 && long.starts_with(".éé") && long.ends_with('…'), "{long}");
    assert_eq!(Element::field("name").in_path(), ".name");
}

#[test]
fn errors_in_a_configuration_are_few_and_short() {
    let refused = |name: &str, count: usize| {
        let limits: api::tree::Object =
            (0..count).map(|key| (format!("a{key:05}"), Tree::Array(Vec::new()))).collect();
        let containers = json!([{"name": name, "resources": {"limits": Tree::Object(limits)}}]);
        let config =
            json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": containers}}}});
        let mut object = Object::new(deployments());
        Status::from(object.apply("a", &config, false).unwrap_err()).message
    };
    let message = refused(&"A".repeat(20_000), 2_000);
    assert_eq!(message.matches("\n").count(), MAX_CAUSES);
    assert!(message.len() < 1 << 20, "{} bytes", message.len());
    assert_eq!(refused("c", 300).matches("\n").count(), 300);
}

#[test]
fn conflicts_are_few_and_short() {
    let message = |prefix: &str, count: usize| {
        let data = |value: &str| {
            let data = (0..count).map(|key| (format!("{prefix}{key:05}"), Tree::from(value)));
            json!({"metadata": {"name": "c"}, "data": Tree::Object(data.collect())})
        };
        let mut object = Object::new(config_maps());
        object.apply("a", &data("1"), false).unwrap();
        object.apply("b", &data("1"), false).unwrap();
        Status::from(object.apply("c", &data("2"), false).unwrap_err())
    };
    let status = message("k", 200);
    let mut expect = "Apply failed with 400 conflicts: ".to_owned();
    for manager in ["a", "b"] {
        let _ = writeln!(expect, "conflicts with \"{manager}\":");
        for key in 0..200 {
            let _ = writeln!(expect, "- .data.k{key:05}");
        }
    }
    assert_eq!(status.message, expect.trim_end());
    assert_eq!(status.details.unwrap().causes.len(), 400);

    let status = message("k", 400);
    assert!(
        status
            .message
            .starts_with("Apply failed with 800 conflicts: conflicts with \"a\":\n- .data.k00000\n")
    );
    assert!(status.message.ends_with("\n- .data.k00111\nand 288 more"), "{}", status.message);
    assert_eq!(status.details.unwrap().causes.len(), MAX_CAUSES);

    let status = message(&"A".repeat(5_000), 600);
    let causes = status.details.unwrap().causes;
    assert!(status.message.len() + causes.iter().map(|cause| cause.field.len()).sum::<usize>() < 1 << 20);
}
