//! The in-memory backend: every version of every key until it is compacted. For tests and for trying things out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Batch, Change, Changes, Error, KeyValue, Range, Revision, Store, Written, prefix_end};

/// Cheap to clone; clones share the data.
#[derive(Clone)]
pub struct Memory {
    data: Arc<Mutex<Data>>,
    revision: watch::Sender<Revision>,
}

#[derive(Default)]
struct Data {
    revision: Revision,
    compacted: Revision,
    versions: BTreeMap<Bytes, Vec<Version>>,
    /// Every change after `compacted`, oldest first.
    log: Vec<Change>,
    expiries: BTreeMap<(Instant, Bytes), Revision>,
}

struct Version {
    revision: Revision,
    /// `None`: deleted.
    value: Option<KeyValue>,
}

impl Default for Memory {
    fn default() -> Memory {
        // etcd's first revision is 1, too.
        let data = Data { revision: 1, ..Data::default() };
        Memory { data: Arc::new(Mutex::new(data)), revision: watch::Sender::new(1) }
    }
}

impl Memory {
    pub fn new() -> Memory {
        Memory::default()
    }

    fn with<T>(&self, run: impl FnOnce(&mut Data) -> T) -> T {
        let mut data = self.data.lock();
        data.expire();
        let result = run(&mut data);
        let revision = data.revision;
        drop(data);
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        result
    }
}

impl Data {
    fn live(&self, key: &[u8]) -> Option<KeyValue> {
        self.versions.get(key)?.last()?.value.clone()
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>) -> Revision {
        let created = self.live(&key).map(|live| live.create_revision);
        self.revision += 1;
        let revision = self.revision;
        let value = value.map(|value| KeyValue {
            key: key.clone(),
            value,
            create_revision: created.unwrap_or(revision),
            mod_revision: revision,
        });
        self.log.push(match &value {
            Some(now) => Change::Put(now.clone()),
            None => Change::Delete { key: key.clone(), revision },
        });
        self.versions.entry(key).or_default().push(Version { revision, value });
        revision
    }

    fn expire(&mut self) {
        while let Some(entry) = self.expiries.first_entry() {
            if entry.key().0 > Instant::now() {
                break;
            }
            let ((_, key), revision) = entry.remove_entry();
            if self.live(&key).is_some_and(|live| live.mod_revision == revision) {
                self.write(key, None);
            }
        }
    }

    fn check(&self, revision: Revision) -> Result<(), Error> {
        if revision != 0 && revision < self.compacted {
            return Err(Error::Compacted { asked: revision, oldest: self.compacted });
        }
        if revision > self.revision {
            return Err(Error::Other("etcdserver: mvcc: required revision is a future revision".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        Ok(self.with(|data| (data.live(key), data.revision)))
    }

    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        self.with(|data| {
            data.check(revision)?;
            let at = if revision == 0 { data.revision } else { revision };
            let (mut items, mut count) = (Vec::new(), 0);
            for (_, versions) in data
                .versions
                .range(Bytes::copy_from_slice(start)..)
                .take_while(|(key, _)| end == [0] || key.as_ref() < end)
            {
                let version = versions.iter().rev().find(|version| version.revision <= at);
                let Some(value) = version.and_then(|version| version.value.clone()) else { continue };
                count += 1;
                if limit == 0 || (items.len() as i64) < limit {
                    items.push(value);
                }
            }
            let more = count > items.len() as i64;
            Ok(Range { items, revision: at, more, count })
        })
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.with(|data| data.revision))
    }

    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        Ok(self.with(|data| {
            let live = data.live(key);
            if live.as_ref().map_or(0, |live| live.mod_revision) != expected {
                return Written::Conflict(live);
            }
            let key = Bytes::copy_from_slice(key);
            let revision = data.write(key.clone(), Some(value));
            if let Some(ttl) = ttl {
                data.expiries.insert((Instant::now() + Duration::from_secs(u64::from(ttl)), key), revision);
            }
            Written::Done(revision)
        }))
    }

    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        Ok(self.with(|data| {
            let live = data.live(key);
            if live.as_ref().is_none_or(|live| live.mod_revision != expected) {
                return Written::Conflict(live);
            }
            Written::Done(data.write(Bytes::copy_from_slice(key), None))
        }))
    }

    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        let watching = Watching {
            memory: self.clone(),
            seen: self.revision.subscribe(),
            start: prefix.to_vec(),
            end: if prefix.is_empty() { vec![0] } else { prefix_end(prefix) },
            asked: revision,
            ended: false,
        };
        Ok(stream::unfold(watching, Watching::next).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.with(|data| {
            if revision <= data.compacted {
                return Ok(());
            }
            data.check(revision)?;
            data.compacted = revision;
            data.log.retain(|change| change.revision() > revision);
            data.versions.retain(|_, versions| {
                let keep =
                    versions.iter().rposition(|version| version.revision <= revision).unwrap_or_default();
                versions.drain(..keep);
                !versions.iter().all(|version| version.value.is_none() && version.revision <= revision)
            });
            Ok(())
        })
    }
}

struct Watching {
    memory: Memory,
    seen: watch::Receiver<Revision>,
    start: Vec<u8>,
    end: Vec<u8>,
    asked: Revision,
    ended: bool,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Batch, Error>, Watching)> {
        if self.ended {
            return None;
        }
        loop {
            self.seen.borrow_and_update();
            let (answer, wake) = self.memory.with(|data| {
                let wake = data.expiries.first_key_value().map(|((at, _), _)| *at);
                if self.asked < data.compacted {
                    return (Err(Error::Compacted { asked: self.asked, oldest: data.compacted }), wake);
                }
                let from = data.log.partition_point(|change| change.revision() <= self.asked);
                let matches = |change: &&Change| {
                    let key = change.key();
                    key >= self.start.as_slice() && (self.end == [0] || key < self.end.as_slice())
                };
                (Ok(data.log[from..].iter().filter(matches).cloned().collect::<Vec<_>>()), wake)
            });
            match answer {
                Err(error) => {
                    self.ended = true;
                    return Some((Err(error), self));
                }
                Ok(changes) => {
                    if let Some(revision) = changes.last().map(Change::revision) {
                        self.asked = revision;
                        return Some((Ok(Batch { changes, revision }), self));
                    }
                }
            }
            let expiry = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.seen.changed() => changed.ok()?,
                () = expiry => {}
            }
        }
    }
}
