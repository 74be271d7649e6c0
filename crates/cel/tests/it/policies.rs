//! What policies need beyond plain expressions: composed variables, authorization checks, patches.

use std::sync::Arc;

use cel::library::authorizer::{Resource, Target};
use cel::value::Value;
use cel::{
    Activation, Answer, Answers, Environment, EvalError, PER_CALL_LIMIT, Program, Type, admission, compile,
};

fn environment() -> Environment {
    Environment::kubernetes(cel::NEW)
        .with_variable("object", Type::Dyn)
        .with_declared("request", &admission::request())
        .with_declared("namespaceObject", &admission::namespace())
        .with_variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
        .with_variable("authorizer.requestResource", Type::object("kubernetes.authorization.ResourceCheck"))
        .with_composed([(Arc::from("limit"), Type::Int), (Arc::from("name"), Type::String)])
        .with_patches()
}

fn program(expression: &str) -> Program {
    compile(expression, &environment()).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn refusal(expression: &str) -> String {
    let error = compile(expression, &environment()).expect_err("it does not compile").to_string();
    error.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn variables_are_evaluated_when_they_are_read() {
    let object = api::json!({"replicas": 3});
    let environment = environment();
    let mut activation = Activation::new(&environment);
    activation.set(0, Value::of_tree(&object, None).expect("it is an object"));
    let program = program("object.replicas > 2 && variables.limit > 1");
    assert_eq!(program.composed().map(|name| &**name).collect::<Vec<_>>(), ["limit"]);
    let run = |activation: &Activation<'_>| {
        let evaluated = program.run(activation, &Answers::default(), PER_CALL_LIMIT);
        (evaluated.result.map(|value| value.as_bool()), evaluated.cost)
    };
    assert_eq!(run(&activation).0, Err(EvalError::Variable(Arc::from("limit"))));
    let mut known = activation.clone();
    known.set_composed(Arc::from("limit"), Ok(Value::Int(2)));
    assert_eq!(run(&known), (Ok(Some(true)), 6));
    activation.set_composed(Arc::from("limit"), Err(EvalError::message("division by zero")));
    assert_eq!(run(&activation).0, Err(EvalError::message("division by zero")));
    assert_eq!(refusal("variables.nope"), "ERROR: <input>:1:10: undefined field 'nope'");
    assert!(
        refusal("variables.name > 1").contains("no matching overload for '_>_' applied to '(string, int)'")
    );
}

#[test]
fn checks_are_asked_between_evaluations() {
    let environment = environment();
    let mut activation = Activation::new(&environment);
    let set = |activation: &mut Activation<'_>, name, value| {
        activation.set(environment.position(name).expect("it is declared"), value);
    };
    set(&mut activation, "authorizer", Value::authorizer());
    let resource = Resource { group: "apps".into(), resource: "deployments".into(), ..Resource::default() };
    set(&mut activation, "authorizer.requestResource", Value::request_resource(resource));
    let program = program(
        "authorizer.serviceAccount('ns', 'sa').group('').resource('pods').namespace('ns').check('get').allowed() \
         || authorizer.requestResource.check('custom').reason() == 'because'",
    );
    let mut answers = Answers::default();
    let mut asked = Vec::new();
    let evaluated = loop {
        let evaluated = program.run(&activation, &answers, PER_CALL_LIMIT);
        let Err(EvalError::Need(check)) = &evaluated.result else { break evaluated };
        asked.push((**check).clone());
        let allowed = false;
        answers.add((**check).clone(), Answer { allowed, reason: "because".to_owned(), error: None });
    };
    assert_eq!(evaluated.result.expect("all is known").as_bool(), Some(true));
    assert_eq!(evaluated.cost, 350_000 * 2 + 9);
    assert_eq!(asked[0].service_account, Some(("ns".to_owned(), "sa".to_owned())));
    assert_eq!((asked[0].verb.as_str(), asked[1].verb.as_str()), ("get", "custom"));
    assert!(matches!(&asked[1].target, Target::Resource(resource) if resource.resource == "deployments"));
}

#[test]
fn patches_are_made_of_objects() {
    let environment = environment();
    let made = |expression: &str| {
        let evaluated =
            program(expression).run(&Activation::new(&environment), &Answers::default(), PER_CALL_LIMIT);
        evaluated
            .result
            .and_then(|value| value.to_tree())
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    };
    assert_eq!(
        made("Object{spec: Object.spec{replicas: 1 + 1, tags: ['a'], labels: {'x': 'y'}}}"),
        api::json!({"spec": {"replicas": 2, "tags": ["a"], "labels": {"x": "y"}}})
    );
    assert_eq!(
        made("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'x'}]"),
        api::json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "x"}])
    );
    assert_eq!(program("Object{}").output().to_string(), "Object");
    assert!(
        refusal("JSONPatch{op: 1}")
            .contains("expected type of field 'op' is 'string' but provided type is 'int'")
    );
    assert!(refusal("Nope{}").contains("undeclared reference to 'Nope'"));
}

#[test]
fn the_request_has_a_type() {
    assert_eq!(program("request.userInfo.groups.exists(g, g == 'x')").output(), &Type::Bool);
    assert_eq!(
        program("namespaceObject.metadata.creationTimestamp").output().full_name(),
        "google.protobuf.Timestamp"
    );
    assert_eq!(program("request.namespace + namespaceObject.metadata.namespace").output(), &Type::String);
    assert_eq!(refusal("request.object"), "ERROR: <input>:1:8: undefined field 'object'");
}
