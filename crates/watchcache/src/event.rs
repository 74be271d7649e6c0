//! A change as watchers get it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::entry::Entry;
use crate::filter::Filter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// One change of one object. Shared by the history and by all watchers that get it.
pub struct Event {
    pub event_type: EventType,
    /// The object after the change; of a delete, the last state at the delete's revision.
    pub entry: Arc<Entry>,
    pub previous: Option<Arc<Entry>>,
    json: Mutex<Option<Bytes>>,
}

impl Event {
    pub fn new(event_type: EventType, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Event {
        Event { event_type, entry, previous, json: Mutex::default() }
    }

    pub fn revision(&self) -> i64 {
        self.entry.resource_version
    }

    /// Whether one who sees only what the filter lets through may have to learn of the change.
    pub fn may_be_seen_through(&self, filter: &Filter) -> bool {
        let before = self.previous.as_ref().is_some_and(|previous| filter.may_match(previous));
        before || (self.event_type != EventType::Deleted && filter.may_match(&self.entry))
    }

    /// What the change is to one who sees only what the filter lets through: an object that starts to match is added, one that
    /// stops to match is deleted. Its objects have been seen at the filter's version.
    pub fn seen_through(&self, filter: &Filter) -> Option<EventType> {
        let matches = |entry: &Arc<Entry>| filter.matches(entry) == Some(true);
        let before = self.previous.as_ref().is_some_and(matches);
        let after = self.event_type != EventType::Deleted && matches(&self.entry);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
        }
    }

    /// The object to show to one who sees `seen`: whoever loses sight of an object gets its last visible state, at this
    /// change's resource version.
    pub fn shown(&self, seen: EventType) -> Arc<Entry> {
        if seen == EventType::Deleted
            && self.event_type != EventType::Deleted
            && let Some(previous) = &self.previous
            && let Ok(entry) = previous.at(self.revision(), seen.name())
        {
            return Arc::new(entry);
        }
        Arc::clone(&self.entry)
    }

    /// The whole JSON frame at the storage version; made once for the change's own type. `None` where the object cannot be read.
    pub fn json_frame(&self, seen: EventType) -> Option<Bytes> {
        if seen == self.event_type {
            let mut kept = self.json.lock();
            if kept.is_none() {
                *kept = json_frame(seen, &self.entry);
            }
            return kept.clone();
        }
        json_frame(seen, &self.shown(seen))
    }

    /// Drops the frame; it is made again when it is asked for.
    pub fn forget_json(&self) {
        self.json.lock().take();
    }

    /// The whole protobuf frame at the storage version. `None` for kinds stored as JSON.
    pub fn proto_frame(&self, seen: EventType) -> Option<Bytes> {
        self.shown(seen).proto_watch_frame(seen.name())
    }
}

/// `{"type":…,"object":…}` and a line end; `None` where the object cannot be read.
pub fn json_frame(event_type: EventType, entry: &Entry) -> Option<Bytes> {
    let mut out = Vec::with_capacity(entry.size() * 2);
    json_frame_open(event_type.name(), &mut out);
    if !entry.write_json(&mut out) {
        return None;
    }
    out.extend_from_slice(b"}\n");
    out.shrink_to_fit();
    Some(out.into())
}

pub fn json_frame_open(event_type: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event_type.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}
