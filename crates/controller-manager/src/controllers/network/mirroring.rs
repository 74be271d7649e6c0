//! `endpointslice-mirroring-controller`: endpoints that somebody wrote for a service without a selector, as slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use client::{Client, EventRecorder, EventType, Index, Informer, Key, Text};
use controllers::views::{
    Endpoint, EndpointConditions, EndpointPort, EndpointSlice, Endpoints, Labels, Meta, Object,
    ObjectRefShort, Service,
};
use controllers::{Context, Error, Next, Reconcile};
use serde::Deserialize;

use super::endpointslice::{Change, MANAGED_BY, SERVICE_NAME, TRIGGER_TIME, apply};
use crate::Options;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

struct Controller {
    events: EventRecorder,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Index<EndpointSlice, Key>,
    most: usize,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let (account, component) = ("endpointslicemirroring-controller", "endpoint-slice-mirroring-controller");
    let mut builder = context.builder("endpoint_slice_mirroring", account, component).await?;
    let (endpoints, services) = (builder.reads::<Endpoints>(), builder.reads::<Service>());
    let slices = builder.reads::<EndpointSlice>();
    let (queue, batch) = (builder.queue.clone(), *options.mirroring_endpointslice_updates_batch_period);
    endpoints.on_keyed_event(move |key, _| queue.add_after(key.clone(), batch));
    let queue = builder.queue.clone();
    services.on_keyed_event(move |key, event| {
        let selects = |service: &Service| service.spec.selector.labels().is_some();
        let changed = event.old().is_none_or(|old| selects(old) != selects(event.object()));
        if changed {
            queue.add(key.clone());
        }
    });
    let queue = builder.queue.clone();
    slices.on_event(move |event| {
        for slice in event.old().into_iter().chain([event.object()]) {
            mirrored(slice).into_iter().for_each(|key| queue.add(key));
        }
    });
    let controller = Controller {
        events: builder.events.clone(),
        endpoints,
        services,
        slices: slices.index(mirrored),
        most: options.mirroring_max_endpoints_per_subset,
    };
    builder.run(options.mirroring_concurrent_service_endpoint_syncs, controller).await
}

/// The endpoints that one of our slices shows.
fn mirrored(slice: &EndpointSlice) -> Option<Key> {
    let labels = &slice.metadata.labels;
    let name = labels.get(SERVICE_NAME).filter(|_| labels.get(MANAGED_BY) == Some(MANAGER))?;
    Some(Key { namespace: slice.metadata.namespace.clone().into(), name: Text::from(name).into() })
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let existing = self.slices.get(key);
        let unselected =
            self.services.get_key(key).is_some_and(|service| service.spec.selector.labels().is_none());
        let endpoints = self.endpoints.get_key(key).filter(|endpoints| unselected && is_mirrored(endpoints));
        let changes = match &endpoints {
            None => existing.into_iter().map(Change::Delete).collect(),
            Some(endpoints) => {
                let wanted = wanted(endpoints, self.most);
                self.complain(endpoints, &wanted);
                plan(endpoints, wanted, existing)
            }
        };
        for change in changes {
            match apply(client, change).await {
                Err(error) if error.is_namespace_terminating() => return Ok(Next::Done),
                result => result?,
            }
        }
        Ok(Next::Done)
    }
}

impl Controller {
    fn complain(&self, endpoints: &Endpoints, wanted: &Wanted) {
        let warn = |reason: &str, message: &str| {
            self.events.event(&endpoints.reference(), EventType::Warning, reason, message);
        };
        if wanted.invalid > 0 {
            let message =
                format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", wanted.invalid);
            warn("InvalidIPAddress", &message);
        }
        if wanted.skipped > wanted.invalid {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.most, wanted.skipped
            );
            warn("TooManyAddressesToMirror", &message);
        }
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta.labels.get(SKIP) != Some("true") && meta.annotation(LEADER).is_none() && !meta.is_deleting()
}

/// Address family and ports, in order: endpoints that have these in common are in one slice.
type Group = (&'static str, Vec<EndpointPort>);

#[derive(Debug, Default)]
struct Wanted {
    groups: BTreeMap<Group, Vec<Endpoint>>,
    skipped: usize,
    invalid: usize,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subset {
    addresses: Vec<Address>,
    not_ready_addresses: Vec<Address>,
    ports: Vec<EndpointPort>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Address {
    ip: String,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<ObjectRefShort>,
}

fn wanted(endpoints: &Endpoints, most: usize) -> Wanted {
    let mut wanted = Wanted::default();
    for subset in &endpoints.subsets {
        let Subset { addresses, not_ready_addresses, mut ports } =
            serde_json::from_value(subset.clone()).unwrap_or_default();
        ports.sort();
        let total = addresses.len() + not_ready_addresses.len();
        let ready = addresses.into_iter().map(|address| (address, true));
        let mut added = 0;
        for (address, ready) in ready.chain(not_ready_addresses.into_iter().map(|address| (address, false))) {
            if added >= most {
                break;
            }
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                wanted.invalid += 1;
                continue;
            };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let endpoint = Endpoint {
                addresses: vec![ip.to_string()],
                conditions: EndpointConditions { ready: Some(ready), ..Default::default() },
                hostname: address.hostname.filter(|hostname| !hostname.is_empty()),
                node_name: address.node_name,
                target_ref: address.target_ref,
                ..Default::default()
            };
            wanted.groups.entry((family, ports.clone())).or_default().push(endpoint);
            added += 1;
        }
        wanted.skipped += total - added;
    }
    for group in wanted.groups.values_mut() {
        group.sort_by(|left, right| left.addresses.cmp(&right.addresses));
        group
            .dedup_by(|left, right| left.addresses == right.addresses && left.target_ref == right.target_ref);
        group.truncate(most);
    }
    wanted
}

fn plan(endpoints: &Endpoints, wanted: Wanted, existing: Vec<Arc<EndpointSlice>>) -> Vec<Change> {
    let mut rest: BTreeMap<(String, Vec<EndpointPort>), Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let mut ports = slice.ports.clone();
        ports.sort();
        rest.entry((slice.address_type.clone(), ports)).or_default().push(slice);
    }
    let (mut create, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
    for ((family, ports), contents) in wanted.groups {
        let slice = slice(endpoints, family, ports.clone(), contents);
        let mut present = rest.remove(&(family.to_owned(), ports)).unwrap_or_default().into_iter();
        match present.next() {
            None => create.push(slice),
            Some(first) if is_same(&first, &slice) => {}
            Some(first) => update.push(named(slice, &first)),
        }
        delete.extend(present);
    }
    delete.extend(rest.into_values().flatten());
    // What is to go takes up what is to come: a write less, and the name stays.
    let mut changes = Vec::new();
    for slice in create {
        match delete.iter().position(|old| old.address_type == slice.address_type) {
            Some(at) => {
                let mut slice = slice;
                slice.metadata.name.clone_from(&delete.remove(at).metadata.name);
                update.push(slice);
            }
            None => changes.push(Change::Create(slice)),
        }
    }
    changes.extend(update.into_iter().map(Change::Update));
    changes.extend(delete.into_iter().map(Change::Delete));
    changes
}

fn named(mut slice: EndpointSlice, old: &EndpointSlice) -> EndpointSlice {
    slice.metadata.generate_name = String::new();
    slice.metadata.name.clone_from(&old.metadata.name);
    slice
}

fn slice(
    endpoints: &Endpoints,
    family: &str,
    ports: Vec<EndpointPort>,
    contents: Vec<Endpoint>,
) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let mut labels: Labels = meta.labels.clone();
    labels.insert(SERVICE_NAME, &meta.name);
    labels.insert(MANAGED_BY, MANAGER);
    let mut annotations = meta.annotations.clone();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    EndpointSlice {
        metadata: Meta {
            generate_name: format!("{}-", meta.name),
            namespace: meta.namespace.clone(),
            labels,
            annotations,
            owner_references: vec![meta.controller_reference(Endpoints::API_VERSION, Endpoints::KIND)],
            ..Default::default()
        },
        address_type: family.to_owned(),
        endpoints: contents,
        ports,
    }
}

fn is_same(present: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let sorted = |slice: &EndpointSlice| {
        let mut endpoints = slice.endpoints.clone();
        endpoints.sort_by(|left, right| left.addresses.cmp(&right.addresses));
        endpoints
    };
    let (one, other) = (&present.metadata, &wanted.metadata);
    let owner = |meta: &Meta| meta.controller().map(|owner| owner.uid.clone());
    one.labels == other.labels
        && one.annotations == other.annotations
        && owner(one) == owner(other)
        && sorted(present) == sorted(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(subsets: Value) -> Endpoints {
        let annotations = json!({"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"});
        let metadata = json!({"name": "e", "namespace": "d", "uid": "u", "labels": {"a": "b"}, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "subsets": subsets})).unwrap()
    }

    fn planned(endpoints: &Endpoints, existing: &[EndpointSlice]) -> Vec<Change> {
        plan(endpoints, wanted(endpoints, 3), existing.iter().cloned().map(Arc::new).collect())
    }

    #[test]
    fn a_slice_for_each_family_and_set_of_ports() {
        let first = endpoints(json!([
            {"addresses": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1", "nodeName": "n"}, {"ip": "fd00::1"}],
             "notReadyAddresses": [{"ip": "10.0.0.9"}], "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "x"}, {"ip": "10.0.0.3"}], "ports": [{"port": 81}]},
        ]));
        let found = wanted(&first, 3);
        assert_eq!((found.groups.len(), found.skipped, found.invalid), (3, 2, 1));
        let made: Vec<EndpointSlice> = planned(&first, &[])
            .into_iter()
            .map(|change| match change {
                Change::Create(slice) => named(
                    slice.clone(),
                    &EndpointSlice {
                        metadata: Meta {
                            name: format!("{}-{}", slice.address_type, slice.ports[0].port),
                            ..Meta::default()
                        },
                        ..EndpointSlice::default()
                    },
                ),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(made.len(), 3);
        assert_eq!(made[0].metadata.labels.get(MANAGED_BY), Some(MANAGER));
        assert_eq!(made[0].metadata.annotations.keys().collect::<Vec<_>>(), ["note"]);
        assert!(planned(&first, &made).is_empty(), "they are right");
        // Another port: the slice that has lost its ports takes them up.
        let second = endpoints(json!([{"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 82}]}]));
        let changes = planned(&second, &made);
        let names: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Create(_) => "create".to_owned(),
                Change::Update(slice) => format!("update {}", slice.ports[0].port),
                Change::Delete(slice) => format!("delete {}", slice.metadata.name),
            })
            .collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[0], "update 82");
        assert!(names.contains(&"delete IPv6-80".to_owned()));
    }

    #[test]
    fn what_is_not_mirrored() {
        let mut one = endpoints(json!([]));
        assert!(is_mirrored(&one));
        one.metadata.annotations.insert(LEADER.to_owned(), String::new());
        assert!(!is_mirrored(&one));
        let mut other = endpoints(json!([]));
        other.metadata.labels.insert(SKIP, "true");
        assert!(!is_mirrored(&other));
    }
}
