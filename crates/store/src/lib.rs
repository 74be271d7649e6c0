//! A revisioned key-value store with transactions and a watch over all of it: etcd's contract, no more of it
//! than the API server uses. Two backends under one contract suite: etcd and memory.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub mod etcd;
pub mod memory;

pub use etcd::{Etcd, Options};
pub use memory::Memory;

/// etcd's revision: one counter over the whole store.
pub type Revision = i64;

/// A key's value at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

/// One page of keys, all as of `revision`.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub items: Vec<KeyValue>,
    pub revision: Revision,
    pub more: bool,
    /// How many keys there are in the range, those of this page counted in.
    pub count: i64,
}

/// The outcome of a conditional write.
#[derive(Clone, Debug)]
pub enum Written {
    /// It was applied at this revision.
    Done(Revision),
    /// The condition did not hold; the current value (`None`: the key is absent).
    Conflict(Option<KeyValue>),
}

/// One change, in revision order.
#[derive(Clone, Debug)]
pub enum Change {
    Put(KeyValue),
    Delete { key: Bytes, revision: Revision },
}

impl Change {
    pub fn key(&self) -> &[u8] {
        match self {
            Change::Put(now) => &now.key,
            Change::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            Change::Put(now) => now.mod_revision,
            Change::Delete { revision, .. } => *revision,
        }
    }
}

/// What a watch yields. After an `Err` the stream ends.
#[derive(Clone, Debug)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// All changes up to and including this revision have been sent.
    pub revision: Revision,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is gone; the caller lists and starts over.
    #[error("revision {asked} has been compacted, the oldest is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    #[error("the request is larger than the store takes")]
    TooLarge,
    #[error("the store is full")]
    NoSpace,
    #[error("the store answered: {0}")]
    Other(String),
}

/// What [`Store::watch`] yields; it ends after an error.
pub type Changes = BoxStream<'static, Result<Batch, Error>>;

/// The first key after all keys that start with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        }
        None => vec![0],
    }
}

/// The contract. Every method may be called from any task at any time.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Linearizable read of one key.
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error>;

    /// Keys in `[start, end)` (an `end` of one zero byte: all from `start` on) in order, at most `limit` (0: all), as of `revision` (0: now).
    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error>;

    /// The store's revision now, linearizable.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Puts when the key's mod revision equals `expected` (0: the key does not exist). `ttl`: seconds to live, for events; the key may live a
    /// little longer, since leases are shared.
    async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        expected: Revision,
        ttl: Option<u32>,
    ) -> Result<Written, Error>;

    /// Deletes when the key's mod revision equals `expected`.
    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error>;

    /// Changes of every key under `prefix` after `revision`. A slow reader is waited for; dropping the stream
    /// ends the watch. An empty prefix is the whole store: then [`Batch::revision`] reaches every revision there is, which is what
    /// makes "wait until the watch has seen the store's revision" end.
    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error>;

    /// Discards history before `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;
}
