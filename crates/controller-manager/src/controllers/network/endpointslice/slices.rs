//! How endpoints are spread over slices, and what has to change. Endpoints stay in the slice they are in, so that
//! a change of one pod changes one slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::endpoints::{self, address, families, headless};
use super::{MANAGED_BY, MANAGER, SERVICE_NAME, TRIGGER_TIME};
use controllers::views::{
    Endpoint, EndpointHints, EndpointPort, EndpointSlice, Labels, Meta, Object, Pod, Service, Zone,
};

const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, PartialEq)]
pub(in crate::controllers::network) enum Change {
    Create(EndpointSlice),
    Update(EndpointSlice),
    Delete(Arc<EndpointSlice>),
}

pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
    per_slice: usize,
    trigger: Option<jiff::Timestamp>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let families = if service.spec.type_ == "ExternalName" { Vec::new() } else { families(service) };
    let (alive, mut gone): (Vec<_>, Vec<_>) = existing
        .iter()
        .cloned()
        .partition(|slice| families.contains(&slice.address_type) && !slice.metadata.is_deleting());
    gone.retain(|slice| !slice.metadata.is_deleting());
    changes.extend(gone.into_iter().map(Change::Delete));
    for family in &families {
        let slices: Vec<_> = alive.iter().filter(|slice| slice.address_type == *family).cloned().collect();
        family_changes(service, pods, family, &slices, zone, per_slice, trigger, &mut changes);
    }
    changes
}

/// The group of a slice's endpoints: those that answer on the same ports.
type Ports = Vec<EndpointPort>;

#[expect(clippy::too_many_arguments, reason = "one step of `plan`, which has them all")]
fn family_changes(
    service: &Service,
    pods: &[Arc<Pod>],
    family: &str,
    existing: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
    per_slice: usize,
    trigger: Option<jiff::Timestamp>,
    changes: &mut Vec<Change>,
) {
    let mut groups: BTreeMap<Ports, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.is_terminal()) {
        let Some(address) = address(pod, family) else { continue };
        let mut ports = endpoints::ports(service, pod);
        ports.sort();
        groups.entry(ports).or_default().push(endpoints::endpoint(service, pod, address, zone));
    }
    hint(service, &mut groups);

    let mut by_ports: BTreeMap<Ports, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let mut ports = slice.ports.clone();
        ports.sort();
        by_ports.entry(ports).or_default().push(slice.clone());
    }
    let fresh = Slices { service, family, per_slice, trigger };
    // One slice is kept even when there is nothing to put into it, so that there is always one.
    let nothing = groups.is_empty();
    for (ports, slices) in &by_ports {
        if groups.contains_key(ports) {
            continue;
        }
        for slice in slices {
            if !(nothing && ports.is_empty() && slices.len() == 1) {
                changes.push(Change::Delete(slice.clone()));
            }
        }
    }
    if nothing {
        match by_ports.get(&Vec::new()).map(Vec::as_slice) {
            Some([only]) => {
                changes.extend(fresh.update(only, Vec::new(), !only.endpoints.is_empty()));
            }
            _ => changes.push(Change::Create(fresh.new_slice(Vec::new(), Vec::new()))),
        }
        return;
    }
    for (ports, wanted) in groups {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        fresh.spread(&ports, wanted, slices, changes);
    }
}

struct Slices<'a> {
    service: &'a Service,
    family: &'a str,
    per_slice: usize,
    trigger: Option<jiff::Timestamp>,
}

impl Slices<'_> {
    /// Puts the endpoints of a group into its slices.
    fn spread(
        &self,
        ports: &Ports,
        wanted: Vec<Endpoint>,
        slices: Vec<Arc<EndpointSlice>>,
        changes: &mut Vec<Change>,
    ) {
        let mut wanted: FxHashMap<String, Endpoint> =
            wanted.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
        let mut kept = Vec::new();
        for slice in slices {
            let mut contents = Vec::new();
            let mut changed = false;
            for endpoint in &slice.endpoints {
                match wanted.remove(&identity(endpoint)) {
                    Some(current) => {
                        changed |= current != *endpoint;
                        contents.push(current);
                    }
                    None => changed = true,
                }
            }
            kept.push((slice, contents, changed));
        }
        let mut rest: Vec<Endpoint> = wanted.into_values().collect();
        rest.sort_by_key(identity);
        // First where something is written anyway, then the fullest of the others.
        kept.sort_by_key(|(_, contents, changed)| (!changed, std::cmp::Reverse(contents.len())));
        for (_, contents, changed) in &mut kept {
            let room = self.per_slice.saturating_sub(contents.len()).min(rest.len());
            // A slice that is not written anyway is opened only for what would not fill a slice of its own.
            if room == 0 || (!*changed && rest.len() >= self.per_slice) {
                continue;
            }
            contents.extend(rest.drain(..room));
            *changed = true;
        }
        for (slice, contents, changed) in kept {
            if contents.is_empty() {
                changes.push(Change::Delete(slice));
            } else {
                changes.extend(self.update(&slice, contents, changed));
            }
        }
        while !rest.is_empty() {
            let part = rest.drain(..self.per_slice.min(rest.len())).collect();
            changes.push(Change::Create(self.new_slice(ports.clone(), part)));
        }
    }

    fn labels(&self) -> Labels {
        let mut labels = self.service.metadata.labels.clone();
        labels.insert(MANAGED_BY, MANAGER);
        labels.insert(SERVICE_NAME, &self.service.metadata.name);
        if headless(self.service) {
            labels.insert(HEADLESS, "");
        } else {
            labels.remove(HEADLESS);
        }
        labels
    }

    fn update(&self, slice: &EndpointSlice, endpoints: Vec<Endpoint>, changed: bool) -> Option<Change> {
        let labels = self.labels();
        if !changed && labels == slice.metadata.labels {
            return None;
        }
        let mut slice = slice.clone();
        slice.metadata.labels = labels;
        slice.endpoints = endpoints;
        self.stamp(&mut slice.metadata);
        Some(Change::Update(slice))
    }

    fn new_slice(&self, ports: Ports, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let meta = &self.service.metadata;
        let mut metadata = Meta {
            generate_name: format!("{}-", meta.name),
            namespace: meta.namespace.clone(),
            labels: self.labels(),
            owner_references: vec![meta.controller_reference(Service::API_VERSION, Service::KIND)],
            ..Default::default()
        };
        self.stamp(&mut metadata);
        EndpointSlice { metadata, address_type: self.family.to_owned(), endpoints, ports }
    }

    fn stamp(&self, meta: &mut Meta) {
        match self.trigger {
            Some(time) => {
                meta.annotations.insert(TRIGGER_TIME.to_owned(), stamp(time));
            }
            None => drop(meta.annotations.remove(TRIGGER_TIME)),
        }
    }
}

/// A time as the annotation has it: RFC 3339, with fractions only where there are some.
pub(in crate::controllers) fn stamp(time: jiff::Timestamp) -> String {
    time.to_string()
}

/// What makes an endpoint the same one: the pod, else the address.
fn identity(endpoint: &Endpoint) -> String {
    let address = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
    let uid = endpoint.target_ref.as_ref().map(|target| target.uid.as_str()).unwrap_or_default();
    format!("{address}/{uid}")
}

/// Whom traffic from where should go to, as `spec.trafficDistribution` asks.
fn hint(service: &Service, groups: &mut BTreeMap<Ports, Vec<Endpoint>>) {
    let distribution = service.spec.traffic_distribution.as_str();
    let same_node = distribution == "PreferSameNode";
    if !same_node && !matches!(distribution, "PreferClose" | "PreferSameZone") {
        return;
    }
    for endpoint in groups.values_mut().flatten() {
        if endpoint.conditions.ready != Some(true) {
            continue;
        }
        let name =
            |name: &Option<String>| name.iter().map(|name| Zone { name: name.clone() }).collect::<Vec<_>>();
        let hints = EndpointHints {
            for_zones: name(&endpoint.zone),
            for_nodes: if same_node { name(&endpoint.node_name) } else { Vec::new() },
        };
        if hints != EndpointHints::default() {
            endpoint.hints = Some(hints);
        }
    }
}
