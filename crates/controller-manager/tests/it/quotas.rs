//! Quotas.

use controllers::testing::Cluster;
use controllers::views::{ResourceQuota, StatefulSet};
use serde_json::json;

use crate::{create, run, template};

/// Until its status is whole, a quota refuses all that it counts.
#[tokio::test]
async fn the_first_quota_that_counts_a_kind_is_whole_at_once() {
    let cluster = Cluster::start().await.unwrap();
    let spec = json!({"serviceName": "s", "replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template()});
    create::<StatefulSet>(&cluster, json!({"metadata": {"name": "s"}, "spec": spec})).await;
    cluster.name::<StatefulSet>();
    let _running = run(&cluster, "resourcequota-controller");
    let hard = json!({"count/statefulsets.apps": "5"});
    create::<ResourceQuota>(&cluster, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    cluster.until("resourcequotas", |quotas| !quotas[0]["status"]["hard"].is_null()).await;
    let status = cluster.objects("resourcequotas")[0]["status"].clone();
    assert_eq!(status, json!({"hard": hard, "used": {"count/statefulsets.apps": "1"}}));
}
