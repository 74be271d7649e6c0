//! Fills every cache from one watch over the whole store, and answers how far that has come.
//!
//! A consistent read asks the store for its revision, a question that all who wait at the moment share, and waits until the feed has
//! reached it. The watch is over all keys, not only ours, for then each revision shows up in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use daemon::aside::{Parts, aside};
use futures::StreamExt as _;
use registry::Kind;
use store::{Change, KeyValue, Revision, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::entry::Entry;
use crate::event::EventType;
use crate::stored::Stored;
use crate::{Cache, Objects};

const ROOT: &str = "/registry/";
const PAGE: i64 = 1000;
/// How late pages, history and the queues of watches that are over may be let go of.
const PRUNING: Duration = Duration::from_secs(5);
const COMPACTION_KEY: &[u8] = b"compact_rev_key";

/// More objects than can be indexed, or freed, in a moment.
const MANY: usize = 500;

type Asking = oneshot::Sender<Result<Revision, String>>;

/// A kind's objects, and those that cannot be read.
type Loaded = (Objects, BTreeMap<String, crate::entry::Error>);

/// What is stored, and how.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The kinds of these.
    pub resources: Vec<&'static Arc<Kind>>,
    /// How often history of the store is thrown away, and so for how long old revisions can be read; zero leaves it to others.
    pub compaction: Duration,
    /// New objects of all kinds are written as JSON.
    pub json: bool,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            resources: registry::kind::by_default().collect(),
            compaction: Duration::from_secs(300),
            json: false,
        }
    }
}

/// By storage prefix: `pods`, `services/specs`, …
#[derive(Clone, Default)]
struct Caches {
    open: HashMap<String, Arc<Cache>>,
    /// Those that take the place of open ones, or come beside them, once their objects are read.
    loading: HashMap<String, Arc<Cache>>,
}

impl Caches {
    /// The storage prefix of a key that is below any, and what follows it.
    fn place<'k>(&self, key: &'k [u8]) -> Option<(&'k str, &'k str)> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
        let first = key.find('/')?;
        let second = key[first + 1..].find('/').map(|second| first + 1 + second);
        let known =
            |end: &usize| self.open.contains_key(&key[..*end]) || self.loading.contains_key(&key[..*end]);
        let end = second.filter(known).or_else(|| Some(first).filter(known))?;
        Some((&key[..end], &key[end + 1..]))
    }

    fn of(&self, prefix: &str) -> impl Iterator<Item = &Arc<Cache>> {
        [self.open.get(prefix), self.loading.get(prefix)].into_iter().flatten()
    }
}

/// A cache whose objects are being read; it is forgotten where that is given up.
struct Loading<'f> {
    feed: &'f Feed,
    prefix: String,
    cache: Arc<Cache>,
}

impl<'f> Loading<'f> {
    fn begin(feed: &'f Feed, kind: &Arc<Stored>) -> Loading<'f> {
        let cache = Arc::new(Cache::loading(Arc::clone(kind)));
        let prefix = kind.resource.storage_prefix.to_string();
        feed.change(|caches| _ = caches.loading.insert(prefix.clone(), Arc::clone(&cache)));
        Loading { feed, prefix, cache }
    }

    /// Puts the cache in the place of the one that had its storage prefix before, whose watches end. Both at once: the
    /// feed hands it each change once.
    fn finish(self) {
        let former = self.feed.cache(&self.prefix);
        self.feed.change(|caches| {
            caches.loading.remove(&self.prefix);
            caches.open.insert(self.prefix.clone(), Arc::clone(&self.cache));
        });
        former.inspect(|former| former.close());
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if self.feed.caches.load().loading.contains_key(&self.prefix) {
            self.feed.change(|caches| _ = caches.loading.remove(&self.prefix));
        }
    }
}

/// All caches, and the revision up to which they are true.
pub struct Feed {
    store: Arc<dyn Store>,
    caches: ArcSwap<Caches>,
    /// Objects are read for all kinds or for one: what changes while all are read comes to none.
    reading: tokio::sync::Mutex<()>,
    revision: watch::Sender<Revision>,
    /// What is older is gone from the store, whoever threw it away.
    compacted: AtomicI64,
    compaction: Duration,
    ask: mpsc::Sender<Asking>,
    asked: parking_lot::Mutex<Option<mpsc::Receiver<Asking>>>,
}

impl Feed {
    /// Caches for all kinds of `storage`. [`Feed::run`] fills them.
    pub fn new(store: Arc<dyn Store>, storage: &Storage) -> Feed {
        let mut caches = Caches::default();
        for resource in &storage.resources {
            if !caches.open.contains_key(resource.storage_prefix.as_ref())
                && let Some(kind) = Stored::of(resource, storage.json)
            {
                caches.open.insert(resource.storage_prefix.to_string(), Arc::new(Cache::new(kind)));
            }
        }
        let (ask, asked) = mpsc::channel(1024);
        Feed {
            store,
            caches: ArcSwap::from_pointee(caches),
            reading: tokio::sync::Mutex::default(),
            revision: watch::Sender::new(0),
            compacted: AtomicI64::new(0),
            compaction: storage.compaction,
            ask,
            asked: parking_lot::Mutex::new(Some(asked)),
        }
    }

    pub fn cache(&self, storage_prefix: &str) -> Option<Arc<Cache>> {
        self.caches.load().open.get(storage_prefix).cloned()
    }

    fn change(&self, change: impl Fn(&mut Caches)) {
        self.caches.rcu(|caches| {
            let mut caches = Caches::clone(caches);
            change(&mut caches);
            caches
        });
    }

    /// Takes up a kind, in place of the one that had its storage prefix before: its objects are read at one revision, and what
    /// happened meanwhile comes after them. The watches of the former end.
    ///
    /// # Errors
    /// Where the store does not answer; then everything is as before.
    pub async fn admit(&self, kind: Arc<Stored>) -> Result<(), store::Error> {
        let _reading = self.reading.lock().await;
        let loading = Loading::begin(self, &kind);
        let mut loaded = Loaded::default();
        let revision = self
            .range(kind.prefix.as_bytes(), |item| {
                if let Ok(Some(key)) =
                    std::str::from_utf8(&item.key).map(|key| key.strip_prefix(&kind.prefix))
                {
                    read(&kind, key, item, &mut loaded);
                }
            })
            .await?;
        loading.cache.open(loaded.0, loaded.1, revision);
        loading.finish();
        Ok(())
    }

    /// Forgets a kind's objects, and ends its watches.
    pub fn forget(&self, storage_prefix: &str) {
        let former = self.cache(storage_prefix);
        self.change(|caches| _ = caches.open.remove(storage_prefix));
        former.inspect(|former| former.close());
    }

    /// Up to where the caches are true; 0 before the first load.
    pub fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// The oldest revision at which the store can still be read. Caches may know older ones, but a client's page of a
    /// list must not be had or not had by which server it asks.
    pub fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Acquire)
    }

    /// Waits until the caches are true for `revision`; `false` when that takes longer than `timeout`.
    pub async fn reached(&self, revision: Revision, timeout: Duration) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let mut seen = self.revision.subscribe();
        let waited = seen.wait_for(|seen| *seen >= revision);
        matches!(tokio::time::timeout(timeout, waited).await, Ok(Ok(_)))
    }

    /// The store's revision at some moment after the call.
    pub async fn store_revision(&self) -> Result<Revision, String> {
        let (answer, answered) = oneshot::channel();
        if self.ask.send(answer).await.is_err() {
            return Err("the server is shutting down".to_owned());
        }
        answered.await.unwrap_or_else(|_| Err("the server is shutting down".to_owned()))
    }

    /// Runs until `shutdown`: loads, follows, answers, compacts, tidies up.
    pub async fn run(&self, shutdown: CancellationToken) {
        let Some(asked) = self.asked.lock().take() else { return };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
            () = self.answer(asked) => {}
            () = self.compact() => {}
            () = self.prune() => {}
        }
    }

    async fn answer(&self, mut asked: mpsc::Receiver<Asking>) {
        let mut waiting = Vec::new();
        while asked.recv_many(&mut waiting, 1024).await > 0 {
            let revision = self.store.revision().await.map_err(|error| error.to_string());
            for answer in waiting.drain(..) {
                // who no longer waits needs no answer
                let _ = answer.send(revision.clone());
            }
        }
    }

    async fn follow(&self) {
        let mut pause = Duration::from_millis(50);
        let mut at = 0;
        loop {
            let error = match self.follow_from(&mut at, &mut pause).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if let store::Error::Compacted { .. } = error {
                at = 0;
            }
            tracing::warn!(%error, revision = at, "the watch of the store ended; starting again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Ends only with an error.
    async fn follow_from(
        &self,
        at: &mut Revision,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, store::Error> {
        if *at == 0 {
            *at = self.load().await?;
            self.revision.send_replace(*at);
        }
        let mut changes = self.store.watch(b"", *at).await?;
        let mut parts = Parts::begin();
        while let Some(batch) = changes.next().await {
            let batch = batch?;
            *pause = Duration::from_millis(50);
            for change in &batch.changes {
                self.apply(change);
                parts.pause().await;
            }
            *at = batch.revision;
            self.revision.send_replace(batch.revision);
        }
        Err(store::Error::Unavailable("the watch ended".to_owned()))
    }

    /// Reads everything at one revision.
    async fn load(&self) -> Result<Revision, store::Error> {
        let _reading = self.reading.lock().await;
        let caches = self.caches.load_full();
        let mut loaded: HashMap<&str, Loaded> = HashMap::new();
        let revision = self
            .range(ROOT.as_bytes(), |item| {
                let Some((prefix, key)) = caches.place(&item.key) else { return };
                let Some((prefix, cache)) = caches.open.get_key_value(prefix) else { return };
                read(&cache.kind, key, item, loaded.entry(prefix).or_default());
            })
            .await?;
        let first = self.revision() == 0;
        let mut parts = Parts::begin();
        for (prefix, cache) in &caches.open {
            let (objects, unreadable) = loaded.remove(prefix.as_str()).unwrap_or_default();
            aside(objects.len() > MANY, || match first {
                true => cache.load(objects, unreadable, revision),
                false => cache.reload(objects, unreadable, revision),
            });
            parts.pause().await;
        }
        Ok(revision)
    }

    /// Reads what is below a prefix, all at one revision, which it answers.
    async fn range(&self, prefix: &[u8], mut item: impl FnMut(&KeyValue)) -> Result<Revision, store::Error> {
        let end = store::prefix_end(prefix);
        let mut start = prefix.to_vec();
        let mut revision = 0;
        let mut parts = Parts::begin();
        loop {
            let page = self.store.range(&start, &end, PAGE, revision).await?;
            revision = page.revision;
            for one in &page.items {
                item(one);
                parts.pause().await;
            }
            match page.items.last() {
                Some(last) if page.more => {
                    start = last.key.to_vec();
                    start.push(0);
                }
                _ => return Ok(revision),
            }
        }
    }

    fn apply(&self, change: &Change) {
        let caches = self.caches.load();
        let Some((prefix, key)) = caches.place(change.key()) else { return };
        for cache in caches.of(prefix) {
            let applied = match change {
                Change::Put(now) => {
                    let created = now.create_revision == now.mod_revision;
                    cache.apply(key, Some((&now.value, created)), now.mod_revision)
                }
                Change::Delete { revision, .. } => cache.apply(key, None, *revision),
            };
            if let Err(error) = applied {
                // Watchers hear nothing of it, and keep what was there before.
                cache.kind.report_unreadable(&error);
            }
        }
    }

    /// A kind that nobody lists in pages any more still has to let go of its last pages.
    async fn prune(&self) {
        loop {
            tokio::time::sleep(PRUNING).await;
            let now = Instant::now();
            let caches = self.caches.load_full();
            let old: Vec<_> = caches.open.values().flat_map(|cache| cache.prune(now)).collect();
            aside(!old.is_empty(), || drop(old));
        }
    }

    /// Once in a while, five minutes mostly, one of the API servers throws away the history older than that. Who does it is
    /// settled by a conditional write of the revision to a key that all of them know.
    async fn compact(&self) {
        if self.compaction.is_zero() {
            return std::future::pending().await;
        }
        let (mut expected, mut revision) = (0, 0);
        loop {
            let target = self.revision();
            let value = revision.to_string().into();
            match self.store.put(COMPACTION_KEY, value, expected, None).await {
                Ok(store::Written::Done(at)) => {
                    if revision > 0 {
                        match self.store.compact(revision).await {
                            Ok(_) => self.compacted.store(revision, Ordering::Release),
                            Err(error) => tracing::warn!(%error, revision, "the store was not compacted"),
                        }
                    }
                    expected = at;
                }
                Ok(store::Written::Conflict(other)) => {
                    let by_other = other.as_ref().and_then(|other| std::str::from_utf8(&other.value).ok());
                    if let Some(by_other) = by_other.and_then(|text| text.parse().ok()) {
                        self.compacted.fetch_max(by_other, Ordering::AcqRel);
                    }
                    expected = other.map_or(0, |other| other.mod_revision);
                }
                Err(error) => tracing::warn!(%error, "the compaction key was not written"),
            }
            tokio::time::sleep(self.compaction).await;
            revision = target;
        }
    }
}

/// Reads one object of a kind, where it can be read.
fn read(kind: &Arc<Stored>, key: &str, item: &KeyValue, (objects, unreadable): &mut Loaded) {
    match Entry::decode(kind, key.into(), &item.value, item.mod_revision, EventType::Added.name()) {
        Ok(entry) => {
            objects.insert(Arc::clone(&entry.key), Arc::new(entry));
        }
        Err(error) => {
            kind.report_unreadable(&error);
            unreadable.insert(key.to_owned(), error);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::SNAPSHOT_AGE;

    fn config_maps() -> &'static Arc<registry::Kind> {
        registry::kind::built_in("", "v1", "configmaps").unwrap()
    }

    #[test]
    fn pages_are_let_go_of_when_nobody_lists() {
        let storage = Storage::default();
        let feed = Feed::new(Arc::new(store::Memory::new()), &storage);
        let pods = feed.cache("pods").unwrap();
        let kept = || pods.state.lock().snapshots.len();
        pods.keep(&pods.snapshot(1));
        pods.keep(&pods.snapshot(2));
        let now = Instant::now();
        pods.prune(now);
        assert_eq!(kept(), 2);
        pods.prune(now + SNAPSHOT_AGE + Duration::from_secs(1));
        assert_eq!(kept(), 0);
    }

    #[tokio::test]
    async fn a_watch_that_nobody_reads_keeps_nothing_past_its_time() {
        let object = api::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "n"}});
        let value = Bytes::from(api::json::to_vec(&object));
        let cache = Arc::new(Cache::new(Stored::of(config_maps(), true).unwrap()));
        let (_, subscription) = cache.watch_from_now(Arc::new(crate::Filter::within("n")), 0);
        let now = Instant::now();
        subscription.events.ends(now + Duration::from_secs(5));
        let state = || (cache.watchers(), subscription.events.is_empty());
        cache.apply("n/a", Some((&value, true)), 2).unwrap();
        cache.prune(now);
        assert_eq!(state(), (1, false));
        cache.prune(now + Duration::from_secs(6));
        assert_eq!(state(), (0, true));
        cache.apply("n/a", Some((&value, false)), 3).unwrap();
        assert_eq!(state(), (0, true));
        assert!(subscription.events.recv().await.is_none());
    }

    #[test]
    fn what_happens_while_objects_are_read_comes_after_them() {
        let kind = Stored::of(config_maps(), true).unwrap();
        let value = |name: &str, text: &str| {
            let object = api::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "n"}, "data": {"a": text}});
            Bytes::from(api::json::to_vec(&object))
        };
        let item = |name: &str, revision| KeyValue {
            key: format!("/registry/configmaps/n/{name}").into(),
            value: value(name, "read"),
            create_revision: 1,
            mod_revision: revision,
        };
        let cache = Cache::loading(Arc::clone(&kind));
        let mut loaded = Loaded::default();
        for (name, revision) in [("changed", 5), ("deleted", 6), ("made", 9)] {
            read(&kind, &format!("n/{name}"), &item(name, revision), &mut loaded);
        }
        cache.apply("n/made", Some((&value("made", "read"), true)), 9).unwrap();
        cache.apply("n/deleted", None, 11).unwrap();
        cache.apply("n/changed", Some((&value("changed", "later"), false)), 12).unwrap();
        assert!(cache.is_empty());
        cache.open(loaded.0, loaded.1, 10);
        // The feed may be behind what was read.
        cache.apply("n/made", None, 8).unwrap();

        let text = |name| cache.get("n", name).map(|entry| entry.read().unwrap()["data"]["a"].to_string());
        assert_eq!(text("changed").as_deref(), Some("\"later\""));
        assert_eq!(text("made").as_deref(), Some("\"read\""));
        assert_eq!((text("deleted"), cache.len()), (None, 2));
    }

    #[tokio::test]
    async fn a_kind_whose_objects_are_not_read_is_not_taken_up() {
        let storage = Storage { resources: Vec::new(), ..Storage::default() };
        let feed = Feed::new(Arc::new(store::Memory::new()), &storage);
        let kind = Stored::of(config_maps(), false).unwrap();
        let given_up = Loading::begin(&feed, &kind);
        assert_eq!(feed.caches.load().of("configmaps").count(), 1);
        drop(given_up);
        assert_eq!(feed.caches.load().of("configmaps").count(), 0);
        feed.admit(kind).await.unwrap();
        assert_eq!(feed.caches.load().of("configmaps").count(), 1);
        assert!(feed.cache("configmaps").is_some());
    }
}
