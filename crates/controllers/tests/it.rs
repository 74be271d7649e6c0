//! The kit against a small API server whose watches can be kept back.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Client, Informer, Key, View};
use controllers::testing::{Cluster, Method};
use controllers::views::{ConfigMap, Pod, ReplicaSet};
use controllers::{Builder, Context, Error, Next, Pods, Reconcile};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Makes a config map for each reconciliation that finds less than two.
struct Two {
    maps: Informer<ConfigMap>,
    rounds: Arc<AtomicUsize>,
}

impl Reconcile for Two {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        self.rounds.fetch_add(1, Ordering::SeqCst);
        if self.maps.len() < 2 {
            let map = json!({"metadata": {"generateName": "made-"}});
            client.create::<ConfigMap>(key.namespace(), &map).await?;
        }
        Ok(Next::Done)
    }
}

/// Runs until it is dropped.
struct Running(#[expect(dead_code, reason = "kept for its end")] DropGuard, JoinHandle<Result<(), Error>>);

async fn run<R: Reconcile>(
    cluster: &Cluster,
    make: impl AsyncFnOnce(&Context, &mut Builder) -> R,
) -> Running {
    let shutdown = CancellationToken::new();
    let context = cluster.context(shutdown.clone()).unwrap();
    let mut builder = context.builder("test", "test", "test").await.unwrap();
    let reconciler = make(&context, &mut builder).await;
    Running(shutdown.drop_guard(), tokio::spawn(builder.run(2, reconciler)))
}

async fn create<V: View>(cluster: &Cluster, object: Value) {
    cluster.client().unwrap().create::<V>(Some("default"), &object).await.unwrap();
}

#[tokio::test]
async fn a_controller_sees_its_own_write_before_it_acts_again() {
    let cluster = Cluster::start().await.unwrap();
    create::<ConfigMap>(&cluster, json!({"metadata": {"name": "first"}})).await;
    let rounds = Arc::new(AtomicUsize::new(0));
    cluster.pause("configmaps");
    let count = rounds.clone();
    let mut queue = None;
    let running = run(&cluster, async |_, builder| {
        queue = Some(builder.queue.clone());
        Two { maps: builder.reconciles(), rounds: count }
    })
    .await;
    cluster.until("configmaps", |maps| maps.len() == 2).await;
    // Whoever asks, the key waits for the cache.
    for _ in 0..3 {
        queue.as_ref().unwrap().add(Key::new("default", "first"));
        cluster.quiet().await;
    }
    assert_eq!((cluster.objects("configmaps").len(), rounds.load(Ordering::SeqCst)), (2, 1));
    cluster.resume("configmaps");
    cluster.quiet().await;
    assert_eq!(cluster.objects("configmaps").len(), 2);
    assert!(rounds.load(Ordering::SeqCst) > 1, "it goes on when the cache has caught up");
    assert!(!running.1.is_finished());
}

#[tokio::test]
async fn a_write_without_an_answer_is_not_repeated_before_its_outcome_is_known() {
    let cluster = Cluster::start().await.unwrap();
    create::<ConfigMap>(&cluster, json!({"metadata": {"name": "first"}})).await;
    let rounds = Arc::new(AtomicUsize::new(0));
    cluster.pause("configmaps");
    cluster.lose_answer(Method::POST, "configmaps");
    let count = rounds.clone();
    let _running = run(&cluster, async |_, builder| Two { maps: builder.reconciles(), rounds: count }).await;
    cluster.until("configmaps", |maps| maps.len() == 2).await;
    // The outcome is looked for, and the cache does not have it.
    cluster.requested("GET /api/v1/namespaces/default/configmaps").await;
    cluster.quiet().await;
    assert_eq!((cluster.objects("configmaps").len(), rounds.load(Ordering::SeqCst)), (2, 1));
    cluster.resume("configmaps");
    let goes_on = async {
        while rounds.load(Ordering::SeqCst) == 1 {
            cluster.quiet().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), goes_on).await.expect("the key is never released");
    assert_eq!(cluster.objects("configmaps").len(), 2);
}

struct Deleter {
    maps: Informer<ConfigMap>,
    rounds: Arc<AtomicUsize>,
}

impl Reconcile for Deleter {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        if self.maps.get_key(key).is_some() {
            self.rounds.fetch_add(1, Ordering::SeqCst);
            client.delete::<ConfigMap>(key.namespace(), &key.name, &Default::default()).await?;
        }
        Ok(Next::Done)
    }
}

#[tokio::test]
async fn a_deletion_is_waited_for_too() {
    let cluster = Cluster::start().await.unwrap();
    create::<ConfigMap>(&cluster, json!({"metadata": {"name": "first"}})).await;
    let rounds = Arc::new(AtomicUsize::new(0));
    cluster.pause("configmaps");
    let (count, mut queue) = (rounds.clone(), None);
    let _running = run(&cluster, async |_, builder| {
        queue = Some(builder.queue.clone());
        Deleter { maps: builder.reconciles(), rounds: count }
    })
    .await;
    cluster.until("configmaps", |maps| maps.is_empty()).await;
    queue.as_ref().unwrap().add(Key::new("default", "first"));
    cluster.quiet().await;
    cluster.resume("configmaps");
    cluster.quiet().await;
    assert_eq!(rounds.load(Ordering::SeqCst), 1);
    assert!(queue.unwrap().is_empty());
}

/// Notes which sets are reconciled.
struct Notes {
    pods: Pods,
    keys: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Reconcile for Notes {
    async fn reconcile(&self, key: &Key, _: &Client) -> Result<Next, Error> {
        assert!(self.pods.cache.has_synced());
        self.keys.lock().push(key.name.to_string());
        Ok(Next::Done)
    }
}

#[tokio::test]
async fn changes_go_to_the_owner_or_to_those_that_would_adopt() {
    let cluster = Cluster::start().await.unwrap();
    let set = |name: &str, labels: Value| json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}}});
    create::<ReplicaSet>(&cluster, set("a", json!({"app": "a"}))).await;
    create::<ReplicaSet>(&cluster, set("b", json!({"app": "b", "tier": "x"}))).await;
    let keys = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let notes = keys.clone();
    let _running = run(&cluster, async |_, builder| {
        builder.reconciles::<ReplicaSet>();
        Notes { pods: builder.owns_pods::<ReplicaSet>(), keys: notes }
    })
    .await;
    let uid = |name: &str| {
        let sets = cluster.objects("replicasets");
        sets.iter().find(|set| set["metadata"]["name"] == name).unwrap()["metadata"]["uid"].clone()
    };
    let taken = async || {
        cluster.quiet().await;
        let mut taken = std::mem::take(&mut *keys.lock());
        taken.sort();
        taken.dedup();
        taken
    };
    assert_eq!(taken().await, ["a", "b"]);
    let owner = |name: &str, uid: Value| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true}]);
    let pod = |name: &str, labels: Value, owners: Value| json!({"metadata": {"name": name, "labels": labels, "ownerReferences": owners}});
    create::<Pod>(&cluster, pod("p", json!({"app": "b", "tier": "x"}), owner("a", uid("a")))).await;
    assert_eq!(taken().await, ["a"]);
    cluster.change("pods", "p", |pod| pod["metadata"]["ownerReferences"] = json!([]));
    assert_eq!(taken().await, ["a", "b"], "its owner before, and who may adopt it");
    create::<Pod>(&cluster, pod("q", json!({"app": "b"}), json!([]))).await;
    create::<Pod>(&cluster, pod("r", json!({"app": "a"}), owner("a", "another of that name".into()))).await;
    assert!(taken().await.is_empty());
    cluster.change("pods", "q", |pod| pod["metadata"]["labels"]["app"] = "a".into());
    assert_eq!(taken().await, ["a"]);
}
