//! The etcd backend: v3 API over gRPC, from Debian's 3.4 on. It uses no progress notifications and no fragments, so that
//! a batch's revision is always true.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, CompactionOptions, Compare, CompareOp, ConnectOptions, EventType, GetOptions,
    Identity, PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use futures::stream::{self, StreamExt as _};
use tokio::sync::Mutex;

use crate::{Batch, Change, Changes, Error, KeyValue, Range, Revision, Store, Written};

/// How long a single request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A lease serves puts for this long, or for 5% of the time to live where that is shorter …
const LEASE_REUSE: Duration = Duration::from_secs(60);
/// … and for at most this many keys.
const LEASE_KEYS: usize = 1000;

/// How to reach etcd: `--etcd-servers`, `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub servers: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// A client that reconnects by itself; calls made while no server answers fail with [`Error::Unavailable`].
pub struct Etcd {
    client: Client,
    /// Its watches end when their member loses its leader: one that the others cannot reach would else keep silent for ever. Single
    /// requests do without, so that they outlast an election.
    watching: Client,
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
        let mut connect = ConnectOptions::new()
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(Duration::from_secs(20));
        if options.servers.iter().any(|server| server.starts_with("https://")) {
            let mut tls = TlsOptions::new();
            if let Some(path) = &options.ca_file {
                tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
            }
            if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            connect = connect.with_tls(tls);
        }
        let with_leader = connect.clone().with_require_leader(true);
        let client = Client::connect(&options.servers, Some(connect)).await.map_err(error)?;
        let watching = Client::connect(&options.servers, Some(with_leader)).await.map_err(error)?;
        Ok(Etcd { client, watching, leases: Mutex::new(Vec::new()) })
    }

    async fn lease(&self, ttl: u32) -> Result<i64, Error> {
        let mut leases = self.leases.lock().await;
        let now = Instant::now();
        leases.retain(|lease| lease.until > now && lease.keys < LEASE_KEYS);
        if let Some(lease) = leases.iter_mut().find(|lease| lease.ttl == ttl) {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let reuse = LEASE_REUSE.min(Duration::from_secs(u64::from(ttl)) / 20);
        let mut client = self.client.lease_client();
        let granted = timed(client.grant(i64::from(ttl) + reuse.as_secs() as i64, None)).await?;
        leases.push(Lease { id: granted.id(), ttl, keys: 1, until: now + reuse });
        Ok(granted.id())
    }

    async fn transact(&self, key: &[u8], expected: Revision, operation: TxnOp) -> Result<Written, Error> {
        let txn = Txn::new()
            .when(vec![Compare::mod_revision(key, CompareOp::Equal, expected)])
            .and_then(vec![operation])
            .or_else(vec![TxnOp::get(key, None)]);
        let mut client = self.client.kv_client().max_decoding_message_size(usize::MAX);
        let answer = timed(client.txn(txn)).await?;
        if answer.succeeded() {
            return Ok(Written::Done(answer.header().map_or(0, |header| header.revision())));
        }
        match answer.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(mut got)) => {
                Ok(Written::Conflict(got.take_kvs().into_iter().next().map(key_value)))
            }
            _ => Err(Error::Other("a transaction without an answer".to_owned())),
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        let mut client = self.client.kv_client().max_decoding_message_size(usize::MAX);
        let mut got = timed(client.get(key, None)).await?;
        let revision = got.header().map_or(0, |header| header.revision());
        Ok((got.take_kvs().into_iter().next().map(key_value), revision))
    }

    async fn range(&self, start: &[u8], end: &[u8], limit: i64, revision: Revision) -> Result<Range, Error> {
        let mut client = self.client.kv_client().max_decoding_message_size(usize::MAX);
        let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(revision);
        let mut got = timed(client.get(start, Some(options))).await.map_err(|error| at(error, revision))?;
        let revision = match revision {
            0 => got.header().map_or(0, |header| header.revision()),
            asked => asked,
        };
        let more = got.more();
        Ok(Range { items: got.take_kvs().into_iter().map(key_value).collect(), revision, more })
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let mut client = self.client.kv_client();
        let options = GetOptions::new().with_keys_only().with_limit(1);
        let got = timed(client.get("compact_rev_key", Some(options))).await?;
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
        self.transact(key, expected, TxnOp::put(key, value, options)).await
    }

    async fn delete(&self, key: &[u8], expected: Revision) -> Result<Written, Error> {
        self.transact(key, expected, TxnOp::delete(key, None)).await
    }

    async fn watch(&self, prefix: &[u8], revision: Revision) -> Result<Changes, Error> {
        let options = WatchOptions::new().with_start_revision(revision + 1).with_prev_key();
        let (key, options) = match prefix {
            [] => (vec![0], options.with_range(vec![0])),
            prefix => (prefix.to_vec(), options.with_prefix()),
        };
        let mut client = self.watching.watch_client().max_decoding_message_size(usize::MAX);
        let watch = timed(client.watch(key, Some(options))).await?;
        let state = Watching { watch: Some(watch), asked: revision };
        Ok(stream::unfold(state, Watching::next).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let mut client = self.client.kv_client();
        match timed(client.compact(revision, Some(CompactionOptions::new()))).await {
            Err(Error::Compacted { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

struct Watching {
    watch: Option<WatchStream>,
    asked: Revision,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Batch, Error>, Watching)> {
        let mut watch = self.watch.take()?;
        loop {
            let response = match watch.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Some((Err(Error::Unavailable("the watch ended".to_owned())), self)),
                Err(cause) => return Some((Err(error(cause)), self)),
            };
            if response.compact_revision() != 0 {
                let oldest = response.compact_revision();
                return Some((Err(Error::Compacted { asked: self.asked, oldest }), self));
            }
            if response.canceled() {
                return Some((Err(Error::Other(response.cancel_reason().to_owned())), self));
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
    let previous = event.prev_kv().cloned().map(key_value);
    Some(match event.event_type() {
        EventType::Put => Change::Put { now: key_value(now.clone()), previous },
        EventType::Delete => {
            Change::Delete { key: Bytes::copy_from_slice(now.key()), revision: now.mod_revision(), previous }
        }
    })
}

fn key_value(from: etcd_client::KeyValue) -> KeyValue {
    let (create_revision, mod_revision) = (from.create_revision(), from.mod_revision());
    let (key, value) = from.into_key_value();
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision }
}

async fn timed<T>(call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(error),
        Err(_) => Err(Error::Unavailable("etcdserver: request timed out".to_owned())),
    }
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
