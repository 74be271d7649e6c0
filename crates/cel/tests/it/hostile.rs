//! Expressions that are made to exhaust the stack, the memory or the time.

use cel::{Answers, CompileError, Environment, PER_CALL_LIMIT, Type, compile};

fn environment() -> Environment {
    Environment::kubernetes(cel::NEW).with_variable("o", Type::Dyn).with_variable("b", Type::Bool)
}

fn refusal(expression: &str) -> String {
    match compile(expression, &environment()) {
        Ok(_) => "compiles".to_owned(),
        Err(CompileError::Issues(issues)) => issues.issues()[0].message.clone(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn depth_is_limited_as_upstream_limits_it() {
    let repeated = |part: &str, count: usize| part.repeat(count);
    assert_eq!(refusal(&format!("{}1{}", repeated("(", 249), repeated(")", 249))), "compiles");
    let too_deep = "expression recursion limit exceeded: 250";
    assert_eq!(refusal(&format!("{}1{}", repeated("(", 250), repeated(")", 250))), too_deep);
    assert_eq!(refusal(&repeated("[", 90_000)), too_deep);
    assert_eq!(refusal(&format!("{}1", repeated("b?1:", 250))), too_deep);
    assert_eq!(refusal(&format!("o{}", repeated(".a", 250))), "compiles");
    assert_eq!(refusal(&format!("o{}", repeated(".a", 251))), "max recursion depth exceeded");
    assert_eq!(refusal(&format!("1{}", repeated("+1", 40_000))), "max recursion depth exceeded");
    assert_eq!(refusal(&format!("o{}", repeated(".a", 40_000))), "max recursion depth exceeded");
    assert_eq!(refusal(&format!("{}b", repeated("!", 1_000))), "compiles");
    assert_eq!(refusal(&vec!["b"; 1_000].join("||")), "compiles");
    let size = "expression code point size exceeds limit: size: 100001, limit 100000";
    assert_eq!(refusal(&repeated("a", 100_001)), size);
}

#[test]
fn macros_that_copy_their_target_do_not_explode() {
    let expression = format!("o{}", ".optMap(x, x)".repeat(60));
    assert_ne!(refusal(&expression), "compiles");
}

#[test]
fn long_lists_are_checked_in_linear_time() {
    let expression = format!("[{}].size()", vec!["[]"; 20_000].join(","));
    assert_eq!(refusal(&expression), "compiles");
}

#[test]
fn loops_stop_at_the_limit() {
    let expression = "lists.range(1000).all(x, lists.range(1000).all(y, lists.range(1000).all(z, z >= 0)))";
    let environment = environment();
    let program = compile(expression, &environment).expect("it compiles");
    let evaluated = program.run(&cel::Activation::new(&environment), &Answers::default(), PER_CALL_LIMIT);
    let error = evaluated.result.expect_err("it is too dear").to_string();
    assert_eq!(error, "operation cancelled: actual cost limit exceeded");
    assert!(evaluated.cost <= PER_CALL_LIMIT + 10_000);
}

#[test]
fn large_sets_are_compared_in_linear_time() {
    let schema = api::json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"});
    let declared = std::sync::Arc::new(cel::declare(&schema, false).expect("lists are visible"));
    let environment = Environment::kubernetes(cel::NEW)
        .with_declared("self", &declared)
        .with_declared("oldSelf", &declared);
    let numbers = api::Tree::Array((0..200_000).map(|number| api::json!(number)).collect());
    let reversed = api::Tree::Array((0..200_000).rev().map(|number| api::json!(number)).collect());
    let mut activation = cel::Activation::new(&environment);
    for (position, tree) in [&numbers, &reversed].into_iter().enumerate() {
        activation.set(position, cel::Value::of_tree(tree, Some(&declared)).expect("it is a list"));
    }
    for expression in ["self == oldSelf", "(self + oldSelf).size() == 200000"] {
        let program = compile(expression, &environment).expect("it compiles");
        let evaluated = program.run(&activation, &Answers::default(), PER_CALL_LIMIT);
        assert_eq!(evaluated.result.expect("it is cheap").as_bool(), Some(true), "{expression}");
    }
}
