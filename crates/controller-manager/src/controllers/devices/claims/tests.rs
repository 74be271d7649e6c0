use controllers::views::{Pod, ResourceClaim, ResourceClaimTemplate};
use serde_json::{Value, json};

use super::plan::{self, Named};

fn pod(entry: Value, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"resourceClaims": [entry]},
        "status": {"resourceClaimStatuses": status},
    }))
    .unwrap()
}

#[test]
fn names_are_given_or_generated() {
    let check = |entry: Value, status: Value, expect: Result<Named, &str>| {
        let pod = pod(entry, status);
        let found = plan::named(&pod, &pod.spec.resource_claims[0]);
        assert_eq!(found, expect.map_err(str::to_owned));
    };
    let template = || json!({"name": "c", "resourceClaimTemplateName": "t"});
    let given = json!({"name": "c", "resourceClaimName": "x"});
    check(given, json!([]), Ok(Named::Claim { name: "x", is_generated: false }));
    check(template(), json!([]), Ok(Named::NotYet));
    check(template(), json!([{"name": "c"}]), Ok(Named::Unneeded));
    let made = json!([{"name": "c", "resourceClaimName": "p-c-1"}]);
    check(template(), made, Ok(Named::Claim { name: "p-c-1", is_generated: true }));
    let error = "pod \"d/p\", spec.resourceClaim \"c\": none of the supported fields are set";
    check(json!({"name": "c"}), json!([]), Err(error));
}

#[test]
fn claims_are_made_of_templates() {
    let pod = pod(
        json!({"name": "gpu", "resourceClaimTemplateName": "t"}),
        json!([{"name": "a", "resourceClaimName": "x"}]),
    );
    let template: ResourceClaimTemplate = serde_json::from_value(json!({
        "metadata": {"name": "t"},
        "spec": {"metadata": {"labels": {"l": "1"}, "annotations": {"n": "1"}}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"adminAccess": true}}, {"name": "s", "firstAvailable": [{"name": "f"}]},
        ]}}},
    }))
    .unwrap();
    assert!(template.needs_admin_access() && template.has_prioritized_list());
    let made = plan::claim(&pod, &pod.spec.resource_claims[0], &template);
    assert_eq!(made["spec"]["devices"]["requests"][0]["name"], "r");
    assert_eq!(
        made["metadata"],
        json!({
            "generateName": "p-gpu-", "labels": {"l": "1"},
            "annotations": {"n": "1", "resource.kubernetes.io/pod-claim-name": "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}],
        })
    );
    let claim: ResourceClaim = serde_json::from_value(made).unwrap();
    assert_eq!(plan::check_owner(&pod, &claim), Ok(()));
    let other: ResourceClaim =
        serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "d"}})).unwrap();
    let error = "ResourceClaim d/x was not created for Pod d/p (Pod is not owner)";
    assert_eq!(plan::check_owner(&pod, &other), Err(error.to_owned()));
    let names = plan::statuses(&pod, vec![("gpu".into(), "p-gpu-1".into())]);
    let expect =
        json!([{"name": "a", "resourceClaimName": "x"}, {"name": "gpu", "resourceClaimName": "p-gpu-1"}]);
    assert_eq!(json!(names), expect);
}

#[test]
fn long_names_are_cut_in_proportion() {
    let mut pod = pod(json!({"name": "e".repeat(30), "resourceClaimTemplateName": "t"}), json!([]));
    pod.metadata.name = "p".repeat(60);
    let made = plan::claim(&pod, &pod.spec.resource_claims[0], &ResourceClaimTemplate::default());
    assert_eq!(made["metadata"]["generateName"], format!("{}-{}", "p".repeat(37), "e".repeat(18)));
}

#[test]
fn pods_that_have_ended_need_no_claims() {
    let check = |pod: Value, expect: bool| {
        assert_eq!(plan::needs_claims(&serde_json::from_value(pod).unwrap()), expect);
    };
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    check(json!({"status": {"phase": "Running"}}), true);
    check(json!({"status": {"phase": "Failed"}}), false);
    check(json!({"metadata": going, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}), true);
    check(json!({"metadata": going, "status": {"phase": "Pending"}}), false);
}
