//! Admission policies over whole requests.

use api::{Tree, json};
use http::Method;

use crate::core::{Answer, Rig};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn rule(operations: Tree, group: &str, version: &str, resource: &str) -> Tree {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

/// A policy and its binding: in force with the answer.
async fn bind(rig: &Rig, kind: &str, name: &str, rule: Tree, spec: Tree, binding: Tree) {
    let mut policy =
        json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [rule]}}});
    let mut bound = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    for (object, rest) in [(&mut policy, spec), (&mut bound, binding)] {
        for (field, value) in rest.as_object().into_iter().flatten() {
            object["spec"][field.as_str()] = value.clone();
        }
    }
    rig.create(&format!("{GROUP}/{kind}admissionpolicies"), policy).await;
    rig.create(&format!("{GROUP}/{kind}admissionpolicybindings"), bound).await;
    // a read of the latest state: the cache has them
    rig.get(&format!("{GROUP}/{kind}admissionpolicybindings")).await;
}

fn map(name: &str, data: Tree) -> Tree {
    json!({"metadata": {"name": name}, "data": data})
}

fn message(answer: &Answer) -> &str {
    answer.tree["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn requests_are_validated_and_deletes_too() {
    let rig = Rig::start().await;
    let rules = rule(json!(["CREATE", "UPDATE", "DELETE"]), "", "v1", "configmaps");
    let validations = json!([
        {"expression": "request.operation != 'DELETE' || oldObject.data.a != 'keep'", "message": "it is kept", "reason": "Forbidden"},
        {"expression": "request.operation == 'DELETE' || object.data.a != 'no'", "messageExpression": "'not ' + object.data.a"},
        {"expression": "request.operation != 'UPDATE' || object.data.a != oldObject.data.a", "message": "nothing is new"},
    ]);
    let actions = json!({"validationActions": ["Deny"]});
    bind(&rig, "validating", "p", rules, json!({"validations": validations}), actions).await;

    let refused = rig.json(Method::POST, MAPS, map("a", json!({"a": "no"}))).await;
    assert_eq!(refused.code, 422);
    let words = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: not no";
    assert_eq!(message(&refused), format!("configmaps \"a\" is forbidden: {words}"));
    assert_eq!(refused.tree["details"]["causes"], json!([{"message": words}]));

    rig.create(MAPS, map("a", json!({"a": "keep"}))).await;
    let at = format!("{MAPS}/a");
    let same = rig.json(Method::PATCH, &at, json!({"data": {"b": "x"}})).await;
    assert!(message(&same).ends_with("nothing is new"), "{}", same.tree);
    let kept = rig.json(Method::DELETE, &at, Tree::Null).await;
    assert_eq!((kept.code, &kept.tree["reason"]), (403, &json!("Forbidden")));
    assert_eq!(rig.json(Method::PATCH, &at, json!({"data": {"a": "x"}})).await.code, 200);
    assert_eq!(rig.json(Method::DELETE, &at, Tree::Null).await.code, 200);

    // without its binding a policy is in nobody's way
    let gone =
        rig.json(Method::DELETE, &format!("{GROUP}/validatingadmissionpolicybindings/p"), Tree::Null).await;
    assert_eq!(gone.code, 200);
    rig.get(&format!("{GROUP}/validatingadmissionpolicybindings")).await;
    rig.create(MAPS, map("b", json!({"a": "no"}))).await;
}

#[tokio::test]
async fn warnings_go_with_the_answer() {
    let rig = Rig::start().await;
    let rules = rule(json!(["CREATE"]), "", "*", "*");
    let spec = json!({"validations": [{"expression": "has(object.data)", "message": "there is no data"}]});
    bind(&rig, "validating", "p", rules, spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let answer = rig.json(Method::POST, MAPS, json!({"metadata": {"name": "a"}})).await;
    let warning = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': there is no data";
    assert_eq!((answer.code, answer.warnings), (201, vec![format!("299 - \"{warning}\"")]));
}

#[tokio::test]
async fn policies_see_the_version_that_they_name() {
    let rig = Rig::start().await;
    let rules = rule(json!(["CREATE"]), "autoscaling", "v1", "horizontalpodautoscalers");
    let spec = json!({"validations": [{"expression": "object.spec.targetCPUUtilizationPercentage < 80",
        "messageExpression": "request.kind.version + ' of ' + request.requestKind.version"}]});
    bind(&rig, "validating", "p", rules.clone(), spec, json!({"validationActions": ["Deny"]})).await;
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression":
            "Object{spec: Object.spec{targetCPUUtilizationPercentage: object.spec.targetCPUUtilizationPercentage + 1}}"}}]});
    bind(&rig, "mutating", "m", rules, spec, json!({})).await;
    let scaler = |percent: i32| {
        json!({"metadata": {"name": "a"}, "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}],
        }})
    };
    let uri = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let refused = rig.json(Method::POST, uri, scaler(79)).await;
    assert!(message(&refused).ends_with("denied request: v1 of v2"), "{}", refused.tree);
    let created = rig.create(uri, scaler(78)).await;
    let target = &created["spec"]["metrics"][0]["resource"]["target"];
    assert_eq!(target["averageUtilization"], json!(79));
}

#[tokio::test]
async fn those_who_want_to_see_later_mutations_do() {
    let rig = Rig::start().await;
    let rules = rule(json!(["CREATE"]), "", "v1", "configmaps");
    let add = |key: &str, reinvocation: &str| {
        let expression =
            format!("[JSONPatch{{op: 'add', path: '/data/{key}', value: string(size(object.data))}}]");
        json!({"reinvocationPolicy": reinvocation,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]})
    };
    bind(&rig, "mutating", "a", rules.clone(), add("first", "IfNeeded"), json!({})).await;
    bind(&rig, "mutating", "b", rules.clone(), add("second", "Never"), json!({})).await;
    let created = rig.create(MAPS, map("a", json!({"k": "v"}))).await;
    assert_eq!(created["data"], json!({"k": "v", "first": "3", "second": "2"}));

    let strange = json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch",
        "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/x', value: object.spec.y}]"}}]});
    bind(&rig, "mutating", "c", rules, strange, json!({})).await;
    let refused = rig.json(Method::POST, MAPS, map("b", json!({"k": "v"}))).await;
    assert_eq!((refused.code, &refused.tree["reason"]), (403, &json!("Invalid")));
    assert!(message(&refused).starts_with("policy 'c' with binding 'c' denied request: expression '"));
}

#[tokio::test]
async fn expressions_must_compile() {
    let rig = Rig::start().await;
    let uri = format!("{GROUP}/validatingadmissionpolicies");
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [rule(json!(["CREATE"]), "", "v1", "configmaps")]},
        "matchConditions": [{"name": "c", "expression": "variables.a"}],
        "variables": [{"name": "a", "expression": "1 + 'x'"}, {"name": "b", "expression": "variables.a"}],
        "validations": [{"expression": "object.spec.x", "messageExpression": "1"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
    }});
    let refused = rig.json(Method::POST, &uri, policy).await;
    let causes = refused.tree["details"]["causes"].as_array().unwrap();
    let shown = causes.iter().map(|cause| {
        let first = cause["message"].as_str().unwrap().lines().next().unwrap();
        format!("{}: {first}", cause["field"].as_str().unwrap())
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "spec.matchConditions[0].expression: Invalid value: \"variables.a\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')",
            "spec.variables[0].expression: Invalid value: \"1 + 'x'\": compilation failed: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'",
            "spec.validations[0].expression: Invalid value: \"object.spec.x\": must evaluate to bool but got dyn",
            "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
            "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int",
        ]
    );
}
