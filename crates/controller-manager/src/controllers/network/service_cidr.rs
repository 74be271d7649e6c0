//! `service-cidr-controller`: a range of service addresses stays while addresses of it are in use.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, EventRecorder, EventType, Informer, Key, Patch, View};
use controllers::views::{Condition, HasMeta, Meta, Object};
use controllers::{Context, Error, Next, Reconcile, time};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1 as api;
use serde::Deserialize;
use serde_json::json;

use crate::Options;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// Addresses that are being given out may not be seen yet.
const GRACE: i64 = 10;
const READY: &str = "Ready";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Address {
    metadata: Meta,
}

impl View for ServiceCidr {
    type Of = api::ServiceCIDR;
}

impl HasMeta for ServiceCidr {
    fn meta(&self) -> &Meta {
        &self.metadata
    }
}

impl Object for ServiceCidr {
    const API_VERSION: &'static str = "networking.k8s.io/v1";
    const KIND: &'static str = "ServiceCIDR";
}

impl View for Address {
    type Of = api::IPAddress;
    const METADATA_ONLY: bool = true;
}

struct Controller {
    events: EventRecorder,
    cidrs: Informer<ServiceCidr>,
    addresses: Informer<Address>,
}

pub async fn run(context: Context, _: Arc<Options>) -> Result<(), Error> {
    let account = "service-cidrs-controller";
    let mut builder = context.builder("ipaddresses", account, "service-cidr-controller").await?;
    let (cidrs, addresses) = (builder.reads::<ServiceCidr>(), builder.reads::<Address>());
    let (queue, known) = (builder.queue.clone(), cidrs.clone());
    cidrs.on_keyed_event(move |key, event| {
        queue.add(key.clone());
        // What one range no longer contains, or does from now on, may let another one go.
        let nets = event.object().nets();
        let related = known.list_keyed().into_iter().filter(|(_, other)| {
            other.nets().iter().any(|net| nets.iter().any(|own| own.contains(net) || net.contains(own)))
        });
        related.for_each(|(key, _)| queue.add(key));
    });
    let (queue, known) = (builder.queue.clone(), cidrs.clone());
    addresses.on_keyed_event(move |key, event| {
        let Ok(address) = key.name.parse::<IpAddr>() else { return };
        if !matches!(event, Event::Modified { .. }) {
            let containing = known.list_keyed().into_iter().filter(|(_, cidr)| cidr.contains(&address));
            containing.for_each(|(key, _)| queue.add(key));
        }
    });
    let controller = Controller { events: builder.events.clone(), cidrs, addresses };
    builder.run(5, controller).await
}

impl ServiceCidr {
    fn nets(&self) -> Vec<IpNet> {
        self.spec.cidrs.iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn contains(&self, address: &IpAddr) -> bool {
        self.nets().iter().any(|net| net.contains(address))
    }
}

/// Whether no address would be left without a range if this one went.
fn may_go(cidr: &ServiceCidr, others: &[Arc<ServiceCidr>], addresses: &[IpAddr]) -> bool {
    let nets = cidr.nets();
    let within = |net: &IpNet| others.iter().any(|other| other.nets().iter().any(|own| own.contains(net)));
    if nets.iter().all(within) {
        return true;
    }
    let alone =
        |address: &&IpAddr| cidr.contains(address) && !others.iter().any(|other| other.contains(address));
    !addresses.iter().any(|address| alone(&address))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let Some(cidr) = self.cidrs.get_key(key) else { return Ok(Next::Done) };
        let Some(deleted) = &cidr.metadata.deletion_timestamp else {
            if !cidr.metadata.has_finalizer(FINALIZER) {
                patch(client, key, json!({"metadata": {"finalizers": [FINALIZER]}}), None).await?;
            }
            let result = report(client, key, &cidr, "True", "", "Kubernetes Service CIDR is ready").await;
            if result.is_err() {
                let message = "The ServiceCIDR Status can not be set to Ready=True";
                self.events.event(
                    &cidr.reference(),
                    EventType::Warning,
                    "KubernetesServiceCIDRError",
                    message,
                );
            }
            return result.map(|()| Next::Done);
        };
        let others: Vec<_> =
            self.cidrs.list().into_iter().filter(|other| other.metadata.uid != cidr.metadata.uid).collect();
        let ours = |address: &Arc<Address>| address.metadata.labels.get(MANAGED_BY) == Some(ALLOCATOR);
        let addresses = self.addresses.list();
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .filter(|one| ours(one))
            .filter_map(|one| one.metadata.name.parse().ok())
            .collect();
        if !may_go(&cidr, &others, &addresses) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            report(client, key, &cidr, "False", "Terminating", message).await?;
            return Ok(Next::Done);
        }
        let left = deleted.0.as_second() + GRACE - Timestamp::now().as_second();
        if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
            return Ok(Next::After(Duration::from_secs(left)));
        }
        if cidr.metadata.has_finalizer(FINALIZER) {
            let change = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
            patch(client, key, change, None).await?;
        }
        Ok(Next::Done)
    }
}

async fn report(
    client: &Client,
    key: &Key,
    cidr: &ServiceCidr,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    let known = Condition::find(&cidr.status.conditions, READY);
    if known.is_some_and(|known| known.status == status && known.reason == reason && known.message == message)
    {
        return Ok(());
    }
    let condition = json!({
        "type": READY, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time::text(Timestamp::now()),
    });
    patch(client, key, json!({"status": {"conditions": [condition]}}), Some("status")).await
}

async fn patch(
    client: &Client,
    key: &Key,
    change: serde_json::Value,
    subresource: Option<&str>,
) -> Result<(), Error> {
    match client.patch::<ServiceCidr>(None, &key.name, subresource, Patch::Strategic(change)).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_use_stay() {
        let cidr = |cidrs: &[&str]| -> Arc<ServiceCidr> {
            Arc::new(serde_json::from_value(json!({"spec": {"cidrs": cidrs}})).unwrap())
        };
        let check = |own: &[&str], others: &[&[&str]], addresses: &[&str], expect: bool| {
            let others: Vec<_> = others.iter().map(|cidrs| cidr(cidrs)).collect();
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(may_go(&cidr(own), &others, &addresses), expect, "{own:?} {others:?}");
        };
        check(&["10.0.0.0/24"], &[], &[], true);
        check(&["10.0.0.0/24"], &[], &["10.0.0.7"], false);
        check(&["10.0.0.0/24"], &[], &["10.0.1.7", "fd00::1"], true);
        check(&["10.0.0.0/24"], &[&["10.0.0.0/16"]], &["10.0.0.7"], true);
        check(&["10.0.0.0/16"], &[&["10.0.0.0/24"]], &["10.0.0.7"], true);
        check(&["10.0.0.0/16"], &[&["10.0.0.0/24"]], &["10.0.1.7"], false);
        check(&["10.0.0.0/24", "fd00::/112"], &[&["10.0.0.0/16"]], &["fd00::1"], false);
    }
}
