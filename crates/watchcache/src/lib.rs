//! The watch cache: for each stored kind, all objects in order of their keys, a bounded history of changes, and the watchers, indexed by
//! what they select. One [`feed`] fills all of them, so that one revision is true for every kind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod converted;
pub mod entry;
pub mod event;
pub mod feed;
pub mod filter;
pub mod follow;
mod history;
pub mod legacy;
mod metrics;
mod postings;
mod queue;
pub mod resources;
pub mod scan;
pub mod stored;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::Mutex;

use entry::Entry;
use event::{Event, EventType};
use filter::{Filter, Handle};
use history::History;
use postings::Postings;
use queue::Queue;
use stored::Stored;

/// All objects of a kind at a moment.
pub type Objects = OrdMap<Arc<str>, Arc<Entry>>;

/// Snapshots kept for lists in pages, and for how long. They keep alive what has changed since; later pages come from the store.
const SNAPSHOTS: usize = 16;
const SNAPSHOT_AGE: Duration = Duration::from_secs(60);

/// One kind's cache.
pub struct Cache {
    pub kind: Arc<Stored>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    postings: Postings,
    /// Stored values that cannot be decoded, by key below the prefix. `objects` keeps their last readable state.
    unreadable: BTreeMap<String, entry::Error>,
    /// Revision of the last change to this kind.
    revision: i64,
    /// Changes since the reading of the objects began; `None` once they are loaded.
    pending: Option<Vec<Pending>>,
    /// The revision at which the objects were read: earlier changes are in them.
    loaded: i64,
    /// The kind is no longer served, or served by another cache.
    closed: bool,
    history: History,
    watchers: HashMap<Handle, Vec<Watcher>, rustc_hash::FxBuildHasher>,
    /// Watchers by field index: how many look at each, so that an event asks only for those.
    field_watchers: Vec<usize>,
    next_watcher: u64,
    snapshots: VecDeque<(Snapshot, Instant)>,
}

/// A change to an object while all objects are being read.
struct Pending {
    key: String,
    /// The new value, and whether it was created; `None` for a delete.
    value: Option<(Bytes, bool)>,
    revision: i64,
}

/// What a cache no longer needs.
struct Old {
    _snapshots: Vec<(Snapshot, Instant)>,
    _events: Vec<Arc<Event>>,
}

struct Watcher {
    id: u64,
    filter: Arc<Filter>,
    queue: Arc<Queue>,
}

/// All objects of a kind, and the revision they are true for.
#[derive(Clone)]
pub struct Snapshot {
    pub objects: Objects,
    postings: Postings,
    /// Revision of the last change in it.
    since: i64,
    pub revision: i64,
}

/// The history does not reach back to where a watcher wants to start.
#[derive(Debug, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct TooOld {
    pub asked: i64,
    pub oldest: i64,
}

/// A registered watcher's end. Dropping it ends the watch.
pub struct Subscription {
    /// Closed by the cache when the reader is too slow.
    pub events: Arc<Queue>,
    cache: Arc<Cache>,
    handle: Handle,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.state.lock().remove(&self.handle, self.id);
    }
}

impl Cache {
    pub fn new(kind: Arc<Stored>) -> Cache {
        let state = State { field_watchers: vec![0; kind.fields.len()], ..State::default() };
        Cache { kind, state: Mutex::new(state) }
    }

    /// A cache whose objects are yet to be read: changes wait for [`Cache::open`].
    fn loading(kind: Arc<Stored>) -> Cache {
        let cache = Cache::new(kind);
        cache.state.lock().pending = Some(Vec::new());
        cache
    }

    /// The objects as they were at a revision, and then what happened since.
    fn open(&self, objects: Objects, unreadable: BTreeMap<String, entry::Error>, revision: i64) {
        let postings = Postings::of(objects.values());
        let mut state = self.state.lock();
        let pending = state.pending.take().unwrap_or_default();
        state.replace(objects, unreadable, postings, revision);
        for Pending { key, value, revision } in pending {
            let value = value.as_ref().map(|(value, created)| (value, *created));
            if let Err(error) = state.apply(&self.kind, &key, value, revision) {
                self.kind.report_unreadable(&error);
            }
        }
    }

    /// Ends all watches, and those to come.
    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.watchers.values().flatten().for_each(|watcher| watcher.queue.close());
    }

    /// One object, by its key below the kind's prefix.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        if self.kind.is_namespaced() {
            let mut key = String::with_capacity(namespace.len() + name.len() + 1);
            key.push_str(namespace);
            key.push('/');
            key.push_str(name);
            self.state.lock().objects.get(key.as_str()).cloned()
        } else {
            self.state.lock().objects.get(name).cloned()
        }
    }

    /// [`Cache::get`] for those who decide by it that an object is absent: one that cannot be read is not.
    pub fn find(&self, namespace: &str, name: &str) -> Result<Option<Arc<Entry>>, entry::Error> {
        let key = self.kind.key(namespace, name);
        let key = key.strip_prefix(&self.kind.prefix).unwrap_or(&key);
        let state = self.state.lock();
        match state.unreadable.get(key) {
            Some(error) => Err(error.clone()),
            None => Ok(state.objects.get(key).cloned()),
        }
    }

    /// [`Cache::snapshot`] for those who decide by it that an object is absent: it is an error where one below `base`, a namespace with
    /// its slash or nothing, cannot be read.
    pub fn whole(&self, base: &str) -> Result<Snapshot, entry::Error> {
        let state = self.state.lock();
        let mut below = state.unreadable.range::<str, _>((Bound::Included(base), Bound::Unbounded));
        match below.next().filter(|(key, _)| key.starts_with(base)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(state.snapshot(state.revision)),
        }
    }

    /// The first object that cannot be read whose key, its prefix included, is this or below.
    pub fn unreadable(&self, key: &str) -> Option<entry::Error> {
        let key = key.strip_prefix(&self.kind.prefix)?;
        let state = self.state.lock();
        let (found, error) =
            state.unreadable.range::<str, _>((Bound::Included(key), Bound::Unbounded)).next()?;
        let within = key.is_empty() || key.ends_with('/');
        (found == key || (within && found.starts_with(key))).then(|| error.clone())
    }

    /// The objects now. `fed` is the feed's revision, read before.
    pub fn snapshot(&self, fed: i64) -> Snapshot {
        let state = self.state.lock();
        state.snapshot(fed.max(state.revision))
    }

    /// Revision of the last change to this kind.
    pub fn changed(&self) -> i64 {
        self.state.lock().revision
    }

    /// The objects as they were at a revision that is not later than `fed`, when they are still known.
    pub fn snapshot_at(&self, revision: i64, fed: i64) -> Option<Snapshot> {
        let state = self.state.lock();
        if revision >= state.revision && revision <= fed.max(state.revision) {
            return Some(state.snapshot(revision));
        }
        let kept =
            state.snapshots.iter().find(|(kept, _)| kept.since <= revision && revision <= kept.revision)?;
        Some(Snapshot { revision, ..kept.0.clone() })
    }

    /// Keeps a snapshot for the next page.
    pub fn keep(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock();
        let now = Instant::now();
        while state.snapshots.len() >= SNAPSHOTS {
            state.snapshots.pop_front();
        }
        if !state.snapshots.iter().any(|(kept, _)| kept.revision == snapshot.revision) {
            state.snapshots.push_back((snapshot.clone(), now));
        }
    }

    /// Lets go of what its time is over for: snapshots, history, queues of watches that have ended. Answers what is to be freed,
    /// which may take a while.
    fn prune(&self, now: Instant) -> Option<Old> {
        let mut state = self.state.lock();
        let old = Old { _snapshots: state.prune(now), _events: state.history.prune(now) };
        let nothing = old._snapshots.is_empty() && old._events.is_empty();
        let all = state.watchers.iter().flat_map(|(handle, all)| all.iter().map(move |one| (handle, one)));
        let over = all.filter(|(_, watcher)| watcher.queue.expired(now));
        let over: Vec<(Handle, u64)> = over.map(|(handle, watcher)| (handle.clone(), watcher.id)).collect();
        over.iter().for_each(|(handle, id)| state.remove(handle, *id));
        (!nothing).then_some(old)
    }

    /// Watches from after `revision`. Returns the changes since then, and a subscription that continues without a gap.
    pub fn watch(
        self: &Arc<Self>,
        filter: Arc<Filter>,
        revision: i64,
    ) -> Result<(Vec<Arc<Event>>, Subscription), TooOld> {
        let mut state = self.state.lock();
        let past = state.history.since(revision)?;
        let subscription = state.subscribe(self, filter);
        Ok((past, subscription))
    }

    /// Watches from the present, together with a snapshot of the objects of now.
    pub fn watch_from_now(self: &Arc<Self>, filter: Arc<Filter>, fed: i64) -> (Snapshot, Subscription) {
        let mut state = self.state.lock();
        let snapshot = state.snapshot(fed.max(state.revision));
        (snapshot, state.subscribe(self, filter))
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        self.state.lock().watchers.values().map(Vec::len).sum()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.lock().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces everything, without events: the first load.
    fn load(&self, objects: Objects, unreadable: BTreeMap<String, entry::Error>, revision: i64) {
        let postings = Postings::of(objects.values());
        self.state.lock().replace(objects, unreadable, postings, revision);
    }

    /// After a gap in the feed: turns the difference into events, at most one per object (two where one was replaced by another of
    /// the same name).
    fn reload(&self, mut objects: Objects, unreadable: BTreeMap<String, entry::Error>, revision: i64) {
        let old = self.state.lock().objects.clone();
        for key in unreadable.keys() {
            objects.extend(old.get_key_value(key.as_str()).map(|(key, entry)| (key.clone(), entry.clone())));
        }
        let mut changes: Vec<Arc<Event>> = Vec::new();
        let deleted = |entry: &Arc<Entry>, at: i64| {
            let last = entry.at(at, EventType::Deleted.name()).ok()?;
            Some(Arc::new(Event::new(EventType::Deleted, Arc::new(last), Some(Arc::clone(entry)))))
        };
        for (key, entry) in &old {
            match objects.get(key) {
                None => changes.extend(deleted(entry, revision)),
                Some(now) if now.uid != entry.uid => {
                    changes.extend(deleted(entry, now.resource_version - 1));
                    changes.push(Arc::new(Event::new(EventType::Added, Arc::clone(now), None)));
                }
                Some(now) if now.resource_version != entry.resource_version => {
                    let previous = Some(Arc::clone(entry));
                    changes.push(Arc::new(Event::new(EventType::Modified, Arc::clone(now), previous)));
                }
                Some(_) => {}
            }
        }
        let new = objects.iter().filter(|(key, _)| !old.contains_key(*key));
        changes.extend(new.map(|(_, entry)| Arc::new(Event::new(EventType::Added, Arc::clone(entry), None))));
        changes.sort_by_key(|event| event.revision());
        let postings = Postings::of(objects.values());
        let mut state = self.state.lock();
        state.replace(objects, unreadable, postings, revision);
        for event in changes {
            state.send(&event);
        }
    }

    /// Applies one change of the store. `value` is `None` for a delete.
    fn apply(&self, key: &str, value: Option<(&Bytes, bool)>, revision: i64) -> Result<(), entry::Error> {
        let mut state = self.state.lock();
        if let Some(pending) = &mut state.pending {
            let value = value.map(|(value, created)| (value.clone(), created));
            pending.push(Pending { key: key.to_owned(), value, revision });
            return Ok(());
        }
        state.apply(&self.kind, key, value, revision)
    }
}

impl State {
    fn replace(
        &mut self,
        objects: Objects,
        unreadable: BTreeMap<String, entry::Error>,
        postings: Postings,
        revision: i64,
    ) {
        self.pending = None;
        self.loaded = revision;
        self.objects = objects;
        self.unreadable = unreadable;
        self.postings = postings;
        self.revision = revision;
        self.history.start(revision);
    }

    fn apply(
        &mut self,
        kind: &Arc<Stored>,
        key: &str,
        value: Option<(&Bytes, bool)>,
        revision: i64,
    ) -> Result<(), entry::Error> {
        if revision <= self.loaded {
            return Ok(());
        }
        self.unreadable.remove(key);
        let previous = self.objects.get(key).cloned();
        let event = match value {
            Some((value, created)) => {
                let event_type =
                    if created || previous.is_none() { EventType::Added } else { EventType::Modified };
                let key =
                    previous.as_ref().map_or_else(|| Arc::from(key), |previous| Arc::clone(&previous.key));
                let decoded = Entry::decode(kind, Arc::clone(&key), value, revision, event_type.name());
                let entry = Arc::new(decoded.inspect_err(|error| {
                    self.unreadable.insert(key.to_string(), error.clone());
                })?);
                self.objects.insert(key, Arc::clone(&entry));
                self.postings.replace(previous.as_deref(), Some(&entry));
                Event::new(event_type, entry, previous)
            }
            None => {
                let Some(previous) = previous else { return Ok(()) };
                self.objects.remove(key);
                self.postings.replace(Some(&previous), None);
                let last = previous.at(revision, EventType::Deleted.name())?;
                Event::new(EventType::Deleted, Arc::new(last), Some(previous))
            }
        };
        let event = Arc::new(event);
        if let Some(previous) = &event.previous {
            previous.forget_json();
        }
        self.revision = revision;
        self.history.push(Arc::clone(&event));
        self.send(&event);
        Ok(())
    }

    fn prune(&mut self, now: Instant) -> Vec<(Snapshot, Instant)> {
        let over = self.snapshots.partition_point(|(_, at)| *at + SNAPSHOT_AGE < now);
        self.snapshots.drain(..over).collect()
    }

    fn snapshot(&self, revision: i64) -> Snapshot {
        Snapshot {
            objects: self.objects.clone(),
            postings: self.postings.clone(),
            since: self.revision,
            revision,
        }
    }

    fn subscribe(&mut self, cache: &Arc<Cache>, filter: Arc<Filter>) -> Subscription {
        let events = Arc::new(Queue::default());
        if self.closed {
            events.close();
        }
        let handle = filter.handle();
        let id = self.next_watcher;
        self.next_watcher += 1;
        if let Handle::Field(index, _) = handle
            && let Some(count) = self.field_watchers.get_mut(index)
        {
            *count += 1;
        }
        self.watchers.entry(handle.clone()).or_default().push(Watcher {
            id,
            filter,
            queue: Arc::clone(&events),
        });
        Subscription { events, cache: Arc::clone(cache), handle, id }
    }

    fn remove(&mut self, handle: &Handle, id: u64) {
        let Some(watchers) = self.watchers.get_mut(handle) else { return };
        let before = watchers.len();
        watchers.retain(|watcher| {
            if watcher.id == id {
                watcher.queue.close();
            }
            watcher.id != id
        });
        if let Handle::Field(index, _) = handle
            && let Some(count) = self.field_watchers.get_mut(*index)
        {
            *count -= before - watchers.len();
        }
        if watchers.is_empty() {
            self.watchers.remove(handle);
        }
    }

    /// Hands an event to those it may concern; cuts off those whose queue is full.
    fn send(&mut self, event: &Arc<Event>) {
        let mut slow = Vec::new();
        let entry = &event.entry;
        self.send_to(&Handle::All, event, &mut slow);
        if self.watchers.len() > usize::from(self.watchers.contains_key(&Handle::All)) {
            if !entry.namespace.is_empty() {
                self.send_to(&Handle::Namespace((*entry.namespace).into()), event, &mut slow);
            }
            self.send_to(&Handle::Name((*entry.name).into()), event, &mut slow);
            for (index, watchers) in self.field_watchers.iter().enumerate() {
                if *watchers == 0 {
                    continue;
                }
                let now = entry.field(index);
                self.send_to(&Handle::Field(index, now.into()), event, &mut slow);
                if let Some(previous) = &event.previous
                    && previous.field(index) != now
                {
                    self.send_to(&Handle::Field(index, previous.field(index).into()), event, &mut slow);
                }
            }
        }
        for (handle, id) in slow {
            tracing::warn!(key = %entry.key, "a watcher fell behind and is cut off");
            self.remove(&handle, id);
        }
    }

    fn send_to(&self, handle: &Handle, event: &Arc<Event>, slow: &mut Vec<(Handle, u64)>) {
        let Some(watchers) = self.watchers.get(handle) else { return };
        for watcher in watchers {
            if event.may_be_seen_through(&watcher.filter) && !watcher.queue.push(event) {
                slow.push((handle.clone(), watcher.id));
            }
        }
    }
}

impl Snapshot {
    /// Whether an object below `base` follows this key.
    pub fn has_after(&self, base: &str, key: &str) -> bool {
        let after = self.objects.range::<_, str>((Bound::Excluded(key), Bound::Unbounded)).next();
        after.is_some_and(|(key, _)| key.starts_with(base))
    }

    /// The objects that may match, in order of keys, after `start` (a key below the kind's prefix; empty: from the first).
    pub fn select<'a>(
        &'a self,
        filter: &'a Filter,
        start: &str,
        namespaced: bool,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let (from, within) = match (namespaced, filter.namespace.as_str()) {
            (true, namespace) if !namespace.is_empty() => {
                let within = match filter.name() {
                    Some(name) => format!("{namespace}/{name}"),
                    None => format!("{namespace}/"),
                };
                (within.clone(), Some(within))
            }
            (false, _) if filter.name().is_some() => {
                let name = filter.name().unwrap_or_default().to_owned();
                (name.clone(), Some(name))
            }
            _ => (String::new(), None),
        };
        let from: Arc<str> = if start > from.as_str() { start.into() } else { from.into() };
        let posted = filter.term().map(|term| self.postings.find(term, Arc::clone(&from)));
        let scanned = posted.is_none().then(|| self.objects.range((Bound::Included(from), Bound::Unbounded)));
        let candidates = posted.into_iter().flatten().chain(scanned.into_iter().flatten());
        candidates
            .take_while(move |(key, _)| within.as_ref().is_none_or(|within| key.starts_with(within.as_str())))
            .map(|(_, entry)| entry)
            .filter(move |entry| filter.may_match(entry))
    }
}
