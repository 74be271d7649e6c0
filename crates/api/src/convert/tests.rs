use crate::json;

use super::*;

fn sample(text: &str) -> Tree {
    serde_json::from_str(text).unwrap()
}

fn text(tree: &Tree) -> String {
    String::from_utf8(crate::json::to_vec(tree)).unwrap()
}

/// The same autoscaler as an upstream server answers it in both versions.
#[test]
fn autoscalers() {
    let v2 = sample(include_str!("samples/scaler-v2.json"));
    let v1 = sample(include_str!("samples/scaler-v1.json"));
    let row = tables::resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
    let mut tree = v2.clone();
    from_storage(&mut tree, row).unwrap();
    assert_eq!(text(&tree), text(&v1));

    // on the way back the CPU target comes last
    let mut expect = v2;
    expect["spec"]["metrics"].as_array_mut().unwrap().rotate_left(1);
    to_storage(&mut tree, row).unwrap();
    let message = tables::kind_message("autoscaling", "v2", "HorizontalPodAutoscaler").unwrap();
    let expect = decode::tree(&expect, message, Strictness::Strict).unwrap().tree;
    assert_eq!(text(&tree), text(&expect));
}

#[test]
fn events() {
    let other = r#"{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{"name":"e1"},"eventTime":"2024-01-01T00:00:00.000000Z","series":{"count":3,"lastObservedTime":"2024-01-01T00:00:01.000000Z"},"reportingController":"rc","reportingInstance":"ri","action":"act","reason":"rsn","regarding":{"kind":"Pod","namespace":"default","name":"p"},"related":{"kind":"Node","name":"nn"},"note":"the note","type":"Normal","deprecatedSource":{},"deprecatedFirstTimestamp":null,"deprecatedLastTimestamp":null}"#;
    let core = r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"e1"},"involvedObject":{"kind":"Pod","namespace":"default","name":"p"},"reason":"rsn","message":"the note","source":{},"firstTimestamp":null,"lastTimestamp":null,"type":"Normal","eventTime":"2024-01-01T00:00:00.000000Z","series":{"count":3,"lastObservedTime":"2024-01-01T00:00:01.000000Z"},"action":"act","related":{"kind":"Node","name":"nn"},"reportingComponent":"rc","reportingInstance":"ri"}"#;
    let row = tables::resource("events.k8s.io", "v1", "events").unwrap();
    let mut tree = sample(other);
    to_storage(&mut tree, row).unwrap();
    assert_eq!(text(&tree), core);
    from_storage(&mut tree, row).unwrap();
    assert_eq!(text(&tree), other);
}

#[test]
fn definitions() {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let columns = |path: &str| json!([{"name": "A", "type": "string", path: ".spec.a"}]);
    let v1 = json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "gizmos.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "gizmos", "singular": "gizmo", "shortNames": ["gz"], "kind": "Gizmo", "listKind": "GizmoList"},
            "scope": "Cluster",
            "versions": [
                {"name": "v1", "served": true, "storage": false, "schema": schema, "additionalPrinterColumns": columns("jsonPath")},
                {"name": "v2", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}, "additionalPrinterColumns": columns("jsonPath")},
            ],
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://x.example.com/"}, "conversionReviewVersions": ["v1"]}},
        },
        "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null},
    });
    let row = tables::resource("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    assert_eq!((&*row.storage_version, row.storage_json), ("v1beta1", true));
    let mut tree = v1.clone();
    to_storage(&mut tree, row).unwrap();
    let expect = json!({
        "group": "example.com",
        "version": "v1",
        "names": {"plural": "gizmos", "singular": "gizmo", "shortNames": ["gz"], "kind": "Gizmo", "listKind": "GizmoList"},
        "scope": "Cluster",
        "validation": schema,
        "versions": [{"name": "v1", "served": true, "storage": false}, {"name": "v2", "served": true, "storage": true, "subresources": {"status": {}}}],
        "additionalPrinterColumns": columns("JSONPath"),
        "conversion": {"strategy": "Webhook", "webhookClientConfig": {"url": "https://x.example.com/"}, "conversionReviewVersions": ["v1"]},
        "preserveUnknownFields": false,
    });
    assert_eq!(text(&tree["spec"]), text(&expect));
    from_storage(&mut tree, row).unwrap();
    assert_eq!(tree, v1);
}

#[test]
fn every_stored_kind_has_its_storage_version() {
    for row in tables::all_resources().iter().filter(|row| !row.storage_prefix.is_empty()) {
        let mut tree = json!({"metadata": {"name": "x"}});
        to_storage(&mut tree, row)
            .unwrap_or_else(|error| panic!("{} {}: {error}", row.api_version(), row.kind));
        from_storage(&mut tree, row).unwrap();
        if (&row.storage_group, &row.storage_version) != (&row.group, &row.version) {
            assert_eq!(tree["apiVersion"], row.api_version(), "{}", row.kind);
        }
    }
}
