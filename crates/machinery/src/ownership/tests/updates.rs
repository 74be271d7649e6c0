use super::*;

pub(super) fn deployment(replicas: i32, image: &str) -> Tree {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"app": "d"}}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
            "containers": [{"name": "c", "image": image, "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]}]}}}})
}

/// As upstream records it, without the fields that are defaulted.
const CREATED: &str = r#"c Update apps/v1 01 {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":53,\"protocol\":\"UDP\"}":{".":{},"f:containerPort":{},"f:protocol":{}},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}}}}}}"#;

#[test]
fn a_writer_owns_what_it_changed() {
    let mut object = Object::new(deployments());
    object.update("c", &deployment(3, "a:1"));
    assert_eq!(object.owners(), [CREATED]);

    // nothing changed: nothing is recorded, not even the time
    object.update("other", &deployment(3, "a:1"));
    object.update("c", &deployment(3, "a:1"));
    assert_eq!(object.owners(), [CREATED]);

    object.update("scaler", &deployment(4, "a:1"));
    let without = CREATED.replace(r#""f:replicas":{},"#, "");
    let scaler = r#"scaler Update apps/v1 04 {"f:spec":{"f:replicas":{}}}"#;
    assert_eq!(object.owners(), [without.as_str(), scaler]);

    // the same fields again: the text stays, the time is new
    object.update("scaler", &deployment(5, "a:1"));
    assert_eq!(object.owners(), [without.as_str(), &scaler.replace("04", "05")]);

    // the same manager at another version or through a subresource is another one
    object.update_at("scaler", "apps/v1beta1", "", &deployment(6, "a:1"));
    assert_eq!(object.owners()[1], r#"scaler Update apps/v1beta1 06 {"f:spec":{"f:replicas":{}}}"#);
    object.update_at("scaler", "apps/v1beta1", "status", &deployment(7, "a:1"));
    assert_eq!(object.owners()[1], r#"scaler/status Update apps/v1beta1 07 {"f:spec":{"f:replicas":{}}}"#);

    // who took a field out owns nothing of it, nor does anyone else
    let mut smaller = deployment(7, "a:1");
    smaller["metadata"].as_object_mut().unwrap().remove("labels");
    object.update("r", &smaller);
    assert!(
        !object
            .owners()
            .concat()
            .contains(r#""f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:selector""#)
    );
    assert_eq!(object.owners().len(), 2);
}

#[test]
fn entries_are_kept_reset_or_set_by_hand() {
    let mut object = Object::new(deployments());
    object.update("c", &deployment(1, "a"));
    let with = |entries: Tree| {
        let mut new = deployment(2, "a");
        new["metadata"]["managedFields"] = entries;
        new
    };
    let changed = r#"u Update apps/v1 02 {"f:spec":{"f:replicas":{}}}"#;
    // nothing, and what is no entry, leave the stored ones
    for entries in [
        Tree::Null,
        json!([{"manager": "x", "operation": "Sing", "apiVersion": "v1", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "x", "operation": "Update", "fieldsType": "FieldsV1"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV2"}]),
        json!([{"manager": "x", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": 1}}]),
    ] {
        let mut object = Object { kind: deployments(), live: object.live.clone(), second: object.second };
        object.update("u", &with(entries));
        assert_eq!(object.owners()[1], changed);
        assert!(object.owners()[0].starts_with("c Update apps/v1 01"));
    }
    // one empty entry, or an empty list, forgets all
    let mut reset = Object { kind: deployments(), live: object.live.clone(), second: object.second };
    reset.update("u", &with(json!([{}])));
    assert_eq!(reset.owners(), [] as [String; 0]);
    reset.update("u", &deployment(9, "b"));
    assert_eq!(reset.owners(), [] as [String; 0]);
    // entries of a version that is not served go
    let mut set = Object { kind: deployments(), live: object.live.clone(), second: object.second };
    set.update("u", &with(json!([
        {"manager": "old", "operation": "Update", "apiVersion": "apps/v0", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}},
        {"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}}},
    ])));
    assert_eq!(set.owners(), [r#"x Apply apps/v1 - {"f:spec":{"f:paused":{}}}"#, changed]);
    // a subresource cannot set them
    let mut status = Object { kind: deployments(), live: object.live.clone(), second: object.second };
    status.update_at("u", "apps/v1", "status", &with(json!([{}])));
    assert_eq!(status.owners().len(), 2);
}

#[test]
fn fields_that_the_strategy_resets_are_nobodys() {
    let mut kind = deployments();
    kind.reset = Reset::Fields(super::super::Set::of_fields(&[&["spec"], &["metadata", "labels"]]));
    let mut object = Object::new(kind);
    let mut new = deployment(1, "a");
    new["status"] = json!({"replicas": 1, "conditions": [{"type": "A", "status": "True"}]});
    object.update_at("c", "apps/v1", "status", &new);
    assert_eq!(
        object.owners(),
        [
            r#"c/status Update apps/v1 01 {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"A\"}":{".":{},"f:lastTransitionTime":{},"f:lastUpdateTime":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn the_oldest_updaters_are_merged() {
    let mut object = Object::new(config_maps());
    let data = |count: usize| {
        let data: api::tree::Object = (0..count).map(|key| (format!("k{key:02}"), Tree::from("v"))).collect();
        json!({"metadata": {"name": "c"}, "data": Tree::Object(data)})
    };
    for count in 1..=12 {
        object.update(&format!("m{count:02}"), &data(count));
    }
    let owners = object.owners();
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[0],
        r#"ancient-changes Update v1 03 {"f:data":{".":{},"f:k00":{},"f:k01":{},"f:k02":{}}}"#
    );
    assert_eq!(owners[1], r#"m04 Update v1 04 {"f:data":{"f:k03":{}}}"#);
    // those who apply are not counted
    for count in 20..26 {
        object
            .apply(
                &format!("a{count}"),
                &json!({"metadata": {"name": "c"}, "data": {format!("a{count}"): "v"}}),
                false,
            )
            .unwrap();
    }
    assert_eq!(object.owners().len(), 16);
}

#[test]
fn items_that_stand_there_twice_are_owned_as_one() {
    let mut object = Object::new(deployments());
    let with = |names: &[(&str, &str)]| {
        let mut new = deployment(1, "a");
        let env = names.iter().map(|(name, value)| json!({"name": *name, "value": *value})).collect();
        new["spec"]["template"]["spec"]["containers"][0]["env"] = Tree::Array(env);
        new
    };
    object.update("a", &with(&[("A", "1"), ("A", "2"), ("B", "1")]));
    assert!(object.owners()[0].contains(
        r#""f:env":{".":{},"k:{\"name\":\"A\"}":{},"k:{\"name\":\"B\"}":{".":{},"f:name":{},"f:value":{}}}"#
    ));
    object.update("b", &with(&[("A", "1"), ("A", "3"), ("B", "1")]));
    assert!(object.owners()[1].contains(r#""f:env":{"k:{\"name\":\"A\"}":{}}"#));
    object.update("c", &with(&[("A", "1"), ("B", "1")]));
    assert!(
        object.owners()[1].contains(r#""f:env":{"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}}"#),
        "{:?}",
        object.owners()
    );
}
