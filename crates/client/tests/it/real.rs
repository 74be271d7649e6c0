//! Against a real API server: HTTP/2, TLS, watch, events, leases.

use std::time::Duration;

use client::{
    Client, Config, DeleteOptions, Election, EventRecorder, EventType, Informer, Informers, LeaderElector,
    ListOptions, ObjectReference, Outcome, Patch,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use serde_json::json;
use tokio_util::sync::CancellationToken;

fn client() -> Option<Client> {
    let Some(path) = std::env::var_os("CORTEN_TEST_KUBECONFIG") else {
        println!("skipped: CORTEN_TEST_KUBECONFIG is not set");
        return None;
    };
    Some(Client::new(Config::from_kubeconfig(path).unwrap()).unwrap())
}

#[tokio::test]
async fn objects_and_informers() {
    let Some(client) = client() else { return };
    let ns = Some("default");
    let name = format!("client-test-{}", std::process::id());
    let informers = Informers::new(client.clone());
    let informer: Informer<ConfigMap> = informers.all();
    informer.synced().await;
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}});
    client.create::<ConfigMap>(ns, &object).await.unwrap();
    assert!(client.create::<ConfigMap>(ns, &object).await.unwrap_err().is_already_exists());
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    client.patch::<ConfigMap>(ns, &name, None, patch).await.unwrap();
    for _ in 0..100 {
        if informer.get(ns, &name).is_some_and(|map| map.data.as_ref().unwrap()["a"] == "2") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(informer.get(ns, &name).unwrap().data.as_ref().unwrap()["a"], "2");
    client.delete::<ConfigMap>(ns, &name, &DeleteOptions::default()).await.unwrap();
    assert!(client.get::<ConfigMap>(ns, &name).await.unwrap_err().is_not_found());
    // More watches than one connection takes.
    let mut watches = Vec::new();
    for _ in 0..200 {
        watches.push(client.watch::<ConfigMap>(ns, &Default::default()).await.unwrap());
    }
    client.list::<ConfigMap>(ns, &ListOptions::default()).await.unwrap();
}

#[tokio::test]
async fn events_count() {
    let Some(client) = client() else { return };
    let name = format!("reported-{}", std::process::id());
    let object = ObjectReference {
        kind: "ConfigMap".into(),
        api_version: "v1".into(),
        namespace: "default".into(),
        name: name.clone(),
        ..Default::default()
    };
    let recorder = EventRecorder::new(client.clone(), "client-test", "here");
    for _ in 0..3 {
        recorder.event(&object, EventType::Warning, "Tested", "reported three times");
    }
    recorder.shutdown().await;
    let selector = ListOptions::fields(format!("involvedObject.name={name}"));
    let events = client.list::<Event>(Some("default"), &selector).await.unwrap().items;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].count, Some(3));
}

#[tokio::test]
async fn one_leads_and_releases() {
    let Some(client) = client() else { return };
    let mut election = Election::new("default", &format!("lease-{}", std::process::id()));
    election.release_on_shutdown = true;
    election.retry_period = Duration::from_millis(200);
    let shutdown = CancellationToken::new();
    let elector = LeaderElector::new(client.clone(), election.clone());
    let stop = shutdown.clone();
    let outcome = elector.run(shutdown, |stopped| async move {
        let mut other = election.clone();
        other.identity = "other".into();
        let other = LeaderElector::new(client.clone(), other).run(stopped.clone(), |_| async {});
        assert!(tokio::time::timeout(Duration::from_secs(1), other).await.is_err());
        let lease: Lease = client.get(Some("default"), &election.name).await.unwrap();
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(0));
        stop.cancel();
    });
    assert_eq!(outcome.await, Outcome::Shutdown);
}
