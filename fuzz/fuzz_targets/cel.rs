//! Expressions from anyone: an error or a program, never a panic, and no evaluation goes far beyond what it may cost.

#![no_main]

use std::sync::{Arc, LazyLock};

use api::Tree;
use cel::{Activation, Answers, DeclType, Environment, Type, Value, compile, declare};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 20_000;

static OBJECT: LazyLock<Tree> = LazyLock::new(|| {
    api::json!({
        "kind": "Pod", "metadata": {"name": "web-1", "labels": {"app": "web", "tier-x": "a"}},
        "spec": {"replicas": 3, "ratio": 0.5, "ints": [1, 2, 3], "mixed": [1, "a", true, null, 2.5], "items": [{"key": "a"}]}
    })
});

static DECLARED: LazyLock<Arc<DeclType>> = LazyLock::new(|| {
    let schema = api::json!({"type": "object", "properties": {
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 63},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }},
        "spec": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "ratio": {"type": "number"},
            "ints": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"},
            "items": {"type": "array", "items": {"type": "object", "properties": {"key": {"type": "string"}}}},
        }},
    }});
    Arc::new(declare(&schema, true).expect("objects are visible").named("self"))
});

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    Environment::kubernetes(cel::STORED)
        .with_bind()
        .with_patches()
        .with_variable("o", Type::Dyn)
        .with_declared("self", &DECLARED)
        .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
});

fuzz_target!(|text: &str| {
    let Ok(program) = compile(text, &ENVIRONMENT) else { return };
    assert!(program.estimate().min <= program.estimate().max);
    let mut activation = Activation::new(&ENVIRONMENT);
    activation.set(0, Value::of_tree(&OBJECT, None).expect("it has no type"));
    activation.set(1, Value::of_tree(&OBJECT, Some(&DECLARED)).expect("it has its type"));
    activation.set(2, Value::authorizer());
    let evaluated = program.run(&activation, &Answers::default(), LIMIT);
    if let Ok(value) = evaluated.result {
        assert!(evaluated.cost <= LIMIT);
        let _ = value.to_tree();
    }
});
