//! Definitions are let go when the store has none of their objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{Tree, json};
use bytes::Bytes;
use http::Method;
use store::{Changes, Error, KeyValue, Memory, Range, Revision, Store, Written};
use tokio::sync::Semaphore;

use crate::core::Rig;
use crate::definitions::{DEFINITIONS, WIDGETS, condition, definition, follow, version, widget};

#[tokio::test]
async fn a_definition_stays_while_the_store_has_objects() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([version("v1", true, json!({}))]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let store = Arc::clone(&rig.server.resources.store);
    let unreadable = b"/registry/example.com/widgets/default/b";
    let store::Written::Done(revision) = store.put(unreadable, "{".into(), 0, None).await.unwrap() else {
        panic!("it is there already")
    };
    for name in ["a", "c"] {
        rig.create(WIDGETS, widget(name, json!({}))).await;
    }
    rig.json(Method::DELETE, &format!("{DEFINITIONS}/widgets.example.com"), Tree::Null).await;
    let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1")).await;
    loop {
        let (event, object) = watch.next().await;
        assert_ne!(event, "DELETED");
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let failed = conditions.iter().find(|own| own["reason"] == "InstanceDeletionFailed");
        if let Some(failed) = failed {
            let message = failed["message"].as_str().unwrap();
            assert!(message.starts_with("could not list instances: failed to read one or more widgets"));
            break;
        }
    }
    for name in ["a", "c"] {
        while rig.get(&format!("{WIDGETS}/{name}")).await.code != 404 {
            tokio::task::yield_now().await;
        }
    }
    store.delete(unreadable, revision).await.unwrap();
    while watch.next().await.0 != "DELETED" {}
    let (start, end) = (b"/registry/example.com/", store::prefix_end(b"/registry/example.com/"));
    assert!(store.range(start, &end, 1, 0).await.unwrap().items.is_empty());
}

/// A store that puts widgets when it is allowed to, and counts the looks at them.
struct Slow {
    memory: Memory,
    may_put: Semaphore,
    puts: AtomicUsize,
    ranges: AtomicUsize,
}

const OWN: &[u8] = b"/registry/example.com/widgets/";

#[async_trait::async_trait]
impl Store for Slow {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        self.memory.get(key).await
    }
    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        if start == OWN {
            self.ranges.fetch_add(1, Ordering::SeqCst);
        }
        self.memory.range(start, end, limit, revision).await
    }
    async fn revision(&self) -> Result<Revision, Error> {
        self.memory.revision().await
    }
    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        if key.starts_with(OWN) {
            self.puts.fetch_add(1, Ordering::SeqCst);
            self.may_put.acquire().await.unwrap().forget();
        }
        self.memory.put(key, value, expected, ttl).await
    }
    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        self.memory.delete(key, expected).await
    }
    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        self.memory.watch(prefix, revision).await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.memory.compact(revision).await
    }
}

#[tokio::test]
async fn a_definition_waits_for_creates_that_began_before_its_end() {
    let store = Arc::new(Slow {
        memory: Memory::new(),
        may_put: Semaphore::new(0),
        puts: AtomicUsize::new(0),
        ranges: AtomicUsize::new(0),
    });
    let rig = Rig::on(Arc::clone(&store) as Arc<dyn Store>).await;
    let _tasks = follow(&rig).await;
    rig.create(DEFINITIONS, definition("widgets", "Widget", json!([version("v1", true, json!({}))]))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let mut watch = rig.watch(&format!("{DEFINITIONS}?watch=1")).await;
    let end = async {
        while store.puts.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        rig.json(Method::DELETE, &format!("{DEFINITIONS}/widgets.example.com"), Tree::Null).await;
        condition(&rig, "widgets.example.com", "Terminating", "True").await;
        let refused = rig.json(Method::POST, WIDGETS, widget("b", json!({}))).await;
        assert_eq!((refused.code, refused.tree["reason"].as_str()), (403, Some("Forbidden")));
        // It has looked, and does not let the definition go.
        let before = store.ranges.load(Ordering::SeqCst);
        while store.ranges.load(Ordering::SeqCst) < before + 2 {
            tokio::task::yield_now().await;
        }
        store.may_put.add_permits(1);
    };
    let (created, ()) = tokio::join!(rig.create(WIDGETS, widget("a", json!({}))), end);
    assert_eq!(created["metadata"]["name"], "a");
    while watch.next().await.0 != "DELETED" {}
    let found = store.memory.range(OWN, &store::prefix_end(OWN), 1, 0).await.unwrap();
    assert!(found.items.is_empty());
}
