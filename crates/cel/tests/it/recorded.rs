//! The recorded tables, a case a line.

use cel::{Answers, CompileError, PER_CALL_LIMIT, compile};
use serde_json::{Map, Value as Json, json};

use crate::support::{activation, environment, object, show};

/// What ours makes of an expression, in the form of the tables.
fn outcome(expression: &str) -> Map<String, Json> {
    let environment = environment(cel::NEW);
    let (object, map) = (object(), api::json!({"a": 1, "b": 2}));
    let mut outcome = Map::new();
    let program = match compile(expression, &environment) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            outcome.insert("compile".to_owned(), issues.to_string().into());
            return outcome;
        }
        Err(CompileError::Program(message)) => {
            outcome.insert("program".to_owned(), message.into());
            return outcome;
        }
    };
    outcome.insert("type".to_owned(), program.output().to_string().into());
    outcome.insert("min".to_owned(), json!(program.estimate().min));
    outcome.insert("max".to_owned(), json!(program.estimate().max));
    let evaluated =
        program.run(&activation(&environment, &object, &map), &Answers::default(), PER_CALL_LIMIT);
    outcome.insert("cost".to_owned(), json!(evaluated.cost));
    match evaluated.result {
        Ok(value) => outcome.insert("value".to_owned(), show(&value).into()),
        Err(error) => outcome.insert("error".to_owned(), error.to_string().into()),
    };
    outcome
}

/// Compares all cases of a table and shows every difference.
fn compare(table: &str) {
    let mut different = Vec::new();
    for line in table.lines() {
        let case: Map<String, Json> = serde_json::from_str(line).expect("each line is an object");
        let expression = case["expr"].as_str().expect("each case has an expression");
        let ours = outcome(expression);
        // The types of programs that cannot be made are not recorded by ours.
        let keys: &[&str] = match case.contains_key("program") {
            true => &["program"],
            false => &["compile", "type", "min", "max", "cost", "value", "error"],
        };
        for key in keys {
            if case.get(*key) != ours.get(*key) {
                let shown = |value: Option<&Json>| value.map_or("-".to_owned(), Json::to_string);
                different.push(format!(
                    "{expression}\n  {key}: {}\n  ours: {}",
                    shown(case.get(*key)),
                    shown(ours.get(*key).or(ours.get("compile")).or(ours.get("program")))
                ));
                break;
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn the_language_is_upstreams() {
    compare(include_str!("recorded/language.jsonl"));
}

#[test]
fn semantics_are_upstreams() {
    compare(include_str!("recorded/semantics.jsonl"));
}

#[test]
fn libraries_are_upstreams() {
    compare(include_str!("recorded/libraries.jsonl"));
}

/// Expressions made of parts of the others.
#[test]
fn mixed_expressions_are_upstreams() {
    compare(include_str!("recorded/mixed.jsonl"));
}

/// More cases, where there are some: `cel.jsonl` in the folder that `CORTEN_RECORDED` names.
#[test]
fn more_cases_are_upstreams() {
    let Some(folder) = std::env::var_os("CORTEN_RECORDED") else { return };
    if let Ok(table) = std::fs::read_to_string(std::path::Path::new(&folder).join("cel.jsonl")) {
        compare(&table);
    }
}
