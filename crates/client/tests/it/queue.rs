//! The work queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::WorkQueue;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_key_is_queued_once_and_again_after_it_was_handled() {
    let queue: WorkQueue<&str> = WorkQueue::default();
    queue.add("a");
    queue.add("a");
    queue.add("b");
    let a = queue.get().await.unwrap();
    assert_eq!(*a, "a");
    queue.add("a");
    queue.add("a");
    let b = queue.get().await.unwrap();
    assert_eq!(*b, "b");
    assert!(timeout(Duration::from_millis(50), queue.get()).await.is_err(), "one handler at a time");
    drop(a);
    assert_eq!(*queue.get().await.unwrap(), "a");
    drop(b);
    queue.shutdown();
    assert!(queue.get().await.is_none());
}

#[tokio::test]
async fn a_key_that_is_kept_back_is_handed_out_when_it_is_released() {
    let queue: WorkQueue<&str> = WorkQueue::default();
    queue.add("a");
    let a = queue.get().await.unwrap();
    queue.hold(&"a");
    queue.hold(&"a");
    queue.add("a");
    drop(a);
    queue.add("b");
    queue.release(&"a");
    assert_eq!(*queue.get().await.unwrap(), "b");
    assert!(timeout(Duration::from_millis(50), queue.get()).await.is_err(), "kept back once more");
    queue.release(&"a");
    assert_eq!(*queue.get().await.unwrap(), "a");
    queue.add("c");
    queue.hold(&"c");
    assert!(queue.is_empty());
    queue.release(&"c");
    assert_eq!(*queue.get().await.unwrap(), "c");
    queue.hold(&"d");
    queue.release(&"d");
    assert!(queue.is_empty(), "nobody asked for it");
}

#[tokio::test]
async fn the_earliest_time_counts() {
    let queue: WorkQueue<&str> = WorkQueue::default();
    let start = Instant::now();
    queue.add_after("a", Duration::from_millis(300));
    queue.add_after("a", Duration::from_millis(20));
    queue.add_after("a", Duration::from_millis(100));
    drop(queue.get().await.unwrap());
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(start.elapsed() < Duration::from_millis(300));
    assert!(timeout(Duration::from_millis(400), queue.get()).await.is_err());
}

#[tokio::test]
async fn failures_double_the_delay() {
    let queue: WorkQueue<&str> = WorkQueue::default();
    for (n, delay) in [5u64, 10, 20, 40].into_iter().enumerate() {
        assert_eq!(queue.failures(&"a"), n as u32);
        let start = Instant::now();
        queue.add_rate_limited("a");
        drop(queue.get().await.unwrap());
        assert!(start.elapsed() >= Duration::from_millis(delay));
    }
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test]
async fn many_workers_miss_nothing() {
    let queue: WorkQueue<u32> = WorkQueue::default();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let queue = queue.clone();
        workers.spawn(async move {
            let mut handled = 0;
            while let Some(_item) = queue.get().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
                handled += 1;
            }
            handled
        });
    }
    for n in 0..100 {
        if n % 3 == 0 { queue.add_after(n, Duration::from_millis(u64::from(n))) } else { queue.add(n) }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    queue.shutdown();
    let handled: u32 = workers.join_all().await.into_iter().sum();
    assert_eq!(handled, 100);
}

#[tokio::test]
async fn a_named_queue_is_counted() {
    let queue: WorkQueue<String> = WorkQueue::named("counted");
    let value = |metric: &str| -> f64 {
        let text = daemon::metrics::registry().text();
        let found =
            text.lines().find_map(|line| line.strip_prefix(&format!("{metric}{{name=\"counted\"}} ")));
        found.unwrap_or_else(|| panic!("{metric} in {text}")).parse().unwrap()
    };
    queue.add("a".into());
    queue.add("a".into());
    queue.add("b".into());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(value("workqueue_depth"), 2.0);
    assert_eq!(value("workqueue_adds_total"), 2.0);
    let item = queue.get().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(value("workqueue_depth"), 1.0);
    assert_eq!(value("workqueue_queue_duration_seconds_count"), 1.0);
    assert!(value("workqueue_queue_duration_seconds_sum") >= 0.02);
    assert!(value("workqueue_unfinished_work_seconds") >= 0.02);
    assert!(value("workqueue_longest_running_processor_seconds") >= 0.02);
    queue.add_rate_limited(item.clone());
    drop(item);
    assert!(value("workqueue_work_duration_seconds_sum") >= 0.02);
    assert_eq!(value("workqueue_retries_total"), 1.0);
    assert_eq!(value("workqueue_unfinished_work_seconds"), 0.0);
}

/// Two writers that are at odds, or a cache that stays behind, must not make requests without end.
#[tokio::test]
async fn a_key_that_always_conflicts_comes_back_later_each_time() {
    let queue: WorkQueue<String> = WorkQueue::default();
    let (tries, shutdown) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
    queue.add("a".to_owned());
    let (seen, stop) = (queue.clone(), shutdown.clone());
    client::run_workers(queue, 1, shutdown, move |key| {
        let earlier = tries.fetch_add(1, Ordering::Relaxed);
        assert_eq!(seen.failures(&key), earlier);
        if earlier == 4 {
            stop.cancel();
        }
        let status = api::Status { reason: "Conflict".into(), code: 409, ..Default::default() };
        std::future::ready(Err(client::Error::Status(Box::new(status))))
    })
    .await;
}
