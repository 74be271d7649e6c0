use std::sync::Arc;

use api::json;
use api::model::{Field, ListType, Message, Model, Shape, Text, Type};

use super::*;

fn odd(tree: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if tree["size"].as_i64().is_some_and(|size| size % 2 == 1) {
        errors.push(path.field("size").invalid(&tree["size"], "must be even"));
    }
}

fn shrinks(tree: &Tree, old: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if tree["size"].as_i64() < old["size"].as_i64() {
        errors.push(path.field("size").forbidden("may not shrink"));
    }
}

/// A message with items that have names, and rules on the items.
fn model() -> (Arc<Model>, RuleSet) {
    let field = |json: &'static str, ty| Field { json: json.into(), ty, ..Field::default() };
    let item = Model::first_own() + 1;
    let items = Field {
        shape: Shape::List,
        list: ListType::Map,
        list_keys: vec![Text::from("name")].into(),
        ..field("items", Type::Message(item))
    };
    let atomic = Field { shape: Shape::List, ..field("atomic", Type::Message(item)) };
    let map = Field { shape: Shape::Map, ..field("map", Type::Message(item)) };
    let messages = vec![
        Message { fields: vec![items, atomic, map].into(), ..Message::default() },
        Message {
            fields: vec![field("name", Type::String), field("size", Type::Int64)].into(),
            ..Message::default()
        },
    ];
    let model = Arc::new(Model::with(messages));
    let own = vec![Rule::Ratcheted(odd), Rule::Update(shrinks), Rule::Immutable("fixed", "is immutable")];
    let rules = RuleSet::with(&model, vec![Vec::new(), own]);
    (model, rules)
}

#[test]
fn updates_are_seen_beside_what_was_there() {
    let (model, rules) = model();
    let check = |new: Tree, old: Option<Tree>, expect: &[&str]| {
        let mut errors = Vec::new();
        let scope = Scope { skip: &[], status: false };
        validate(&new, old.as_ref(), model.at(Model::first_own()), &rules, scope, &mut errors);
        let texts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expect, "{new} {old:?}");
    };
    let odd = |name: &str| json!({"name": name, "size": 3});
    let even = "Invalid value: 3: must be even";
    check(json!({"items": [odd("a")]}), None, &[&format!("items[0].size: {even}")]);
    // Found by its key, wherever it lies.
    let old = json!({"items": [odd("a"), odd("b")], "map": {"x": odd("a")}, "atomic": [odd("a")]});
    check(json!({"items": [odd("b"), odd("a")], "map": {"x": odd("a")}}), Some(old.clone()), &[]);
    check(json!({"items": [odd("c")]}), Some(old.clone()), &[&format!("items[0].size: {even}")]);
    // Items of an atomic list go on from nothing.
    check(json!({"atomic": [odd("a")]}), Some(old.clone()), &[&format!("atomic[0].size: {even}")]);
    check(
        json!({"items": [{"name": "b", "size": 2}], "map": {"y": {"size": 0}}}),
        Some(old.clone()),
        &["items[0].size: Forbidden: may not shrink"],
    );
    check(
        json!({"items": [{"name": "a", "size": 4, "fixed": 1}]}),
        Some(old),
        &["items[0].fixed: Invalid value: 1: is immutable"],
    );
}
