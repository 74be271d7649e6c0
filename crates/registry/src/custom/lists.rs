//! Lists that are sets or maps: nothing occurs twice in them.

use api::Tree;
use api::model::ListType;
use api::status::Cause;
use api::tree::Object;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use std::collections::HashMap;

use super::schema::{Additional, Schema};

/// Reports what occurs twice in the lists of an object.
pub fn check(schema: &Schema, value: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if is_full(errors) {
        return;
    }
    match value {
        Tree::Object(object) => {
            for (name, value) in object {
                match (schema.properties.get(name.as_str()), &schema.additional) {
                    (Some(below), _) => check(below, value, &path.field(name), errors),
                    (None, Some(Additional::Schema(below))) => check(below, value, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        Tree::Array(items) => {
            match schema.list {
                ListType::Set => {
                    for index in repeated(items.iter()) {
                        errors.push(path.index(index).duplicate(&items[index]));
                    }
                }
                ListType::Map => map(schema, items, path, errors),
                ListType::Atomic => {}
            }
            if let Some(below) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(below, item, &path.index(i), errors));
            }
        }
        _ => {}
    }
}

fn map(schema: &Schema, items: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    if let Some(index) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(path.index(index).invalid(&items[index], detail));
        return;
    }
    let keys: Vec<Tree> = items
        .iter()
        .map(|item| {
            let member = |key: &api::model::Text| Some((key.to_string(), item.get(key.as_ref())?.clone()));
            let mut keys: Object = schema.list_keys.iter().filter_map(member).collect();
            keys.sort_keys();
            Tree::Object(keys)
        })
        .collect();
    for index in repeated(keys.iter()) {
        errors.push(path.index(index).duplicate(&keys[index]));
    }
}

/// Where values occur for the second time.
fn repeated<'t>(values: impl Iterator<Item = &'t Tree>) -> Vec<usize> {
    let mut times: HashMap<&Tree, usize> = HashMap::new();
    let mut repeated = Vec::new();
    for (index, value) in values.enumerate() {
        let times = times.entry(value).or_default();
        *times += 1;
        if *times == 2 {
            repeated.push(index);
        }
    }
    repeated
}
