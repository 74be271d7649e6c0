//! The addresses that services have, as objects.

use std::net::{IpAddr, Ipv6Addr};

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::generic::Profile;
use crate::strategy::Context;
use crate::tree::{get, has, same, text};

pub(super) const PROFILES: &[Profile] = &[Profile {
    name: canonical,
    check: Some(check),
    full: true,
    ..Profile::new("networking.k8s.io", "ipaddresses")
}];

/// The object's name is the address, in the one way to write it.
fn canonical(name: &str) -> Vec<String> {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(address) => vec![format!("must be in canonical form ({:?})", address.to_string())],
        Err(_) if has_leading_zeros(name) => vec!["must not have leading 0s".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Four numbers that would be an address, were it not for zeros that some read as octal.
fn has_leading_zeros(name: &str) -> bool {
    let (before, four) = name.rsplit_once(':').map_or(("", name), |(before, four)| (before, four));
    let parts: Vec<&str> = four.split('.').collect();
    let plain: Vec<String> =
        parts.iter().filter_map(|part| part.parse::<u8>().ok()).map(|n| n.to_string()).collect();
    let rest = before.is_empty() || format!("{before}:{}", plain.join(".")).parse::<Ipv6Addr>().is_ok();
    parts.len() == 4 && plain.len() == 4 && rest
}

fn check(_: &Context<'_>, address: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let path = Path::new("spec.parentRef");
    if let Some(old) = old {
        if !same(get(address, "spec.parentRef"), get(old, "spec.parentRef")) {
            errors.push(path.invalid(Shown::Null, "field is immutable"));
        }
        return;
    }
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
    for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
        let value = text(parent, field);
        if value.is_empty() {
            if required {
                errors.push(path.field(field).required(""));
            }
            continue;
        }
        errors.extend(segment(value).iter().map(|problem| path.field(field).invalid(value, problem)));
    }
}

/// What cannot be one segment of a path.
fn segment(value: &str) -> Vec<String> {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|part| value.contains(*part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
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
