//! Objects that are stored in another form than they would be written in now.

use api::wire::{TypeMeta, envelope};
use api::{Tree, json};
use http::Method;

use crate::core::Rig;
use crate::definitions::{DEFINITIONS, WIDGETS, condition, definition, follow, version, widget};

#[tokio::test]
async fn an_update_brings_an_object_to_the_form_that_is_stored_now() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let spec = json!({"size": {"type": "integer"}});
    let versions = json!([version("v1", true, spec.clone()), version("v2", false, spec.clone())]);
    rig.create(DEFINITIONS, definition("widgets", "Widget", versions)).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let stored = async || {
        let (found, _) =
            rig.server.resources.store.get(b"/registry/example.com/widgets/default/a").await.unwrap();
        let found = found.unwrap();
        (serde_json::from_slice::<Tree>(&found.value).unwrap(), found.mod_revision)
    };
    let nothing = async || {
        let answer = rig.json(Method::PATCH, &format!("{WIDGETS}/a"), json!({})).await;
        assert_eq!(answer.code, 200, "{}", answer.tree);
    };
    rig.create(WIDGETS, widget("a", json!({"size": 1}))).await;
    let first = stored().await;
    nothing().await;
    assert_eq!(stored().await, first);

    let versions = json!([version("v1", false, spec.clone()), version("v2", true, spec)]);
    let mut watch = rig.watch(&format!("{WIDGETS}?watch=1")).await;
    let change = json!({"spec": {"versions": versions}});
    rig.json(Method::PATCH, &format!("{DEFINITIONS}/widgets.example.com"), change).await;
    watch.ended().await;
    assert_eq!(stored().await, first);
    nothing().await;
    let second = stored().await;
    assert_eq!(second.0["apiVersion"], "example.com/v2");
    assert!(second.1 > first.1);
    nothing().await;
    assert_eq!(stored().await, second);
}

#[tokio::test]
async fn an_object_of_another_version_is_rewritten_by_an_update_that_changes_nothing() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    const KEY: &[u8] = b"/registry/leases/default/a";
    let rig = Rig::start().await;
    let store = &rig.server.resources.store;
    rig.create(LEASES, json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}})).await;
    let written = store.get(KEY).await.unwrap().0.unwrap();
    let raw = envelope::unwrap(&written.value).unwrap().raw.to_vec();
    let mut old = Vec::new();
    envelope::wrap(TypeMeta { api_version: "coordination.k8s.io/v1beta1", kind: "Lease" }, &raw, &mut old);
    let store::Written::Done(revision) =
        store.put(KEY, old.into(), written.mod_revision, None).await.unwrap()
    else {
        panic!("it was written meanwhile")
    };
    let nothing = async || {
        let answer = rig.json(Method::PATCH, &format!("{LEASES}/a"), json!({})).await;
        assert_eq!(answer.code, 200, "{}", answer.tree);
        let now = store.get(KEY).await.unwrap().0.unwrap();
        assert_eq!(answer.tree["metadata"]["resourceVersion"], now.mod_revision.to_string());
        now
    };
    let now = nothing().await;
    assert_eq!(now.value, written.value);
    assert!(now.mod_revision > revision);
    assert_eq!(nothing().await.mod_revision, now.mod_revision);
}
