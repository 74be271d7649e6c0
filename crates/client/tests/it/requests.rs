//! Retries and errors of single requests.

use client::ListOptions;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use crate::fake::{Fake, Fault};

#[tokio::test]
async fn asked_to_come_back_it_does() {
    let fake = Fake::start().await;
    fake.put("a", 1).await;
    fake.fault(&[Fault::Code(429), Fault::Code(503), Fault::Close]).await;
    let client = fake.client();
    let error = client.list::<ConfigMap>(None, &ListOptions::default()).await.unwrap_err();
    assert!(matches!(error, client::Error::Transport { .. }), "{error}");
    // The first broken connection of a request is tried again.
    fake.fault(&[Fault::Close]).await;
    let list = client.list::<ConfigMap>(Some("ns"), &ListOptions::labels("a in (b,c)")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let requests = fake.requests().await;
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[4], "GET /api/v1/namespaces/ns/configmaps?labelSelector=a%20in%20%28b%2Cc%29");
}

#[tokio::test]
async fn what_changes_things_is_not_repeated() {
    let fake = Fake::start().await;
    fake.fault(&[Fault::Code(503), Fault::Pass]).await;
    let client = fake.client();
    let error = client.create::<ConfigMap>(Some("ns"), &ConfigMap::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(503));
    assert_eq!(fake.requests().await.len(), 1);
}

#[tokio::test]
async fn statuses_are_errors() {
    let fake = Fake::start().await;
    let error = fake.client().get::<Pod>(Some("ns"), "none").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "by order");
}
