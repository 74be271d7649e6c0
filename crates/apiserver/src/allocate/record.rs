//! The node ports that are taken, as the store records them for every API server on it: one object with a bit for each port.
//!
//! A change is stored before its result is returned, on condition that the record has not changed since it was read; otherwise it
//! is made again on the changed record. So no port is allocated twice.

use std::sync::Arc;

use api::json;
use api::text::{from_base64, to_base64};
use api::wire;
use api::{Status, Tree};
use bytes::Bytes;
use store::{KeyValue, Revision, Store, Written};
use tokio::sync::Mutex;

use super::Ports;
use crate::options::PortRange;

const KEY: &[u8] = b"/registry/ranges/servicenodeports";
const MESSAGE: &str = "k8s.io.api.core.v1.RangeAllocation";
const KIND: wire::TypeMeta<'static> = wire::TypeMeta { api_version: "v1", kind: "RangeAllocation" };
/// A change that others overtake more often is given up.
const ATTEMPTS: usize = 100;

pub struct Record {
    store: Arc<dyn Store>,
    range: PortRange,
    last: Mutex<Last>,
}

/// The record as it was last read or written.
struct Last {
    ports: Ports,
    /// `None`: not known.
    revision: Option<Revision>,
    /// The stored bytes say what `ports` says.
    written: bool,
}

impl Record {
    pub fn new(store: Arc<dyn Store>, range: PortRange) -> Record {
        let last = Last { ports: Ports::new(range), revision: None, written: false };
        Record { store, range, last: Mutex::new(last) }
    }

    /// Makes a change, which may be tried several times, and records it. What it refuses stays as it was.
    pub async fn change<T>(&self, change: impl Fn(&mut Ports) -> Result<T, Status>) -> Result<T, Status> {
        let mut last = self.last.lock().await;
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            if last.revision.is_none() {
                let (found, _) = self.store.get(KEY).await.map_err(Status::internal)?;
                self.read(&mut last, found);
                fresh = true;
            }
            let mut ports = last.ports.clone();
            let answer = match change(&mut ports) {
                // another server may have given back what stands in the way
                Err(_) if !fresh => {
                    last.revision = None;
                    continue;
                }
                answer => answer?,
            };
            if last.written && ports == last.ports {
                return Ok(answer);
            }
            let value = encode(&ports)?;
            let expected = last.revision.take().unwrap_or_default();
            match self.store.put(KEY, value, expected, None).await.map_err(Status::internal)? {
                Written::Done(revision) => {
                    *last = Last { ports, revision: Some(revision), written: true };
                    return Ok(answer);
                }
                Written::Conflict(found) => {
                    self.read(&mut last, found);
                    fresh = true;
                }
            }
        }
        Err(Status::internal("the record of node ports changes too often"))
    }

    /// What a change would answer: nothing is recorded.
    pub async fn would<T>(&self, change: impl Fn(&mut Ports) -> Result<T, Status>) -> Result<T, Status> {
        let mut last = self.last.lock().await;
        let (found, _) = self.store.get(KEY).await.map_err(Status::internal)?;
        self.read(&mut last, found);
        change(&mut last.ports.pretending())
    }

    /// Whether the store has a record.
    pub async fn exists(&self) -> Result<bool, Status> {
        Ok(self.store.get(KEY).await.map_err(Status::internal)?.0.is_some())
    }

    fn read(&self, last: &mut Last, found: Option<KeyValue>) {
        let mut ports = Ports::new(self.range);
        let mut written = false;
        if let Some(found) = &found {
            match decode(&found.value) {
                Some((range, numbers)) => {
                    numbers.into_iter().for_each(|number| drop(ports.take(number)));
                    written = range == self.range;
                }
                None => tracing::error!("the record of node ports cannot be read; it is written anew"),
            }
        }
        *last = Last { ports, revision: Some(found.map_or(0, |found| found.mod_revision)), written };
    }
}

/// Bits from the highest that is set down to that of the range's first port, in whole bytes.
fn encode(ports: &Ports) -> Result<Bytes, Status> {
    let offsets: Vec<usize> = ports.taken().map(|number| usize::from(number - ports.range().first)).collect();
    let mut bits = vec![0u8; offsets.last().map_or(0, |highest| highest / 8 + 1)];
    let length = bits.len();
    for offset in offsets {
        bits[length - 1 - offset / 8] |= 1 << (offset % 8);
    }
    let tree = json!({"metadata": {}, "range": ports.range().to_string(), "data": to_base64(&bits)});
    let message = api::tables::message(MESSAGE).ok_or_else(|| Status::internal("no RangeAllocation"))?;
    let mut out = Vec::with_capacity(512);
    wire::envelope::wrap_with(KIND, &mut out, |out| wire::tree_to_proto(&tree, message, out))
        .map_err(Status::internal)?;
    Ok(out.into())
}

fn decode(value: &[u8]) -> Option<(PortRange, Vec<u16>)> {
    let tree: Tree = match wire::envelope::is_enveloped(value) {
        true => wire::object_to_tree(value, api::tables::message(MESSAGE)?).ok()?,
        false => serde_json::from_slice(value).ok()?,
    };
    let range: PortRange = tree["range"].as_str()?.parse().ok()?;
    let bits = from_base64(tree["data"].as_str().unwrap_or_default())?;
    let set = bits.iter().rev().enumerate().flat_map(|(byte, bits)| {
        (0..8).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| byte * 8 + bit)
    });
    let numbers = set.filter_map(|offset| range.first.checked_add(u16::try_from(offset).ok()?)).collect();
    Some((range, numbers))
}

#[cfg(test)]
mod tests {
    use store::Memory;

    use super::*;

    const RANGE: PortRange = PortRange { first: 30000, last: 32767 };

    fn take(port: u16) -> impl Fn(&mut Ports) -> Result<(), Status> {
        move |ports| ports.take(port).map_err(Status::internal)
    }

    #[tokio::test]
    async fn the_record_is_upstreams() {
        let store = Arc::new(Memory::new());
        let record = Record::new(store.clone(), RANGE);
        let recorded = async || store.get(KEY).await.unwrap().0.unwrap().value;
        let head = b"k8s\0\n\x15\n\x02v1\x12\x0fRangeAllocation\x12";
        let body = b"\n\x10\n\0\x12\0\x1a\0\"\0*\x002\x008\0B\0\x12\x0b30000-32767\x1a";
        record.change(|_| Ok(())).await.unwrap();
        assert_eq!(*recorded().await, [&head[..], b"\x21", body, b"\0\x1a\0\"\0"].concat());
        record.change(take(30100)).await.unwrap();
        let bits = b"\x0d\x10\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(*recorded().await, [&head[..], b"\x2e", body, bits, b"\x1a\0\"\0"].concat());

        // a record of another range
        let narrow = Record::new(store.clone(), PortRange { first: 30050, last: 30150 });
        narrow.change(take(30051)).await.unwrap();
        assert_eq!(decode(&recorded().await).unwrap().1, [30051, 30100]);
    }

    #[tokio::test]
    async fn two_servers_give_no_port_twice() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let (one, other) = (Record::new(store.clone(), RANGE), Record::new(store, RANGE));
        one.change(take(30001)).await.unwrap();
        assert!(other.change(take(30001)).await.is_err());
        other.change(take(30002)).await.unwrap();
        assert!(one.change(take(30002)).await.is_err());
        // ports that the other released are free at once
        let give_back = |ports: &mut Ports| {
            ports.give_back(&[30001]);
            Ok(())
        };
        other.change(give_back).await.unwrap();
        one.change(take(30001)).await.unwrap();

        let any = |ports: &mut Ports| ports.any().ok_or_else(|| Status::internal("full"));
        assert!(one.would(take(30003)).await.is_ok());
        let mut given = std::collections::HashSet::new();
        for _ in 0..100 {
            let (first, second) = tokio::join!(one.change(any), other.change(any));
            assert!(given.insert(first.unwrap()) && given.insert(second.unwrap()));
        }
        one.change(take(30003)).await.unwrap();
    }
}
