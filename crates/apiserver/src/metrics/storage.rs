//! What the store is asked for, and how long it takes to answer: a store around the store. And the size of its file.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use daemon::metrics::{Counter, CounterVec, Gauge, Histogram, HistogramVec, registry};
use parking_lot::Mutex;
use store::etcd::Etcd;
use store::{Changes, Error, KeyValue, Range, Revision, Store, Written};

use super::SECONDS;

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "etcd_request_duration_seconds",
        "Etcd request latency in seconds for each operation and object type.",
        LABELS,
        SECONDS,
    )
});

static REQUESTS: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Etcd request counts for each operation and object type.";
    registry().counter_vec("etcd_requests_total", help, LABELS)
});

static ERRORS: LazyLock<CounterVec> = LazyLock::new(|| {
    let help = "Etcd failed request counts for each operation and object type.";
    registry().counter_vec("etcd_request_errors_total", help, LABELS)
});

const LABELS: &[&str] = &["group", "operation", "resource"];

#[derive(Clone, Copy)]
enum Operation {
    Create,
    Delete,
    Get,
    List,
    Revision,
    Update,
}

impl Operation {
    const COUNT: usize = Operation::Update as usize + 1;

    fn text(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Delete => "delete",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::Revision => "getCurrentResourceVersion",
            Operation::Update => "update",
        }
    }
}

/// Figures of one resource, by operation.
struct Of {
    group: String,
    resource: String,
    figures: [OnceLock<(Arc<Counter>, Arc<Histogram>)>; Operation::COUNT],
}

impl Of {
    fn new(group: &str, resource: &str) -> Of {
        Of { group: group.into(), resource: resource.into(), figures: Default::default() }
    }

    fn count(&self, operation: Operation, started: Instant, failed: bool) {
        let labels = || [self.group.as_str(), operation.text(), self.resource.as_str()];
        let (requests, duration) = self.figures[operation as usize]
            .get_or_init(|| (REQUESTS.with(&labels()), DURATION.with(&labels())));
        requests.inc();
        duration.observe(started.elapsed().as_secs_f64());
        if failed {
            ERRORS.with(&labels()).inc();
        }
    }
}

/// By what follows `/registry/` in the keys: one part or two.
static RESOURCES: LazyLock<HashMap<&'static str, Of>> = LazyLock::new(|| {
    let stored = api::tables::all_resources().iter().filter(|row| !row.storage_prefix.is_empty());
    // where two groups share objects, the first one counts
    stored.rev().map(|row| (&*row.storage_prefix, Of::new(&row.group, &row.plural))).collect()
});

/// Metrics of keys that belong to no resource.
static OTHERS: LazyLock<Of> = LazyLock::new(|| Of::new("", ""));

fn of(key: &[u8]) -> &'static Of {
    let found = || {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix("/registry/")?;
        let mut ends = rest.match_indices('/').map(|(at, _)| at).chain([rest.len()]);
        let (first, second) = (ends.next()?, ends.next());
        second.and_then(|end| RESOURCES.get(&rest[..end])).or_else(|| RESOURCES.get(&rest[..first]))
    };
    found().unwrap_or(&OTHERS)
}

/// A store whose requests are counted.
pub struct Measured(pub Arc<dyn Store>);

#[async_trait]
impl Store for Measured {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        let started = Instant::now();
        let result = self.0.get(key).await;
        of(key).count(Operation::Get, started, result.is_err());
        result
    }

    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        let started = Instant::now();
        let result = self.0.range(start, end, limit, revision).await;
        of(start).count(Operation::List, started, result.is_err());
        result
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let started = Instant::now();
        let result = self.0.revision().await;
        OTHERS.count(Operation::Revision, started, result.is_err());
        result
    }

    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        let started = Instant::now();
        let result = self.0.put(key, value, expected, ttl).await;
        let operation = if expected == 0 { Operation::Create } else { Operation::Update };
        of(key).count(operation, started, result.is_err());
        result
    }

    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        let started = Instant::now();
        let result = self.0.delete(key, expected).await;
        of(key).count(Operation::Delete, started, result.is_err());
        result
    }

    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        self.0.watch(prefix, revision).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.0.compact(revision).await
    }
}

/// etcd with its requests counted and its size shown.
pub fn measured(etcd: Etcd) -> Arc<dyn Store> {
    let etcd = Arc::new(etcd);
    *SIZED.lock() = Arc::downgrade(&etcd);
    Arc::new(Measured(etcd))
}

static SIZED: LazyLock<Mutex<Weak<Etcd>>> = LazyLock::new(|| Mutex::new(Weak::new()));

/// Asks etcd for its size, before the metrics are shown. One that does not answer soon has the size it had.
pub async fn read_size() {
    static SIZE: LazyLock<Arc<Gauge>> = LazyLock::new(|| {
        let help = "Size of the storage database file physically allocated in bytes.";
        registry().gauge_vec("apiserver_storage_size_bytes", help, &["storage_cluster_id"]).with(&["etcd-0"])
    });
    let Some(etcd) = SIZED.lock().upgrade() else { return };
    if let Ok(Ok(size)) = tokio::time::timeout(Duration::from_secs(1), etcd.size()).await {
        SIZE.set(size as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_what_they_are_for() {
        let store = Measured(Arc::new(store::memory::Memory::new()));
        let lease = b"/registry/leases/kube-system/a";
        store.put(lease, Bytes::from_static(b"x"), 0, None).await.unwrap();
        store.get(lease).await.unwrap();
        store.range(b"/registry/services/specs/", b"/registry/services/specs0", 0, 0).await.unwrap();
        store.revision().await.unwrap();
        let text = registry().text();
        for labels in [
            "{group=\"coordination.k8s.io\",operation=\"create\",resource=\"leases\"}",
            "{group=\"coordination.k8s.io\",operation=\"get\",resource=\"leases\"}",
            "{group=\"\",operation=\"list\",resource=\"services\"}",
            "{group=\"\",operation=\"getCurrentResourceVersion\",resource=\"\"}",
        ] {
            for metric in ["etcd_requests_total", "etcd_request_duration_seconds_count"] {
                assert!(text.contains(&format!("\n{metric}{labels} ")), "{metric}{labels} in {text}");
            }
        }
    }
}
