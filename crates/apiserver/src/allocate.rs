//! Service addresses and node ports: chosen, checked and given back as Services are written.
//!
//! An address is claimed by creating its `IPAddress` object, which is what keeps two API servers from handing out the same one;
//! a node port by its bit in the record that all of them share.

mod addresses;
mod families;
mod ports;
mod record;
mod repair;
mod reservation;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::json;
use api::model::Resource;
use api::status::Cause;
use api::{Status, Tree};
use async_trait::async_trait;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use watchcache::resources::Resources;

use crate::delegate::{Hook, Reservation};
use crate::handlers::Server;
use crate::kinds;
use crate::options::PortRange;
use crate::writes::Write;

pub use addresses::Addresses;
pub use ports::Ports;
pub use record::Record;
use reservation::{ServiceReservation, Unsettled, is_parent};

/// The hook that allocates for Services.
pub struct ServiceHook {
    pub resources: Arc<Resources>,
    /// One range per family, the primary one first.
    pub addresses: Vec<Arc<Mutex<Addresses>>>,
    pub ports: Arc<Record>,
    /// Whether the stored allocations are known, so that new ones can be made.
    loaded: AtomicBool,
    settle: mpsc::Sender<Unsettled>,
    unsettled: Mutex<Option<mpsc::Receiver<Unsettled>>>,
    found: Mutex<repair::Found>,
}

const NOT_READY: &str = "allocator not ready";

impl ServiceHook {
    pub fn new(resources: Arc<Resources>, ranges: &[IpNet], ports: PortRange) -> ServiceHook {
        let (settle, unsettled) = mpsc::channel(reservation::UNSETTLED);
        ServiceHook {
            ports: Arc::new(Record::new(resources.store.clone(), ports)),
            resources,
            addresses: ranges.iter().map(|range| Arc::new(Mutex::new(Addresses::new(*range)))).collect(),
            loaded: AtomicBool::new(false),
            settle,
            unsettled: Mutex::new(Some(unsettled)),
            found: Mutex::default(),
        }
    }

    /// Marks what the stored Services and addresses use, and retries until the store answers. Nothing is allocated before; call when
    /// the caches are synced.
    pub async fn load(&self) {
        for entry in self.resources.list(kinds::ip_addresses(), None) {
            if let Ok(address) = entry.name.parse() {
                self.addresses.iter().for_each(|range| drop(range.lock().take(address)));
            }
        }
        while let Err(status) = self.load_once().await {
            tracing::warn!(error = status.message, "Cannot see what Services use");
            tokio::time::sleep(reservation::RETRY).await;
        }
        self.loaded.store(true, Ordering::Release);
    }

    async fn load_once(&self) -> Result<(), Status> {
        for (_, service) in self.resources.read_all(kinds::services(), None)? {
            for address in families::addresses(&service) {
                self.addresses.iter().for_each(|range| drop(range.lock().take(address)));
            }
        }
        self.repair_ports().await
    }

    fn ready(&self) -> Result<(), String> {
        self.loaded.load(Ordering::Acquire).then_some(()).ok_or_else(|| NOT_READY.to_owned())
    }

    /// An address and its `IPAddress` object.
    async fn claim(
        &self,
        reservation: &mut ServiceReservation,
        write: &Write<'_>,
        name: &str,
        family: usize,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr, String> {
        self.ready()?;
        let range = &self.addresses[family];
        loop {
            if let Some(address) = wanted.filter(|_| write.options.dry_run) {
                return range.lock().would_take(address).map(|()| address);
            }
            let address = match wanted {
                Some(address) => range.lock().take(address).map(|()| address)?,
                None => range.lock().any()?,
            };
            reservation.taken.addresses.push(address);
            if write.options.dry_run {
                return Ok(address);
            }
            let object = object(address, write.namespace, name);
            match write.server.create(kinds::ip_addresses(), "", object).await {
                Ok(_) => {
                    reservation.objects.push(address);
                    return Ok(address);
                }
                Err(status) if status.reason == "AlreadyExists" => {
                    // Another server has it: it stays marked here, and another is tried unless it was asked for.
                    reservation.taken.addresses.pop();
                    if self.owned_by(address, write.namespace, name) {
                        reservation.taken.addresses.push(address);
                        return Ok(address);
                    }
                    if wanted.is_some() {
                        return Err("provided IP is already allocated".to_owned());
                    }
                }
                Err(status) => {
                    reservation.in_doubt = true;
                    return Err(status.message);
                }
            }
        }
    }

    /// Whether the address' object names this very Service, as after a crash between the two writes.
    fn owned_by(&self, address: IpAddr, namespace: &str, name: &str) -> bool {
        let object = self.resources.read(kinds::ip_addresses(), "", &address.to_string());
        let service = self.resources.read(kinds::services(), namespace, name);
        matches!((object, service), (Ok(Some(object)), Ok(None)) if is_parent(&object, namespace, name))
    }

    async fn allocate_addresses(
        &self,
        write: &Write<'_>,
        service: &mut Tree,
        reservation: &mut ServiceReservation,
    ) -> Result<(), Status> {
        let name = name_of(write, service);
        let old = write.old.map(families::addresses).unwrap_or_default();
        let asked = families::asked(service);
        let mut addresses = Vec::new();
        for (index, family) in families::of(service, &self.ranges()).into_iter().enumerate() {
            let wanted = asked.get(index).copied();
            if let Some(kept) = wanted.filter(|address| old.contains(address)) {
                addresses.push(kept);
                continue;
            }
            let claimed = self.claim(reservation, write, &name, family, wanted).await;
            match (claimed, wanted) {
                (Ok(address), _) => addresses.push(address),
                (Err(why), wanted) => {
                    let listed: Vec<String> =
                        asked.iter().map(|address| format!("{:?}", address.to_string())).collect();
                    let what = match wanted {
                        Some(address) => format!("failed to allocate IP {address}: {why}"),
                        None => format!("failed to allocate a serviceIP: {why}"),
                    };
                    let message = match wanted {
                        Some(_) => format!("Invalid value: [{}]: {what}", listed.join(",")),
                        None => return Err(Status::internal(what)),
                    };
                    return Err(invalid(&name, "spec.clusterIPs", message));
                }
            }
        }
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        service["spec"]["clusterIP"] = json!(texts.first());
        service["spec"]["clusterIPs"] = json!(texts);
        // Addresses the object had and has no more are given back when the write is done.
        reservation.taken.released.extend(old.into_iter().filter(|address| !addresses.contains(address)));
        Ok(())
    }

    async fn allocate_ports(
        &self,
        write: &Write<'_>,
        service: &mut Tree,
        reservation: &mut ServiceReservation,
    ) -> Result<(), Status> {
        let exposed = |service: &Tree| {
            service["spec"]["type"] == "NodePort" || service["spec"]["type"] == "LoadBalancer"
        };
        if !exposed(service) {
            reservation.taken.released_ports = write.old.map(ports::of).unwrap_or_default();
            return Ok(());
        }
        self.ready().map_err(|why| Status::internal(format!("failed to allocate a nodePort: {why}")))?;
        let name = name_of(write, service);
        let asked = &*service;
        let change = |ports: &mut Ports| {
            let mut service = asked.clone();
            let plan = ports::allocate(&mut service, write.old, &name, ports)?;
            Ok((service, plan))
        };
        let (given, plan) = match write.options.dry_run {
            true => self.ports.would(change).await?,
            false => self.ports.change(change).await?,
        };
        *service = given;
        if !write.options.dry_run {
            reservation.taken.ports = plan.taken;
        }
        reservation.taken.released_ports = plan.released;
        Ok(())
    }

    fn ranges(&self) -> Vec<bool> {
        self.addresses.iter().map(|range| range.lock().is_ipv4()).collect()
    }
}

#[async_trait]
impl Hook for ServiceHook {
    async fn begin(
        &self,
        write: &Write<'_>,
        service: &mut Tree,
    ) -> Result<Option<Box<dyn Reservation>>, Status> {
        let of_services = write.resource.group.is_empty() && write.resource.plural == "services";
        if !of_services || !write.subresource.is_empty() {
            return Ok(None);
        }
        let mut reservation = self.empty_reservation(
            write.server,
            write.namespace,
            &name_of(write, service),
            write.options.dry_run,
        );
        if let Some(old) = write.old {
            families::carry_over(service, old);
        }
        let result = self.allocate(write, service, &mut reservation).await;
        match result {
            Ok(()) => Ok(Some(Box::new(reservation))),
            Err(status) if reservation.in_doubt => Err(status),
            Err(status) => {
                Box::new(reservation).finish(false).await;
                Err(status)
            }
        }
    }

    async fn deleted(&self, server: &Arc<Server>, resource: &Resource, service: &Tree) {
        if !resource.group.is_empty() || resource.plural != "services" {
            return;
        }
        let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
        let mut reservation = self.empty_reservation(server, text("namespace"), text("name"), false);
        reservation.taken.released = families::addresses(service);
        reservation.taken.released_ports = ports::of(service);
        Box::new(reservation).finish(true).await;
    }
}

impl ServiceHook {
    /// A reservation for this Service that has nothing in it yet.
    fn empty_reservation(
        &self,
        server: &Arc<Server>,
        namespace: &str,
        name: &str,
        dry_run: bool,
    ) -> ServiceReservation {
        ServiceReservation {
            server: server.clone(),
            all_addresses: self.addresses.clone(),
            all_ports: self.ports.clone(),
            dry_run,
            in_doubt: false,
            objects: Vec::new(),
            taken: Unsettled { namespace: namespace.into(), name: name.into(), ..Unsettled::default() },
            settle: self.settle.clone(),
        }
    }

    async fn allocate(
        &self,
        write: &Write<'_>,
        service: &mut Tree,
        reservation: &mut ServiceReservation,
    ) -> Result<(), Status> {
        if service["spec"]["type"] == "ExternalName" {
            if let Some(old) = write.old {
                reservation.taken.released = families::addresses(old);
                reservation.taken.released_ports = ports::of(old);
            }
            return Ok(());
        }
        let mut causes = registry::kinds::service::cluster_addresses(service);
        let changed = write.old.is_some_and(|old| !registry::kinds::service::keeps_address(service, old));
        if causes.is_empty() && changed {
            // validation will refuse the change, so nothing is allocated for it
            return Ok(());
        }
        if causes.is_empty() {
            causes = families::complete(service, &self.ranges());
        }
        if !causes.is_empty() {
            return Err(Status::invalid("", "Service", &name_of(write, service), causes));
        }
        if service["spec"]["clusterIP"] != "None" {
            self.allocate_addresses(write, service, reservation).await?;
        } else {
            service["spec"]["clusterIPs"] = json!(["None"]);
        }
        self.allocate_ports(write, service, reservation).await
    }
}

/// The `IPAddress` of a Service's address.
fn object(address: IpAddr, namespace: &str, name: &str) -> Tree {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    })
}

fn name_of(write: &Write<'_>, service: &Tree) -> String {
    match write.name {
        "" => service["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        name => name.to_owned(),
    }
}

fn invalid(name: &str, field: &str, message: String) -> Status {
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: field.into() };
    Status::invalid("", "Service", name, vec![cause])
}
