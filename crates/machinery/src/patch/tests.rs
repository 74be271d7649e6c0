use super::{Error, Rejection, merge, strategic};
use api::{Tree, json};

const REJECTED: Error = Error::Rejected(Rejection { tested: false, words: String::new() });

/// Whether and how a patch applies, whatever is said where it does not.
fn json(target: &Tree, patch: &Tree) -> Result<Tree, Error> {
    super::json(target, patch).map_err(|error| match error {
        Error::Rejected(_) => REJECTED,
        error => error,
    })
}

#[test]
fn operations_that_do_not_apply_are_named() {
    let target = json!({"data": {"a": "b"}});
    for (operation, tested, words) in [
        (
            json!({"op": "test", "path": "/data/a", "value": "x"}),
            true,
            "testing value /data/a failed: test failed",
        ),
        (
            json!({"op": "test", "path": "/x/y", "value": 1}),
            false,
            "test operation does not apply: is missing path: /x/y: missing value",
        ),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            false,
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "remove", "path": "/data/z"}),
            false,
            "error in remove for path: '/data/z': Unable to remove nonexistent key: z: missing value",
        ),
        (
            json!({"op": "remove", "path": "/x/z"}),
            false,
            "remove operation does not apply: doc is missing path: \"/x/z\": missing value",
        ),
        (
            json!({"op": "replace", "path": "/x/z", "value": 1}),
            false,
            "replace operation does not apply: doc is missing path: /x/z: missing value",
        ),
        (json!({"op": "bad", "path": "/data/a"}), false, "Unexpected kind: bad"),
    ] {
        let expect = Error::Rejected(Rejection { tested, words: words.to_owned() });
        assert_eq!(super::json(&target, &json!([operation.clone()])), Err(expect), "{operation}");
    }
}

#[test]
fn json_patches() {
    let target = json!({"data": {"a": "b"}, "list": [1, 2, 3]});
    for (patch, expect) in [
        (json!([{"op": "test", "path": "/data/a", "value": "x"}]), Err(REJECTED)),
        (json!([{"op": "test", "path": "/data/z", "value": null}]), Ok(target.clone())),
        (json!([{"op": "remove", "path": "/data/z"}]), Err(REJECTED)),
        (json!([{"op": "remove", "path": "/data/a"}]), Ok(json!({"data": {}, "list": [1, 2, 3]}))),
        (
            json!([{"op": "replace", "path": "/data/z", "value": "1"}]),
            Ok(json!({"data": {"a": "b", "z": "1"}, "list": [1, 2, 3]})),
        ),
        (
            json!([{"op": "add", "path": "/list/-", "value": 4}, {"op": "remove", "path": "/list/0"}]),
            Ok(json!({"data": {"a": "b"}, "list": [2, 3, 4]})),
        ),
        (json!([{"op": "add", "path": "/list/9", "value": 4}]), Err(REJECTED)),
        (
            json!([{"op": "move", "from": "/data/a", "path": "/data/b"}]),
            Ok(json!({"data": {"b": "b"}, "list": [1, 2, 3]})),
        ),
        (json!([{"op": "add", "path": "", "value": {}}]), Err(REJECTED)),
        (json!([{"op": "add", "path": "data", "value": {}}]), Err(REJECTED)),
        (
            json!([{"op": "add", "path": "anything/data", "value": {}}]),
            Ok(json!({"data": {}, "list": [1, 2, 3]})),
        ),
        (json!([null]), Err(REJECTED)),
        (json!([{"op": "bad", "path": "/data/a"}]), Err(REJECTED)),
    ] {
        assert_eq!(json(&target, &patch), expect, "{patch}");
    }
    assert!(matches!(json(&target, &json!({})), Err(Error::Malformed(_))));
    for (patch, kind) in
        [(json!([1]), "number"), (json!(["x"]), "string"), (json!([[]]), "array"), (json!([true]), "bool")]
    {
        let words = format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go value of type handlers.jsonPatchOp"
        );
        assert_eq!(json(&target, &patch), Err(Error::Malformed(words)));
    }
    let doubled: Tree =
        (0..40).map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/{i}")})).collect();
    assert_eq!(json(&target, &doubled), Err(REJECTED));
}

#[test]
fn patches_reach_into_what_is_kept_as_text() {
    let message = api::tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
    let body = br#"{"data":{ "a":1.0,"b":{"c":[2]} }}"#;
    let strictness = api::decode::Strictness::Strict;
    let target = api::decode::json(body, message, strictness).unwrap().tree;
    let untouched = merge(&target, &json!({"revision": 2})).unwrap();
    assert_eq!(untouched["data"], target["data"]);
    let merged = merge(&target, &json!({"data": {"b": {"d": 3}}})).unwrap();
    assert_eq!(merged["data"], json!({"a": 1.0, "b": {"c": [2], "d": 3}}));
    let patch = json!([{"op": "test", "path": "/data", "value": {"a": 1.0, "b": {"c": [2]}}}, {"op": "add", "path": "/data/b/c/-", "value": 4}]);
    assert_eq!(json(&target, &patch).unwrap()["data"], json!({"a": 1.0, "b": {"c": [2, 4]}}));
}

#[test]
fn unrepresentable_values_cannot_be_patched_from_within() {
    let message = api::tables::message("k8s.io.api.apps.v1.ControllerRevision").unwrap();
    let strictness = api::decode::Strictness::Strict;
    let target = api::decode::json(br#"{"data":{"a":1e999}}"#, message, strictness).unwrap().tree;
    for part in [json!({"b": 1}), json!({"a": null})] {
        assert_eq!(merge(&target, &json!({"data": part})), Err(REJECTED));
        assert_eq!(strategic(&target, &json!({"data": part}), message), Err(REJECTED));
    }
    for (op, path) in [("add", "/data/b"), ("replace", "/data/a"), ("remove", "/data/a")] {
        let patch = json!([{"op": op, "path": path, "value": 1}]);
        assert_eq!(json(&target, &patch), Err(REJECTED), "{op}");
    }
    let replaced = merge(
        &json(&target, &json!([{"op": "remove", "path": "/data"}])).unwrap(),
        &json!({"data": {"b": 1}}),
    );
    assert_eq!(replaced.unwrap()["data"], json!({"b": 1}));
    let test = json!({"op": "test", "path": "/data", "value": {}});
    let long = format!("{{\"data\":{{ \"a\":\"{}\"}}}}", "x".repeat(1 << 20));
    let target = api::decode::json(long.as_bytes(), message, strictness).unwrap().tree;
    let passes = json!({"op": "test", "path": "/data", "value": {"a": "x".repeat(1 << 20)}});
    assert_eq!(json(&target, &json!([test])), Err(REJECTED));
    assert!(matches!(json(&target, &Tree::Array(vec![passes; 100])), Err(Error::TooLarge(_))));
}

#[test]
fn merge_patches() {
    let target = json!({"a": {"b": 1, "c": 2}, "d": [1]});
    let got = merge(&target, &json!({"a": {"b": null, "e": {"f": null}}, "d": [2]})).unwrap();
    assert_eq!(got, json!({"a": {"c": 2, "e": {}}, "d": [2]}));
    assert!(merge(&target, &json!([])).is_err());
}

fn deployment(target: Tree, patch: Tree) -> Result<Tree, Error> {
    let message = api::tables::message("k8s.io.api.apps.v1.Deployment").unwrap();
    let wrap = |spec: Tree| json!({"spec": {"template": {"spec": spec}}});
    strategic(&wrap(target), &wrap(patch), message).map(|tree| tree["spec"]["template"]["spec"].clone())
}

#[test]
fn strategic_lists() {
    let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
    for (patch, expect) in [
        (
            json!({"containers": [{"name": "b", "image": "3"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}]}),
        ),
        (
            json!({"containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
        ),
        (
            json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
            json!({"containers": [{"name": "c"}]}),
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}),
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "c"}, {"name": "b"}], "containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "c"}, {"name": "b", "image": "2"}]}),
        ),
        (json!({"containers": null}), json!({})),
        (
            json!({"containers": [{"name": "a", "image": null}]}),
            json!({"containers": [{"name": "a"}, {"name": "b", "image": "2"}]}),
        ),
    ] {
        assert_eq!(deployment(two.clone(), patch.clone()), Ok(expect), "{patch}");
    }
    let error = deployment(two.clone(), json!({"containers": [{"image": "x"}]})).unwrap_err();
    assert_eq!(error.to_string(), "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn strategic_directives() {
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "1"}, "tolerations": [{"key": "x"}]});
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}],
        "nodeSelector": {"$patch": "replace", "b": "2"}, "tolerations": [{"key": "y"}]});
    let got = deployment(volumes, patch).unwrap();
    assert_eq!(
        got,
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "nodeSelector": {"b": "2"}, "tolerations": [{"key": "y"}]})
    );

    let message = api::tables::message("k8s.io.api.core.v1.ConfigMap").unwrap();
    let target = json!({"metadata": {"finalizers": ["a", "b"]}, "data": {"x": "1"}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "$setElementOrder/finalizers": ["b", "c"]}, "data": {"$patch": "delete"}});
    let got = strategic(&target, &patch, message).unwrap();
    assert_eq!(got, json!({"metadata": {"finalizers": ["b", "c"]}, "data": {}}));
    let error = strategic(&target, &json!({"$patch": "foo"}), message).unwrap_err();
    assert_eq!(error.to_string(), "unknown patch type: foo in map: map[$patch:foo]");
}

#[test]
fn strategic_patches_that_contradict_the_model() {
    let check = |target: Tree, patch: Tree, expect: &str| {
        assert_eq!(deployment(target, patch.clone()), Err(Error::Internal(expect.to_owned())), "{patch}");
    };
    let containers = || json!({"containers": [{"name": "one", "args": ["p", "q"]}]});
    let mixed =
        |patch: &str| format!("list element types are not identical: [[map[args:[p q] name:one]] [{patch}]]");
    check(containers(), json!({"containers": ["x"]}), &mixed("x"));
    check(containers(), json!({"containers": [null]}), &mixed("<nil>"));
    check(containers(), json!({"containers": [{"name": "one"}, 1]}), &mixed("map[name:one] 1"));
    check(
        json!({"nodeSelector": {"a": "b"}}),
        json!({"nodeSelector": {"$patch": "merge"}}),
        "unknown patch type: merge in map: map[$patch:merge]",
    );
    check(
        containers(),
        json!({"containers": [{"name": "one", "$patch": "merge"}]}),
        "merging lists cannot yet be specified in the patch",
    );
}

#[test]
fn operations_do_not_nest_without_end() {
    let refused = |patch: &Tree| {
        let target = json!({"a": {"x": 1}, "l": [1]});
        assert_eq!(super::json(&target, patch), Err(Error::TooLarge("exceeded max depth".to_owned())));
    };
    let copies = (0..500).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/x"}));
    refused(&Tree::Array(copies.collect()));
    let mut deep = Tree::from(1);
    for _ in 0..300 {
        deep = json!({"d": deep});
    }
    let below = "/d".repeat(299);
    refused(
        &json!([{"op": "add", "path": "/a/d", "value": deep}, {"op": "add", "path": format!("/a/d{below}"), "value": deep}]),
    );
    refused(
        &json!([{"op": "add", "path": "/a/d", "value": deep}, {"op": "replace", "path": format!("/a/d{below}/d"), "value": deep}]),
    );
    refused(
        &json!([{"op": "add", "path": "/a/d", "value": deep}, {"op": "add", "path": "/b", "value": deep},
        {"op": "move", "from": "/b", "path": format!("/a/d{below}/m")}]),
    );
    assert!(super::json(&json!({}), &json!([{"op": "add", "path": "/a", "value": deep}])).is_ok());
}

/// Directives where there is nothing to act on.
#[test]
fn nothing_to_act_on() {
    let message = api::tables::kind_message("", "v1", "ConfigMap").unwrap();
    let check = |patch: Tree, expect: Tree| {
        assert_eq!(strategic(&json!({"kind": "ConfigMap"}), &patch, message).unwrap(), expect, "{patch}");
    };
    let own = || json!({"kind": "ConfigMap"});
    check(json!({"data": {"$patch": "delete"}}), own());
    check(json!({"data": {"$patch": "replace", "a": "b"}}), own());
    let kept = json!({"kind": "ConfigMap", "data": {"$retainKeys": ["a"]}});
    check(json!({"data": {"$retainKeys": ["a"]}}), kept);
    check(json!({"$deleteFromPrimitiveList/finalizers": "x"}), own());
}
