use api::Status;

use super::updates::deployment;
use super::*;

fn config(data: Tree) -> Tree {
    json!({"metadata": {"name": "c"}, "data": data})
}

fn refused(result: Result<(), Error>) -> String {
    Status::from(result.unwrap_err()).message
}

#[test]
fn appliers_own_what_they_state() {
    let mut object = Object::new(config_maps());
    object.apply("a", &config(json!({"a": "1", "b": "2"})), false).unwrap();
    let a = r#"a Apply v1 01 {"f:data":{"f:a":{},"f:b":{}}}"#;
    assert_eq!(object.owners(), [a]);
    // again: not even the time changes
    object.apply("a", &config(json!({"a": "1", "b": "2"})), false).unwrap();
    assert_eq!(object.owners(), [a]);
    // the same value is shared
    object.apply("b", &config(json!({"a": "1"})), false).unwrap();
    assert_eq!(object.owners(), [r#"b Apply v1 - {"f:data":{"f:a":{}}}"#, a]);
    // another value is a conflict
    let message = refused(object.apply("b", &config(json!({"a": "9", "b": "3"})), false));
    assert_eq!(message, "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.a\n- .data.b");
    let message = refused(object.apply("b", &config(json!({"b": "3"})), false));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"a\": .data.b");
    object.apply("b", &config(json!({"a": "9", "b": "3"})), true).unwrap();
    assert_eq!(object.owners(), [r#"b Apply v1 06 {"f:data":{"f:a":{},"f:b":{}}}"#]);
    // what one applies no more, and nobody else owns, goes
    object.apply("a", &config(json!({"a": "9"})), false).unwrap();
    object.apply("b", &json!({"metadata": {"name": "c"}}), false).unwrap();
    assert_eq!(object.live["data"], json!({"a": "9"}));
    // an update takes fields from those who applied them
    object.update("u", &config(json!({"a": "10", "z": "1"})));
    assert_eq!(object.owners()[..], [r#"u Update v1 09 {"f:data":{"f:a":{},"f:z":{}}}"#]);
    let message = refused(object.apply("a", &config(json!({"a": "9", "z": "2"})), false));
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"u\" using v1:\n- .data.a\n- .data.z"
    );
    let status = Status::from(object.apply("a", &config(json!({"a": "9"})), false).unwrap_err());
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".data.a"));
    assert_eq!(cause.message, "conflict with \"u\" using v1");
}

#[test]
fn fields_from_before_the_first_apply_have_a_manager() {
    let mut object = Object::new(config_maps());
    object.update("u", &config(json!({"a": "1", "b": "1"})));
    managers::set(&mut object.live, None);
    object.apply("a", &config(json!({"a": "1"})), false).unwrap();
    assert_eq!(
        object.owners(),
        [
            r#"a Apply v1 - {"f:data":{"f:a":{}}}"#,
            r#"before-first-apply Update v1 02 {"f:data":{".":{},"f:a":{},"f:b":{}}}"#
        ]
    );
}

#[test]
fn lists_are_merged_by_their_keys_and_in_the_appliers_order() {
    let env = |names: &[&str]| {
        let env = names.iter().map(|name| json!({"name": *name, "value": "v"})).collect();
        let mut config = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}});
        config["spec"]["template"]["spec"]["containers"][0]["env"] = Tree::Array(env);
        config
    };
    let check = |live: &[&str], applied: &[&str], expect: &[&str]| {
        let mut object = Object::new(deployments());
        object.update("u", &env(live));
        object.apply("a", &env(applied), true).unwrap();
        let found = &object.live["spec"]["template"]["spec"]["containers"][0]["env"];
        let found: Vec<_> =
            found.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(found, expect, "{live:?} {applied:?}");
    };
    check(&["A", "B", "C"], &["C", "A"], &["B", "C", "A"]);
    check(&["A", "B"], &["C"], &["A", "B", "C"]);
    check(&["A", "B", "C", "D"], &["D", "X", "B"], &["A", "C", "D", "X", "B"]);
    check(&["A", "B", "C"], &["A", "X", "B", "C"], &["A", "X", "B", "C"]);
}

#[test]
fn items_go_with_the_last_who_applied_them() {
    let with = |containers: Tree| json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": containers}}}});
    let mut object = Object::new(deployments());
    object
        .apply(
            "a",
            &with(json!([{"name": "x", "image": "i", "args": ["1"]}, {"name": "y", "image": "i"}])),
            false,
        )
        .unwrap();
    object.apply("b", &with(json!([{"name": "y", "image": "i"}])), false).unwrap();
    object.apply("a", &with(json!([{"name": "x", "image": "i"}])), false).unwrap();
    let containers = &object.live["spec"]["template"]["spec"]["containers"];
    let names: Vec<_> = containers.as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["x", "y"]);
    assert_eq!(containers[0].get("args"), None);
    object.apply("b", &with(json!([])), false).unwrap();
    assert_eq!(object.live["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    // a part that an updater owns does not keep the item that nobody states any more
    let mut new = object.live.clone();
    new["spec"]["template"]["spec"]["containers"][0]["workingDir"] = Tree::from("/");
    object.update("u", &new);
    object.apply("a", &json!({"metadata": {"name": "d"}}), false).unwrap();
    assert_eq!(object.live["spec"]["template"]["spec"]["containers"], Tree::Null);
}

#[test]
fn configurations_that_do_not_fit_are_refused_in_upstreams_words() {
    let check = |config: Tree, expect: &str| {
        let mut object = Object::new(deployments());
        assert_eq!(refused(object.apply("a", &config, false)), expect);
    };
    let typed = "failed to create typed patch object (/d; apps/v1, Kind=Deployment): ";
    let spec = |spec: Tree| json!({"metadata": {"name": "d"}, "spec": spec});
    let pod = |pod: Tree| spec(json!({"template": {"spec": pod}}));
    for (config, message) in [
        (spec(json!({"foo": 1})), ".spec.foo: field not declared in schema"),
        (spec(json!({"replicas": "x"})), ".spec.replicas: expected numeric (int or float), got string"),
        (spec(json!({"paused": "x"})), ".spec.paused: expected boolean, got &{x}"),
        (spec(json!({"selector": []})), ".spec.selector: expected map, got &{[]}"),
        (
            pod(json!({"containers": {"a": 1}})),
            ".spec.template.spec.containers: expected list, got &{map[a:1]}",
        ),
        (
            pod(json!({"nodeName": {"b": [1, "x", null, 1.5e6]}})),
            ".spec.template.spec.nodeName: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"b\":[]interface {}{1, \"x\", interface {}(nil), 1.5e+06}}}",
        ),
        (
            pod(json!({"containers": [{"name": "a"}, {"name": "a"}]})),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            pod(json!({"containers": ["a", null]})),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            pod(json!({"containers": [{"name": "a", "foo": 1, "resources": {"limits": {"cpu": {}}}}]})),
            ".spec.template.spec.containers[name=\"a\"].foo: field not declared in schema",
        ),
        (
            json!({"metadata": {"name": "d", "finalizers": [1, "a", "a"]}}),
            "errors:\n  .metadata.finalizers[=1]: expected string, got &value.valueUnstructured{Value:1}\n  .metadata.finalizers: duplicate entries for key [=\"a\"]",
        ),
    ] {
        check(config, &format!("{typed}{message}"));
    }
    check(json!({"metadata": {"name": "d", "managedFields": []}}), "metadata.managedFields must be nil");
}

#[test]
fn client_side_apply_becomes_server_side_apply() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","annotations":{}},"data":{"a":"1","b":"1"}}"#;
    let mut live = config(json!({"a": "1", "b": "2"}));
    live["metadata"]["annotations"] = json!({annotation: applied});
    let mut object = Object::new(config_maps());
    object.update("kubectl-client-side-apply", &live);
    // the annotation says that b was another value, which someone else must have changed
    let message = refused(object.apply("kubectl", &config(json!({"a": "5", "b": "5"})), false));
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.b"
    );
    // another manager has no such rights
    assert!(object.apply("x", &config(json!({"a": "5"})), false).is_err());
    object.apply("kubectl", &config(json!({"a": "5"})), false).unwrap();
    assert_eq!(object.live["data"], json!({"a": "5", "b": "2"}));
    assert_eq!(
        object.live["metadata"]["annotations"][annotation],
        "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"5\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"}}\n"
    );
}

#[test]
fn replicas_are_owned_through_scale() {
    use super::super::scale::{to_parent, to_scale};
    let paths =
        |version: &str| (version == "apps/v1").then(|| Some(vec!["spec".to_owned(), "replicas".to_owned()]));
    let mut object = Object::new(deployments());
    object
        .apply("a", &json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "paused": true}}), false)
        .unwrap();
    let entries = to_scale(&object.live, &paths).unwrap().unwrap();
    assert_eq!(entries[0]["apiVersion"], "autoscaling/v1");
    assert_eq!(api::raw::kept(&entries[0]["fieldsV1"]), Some(r#"{"f:spec":{"f:replicas":{}}}"#));
    // someone else scaled: the field is no more the applier's
    let scale = json!({"metadata": {"managedFields": [{"manager": "s", "operation": "Update", "apiVersion": "autoscaling/v1",
        "time": "2026-01-01T00:00:09Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"}]}});
    let entries = to_parent(&object.live, &scale, "apps/v1", &paths).unwrap();
    managers::set(&mut object.live, entries);
    assert_eq!(
        object.owners(),
        [
            r#"a Apply apps/v1 01 {"f:spec":{"f:paused":{}}}"#,
            r#"s/scale Update apps/v1 - {"f:spec":{"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn whoever_applies_after_an_update_shares_or_conflicts() {
    let mut object = Object::new(deployments());
    object.update("u", &deployment(3, "i"));
    object.apply("a", &json!({"metadata": {"name": "d"}, "spec": {"replicas": 3}}), false).unwrap();
    assert_eq!(object.owners()[0], r#"a Apply apps/v1 - {"f:spec":{"f:replicas":{}}}"#);
    // it leaves the field to the updater
    object.apply("a", &json!({"metadata": {"name": "d"}}), false).unwrap();
    assert_eq!(object.live["spec"]["replicas"], 3);
    assert_eq!(object.owners().len(), 1);
}

#[test]
fn what_no_model_describes_is_compared_by_what_it_says() {
    let kind = kind("ControllerRevision", "k8s.io.api.apps.v1.ControllerRevision", &["apps/v1"]);
    let mut object = Object::new(kind);
    let body = br#"{"metadata": {"name": "r"}, "data": {"b": [1], "a": {"c": 1.0}}, "revision": 1}"#;
    let spaced = api::decode::json(body, object.kind.message, Strictness::Strict).unwrap().tree;
    object.update("u", &spaced);
    let data = json!({"a": {"c": 1}, "b": [1]});
    object.apply("a", &json!({"metadata": {"name": "r"}, "data": data, "revision": 1}), false).unwrap();
    assert_eq!(
        object.owners(),
        [
            r#"a Apply apps/v1 - {"f:data":{},"f:revision":{}}"#,
            r#"u Update apps/v1 01 {"f:data":{},"f:revision":{}}"#
        ]
    );
}
