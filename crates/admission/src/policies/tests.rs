//! Policies on requests for config maps of one namespace.

use api::json;

use super::*;
use crate::tests::{Objects, attributes};
use crate::{Attributes, Operation, Plugin, Round, User};
use api::{Status, Tree};
use registry::Kind;

fn config_maps() -> &'static Arc<Kind> {
    registry::kind::built_in("", "v1", "configmaps").unwrap()
}

/// A policy about config maps that is bound in some way.
fn bound(spec: Tree, binding: Tree) -> Arc<Policies> {
    let mut policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [
            {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
        ]},
    }});
    for (field, value) in spec.as_object().into_iter().flatten() {
        policy["spec"][field.as_str()] = value.clone();
    }
    let mut bound =
        json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    for (field, value) in binding.as_object().into_iter().flatten() {
        bound["spec"][field.as_str()] = value.clone();
    }
    Arc::new(Policies::new(&[Arc::new(Policy::of(&policy))], &[Arc::new(Binding::of(&bound))]))
}

fn services(policies: Arc<Policies>) -> Arc<dyn Services> {
    let parameters = |name: &str, size: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "t", "labels": {"size": size}}, "data": {"size": size}})
    };
    let objects = Objects { policies, rights: vec![("get", "", "")], ..Objects::default() };
    Arc::new(
        objects
            .with("namespaces", json!({"metadata": {"name": "t", "labels": {"team": "x"}}}))
            .with("configmaps", parameters("small", "1"))
            .with("configmaps", parameters("large", "9")),
    )
}

fn request<'a>(operation: Operation, old: Option<&'a Tree>, round: &'a Round) -> Attributes<'a> {
    let user = User { name: "u", uid: "", groups: &[], extra: Box::leak(Box::default()) };
    Attributes { namespace: "t", name: "c", old, round, ..attributes(user, operation, config_maps()) }
}

fn object() -> Tree {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "t", "labels": {"l": "v"}}, "data": {"a": "1"}})
}

fn block<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(work)
}

/// What a policy says of a creation; empty where nothing is wrong.
fn validated(spec: Tree, binding: Tree) -> String {
    let plugin = ValidatingAdmissionPolicy::new(services(bound(spec, binding)));
    let round = Round::default();
    let outcome = block(plugin.validate(&request(Operation::Create, None, &round), &object()));
    let message = |status: Status| {
        let said = status.details.unwrap().causes.pop().unwrap().message;
        said.replace("ValidatingAdmissionPolicy 'p'", "p").replace("with binding 'b' ", "b ")
    };
    outcome.err().map(message).unwrap_or_default()
}

#[test]
fn validations() {
    let invalid = "p b denied request: ";
    for (spec, expect) in [
        (json!({"validations": [{"expression": "true"}]}), ""),
        (
            json!({"validations": [{"expression": "object.data.a == '1'"}, {"expression": " 1 > 2 "}]}),
            "failed expression: 1 > 2",
        ),
        (json!({"validations": [{"expression": "false", "message": " no "}]}), "no"),
        (
            json!({"validations": [{"expression": "false", "message": "no", "messageExpression": "string(object.data.a)"}]}),
            "1",
        ),
        (
            json!({"validations": [{"expression": "false", "message": "no", "messageExpression": "string(object.data.b)"}]}),
            "no",
        ),
        (
            json!({"validations": [{"expression": "object.spec.x"}]}),
            "compilation error: must evaluate to bool but got dyn",
        ),
        (
            json!({"validations": [{"expression": "object.spec.x == 1"}]}),
            "expression 'object.spec.x == 1' resulted in error: no such key: spec",
        ),
        (json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.spec.x == 1"}]}), ""),
        (
            json!({"failurePolicy": "Ignore", "validations": [{"expression": "false"}]}),
            "failed expression: false",
        ),
        (
            json!({"matchConditions": [{"expression": "object.data.a == '2'"}], "validations": [{"expression": "false"}]}),
            "",
        ),
        (
            json!({"matchConditions": [{"expression": "object.spec.x == 1"}], "validations": [{"expression": "true"}]}),
            "expression 'object.spec.x == 1' resulted in error: no such key: spec",
        ),
        (
            json!({"failurePolicy": "Ignore", "matchConditions": [{"expression": "object.spec.x == 1"}],
            "validations": [{"expression": "false"}]}),
            "",
        ),
        // a variable may refer to those before it, and is an error only where it is read
        (
            json!({"variables": [{"name": "a", "expression": "object.data.a"}, {"name": "b", "expression": "variables.a + 'x'"},
                {"name": "bad", "expression": "object.spec.x"}],
            "validations": [{"expression": "false && variables.bad == 1", "messageExpression": "string(variables.b)"}]}),
            "1x",
        ),
        (
            json!({"variables": [{"name": "bad", "expression": "object.spec.x"}],
            "validations": [{"expression": "variables.bad == 1"}]}),
            "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: spec",
        ),
        (
            json!({"validations": [{"expression": "oldObject == null && namespaceObject.metadata.labels.team == 'x' \
            && request.operation == 'CREATE' && request.namespace == 't' && request.name == 'c'"}]}),
            "",
        ),
        (json!({"validations": [{"expression": "authorizer.requestResource.check('get').allowed()"}]}), ""),
        (
            json!({"validations": [{"expression": "authorizer.requestResource.check('list').allowed()"}]}),
            "failed expression: authorizer.requestResource.check('list').allowed()",
        ),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "object.data.a"}]}),
            "compilation error: must evaluate to one of [string null_type] but got dyn",
        ),
        (json!({"auditAnnotations": [{"key": "k", "valueExpression": "'x' + string(object.data.a)"}]}), ""),
    ] {
        let expect = if expect.is_empty() { String::new() } else { format!("{invalid}{expect}") };
        assert_eq!(validated(spec.clone(), json!({})), expect, "{spec}");
    }
}

#[test]
fn bindings_say_for_which_requests_with_what_and_what_follows() {
    let params = |rest: Tree| {
        let mut spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params != null && int(params.data.size) > 5"}]});
        for (field, value) in rest.as_object().into_iter().flatten() {
            spec[field.as_str()] = value.clone();
        }
        spec
    };
    let failed = "p b denied request: failed expression: params != null && int(params.data.size) > 5";
    let configured = "p b denied request: failed to configure binding: ";
    let by_name =
        |name: &str, missing: &str| json!({"paramRef": {"name": name, "parameterNotFoundAction": missing}});
    for (spec, binding, expect) in [
        (params(json!({})), by_name("large", "Deny"), String::new()),
        (params(json!({})), by_name("small", "Deny"), failed.to_owned()),
        (params(json!({})), by_name("none", "Allow"), String::new()),
        (params(json!({})), by_name("none", "Deny"),
            format!("{configured}no params found for policy binding with `Deny` parameterNotFoundAction")),
        (params(json!({})), json!({"paramRef": {"selector": {}, "parameterNotFoundAction": "Deny"}}), failed.to_owned()),
        (params(json!({})), json!({"paramRef": {"selector": {"matchLabels": {"size": "9"}}}}), String::new()),
        (params(json!({})), json!({}), failed.to_owned()),
        (params(json!({"paramKind": {"apiVersion": "x.io/v1", "kind": "Y"}})), by_name("large", "Deny"),
            "p denied request: failed to configure policy: failed to find resource referenced by paramKind: 'x.io/v1, Kind=Y'"
                .to_owned()),
        (params(json!({"failurePolicy": "Ignore"})), by_name("none", "Deny"), String::new()),
        (json!({"validations": [{"expression": "false"}]}), json!({"validationActions": ["Audit", "Warn"]}), String::new()),
        (json!({"validations": [{"expression": "false"}]}),
            json!({"matchResources": {"namespaceSelector": {"matchLabels": {"team": "y"}}}}), String::new()),
        (json!({"validations": [{"expression": "false"}]}),
            json!({"matchResources": {"objectSelector": {"matchLabels": {"l": "v"}}}}),
            "p b denied request: failed expression: false".to_owned()),
        (json!({"validations": [{"expression": "false"}]}),
            json!({"matchResources": {"excludeResourceRules": [{"operations": ["CREATE"], "apiGroups": ["*"],
                "apiVersions": ["*"], "resources": ["*"], "resourceNames": ["c"]}]}}), String::new()),
    ] {
        assert_eq!(validated(spec.clone(), binding.clone()), expect, "{spec} {binding}");
    }
}

/// The labels and data of a new object that a policy has changed, or why it is refused.
fn mutated(spec: Tree) -> Result<Tree, String> {
    let plugin = MutatingAdmissionPolicy::new(services(bound(spec, json!({}))));
    let round = Round::default();
    let mut object = object();
    let outcome = block(plugin.admit(&request(Operation::Create, None, &round), &mut object));
    outcome.map_err(|status| status.message.replace("policy 'p' with binding 'b' denied request: ", ""))?;
    Ok(json!({"labels": object["metadata"]["labels"], "data": object["data"]}))
}

#[test]
fn mutations() {
    let apply = |expression: &str| {
        json!({"mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]})
    };
    let patch = |expression: &str| {
        json!({"mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]})
    };
    let same = json!({"labels": {"l": "v"}, "data": {"a": "1"}});
    for (spec, expect) in [
        (
            apply("Object{metadata: Object.metadata{labels: {'m': object.data.a}}}"),
            Ok(json!({"labels": {"l": "v", "m": "1"}, "data": {"a": "1"}})),
        ),
        (
            apply("Object{nope: 1}"),
            Err(
                "error applying patch: failed to convert patch object to typed object: .nope: field not declared in schema",
            ),
        ),
        (
            apply("Object{metadata: Object.spec{labels: {'m': 'x'}}}"),
            Err(
                "type mismatch: unexpected type name \"Object.spec\", expected \"Object.metadata\", which matches field name path from root Object type",
            ),
        ),
        (
            apply("Object{data: object.spec.x}"),
            Err("expression 'Object{data: object.spec.x}' resulted in error: no such key: spec"),
        ),
        (
            patch(
                "[JSONPatch{op: 'add', path: '/data/b', value: 'x'}, JSONPatch{op: 'remove', path: '/data/a'}]",
            ),
            Ok(json!({"labels": {"l": "v"}, "data": {"b": "x"}})),
        ),
        (
            patch(
                "[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'remove', path: '/data/a'}]",
            ),
            Ok(same.clone()),
        ),
        (
            patch("[JSONPatch{op: 'add', path: '/spec/b', value: 'x'}]"),
            Err("JSON Patch: add operation does not apply: doc is missing path: \"/spec/b\": missing value"),
        ),
        (
            json!({"failurePolicy": "Ignore", "mutations": [{"patchType": "JSONPatch",
            "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/spec/b', value: 'x'}]"}}]}),
            Ok(same.clone()),
        ),
        (
            json!({"matchConditions": [{"expression": "object.data.a == '2'"}], "mutations": [{"patchType": "JSONPatch",
            "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/data/a'}]"}}]}),
            Ok(same.clone()),
        ),
        // each sees what those before it made, and so do its variables
        (
            json!({"variables": [{"name": "n", "expression": "string(size(object.data))"}], "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/b', value: variables.n}]"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/c', value: variables.n}]"}}]}),
            Ok(json!({"labels": {"l": "v"}, "data": {"a": "1", "b": "1", "c": "2"}})),
        ),
    ] {
        assert_eq!(mutated(spec.clone()), expect.map_err(str::to_owned), "{spec}");
    }
}
