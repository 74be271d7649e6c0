//! EndpointSlices.

use std::collections::HashSet;

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::addresses::canonical;
use crate::kinds::service::endpoint_ip;
use crate::net;
use crate::profile::{Generation, Profile};
use crate::rules::{self, Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{fill_pointer, get, list, same, text, texts};

pub(super) const RULES: Table = &[(
    "k8s.io.api.discovery.v1.EndpointPort",
    &[Rule::Default("name", Literal::Text("")), Rule::Default("protocol", Literal::Text("TCP"))],
)];

pub(super) const PROFILES: &[Profile] = &[Profile {
    generation: Generation::SpecAndLabels,
    prepare: Some(prepare),
    check: Some(check),
    warn: Some(super::warnings::endpoint_slice),
    full: true,
    ..Profile::new("discovery.k8s.io", "endpointslices")
}];

fn check(_: &Context<'_>, slice: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let kind = text(slice, "addressType");
    if kind.is_empty() {
        errors.push(Path::new("addressType").required(""));
    } else if !matches!(kind, "FQDN" | "IPv4" | "IPv6") {
        errors.push(Path::new("addressType").not_supported(kind, &["FQDN", "IPv4", "IPv6"]));
    }
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
    if old.is_none_or(|old| !same(get(slice, "endpoints"), get(old, "endpoints"))) {
        endpoints(slice, kind, errors);
    }
}

/// An endpoint's topology is no longer written. Where it names a node that it named before, the endpoint says so itself.
fn prepare(_: &Context<'_>, slice: &mut Tree, old: Option<&Tree>) {
    if old.is_some_and(|old| same(get(slice, "endpoints"), get(old, "endpoints"))) {
        return;
    }
    let hosts: HashSet<String> = old
        .map(|old| list(old, "endpoints"))
        .unwrap_or_default()
        .iter()
        .filter_map(|endpoint| get(endpoint, "deprecatedTopology").get(HOST)?.as_str().map(str::to_owned))
        .collect();
    let endpoints = slice.get_mut("endpoints").and_then(Tree::as_array_mut).into_iter().flatten();
    for endpoint in endpoints.filter_map(Tree::as_object_mut) {
        let Some(topology) = endpoint.remove("deprecatedTopology") else { continue };
        let host = topology.get(HOST).and_then(Tree::as_str).filter(|host| hosts.contains(*host));
        if let Some(host) = host.filter(|host| names::is_dns1123_subdomain(host)) {
            fill_pointer(endpoint, "nodeName", host);
        }
    }
}

const HOST: &str = "kubernetes.io/hostname";

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
        hints(get(endpoint, "hints"), &at.field("hints"), errors);
    }
}

/// The most zones or nodes that an endpoint may be for.
const HINTS: usize = 8;

fn hints(hints: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    for (field, format) in
        [("forZones", names::label_value as crate::meta::NameFormat), ("forNodes", names::dns1123_subdomain)]
    {
        let (all, at) = (list(hints, field), path.field(field));
        if all.len() > HINTS {
            errors.push(at.too_many(all.len(), HINTS));
            return;
        }
        let mut seen = Seen::new();
        for (index, one) in all.iter().enumerate() {
            let (name, at) = (text(one, "name"), at.index(index));
            if seen.repeats(name) {
                errors.push(at.field("name").duplicate(name));
            }
            rules::format(name, format(name), &at.field("name"), errors);
        }
    }
}
