//! Addresses and ports reserved by one write, until the Service is in the store or the write is known to have failed.
//!
//! The outcome of a write may stay unknown: its client goes away, its time is over, or the store did not answer in time. Its
//! reservation is then settled later, by what the stored Services use: releasing it at once could give it out twice.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Addresses, Record, ServiceHook, families, ports};
use crate::delegate::Reservation;
use crate::handlers::Server;
use crate::kinds;

/// Capacity of the queue of reservations to settle. When it is full, the next repair finds what they took.
pub const UNSETTLED: usize = 1024;
/// How many reservations are settled at once.
pub const SETTLED_AT_ONCE: usize = 64;
/// How long the store may still commit a write whose answer was lost.
#[cfg(not(test))]
const DOUBT: Duration = Duration::from_secs(10);
#[cfg(test)]
const DOUBT: Duration = Duration::from_millis(200);
/// Pause between attempts to ask a store that does not answer.
pub const RETRY: Duration = Duration::from_secs(1);

/// What a write with an unknown outcome took and released.
#[derive(Debug, Default)]
pub struct Unsettled {
    pub namespace: String,
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<u16>,
    pub released: Vec<IpAddr>,
    pub released_ports: Vec<u16>,
}

/// What one write attempt has reserved, and what it releases when it succeeds. Dropped before it is finished, it is settled later.
pub struct ServiceReservation {
    pub server: Arc<Server>,
    pub all_addresses: Vec<Arc<Mutex<Addresses>>>,
    pub all_ports: Arc<Record>,
    pub dry_run: bool,
    /// The store did not confirm a write that it may have done.
    pub in_doubt: bool,
    /// Addresses whose `IPAddress` this attempt creates.
    pub objects: Vec<IpAddr>,
    pub taken: Unsettled,
    pub settle: mpsc::Sender<Unsettled>,
}

impl ServiceReservation {
    fn give_back(&self, address: IpAddr) {
        self.all_addresses.iter().for_each(|range| range.lock().give_back(address));
    }
}

#[async_trait]
impl Reservation for ServiceReservation {
    async fn finish(mut self: Box<Self>, committed: bool) {
        // each step stays in `taken` until it is done: this future may be dropped, and the rest is then settled later
        if committed && !self.dry_run {
            self.taken.addresses.clear();
            self.taken.ports.clear();
            give_back_ports(&self.all_ports, &self.taken.released_ports).await;
            self.taken.released_ports.clear();
            while let Some(address) = self.taken.released.last().copied() {
                drop_object(&self.server, address).await;
                self.give_back(address);
                self.taken.released.pop();
            }
            return;
        }
        self.taken.released.clear();
        self.taken.released_ports.clear();
        give_back_ports(&self.all_ports, &self.taken.ports).await;
        self.taken.ports.clear();
        while let Some(address) = self.taken.addresses.last().copied() {
            if self.objects.contains(&address) {
                drop_object(&self.server, address).await;
            }
            self.give_back(address);
            self.taken.addresses.pop();
        }
    }
}

impl Drop for ServiceReservation {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if self.dry_run {
            taken.addresses.iter().for_each(|address| self.give_back(*address));
            return;
        }
        let none = taken.addresses.is_empty() && taken.ports.is_empty();
        if none && taken.released.is_empty() && taken.released_ports.is_empty() {
            return;
        }
        if let Err(error) = self.settle.try_send(taken) {
            tracing::warn!(%error, "What a Service's write took is left to the next repairs");
        }
    }
}

/// Deletes the `IPAddress` object of an address.
pub async fn drop_object(server: &Arc<Server>, address: IpAddr) {
    match server.delete(kinds::ip_addresses(), "", &address.to_string()).await {
        Ok(()) => {}
        Err(status) if status.code == 404 => {}
        Err(status) => {
            tracing::warn!(%address, error = status.message, "Cannot delete the IPAddress of a released address")
        }
    }
}

async fn give_back_ports(record: &Record, ports: &[u16]) {
    if ports.is_empty() {
        return;
    }
    let given_back = record.change(|all| {
        all.give_back(ports);
        Ok(())
    });
    if let Err(status) = given_back.await {
        tracing::warn!(?ports, error = status.message, "Released node ports are left to the next repairs");
    }
}

/// Addresses and ports that the stored Services use.
#[derive(Default)]
pub struct InUse {
    pub addresses: HashSet<IpAddr>,
    pub ports: HashSet<u16>,
}

impl ServiceHook {
    /// Waits until the cached Services are as new as the store was at the time of the call.
    pub(super) async fn current(&self) -> Result<(), Status> {
        const MOMENT: Duration = Duration::from_secs(5);
        let revision = self.resources.feed.store_revision().await.map_err(Status::internal)?;
        match self.resources.feed.reached(revision, MOMENT).await {
            true => Ok(()),
            false => Err(Status::internal("the caches are behind the store")),
        }
    }

    fn in_use(&self) -> Result<InUse, Status> {
        let mut in_use = InUse::default();
        for (_, service) in self.resources.read_all(kinds::services(), None)? {
            in_use.addresses.extend(families::addresses(&service));
            in_use.ports.extend(ports::of(&service));
        }
        Ok(in_use)
    }

    /// Whether the Service uses all that was taken for it.
    fn has_all(&self, taken: &Unsettled) -> bool {
        let found = self.resources.read(kinds::services(), &taken.namespace, &taken.name);
        let Ok(Some(service)) = found else { return false };
        let (addresses, ports) = (families::addresses(&service), ports::of(&service));
        taken.addresses.iter().all(|address| addresses.contains(address))
            && taken.ports.iter().all(|port| ports.contains(port))
    }

    /// Releases what a write took or gave up and no Service uses, once the store can no longer commit the write.
    pub(super) async fn settle(&self, server: &Arc<Server>, taken: Unsettled) {
        let mut waited = false;
        loop {
            match self.current().await {
                Err(status) => {
                    tracing::warn!(error = status.message, "Cannot see what became of a Service's write");
                    tokio::time::sleep(RETRY).await;
                }
                Ok(()) if waited || self.has_all(&taken) && !taken.is_only_given_up() => break,
                Ok(()) => {
                    tokio::time::sleep(DOUBT).await;
                    waited = true;
                }
            }
        }
        let in_use = match self.in_use() {
            Ok(in_use) => in_use,
            Err(status) => {
                tracing::warn!(
                    error = status.message,
                    "What a Service's write took is left to the next repairs"
                );
                return;
            }
        };
        let unused = taken.ports.iter().chain(&taken.released_ports).copied();
        let unused: Vec<u16> = unused.filter(|port| !in_use.ports.contains(port)).collect();
        give_back_ports(&self.ports, &unused).await;
        for address in taken.addresses.iter().chain(&taken.released) {
            if in_use.addresses.contains(address) {
                continue;
            }
            match self.resources.read(kinds::ip_addresses(), "", &address.to_string()) {
                Ok(None) => {}
                Ok(Some(object)) if is_parent(&object, &taken.namespace, &taken.name) => {
                    drop_object(server, *address).await;
                }
                // another's, or nobody knows whose
                Ok(Some(_)) | Err(_) => continue,
            }
            self.addresses.iter().for_each(|range| range.lock().give_back(*address));
        }
    }
}

impl Unsettled {
    fn is_only_given_up(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty()
    }
}

/// Whether an `IPAddress` belongs to this Service.
pub fn is_parent(object: &Tree, namespace: &str, name: &str) -> bool {
    let parent = &object["spec"]["parentRef"];
    parent["resource"] == "services" && parent["namespace"] == namespace && parent["name"] == name
}
