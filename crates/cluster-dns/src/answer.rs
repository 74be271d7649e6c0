//! From a question to its records: pure, over [`Facts`].

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::directory::Facts;
use crate::question::{self, Question};
use crate::view::{Port, Service, Slice};

/// Seconds an answer may be kept.
pub const TTL: u32 = 5;
const SPECIFICATION: &str = "1.1.0";
/// How many aliases lead from one to the next at most.
const MAX_ALIASES: usize = 10;

#[derive(Debug, Default)]
pub struct Answer {
    /// Whether there is such a name, of whatever type.
    pub exists: bool,
    pub records: Vec<Record>,
    /// Addresses of the targets of `records`.
    pub additional: Vec<Record>,
    /// A name outside the cluster that the last record is an alias of.
    pub outside: Option<Name>,
}

/// Answers for one query name in the cluster's domain.
pub struct Responder<'a, F> {
    pub facts: &'a F,
    /// The cluster's domain.
    pub domain: &'a Name,
}

impl<F: Facts> Responder<'_, F> {
    /// Answers for a name of the domain. An alias of another name of the domain is followed: resolvers in pods do not
    /// ask again. One that leads nowhere is left out, as CoreDNS does.
    pub fn resolve(&self, name: &Name, kind: RecordType) -> Result<Answer, ProtoError> {
        let mut answer = self.answer_to(name, kind)?;
        let mut aliases = 0;
        while kind != RecordType::CNAME
            && let Some(RData::CNAME(CNAME(target))) = answer.records.last().map(|record| &record.data)
        {
            let target = target.clone();
            if !self.domain.zone_of(&target) {
                answer.outside = Some(target);
                break;
            }
            aliases += 1;
            let next = self.answer_to(&target, kind)?;
            if aliases > MAX_ALIASES || next.records.is_empty() {
                answer.records.clear();
                break;
            }
            answer.records.extend(next.records);
            answer.additional = next.additional;
        }
        Ok(answer)
    }

    fn answer_to(&self, name: &Name, kind: RecordType) -> Result<Answer, ProtoError> {
        let text = name.to_lowercase().to_ascii();
        let labels: Vec<&str> = text.split('.').filter(|label| !label.is_empty()).collect();
        let own = labels.len().saturating_sub(usize::from(self.domain.num_labels()));
        self.answer(name, &question::read(labels.get(..own).unwrap_or_default()), kind)
    }

    fn answer(&self, name: &Name, question: &Question<'_>, kind: RecordType) -> Result<Answer, ProtoError> {
        let mut answer = Answer { exists: true, ..Answer::default() };
        match question {
            Question::Apex => {}
            Question::Namespace(namespace) => answer.exists = self.facts.has_namespace(namespace),
            Question::Version => {
                if wants(kind, RecordType::TXT) {
                    answer.records.push(record(name, RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]))));
                }
            }
            Question::Service { namespace, name: service } => {
                self.service(&mut answer, name, namespace, service, kind)?;
            }
            Question::Endpoint { namespace, service, label } => {
                let endpoints = self.endpoints(namespace, service);
                let found: Vec<IpAddr> = endpoints
                    .iter()
                    .filter(|endpoint| endpoint.label == *label)
                    .map(|endpoint| endpoint.address)
                    .collect();
                answer.exists = !found.is_empty();
                answer.records.extend(addresses(name, &found, kind));
            }
            Question::Port { namespace, service, port, protocol } => {
                let asked = |candidate: &Port| candidate.is(port, protocol);
                let targets = self.targets(namespace, service, &asked)?;
                answer.exists = !targets.is_empty();
                if wants(kind, RecordType::SRV) {
                    serve(&mut answer, name, &targets);
                }
                let mut seen = HashSet::new();
                let found: Vec<IpAddr> =
                    targets.iter().map(|target| target.address).filter(|it| seen.insert(*it)).collect();
                answer.records.extend(addresses(name, &found, kind));
            }
            Question::Pod { namespace, address } => {
                answer.exists = self.facts.has_namespace(namespace);
                if answer.exists {
                    answer.records.extend(addresses(name, &[*address], kind));
                }
            }
            Question::Unknown => answer.exists = false,
        }
        Ok(answer)
    }

    /// The names of an address, when it is a Service's or a named endpoint's.
    pub fn reverse(&self, name: &Name, address: IpAddr) -> Result<Vec<Record>, ProtoError> {
        let mut targets = Vec::new();
        if let Some(service) = self.facts.service_at(address) {
            targets.push(self.service_name(&service.metadata.namespace, &service.metadata.name)?);
        }
        for slice in self.facts.slices_at(address) {
            let Some(service) = slice.metadata.labels.get(crate::view::SERVICE_NAME) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                if endpoint.addresses.contains(&address) && endpoint.hostname.is_some() {
                    let service = self.service_name(&slice.metadata.namespace, service)?;
                    targets.push(Name::from_ascii(endpoint.label(address))?.append_domain(&service)?);
                }
            }
        }
        Ok(targets.into_iter().map(|target| record(name, RData::PTR(PTR(target)))).collect())
    }

    fn service(
        &self,
        answer: &mut Answer,
        name: &Name,
        namespace: &str,
        service: &str,
        kind: RecordType,
    ) -> Result<(), ProtoError> {
        let Some(found) = self.facts.service(namespace, service) else {
            answer.exists = false;
            return Ok(());
        };
        if found.is_external() {
            // An address is no name: there is nothing to be an alias of.
            if found.spec.external_name.parse::<IpAddr>().is_ok() {
                answer.exists = false;
            } else if kind != RecordType::SRV {
                let target =
                    Name::from_ascii(format!("{}.", found.spec.external_name.trim_end_matches('.')))?;
                answer.records.push(record(name, RData::CNAME(CNAME(target))));
            }
        } else if kind == RecordType::SRV {
            let targets = self.targets(namespace, service, &|_| true)?;
            answer.exists = !targets.is_empty() || !found.is_headless();
            serve(answer, name, &targets);
        } else if found.is_headless() {
            let endpoints = self.endpoints(namespace, service);
            let found: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
            answer.exists = !found.is_empty();
            answer.records.extend(addresses(name, &found, kind));
        } else {
            answer.records.extend(addresses(name, &found.addresses(), kind));
        }
        Ok(())
    }

    /// Where the ports of a Service that are asked for are served.
    fn targets(
        &self,
        namespace: &str,
        service: &str,
        asked: &dyn Fn(&Port) -> bool,
    ) -> Result<Vec<Target>, ProtoError> {
        let mut targets = Vec::new();
        let Some(found) = self.facts.service(namespace, service).filter(|found| !found.is_external()) else {
            return Ok(targets);
        };
        let service_name = self.service_name(namespace, service)?;
        if found.is_headless() {
            for endpoint in self.endpoints(namespace, service) {
                let name = Name::from_ascii(&endpoint.label)?.append_domain(&service_name)?;
                let ports = endpoint.slice.ports.iter().flatten().filter(|port| asked(port));
                targets.extend(ports.filter_map(|port| {
                    Some(Target { name: name.clone(), address: endpoint.address, port: port.port? })
                }));
            }
        } else {
            for port in found.spec.ports.iter().filter(|port| asked(port)).filter_map(|port| port.port) {
                let addresses = found.addresses().into_iter();
                targets.extend(addresses.map(|address| Target { name: service_name.clone(), address, port }));
            }
        }
        Ok(targets)
    }

    fn service_name(&self, namespace: &str, name: &str) -> Result<Name, ProtoError> {
        Name::from_ascii(format!("{name}.{namespace}.svc"))?.append_domain(self.domain)
    }

    /// Endpoints that may be published, each address once.
    fn endpoints(&self, namespace: &str, service: &str) -> Vec<Published> {
        let all = self.facts.service(namespace, service).is_some_and(|found| publishes_all(&found));
        let mut known = HashSet::new();
        let mut published: Vec<Published> = Vec::new();
        for slice in self.facts.slices(namespace, service) {
            for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| all || endpoint.is_ready()) {
                for address in &endpoint.addresses {
                    if known.insert(*address) {
                        let label = endpoint.label(*address);
                        published.push(Published { address: *address, label, slice: slice.clone() });
                    }
                }
            }
        }
        published
    }
}

struct Published {
    address: IpAddr,
    label: String,
    slice: Arc<Slice>,
}

/// A port, and where it is served.
struct Target {
    name: Name,
    address: IpAddr,
    port: u16,
}

/// The SRV records of targets, and the addresses of these.
fn serve(answer: &mut Answer, name: &Name, targets: &[Target]) {
    let mut seen = HashSet::new();
    let mut records: Vec<(&Name, u16)> = Vec::new();
    for target in targets {
        if seen.insert((&target.name, target.port)) {
            records.push((&target.name, target.port));
        }
    }
    let weight = u16::try_from(100 / records.len().max(1)).unwrap_or(1).max(1);
    for (target, port) in records {
        answer.records.push(record(name, RData::SRV(SRV::new(0, weight, port, target.clone()))));
    }
    let mut seen = HashSet::new();
    for target in targets.iter().filter(|target| seen.insert((&target.name, target.address))) {
        answer.additional.extend(addresses(&target.name, &[target.address], RecordType::ANY));
    }
}

fn publishes_all(service: &Service) -> bool {
    service.spec.publish_not_ready_addresses
}

fn wants(asked: RecordType, kind: RecordType) -> bool {
    asked == kind || asked == RecordType::ANY
}

fn addresses(name: &Name, found: &[IpAddr], kind: RecordType) -> Vec<Record> {
    let data = found.iter().filter_map(|address| match address {
        IpAddr::V4(address) if wants(kind, RecordType::A) => Some(RData::A(A(*address))),
        IpAddr::V6(address) if wants(kind, RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
        _ => None,
    });
    data.map(|data| record(name, data)).collect()
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

#[cfg(test)]
mod tests;
