//! EndpointSlices.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::kinds::addresses::canonical;
use crate::kinds::service::endpoint_ip;
use crate::net;
use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{list, text, texts};

pub(super) const RULES: Table = &[(
    "k8s.io.api.discovery.v1.EndpointPort",
    &[Rule::Default("name", Literal::Text("")), Rule::Default("protocol", Literal::Text("TCP"))],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::SpecAndLabels,
    check: Some(check),
    warn: Some(super::warnings::endpoint_slice),
    full: true,
    ..Profile::new("discovery.k8s.io", "endpointslices")
}];

fn check(_: &Context<'_>, slice: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let kind = text(slice, "addressType");
    if old.is_some_and(|old| text(old, "addressType") != kind) {
        errors.push(Path::new("addressType").invalid(Shown::Null, "field is immutable"));
        return;
    }
    if kind.is_empty() {
        errors.push(Path::new("addressType").required(""));
    } else if !matches!(kind, "FQDN" | "IPv4" | "IPv6") {
        errors.push(Path::new("addressType").not_supported(kind, &["FQDN", "IPv4", "IPv6"]));
    }
    endpoints(slice, kind, errors);
    let all = Path::new("ports");
    let mut seen = Seen::new();
    for (index, port) in list(slice, "ports").iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            rules::format(name, names::dns1123_label(name), &at.field("name"), errors);
        }
        if seen.repeats(name) {
            errors.push(at.field("name").duplicate(name));
        }
        rules::one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &at, errors);
        rules::formatted(port, "appProtocol", names::qualified_name, &at, errors);
    }
}

/// The first complaint about a name that should be fully qualified.
fn domain(name: &str, path: &Path<'_>) -> Option<Cause> {
    if name.is_empty() {
        return Some(path.required(""));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return Some(path.invalid(name, &problems.join(",")));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return Some(path.invalid(name, detail));
    }
    name.split('.').find_map(|label| {
        let problems = names::dns1123_label(label);
        (!problems.is_empty()).then(|| path.invalid(label, &problems.join(",")))
    })
}

fn endpoints(slice: &Tree, kind: &str, errors: &mut Vec<Cause>) {
    let all = Path::new("endpoints");
    let endpoints = list(slice, "endpoints");
    if endpoints.len() > 1000 {
        errors.push(all.too_many(endpoints.len(), 1000));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if is_full(errors) {
            break;
        }
        let at = all.index(index);
        let path = at.field("addresses");
        let count = list(endpoint, "addresses").len();
        if count == 0 {
            errors.push(path.required(""));
        } else if count > 100 {
            errors.push(path.too_many(count, 100));
        }
        for (position, address) in texts(endpoint, "addresses").enumerate() {
            if is_full(errors) {
                break;
            }
            let at = path.index(position);
            match kind {
                "IPv4" => match net::ip_problem(address) {
                    Some(problem) => errors.push(at.invalid(address, problem)),
                    None => {
                        if address.contains(':') {
                            errors.push(path.invalid(address, "must be an IPv4 address"));
                        }
                        endpoint_ip(address, &at, errors);
                    }
                },
                "IPv6" => match canonical(address) {
                    problems if !problems.is_empty() => rules::format(address, problems, &at, errors),
                    _ => {
                        if !address.contains(':') {
                            errors.push(path.invalid(address, "must be an IPv6 address"));
                        }
                        endpoint_ip(address, &at, errors);
                    }
                },
                "FQDN" => errors.extend(domain(address, &at)),
                _ => {}
            }
        }
        for (field, format) in [
            ("nodeName", names::dns1123_subdomain as crate::meta::NameFormat),
            ("hostname", names::dns1123_label),
        ] {
            rules::formatted(endpoint, field, format, &at, errors);
        }
        let zones = at.field("hints.forZones");
        let mut seen = Seen::new();
        for (index, zone) in list(endpoint, "hints.forZones").iter().enumerate() {
            if is_full(errors) {
                break;
            }
            let (name, at) = (text(zone, "name"), zones.index(index));
            if seen.repeats(name) {
                errors.push(at.field("name").duplicate(name));
            }
            rules::format(name, names::label_value(name), &at.field("name"), errors);
        }
    }
}
