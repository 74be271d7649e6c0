//! Rules on values of schemas: estimated costs by the schemas' limits, and values by their formats and kinds of lists.

use std::sync::Arc;

use api::Tree;
use cel::value::Value;
use cel::{Activation, Answers, CompileError, Environment, PER_CALL_LIMIT, compile, declare};
use serde::Deserialize;

use crate::support::show;

#[derive(Deserialize)]
struct Group {
    schema: serde_json::Value,
    #[serde(rename = "self")]
    object: serde_json::Value,
    old: Option<serde_json::Value>,
    root: bool,
    cases: Vec<Case>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Case {
    rule: String,
    error: Option<String>,
    max: Option<u64>,
    cost: Option<u64>,
    value: Option<String>,
    failed: Option<String>,
    old_self: bool,
}

fn outcome(rule: &str, group: &Group) -> Case {
    let declared =
        declare(&Tree::from(group.schema.clone()), group.root).expect("expressions see the schema");
    let declared = Arc::new(declared.named("selfType"));
    let environment = Environment::kubernetes(cel::NEW)
        .with_declared("self", &declared)
        .with_declared("oldSelf", &declared);
    let mut case = Case { rule: rule.to_owned(), ..Case::default() };
    let program = match compile(rule, &environment) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            case.error = Some(issues.to_string());
            return case;
        }
        Err(CompileError::Program(message)) => {
            case.error = Some(message);
            return case;
        }
    };
    case.max = Some(program.estimate().max);
    case.old_self = program.reads("oldSelf");
    let (object, old) = (Tree::from(group.object.clone()), group.old.clone().map(Tree::from));
    let mut activation = Activation::new(&environment);
    for (position, tree) in [Some(&object), old.as_ref()].into_iter().enumerate() {
        match tree.map(|tree| Value::of_tree(tree, Some(&declared))) {
            Some(Ok(value)) => activation.set(position, value),
            Some(Err(error)) => {
                case.failed = Some(error.to_string());
                return case;
            }
            None => {}
        }
    }
    let evaluated = program.run(&activation, &Answers::default(), PER_CALL_LIMIT);
    case.cost = Some(evaluated.cost);
    match evaluated.result {
        Ok(value) => case.value = Some(show(&value)),
        Err(error) => case.failed = Some(error.to_string()),
    }
    case
}

#[test]
fn rules_on_schemas_are_upstreams() {
    let groups: Vec<Group> =
        serde_json::from_str(include_str!("recorded/schemas.json")).expect("the table can be read");
    let mut different = Vec::new();
    for group in &groups {
        for case in &group.cases {
            let mut ours = outcome(&case.rule, group);
            // An object that does not fit its schema fails before the program begins.
            if ours.cost.is_none() && ours.failed.is_some() {
                ours.cost = case.cost;
            }
            if ours != *case {
                different.push(format!("{case:?}\n  ours: {ours:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
