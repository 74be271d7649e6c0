//! Brings what is marked as taken, what the `IPAddress` objects say and what the Services have back together: after a crash, after
//! another server's writes, after whatever else went wrong.
//!
//! Nothing is released the first time it is found without an owner: a write that has reserved it may be under way.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::reservation::{SETTLED_AT_ONCE, drop_object, is_parent};
use super::{Ports, ServiceHook, families, ports};
use crate::handlers::Server;
use crate::kinds;

/// In how many repairs in a row what belongs to nobody is found before it is given back.
const ROUNDS: u8 = 3;
/// How long an `IPAddress` may wait for its Service: as long as a request takes.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// Allocations without an owner, and the number of further repairs that spare each.
#[derive(Debug)]
pub struct Leaks<T>(HashMap<T, u8>);

impl<T> Default for Leaks<T> {
    fn default() -> Leaks<T> {
        Leaks(HashMap::new())
    }
}

impl<T: Eq + Hash> Leaks<T> {
    /// Returns the orphans that have had no owner for long enough.
    pub fn due(&mut self, orphans: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut left = HashMap::new();
        let mut due = Vec::new();
        for orphan in orphans {
            match self.0.get(&orphan) {
                None => drop(left.insert(orphan, ROUNDS - 2)),
                Some(0) => due.push(orphan),
                Some(rounds) => drop(left.insert(orphan, rounds - 1)),
            }
        }
        self.0 = left;
        due
    }
}

/// What the last repairs found.
#[derive(Debug, Default)]
pub struct Found {
    addresses: Leaks<IpAddr>,
    ports: Leaks<u16>,
}

/// What is to be done about an `IPAddress`.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Delete,
}

/// Whether an `IPAddress` may stay, by its parent's addresses (`None`: no such Service).
pub fn judge(object: &Tree, parent: Option<&[IpAddr]>, now: Timestamp) -> Verdict {
    if object["metadata"]["labels"][MANAGED_BY] != MANAGER {
        return Verdict::Keep;
    }
    let reference = &object["spec"]["parentRef"];
    if reference["group"].as_str().is_some_and(|group| !group.is_empty())
        || reference["resource"] != "services"
    {
        return Verdict::Delete;
    }
    let address: Option<IpAddr> = object["metadata"]["name"].as_str().and_then(|name| name.parse().ok());
    if address.is_some_and(|address| parent.is_some_and(|addresses| addresses.contains(&address))) {
        return Verdict::Keep;
    }
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
    match created.is_some_and(|created: Timestamp| now.duration_since(created) <= GRACE) {
        true => Verdict::Keep,
        false => Verdict::Delete,
    }
}

impl ServiceHook {
    /// Settles what writes leave behind, and repairs once per `period`, until `shutdown`.
    pub async fn keep(&self, server: &Arc<Server>, period: Duration, shutdown: &CancellationToken) {
        let Some(mut unsettled) = self.unsettled.lock().take() else { return };
        let settling = futures::stream::poll_fn(move |context| unsettled.poll_recv(context))
            .for_each_concurrent(SETTLED_AT_ONCE, |taken| self.settle(server, taken));
        let repairing = async {
            loop {
                tokio::time::sleep(period).await;
                if let Err(status) = self.repair(server).await {
                    tracing::warn!(
                        error = status.message,
                        "Cannot repair the addresses and node ports of Services"
                    );
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = settling => {}
            () = repairing => {}
        }
    }

    /// One round.
    pub async fn repair(&self, server: &Arc<Server>) -> Result<(), Status> {
        self.repair_at(server, Timestamp::now()).await
    }

    pub(super) async fn repair_at(&self, server: &Arc<Server>, now: Timestamp) -> Result<(), Status> {
        self.current().await?;
        let mut addresses: HashMap<IpAddr, (String, String)> = HashMap::new();
        for (entry, service) in self.resources.read_all(kinds::services(), None)? {
            for address in families::addresses(&service) {
                let (namespace, name) = (entry.namespace.to_string(), entry.name.to_string());
                if let Some((other_namespace, other)) = addresses.insert(address, (namespace, name)) {
                    tracing::error!(
                        "the cluster IP {address} for service {}/{} was assigned to other services {other_namespace}/{other}; please recreate",
                        entry.namespace,
                        entry.name
                    );
                }
            }
        }
        self.repair_ports().await?;
        for (address, (namespace, name)) in &addresses {
            self.repair_object(server, *address, namespace, name).await?;
        }
        self.delete_orphans(server, &addresses, now).await?;
        self.repair_addresses(&addresses);
        Ok(())
    }

    /// The record has what the Services have, and in time no more.
    pub(super) async fn repair_ports(&self) -> Result<(), Status> {
        // a record that was never there is made, not repaired
        let known = self.ports.exists().await?;
        let mut in_use: HashMap<u16, (String, String)> = HashMap::new();
        for (entry, service) in self.resources.read_all(kinds::services(), None)? {
            for port in ports::of(&service) {
                in_use.insert(port, (entry.namespace.to_string(), entry.name.to_string()));
            }
        }
        let change = |ports: &mut Ports| {
            let missing = |port: &u16| ports.covers(*port) && !ports.contains(*port);
            let missing: Vec<u16> = in_use.keys().copied().filter(missing).collect();
            missing.iter().for_each(|port| drop(ports.take(*port)));
            let orphans: Vec<u16> = ports.taken().filter(|port| !in_use.contains_key(port)).collect();
            Ok((missing, orphans))
        };
        let (missing, orphans) = self.ports.change(change).await?;
        for port in missing.iter().filter(|_| known) {
            if let Some((namespace, name)) = in_use.get(port) {
                tracing::error!(
                    "the node port {port} for service {namespace}/{name} is not allocated; repairing"
                );
            }
        }
        let due = self.found.lock().ports.due(orphans);
        for port in &due {
            tracing::error!("the node port {port} appears to have leaked: cleaning up");
        }
        if due.is_empty() {
            return Ok(());
        }
        let given_back = |ports: &mut Ports| {
            ports.give_back(&due);
            Ok(())
        };
        self.ports.change(given_back).await
    }

    /// A Service's address has its object, which names the Service.
    async fn repair_object(
        &self,
        server: &Arc<Server>,
        address: IpAddr,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        if !self.addresses.iter().any(|range| range.lock().contains(address)) {
            tracing::error!(
                "the ClusterIP {address} for Service {namespace}/{name} is not within any service CIDR; please recreate"
            );
            return Ok(());
        }
        if let Some(object) = self.resources.read(kinds::ip_addresses(), "", &address.to_string())? {
            let parent = &object["spec"]["parentRef"];
            let text = |field: &str| parent[field].as_str().unwrap_or_default().to_owned();
            let (other_namespace, other) = (text("namespace"), text("name"));
            let others = parent["resource"] == "services"
                && self.resources.read(kinds::services(), &other_namespace, &other)?.is_some();
            if others || is_parent(&object, namespace, name) {
                return Ok(());
            }
            drop_object(server, address).await;
        }
        tracing::error!("the ClusterIP {address} for Service {namespace}/{name} is not allocated; repairing");
        let object = super::object(address, namespace, name);
        if let Err(status) = server.create(kinds::ip_addresses(), "", object).await
            && status.reason != "AlreadyExists"
        {
            tracing::warn!(%address, error = status.message, "Cannot create the IPAddress of a Service");
        }
        Ok(())
    }

    async fn delete_orphans(
        &self,
        server: &Arc<Server>,
        in_use: &HashMap<IpAddr, (String, String)>,
        now: Timestamp,
    ) -> Result<(), Status> {
        for (entry, object) in self.resources.read_all(kinds::ip_addresses(), None)? {
            let Ok(address) = entry.name.parse::<IpAddr>() else { continue };
            let parent = &object["spec"]["parentRef"];
            let text = |field: &str| parent[field].as_str().unwrap_or_default();
            let service = self.resources.read(kinds::services(), text("namespace"), text("name"))?;
            let addresses = service.as_ref().map(families::addresses);
            if judge(&object, addresses.as_deref(), now) == Verdict::Keep || in_use.contains_key(&address) {
                continue;
            }
            tracing::error!("IPAddress {address} appears to have leaked: cleaning up");
            drop_object(server, address).await;
        }
        Ok(())
    }

    fn repair_addresses(&self, in_use: &HashMap<IpAddr, (String, String)>) {
        let mut known: HashSet<IpAddr> = in_use.keys().copied().collect();
        let objects = self.resources.list(kinds::ip_addresses(), None);
        known.extend(objects.iter().filter_map(|entry| entry.name.parse::<IpAddr>().ok()));
        let mut orphans = Vec::new();
        for range in &self.addresses {
            let mut range = range.lock();
            orphans.extend(range.taken().filter(|address| !known.contains(*address)).copied());
            for address in &known {
                // taken already mostly, or of another range
                let _ = range.take(*address);
            }
        }
        for address in self.found.lock().addresses.due(orphans) {
            tracing::error!("the address {address} appears to have leaked: cleaning up");
            self.addresses.iter().for_each(|range| range.lock().give_back(address));
        }
    }
}
