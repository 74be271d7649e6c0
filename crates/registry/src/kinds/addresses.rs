//! The addresses that services have, and the blocks that these are of, as objects.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::profile::{ALL_METADATA, Profile};
use crate::strategy::Context;
use crate::tree::{get, has, text, texts};
use crate::{internal, net};

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        name: canonical,
        check: Some(check),
        full: true,
        ..Profile::new("networking.k8s.io", "ipaddresses")
    },
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        check: Some(check_blocks),
        full: true,
        ..Profile::new("networking.k8s.io", "servicecidrs")
    },
];

/// An address in the one way to write it.
pub(super) fn canonical(text: &str) -> Vec<String> {
    if let Some(problem) = net::ip_problem(text) {
        return vec![problem.to_owned()];
    }
    let written = net::parse_ip(text).map(|address| address.to_string()).unwrap_or_default();
    if written == text { Vec::new() } else { vec![format!("must be in canonical form ({written:?})")] }
}

fn check(_: &Context<'_>, address: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec.parentRef");
    if !has(address, "spec.parentRef") {
        errors.push(path.required(""));
        return;
    }
    let parent = get(address, "spec.parentRef");
    let group = text(parent, "group");
    if !group.is_empty() {
        let problems = names::dns1123_subdomain(group);
        errors.extend(problems.iter().map(|problem| path.field("group").invalid(group, problem)));
    }
    for field in ["resource", "name", "namespace"] {
        let value = text(parent, field);
        if value.is_empty() && field != "namespace" {
            errors.push(path.field(field).required(""));
        }
        errors.extend(
            names::path_segment(value).iter().map(|problem| path.field(field).invalid(value, problem)),
        );
    }
}

/// One block of addresses, or one of each family. A block is never taken back, a second may be added.
fn check_blocks(_: &Context<'_>, cidr: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec.cidrs");
    let blocks: Vec<&str> = texts(cidr, "spec.cidrs").collect();
    let Some(old) = old else { return blocks_of(cidr, &blocks, &path, errors) };
    let before: Vec<&str> = texts(old, "spec.cidrs").collect();
    let fixed = "field is immutable";
    match (before.len(), blocks.len()) {
        (before, now) if before != now && (before, now) != (1, 2) => {
            errors.push(path.invalid(get(cidr, "spec.cidrs"), fixed));
            return;
        }
        _ => {}
    }
    for (index, (now, before)) in blocks.iter().zip(&before).enumerate() {
        if now != before {
            errors.push(path.index(index).invalid(*now, fixed));
        }
    }
    if blocks.len() > before.len() {
        blocks_of(cidr, &blocks, &path, errors);
    }
}

fn blocks_of(cidr: &Tree, blocks: &[&str], path: &Path<'_>, errors: &mut Vec<Cause>) {
    if blocks.is_empty() {
        errors.push(path.required("at least one CIDR required"));
        return;
    }
    if blocks.len() > 2 {
        let shown = internal::shown(get(cidr, "spec"), "networking.v1.ServiceCIDRSpec");
        errors.push(path.invalid(shown, "may only hold up to 2 values"));
        return;
    }
    for (index, block) in blocks.iter().enumerate() {
        net::check_cidr(block, &path.index(index), errors);
    }
    let families: Vec<bool> =
        blocks.iter().filter_map(|block| Some(net::parse_cidr(block)?.0.is_ipv4())).collect();
    if matches!(families[..], [one, other] if one == other) {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(path.invalid(get(cidr, "spec.cidrs"), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(canonical(name).first().map(String::as_str), expect, "{name}");
        };
        check("10.0.0.1", None);
        check("fe80::1", None);
        check("FE80::1", Some("must be in canonical form (\"fe80::1\")"));
        check("01.2.3.4", Some("must not have leading 0s"));
        check("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address"));
        check("foo", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
}
