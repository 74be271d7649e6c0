//! The etcd backend: v3 API over gRPC, from Debian's 3.4 on. It uses no progress notifications and no fragments, so that
//! a batch's revision is always true.

mod members;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, EventType, GetOptions, KvClient, PutOptions, Txn, TxnOp,
    TxnOpResponse, WatchOptions, WatchStream,
};
use futures::stream::{self, StreamExt as _};
use parking_lot::Mutex;

use members::Members;

use crate::{Batch, Change, Changes, Error, KeyValue, Range, Revision, Store, Written};

/// A lease serves puts for this long, or for 5% of the time to live where that is shorter …
const LEASE_REUSE: Duration = Duration::from_secs(60);
/// … and for at most this many keys.
const LEASE_KEYS: usize = 1000;

/// How to reach etcd: `--etcd-servers`, `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile`.
#[derive(Clone, Debug)]
pub struct Options {
    pub servers: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How long a request may take, etcd's absence included.
    pub patience: Duration,
}

impl Default for Options {
    /// A patience that outlasts the API's own limits on a request.
    fn default() -> Options {
        Options {
            servers: Vec::new(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            patience: Duration::from_secs(65),
        }
    }
}

/// A client that reconnects by itself, to any of the members. While none can be reached a request waits, and fails with
/// [`Error::Unavailable`] in the end.
pub struct Etcd {
    members: Arc<Members>,
    leases: Mutex<Vec<Lease>>,
}

struct Lease {
    id: i64,
    ttl: u32,
    keys: usize,
    until: Instant,
}

impl Etcd {
    /// Does not wait for a connection: the first call shows whether there is one.
    pub async fn connect(options: &Options) -> Result<Etcd, Error> {
        Ok(Etcd { members: Arc::new(Members::connect(options).await?), leases: Mutex::default() })
    }

    /// Bytes of the database's file, of the member that is spoken to.
    pub async fn size(&self) -> Result<u64, Error> {
        let status = self.members.ask(async |client| client.maintenance_client().status().await).await?;
        Ok(u64::try_from(status.db_size()).unwrap_or(0))
    }

    async fn lease(&self, ttl: u32) -> Result<i64, Error> {
        let now = Instant::now();
        {
            let mut leases = self.leases.lock();
            leases.retain(|lease| lease.until > now && lease.keys < LEASE_KEYS);
            if let Some(lease) = leases.iter_mut().find(|lease| lease.ttl == ttl) {
                lease.keys += 1;
                return Ok(lease.id);
            }
        }
        // Without the lock: when etcd takes its time, those who need a lease wait side by side.
        let reuse = LEASE_REUSE.min(Duration::from_secs(u64::from(ttl)) / 20);
        let granted = self
            .members
            .ask(async |client| {
                client.lease_client().grant(i64::from(ttl) + reuse.as_secs() as i64, None).await
            })
            .await?;
        self.leases.lock().push(Lease { id: granted.id(), ttl, keys: 1, until: now + reuse });
        Ok(granted.id())
    }

    /// Puts `value`, or deletes where there is none, if the key is at the expected revision.
    async fn transact(
        &self,
        key: &[u8],
        value: Option<Bytes>,
        expected: Revision,
        options: Option<PutOptions>,
    ) -> Result<Written, Error> {
        let txn = || {
            let operation = match &value {
                Some(value) => TxnOp::put(key, value.clone(), options.clone()),
                None => TxnOp::delete(key, None),
            };
            Txn::new()
                .when(vec![Compare::mod_revision(key, CompareOp::Equal, expected)])
                .and_then(vec![operation])
                .or_else(vec![TxnOp::get(key, None)])
        };
        let (answer, maybe_done) = self.members.write(async |client| kv(client).txn(txn()).await).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        if answer.succeeded() {
            return Ok(Written::Done(revision));
        }
        match answer.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(mut got)) => {
                let found = got.take_kvs().into_iter().next().map(key_value);
                Ok(match maybe_done.then(|| done_before(&found, &value, expected, revision)).flatten() {
                    Some(revision) => Written::Done(revision),
                    None => Written::Conflict(found),
                })
            }
            _ => Err(Error::Other("a transaction without an answer".to_owned())),
        }
    }
}

/// The revision at which a transaction was done, where its answer was lost and the second attempt found this.
fn done_before(
    found: &Option<KeyValue>,
    wanted: &Option<Bytes>,
    expected: Revision,
    now: Revision,
) -> Option<Revision> {
    match (found, wanted) {
        (Some(found), Some(wanted)) if found.value == *wanted && found.mod_revision > expected => {
            Some(found.mod_revision)
        }
        (None, None) => Some(now),
        _ => None,
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        let mut got = self.members.ask(async |client| kv(client).get(key, None).await).await?;
        let revision = got.header().map_or(0, |header| header.revision());
        Ok((got.take_kvs().into_iter().next().map(key_value), revision))
    }

    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision);
        let mut got = self
            .members
            .ask(async |client| kv(client).get(start, Some(options.clone())).await)
            .await
            .map_err(|error| at(error, revision))?;
        let revision = match revision {
            0 => got.header().map_or(0, |header| header.revision()),
            asked => asked,
        };
        let (more, count) = (got.more(), got.count());
        Ok(Range { items: got.take_kvs().into_iter().map(key_value).collect(), revision, more, count })
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let options = GetOptions::new().with_keys_only().with_limit(1);
        let got = self
            .members
            .ask(async |client| kv(client).get("compact_rev_key", Some(options.clone())).await)
            .await?;
        Ok(got.header().map_or(0, |header| header.revision()))
    }

    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error> {
        let options = match ttl {
            Some(ttl) => Some(PutOptions::new().with_lease(self.lease(ttl).await?)),
            None => None,
        };
        self.transact(key, Some(value), expected, options).await
    }

    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        self.transact(key, None, expected, None).await
    }

    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let (key, options) = match prefix {
            [] => (vec![0], options.with_range(vec![0])),
            prefix => (prefix.to_vec(), options.with_prefix()),
        };
        let (watch, member) = self
            .members
            .watch(async |client| {
                client.watch_client().max_decoding_message_size(usize::MAX).watch(key, Some(options)).await
            })
            .await?;
        let state = Watching { watch: Some(watch), asked: revision, members: self.members.clone(), member };
        Ok(stream::unfold(state, Watching::next).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let compacted = self
            .members
            .ask(async |client| kv(client).compact(revision, Some(CompactionOptions::new())).await);
        match compacted.await {
            Err(Error::Compacted { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

struct Watching {
    watch: Option<WatchStream>,
    asked: Revision,
    members: Arc<Members>,
    /// Whose watch it is.
    member: usize,
}

impl Watching {
    /// The next watch is another member's.
    fn lost(self, cause: Error) -> (Result<Batch, Error>, Watching) {
        self.members.leave(self.member);
        (Err(cause), self)
    }

    async fn next(mut self) -> Option<(Result<Batch, Error>, Watching)> {
        let mut watch = self.watch.take()?;
        loop {
            let response = match watch.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Some(self.lost(Error::Unavailable("the watch ended".to_owned()))),
                Err(cause) => return Some(self.lost(error(cause))),
            };
            if response.compact_revision() != 0 {
                let oldest = response.compact_revision();
                return Some((Err(Error::Compacted { asked: self.asked, oldest }), self));
            }
            if response.canceled() {
                return Some(self.lost(Error::Other(response.cancel_reason().to_owned())));
            }
            let changes: Vec<Change> = response.events().iter().filter_map(change).collect();
            let Some(revision) = changes.last().map(Change::revision) else { continue };
            self.watch = Some(watch);
            return Some((Ok(Batch { changes, revision }), self));
        }
    }
}

fn change(event: &etcd_client::Event) -> Option<Change> {
    let now = event.kv()?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(key_value(now.clone())),
        EventType::Delete => {
            Change::Delete { key: Bytes::copy_from_slice(now.key()), revision: now.mod_revision() }
        }
    })
}

fn key_value(from: etcd_client::KeyValue) -> KeyValue {
    let (create_revision, mod_revision) = (from.create_revision(), from.mod_revision());
    let (key, value) = from.into_key_value();
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision }
}

/// Values are as large as their writers made them.
fn kv(client: Client) -> KvClient {
    client.kv_client().max_decoding_message_size(usize::MAX)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Other(format!("{}: {error}", path.display())))
}

/// Names the revision that was asked for.
fn at(error: Error, revision: Revision) -> Error {
    match error {
        Error::Compacted { oldest, .. } => Error::Compacted { asked: revision, oldest },
        other => other,
    }
}

fn error(error: etcd_client::Error) -> Error {
    let etcd_client::Error::GRpcStatus(status) = &error else {
        return match error {
            etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_) => {
                Error::Unavailable(error.to_string())
            }
            other => Error::Other(other.to_string()),
        };
    };
    let message = status.message();
    match status.code() {
        _ if message.contains("has been compacted") => Error::Compacted { asked: 0, oldest: 0 },
        _ if message.contains("request is too large") => Error::TooLarge,
        _ if message.contains("database space exceeded") => Error::NoSpace,
        tonic::Code::Unavailable
        | tonic::Code::Cancelled
        | tonic::Code::DeadlineExceeded
        | tonic::Code::Unknown
        | tonic::Code::Internal => Error::Unavailable(message.to_owned()),
        _ => Error::Other(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_without_answer_has_done_is_recognized() {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let there = |value: &'static str, revision| {
            let value = Bytes::from_static(value.as_bytes());
            Some(KeyValue { key: Bytes::new(), value, create_revision: 1, mod_revision: revision })
        };
        assert_eq!(done_before(&there("new", 8), &bytes("new"), 7, 9), Some(8));
        assert_eq!(done_before(&there("other", 8), &bytes("new"), 7, 9), None, "somebody else's");
        assert_eq!(
            done_before(&there("new", 5), &bytes("new"), 7, 9),
            None,
            "older than what it was to replace"
        );
        assert_eq!(done_before(&None, &bytes("new"), 7, 9), None, "somebody deleted it");
        assert_eq!(done_before(&None, &None, 7, 9), Some(9));
        assert_eq!(done_before(&there("newer", 8), &None, 7, 9), None);
    }
}
