//! The one contract suite, run against both backends.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use store::{Change, Error, Etcd, Memory, Options, Store, Written, prefix_end};

/// Reads changes until `count` have come.
async fn take(changes: &mut store::Changes, count: usize) -> Vec<Change> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch =
            tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(batch.revision, batch.changes.last().unwrap().revision());
        taken.extend(batch.changes);
    }
    taken
}

fn done(written: Written) -> i64 {
    match written {
        Written::Done(revision) => revision,
        Written::Conflict(other) => panic!("conflict with {other:?}"),
    }
}

fn conflict(written: Written) -> Option<store::KeyValue> {
    match written {
        Written::Conflict(other) => other,
        Written::Done(revision) => panic!("done at {revision}"),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn contract(store: Arc<dyn Store>) {
    writes_are_conditional(&*store).await;
    ranges_page_at_one_revision(&*store).await;
    watches_replay_and_follow(&*store).await;
    a_watch_of_everything_reaches_every_revision(&*store).await;
    compaction_ends_old_reads(&*store).await;
    leases_expire(&*store).await;
}

async fn writes_are_conditional(store: &dyn Store) {
    let first = done(store.put(b"/w/a", bytes("1"), 0, None).await.unwrap());
    let there = conflict(store.put(b"/w/a", bytes("2"), 0, None).await.unwrap()).unwrap();
    assert_eq!((there.value.as_ref(), there.mod_revision), (b"1".as_ref(), first));
    assert!(conflict(store.put(b"/w/b", bytes("2"), 7, None).await.unwrap()).is_none());
    let second = done(store.put(b"/w/a", bytes("2"), first, None).await.unwrap());
    assert!(second > first);
    let (got, revision) = store.get(b"/w/a").await.unwrap();
    let got = got.unwrap();
    assert_eq!((got.create_revision, got.mod_revision), (first, second));
    assert!(revision >= second && store.revision().await.unwrap() >= second);
    assert!(conflict(store.delete(b"/w/a", first).await.unwrap()).is_some());
    assert!(done(store.delete(b"/w/a", second).await.unwrap()) > second);
    assert!(conflict(store.delete(b"/w/a", second).await.unwrap()).is_none());
    assert!(store.get(b"/w/a").await.unwrap().0.is_none());
}

async fn ranges_page_at_one_revision(store: &dyn Store) {
    for name in ["a", "b", "c", "d"] {
        done(store.put(format!("/r/{name}").as_bytes(), bytes(name), 0, None).await.unwrap());
    }
    let end = prefix_end(b"/r/");
    let page = store.range(b"/r/", &end, 3, 0).await.unwrap();
    assert!(page.more && page.items.len() == 3);
    done(store.put(b"/r/e", bytes("e"), 0, None).await.unwrap());
    let rest = store.range(b"/r/c\0", &end, 3, page.revision).await.unwrap();
    assert_eq!(rest.revision, page.revision);
    assert_eq!(rest.items.iter().map(|item| item.value.clone()).collect::<Vec<_>>(), [bytes("d")]);
    assert_eq!(store.range(b"/r/", &end, 0, 0).await.unwrap().items.len(), 5);
    assert!(store.range(b"/r/", &end, 0, i64::MAX).await.is_err());
}

async fn watches_replay_and_follow(store: &dyn Store) {
    let start = store.revision().await.unwrap();
    let created = done(store.put(b"/c/a", bytes("1"), 0, None).await.unwrap());
    done(store.put(b"/other", bytes("x"), 0, None).await.unwrap());
    let mut changes = store.watch(b"/c/", start).await.unwrap();
    let first = take(&mut changes, 1).await;
    assert!(matches!(&first[0], Change::Put(now) if now.mod_revision == created));
    let updated = done(store.put(b"/c/a", bytes("2"), created, None).await.unwrap());
    let deleted = done(store.delete(b"/c/a", updated).await.unwrap());
    let rest = take(&mut changes, 2).await;
    assert!(matches!(&rest[0], Change::Put(now) if now.value == bytes("2")));
    assert!(
        matches!(&rest[1], Change::Delete { key, revision } if *key == bytes("/c/a") && *revision == deleted)
    );
}

async fn a_watch_of_everything_reaches_every_revision(store: &dyn Store) {
    let mut changes = store.watch(b"", store.revision().await.unwrap()).await.unwrap();
    done(store.put(b"/registry/x", bytes("1"), 0, None).await.unwrap());
    done(store.put(b"elsewhere", bytes("1"), 0, None).await.unwrap());
    assert_eq!(take(&mut changes, 2).await[1].revision(), store.revision().await.unwrap());
}

async fn compaction_ends_old_reads(store: &dyn Store) {
    let old = done(store.put(b"/k/a", bytes("1"), 0, None).await.unwrap());
    let new = done(store.put(b"/k/a", bytes("2"), old, None).await.unwrap());
    store.compact(new).await.unwrap();
    store.compact(new).await.unwrap();
    assert!(matches!(store.range(b"/k/", b"/k0", 0, old).await, Err(Error::Compacted { .. })));
    let mut changes = store.watch(b"/k/", old - 1).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap();
    assert!(matches!(next, Some(Err(Error::Compacted { .. }))), "{next:?}");
    assert!(changes.next().await.is_none());
    assert_eq!(store.get(b"/k/a").await.unwrap().0.unwrap().value, bytes("2"));
}

async fn leases_expire(store: &dyn Store) {
    let mut changes = store.watch(b"/l/", store.revision().await.unwrap()).await.unwrap();
    done(store.put(b"/l/a", bytes("1"), 0, Some(1)).await.unwrap());
    let seen = take(&mut changes, 2).await;
    assert!(matches!(&seen[1], Change::Delete { .. }));
    assert!(store.get(b"/l/a").await.unwrap().0.is_none());
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(Arc::new(Memory::new())).await;
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(data: &std::path::Path, client: &str, peer: &str) -> Server {
    start_member("default", data, client, peer, &format!("default={peer}"))
}

/// One member of `cluster`, with elections that are soon over.
fn start_member(name: &str, data: &std::path::Path, client: &str, peer: &str, cluster: &str) -> Server {
    let binary = std::env::var("ETCD").unwrap_or_else(|_| "/usr/bin/etcd".to_owned());
    let child = Command::new(&binary)
        .args(["--name", name, "--data-dir"])
        .arg(data)
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", cluster])
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{binary} cannot be started (apt package etcd-server): {error}"));
    Server(child)
}

async fn ready(store: &Etcd) {
    for _ in 0..200 {
        if store.revision().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("etcd did not become ready");
}

#[tokio::test]
async fn etcd_keeps_the_contract_and_reconnects() {
    let folder = tempfile::tempdir().unwrap();
    let client = format!("http://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let server = start(folder.path(), &client, &peer);
    let impatient =
        Options { servers: vec![client.clone()], patience: Duration::from_secs(1), ..Options::default() };
    let etcd = Arc::new(Etcd::connect(&impatient).await.unwrap());
    ready(&etcd).await;
    contract(etcd.clone()).await;

    let revision = etcd.revision().await.unwrap();
    let mut changes = etcd.watch(b"", revision).await.unwrap();
    drop(server);
    assert!(matches!(changes.next().await, Some(Err(_))));
    assert!(matches!(etcd.revision().await, Err(Error::Unavailable(_))));
    let _server = start(folder.path(), &client, &peer);
    ready(&etcd).await;
    let mut changes = etcd.watch(b"", revision).await.unwrap();
    let written = done(etcd.put(b"/again", bytes("1"), 0, None).await.unwrap());
    assert_eq!(take(&mut changes, 1).await[0].revision(), written);
}

#[tokio::test]
async fn requests_wait_for_an_etcd_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let client = format!("http://127.0.0.1:{}", free_port());
    let peer = format!("http://127.0.0.1:{}", free_port());
    let options = Options { servers: vec![client.clone()], ..Options::default() };
    let etcd = Arc::new(Etcd::connect(&options).await.unwrap());
    // Before it was ever there, and after it was killed.
    for round in 0..2 {
        let (reads, writes) = (etcd.clone(), etcd.clone());
        let read = tokio::spawn(async move { reads.get(b"/key").await });
        let write =
            tokio::spawn(
                async move { writes.put(format!("/{round}").as_bytes(), bytes("1"), 0, None).await },
            );
        let leased = etcd.clone();
        let lease = tokio::spawn(async move { leased.put(b"/leased", bytes("1"), 0, Some(600)).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!read.is_finished() && !write.is_finished() && !lease.is_finished());
        let _server = start(folder.path(), &client, &peer);
        let answers =
            tokio::time::timeout(Duration::from_secs(10), async { (read.await, write.await, lease.await) });
        let (read, write, lease) = answers.await.unwrap();
        assert!(read.unwrap().is_ok());
        done(write.unwrap().unwrap());
        lease.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_member_that_is_dead_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let url = || format!("http://127.0.0.1:{}", free_port());
    let (client, peer) = (url(), url());
    let _server = start(folder.path(), &client, &peer);
    let etcd =
        Etcd::connect(&Options { servers: vec![url(), client, url()], ..Options::default() }).await.unwrap();
    ready(&etcd).await;
    let began = std::time::Instant::now();
    for number in 0..200 {
        let key = format!("/{number}");
        done(etcd.put(key.as_bytes(), bytes("1"), 0, None).await.unwrap());
        assert!(etcd.get(key.as_bytes()).await.unwrap().0.is_some());
    }
    assert!(began.elapsed() < Duration::from_secs(10), "the one that lives is kept to");
    let mut changes = etcd.watch(b"", etcd.revision().await.unwrap()).await.unwrap();
    done(etcd.put(b"/seen", bytes("1"), 0, None).await.unwrap());
    assert_eq!(take(&mut changes, 1).await.len(), 1);
}

#[tokio::test]
async fn a_watch_of_a_member_without_a_leader_ends_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let url = || format!("http://127.0.0.1:{}", free_port());
    let (clients, peers) = ([url(), url()], [url(), url()]);
    let cluster = format!("0={},1={}", peers[0], peers[1]);
    let member = |number: usize| {
        let name = number.to_string();
        start_member(&name, &folder.path().join(&name), &clients[number], &peers[number], &cluster)
    };
    let (_stays, leaves) = (member(0), member(1));
    let reach = async |number: usize| {
        let servers = vec![clients[number].clone()];
        let etcd = Etcd::connect(&Options { servers, ..Options::default() }).await.unwrap();
        ready(&etcd).await;
        etcd
    };
    let (cut_off, other) = (reach(0).await, reach(1).await);
    let revision = cut_off.revision().await.unwrap();
    let mut changes = cut_off.watch(b"", revision).await.unwrap();
    done(other.put(b"/before", bytes("1"), 0, None).await.unwrap());
    let seen = take(&mut changes, 1).await[0].revision();

    drop(leaves);
    let ended = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
    assert!(matches!(ended, Ok(Some(Err(Error::Unavailable(_))))), "{ended:?}");
    assert!(changes.next().await.is_none());
    assert!(matches!(cut_off.watch(b"", seen).await, Err(Error::Unavailable(_))));

    let _back = member(1);
    ready(&other).await;
    let written = done(other.put(b"/after", bytes("1"), 0, None).await.unwrap());
    ready(&cut_off).await;
    let mut changes = cut_off.watch(b"", seen).await.unwrap();
    assert_eq!(take(&mut changes, 1).await[0].revision(), written);
}
