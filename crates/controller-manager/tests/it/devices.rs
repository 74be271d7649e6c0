//! Claims of devices.

use std::time::Duration;

use controllers::testing::Cluster;
use controllers::views::{Pod, ResourceClaim, ResourceClaimTemplate};
use serde_json::{Value, json};

use crate::{create, end, run};

#[tokio::test]
async fn a_pods_claim_is_made_of_its_template_and_goes_when_the_pod_has_ended() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "resourceclaim-controller");
    create::<Pod>(
        &cluster,
        json!({"metadata": {"name": "p"}, "spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]},
            "status": {"phase": "Pending"}}),
    )
    .await;
    let failed =
        |events: &[Value]| events.iter().any(|event| event["reason"] == "FailedResourceClaimCreation");
    cluster.until("events", failed).await;
    let spec =
        json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}});
    create::<ResourceClaimTemplate>(&cluster, json!({"metadata": {"name": "t"}, "spec": spec})).await;
    cluster.until("pods", |pods| !pods[0]["status"]["resourceClaimStatuses"].is_null()).await;
    let claim = cluster.objects("resourceclaims")[0].clone();
    let name = claim["metadata"]["name"].as_str().unwrap().to_owned();
    let pod = cluster.objects("pods")[0].clone();
    assert_eq!(pod["status"]["resourceClaimStatuses"], json!([{"name": "gpu", "resourceClaimName": name}]));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);

    // The scheduler allocates it; the pod was bound by hand, and so is not in the list.
    cluster.change("resourceclaims", &name, |claim| {
        claim["metadata"]["finalizers"] = json!(["resource.kubernetes.io/delete-protection"]);
        claim["status"] = json!({"allocation": {"devices": {}}});
    });
    cluster.change("pods", "p", |pod| pod["spec"]["nodeName"] = "n".into());
    let reserved = json!([{"resource": "pods", "name": "p", "uid": pod["metadata"]["uid"]}]);
    cluster.until("resourceclaims", |claims| claims[0]["status"]["reservedFor"] == reserved).await;
    cluster.quiet().await;
    assert_eq!(cluster.objects("resourceclaims").len(), 1);

    end(&cluster, &cluster.objects("pods")[0], "Succeeded");
    cluster.until("resourceclaims", <[Value]>::is_empty).await;
    stays_quiet(&cluster).await;
    assert!(cluster.objects("resourceclaims").is_empty());
}

/// Nothing that was done is done again, or taken back.
async fn stays_quiet(cluster: &Cluster) {
    let writes = || cluster.writes().into_iter().filter(|write| !write.contains("/events")).count();
    tokio::time::timeout(Duration::from_secs(20), cluster.quiet()).await.expect("writes that never end");
    let before = writes();
    cluster.quiet().await;
    assert_eq!(writes(), before, "{:#?}", cluster.writes());
}

#[tokio::test]
async fn a_shared_claim_is_free_when_nobody_uses_it() {
    let cluster = Cluster::start().await.unwrap();
    let _running = run(&cluster, "resourceclaim-controller");
    let pod = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"nodeName": "n", "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]},
            "status": {"phase": "Running"}})
    };
    for name in ["p", "q"] {
        create::<Pod>(&cluster, pod(name)).await;
    }
    create::<ResourceClaim>(
        &cluster,
        json!({"metadata": {"name": "c", "finalizers": ["resource.kubernetes.io/delete-protection"]},
            "status": {"allocation": {"devices": {}}}}),
    )
    .await;
    let reserved = |count: usize| {
        move |claims: &[Value]| claims[0]["status"]["reservedFor"].as_array().map_or(0, Vec::len) == count
    };
    cluster.until("resourceclaims", reserved(2)).await;
    end(&cluster, &cluster.objects("pods")[0], "Failed");
    cluster.until("resourceclaims", reserved(1)).await;
    stays_quiet(&cluster).await;
    assert!(reserved(1)(&cluster.objects("resourceclaims")));
    assert!(!cluster.objects("resourceclaims")[0]["status"]["allocation"].is_null());
    let client = cluster.client().unwrap();
    client.delete::<Pod>(Some("default"), "q", &Default::default()).await.unwrap();
    let free = |claims: &[Value]| {
        claims[0]["status"]["allocation"].is_null() && claims[0]["metadata"]["finalizers"] == json!([])
    };
    cluster.until("resourceclaims", free).await;
}
