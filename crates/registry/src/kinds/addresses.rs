//! The addresses that services have, as objects.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::{Path, Shown};
use machinery::names;

use crate::net;
use crate::profile::Profile;
use crate::strategy::Context;
use crate::tree::{get, has, same, text};

pub(super) const PROFILES: &[Profile] = &[Profile {
    name: canonical,
    check: Some(check),
    full: true,
    ..Profile::new("networking.k8s.io", "ipaddresses")
}];

/// An address in the one way to write it.
pub(super) fn canonical(text: &str) -> Vec<String> {
    if let Some(problem) = net::ip_problem(text) {
        return vec![problem.to_owned()];
    }
    let written = net::parse_ip(text).map(|address| address.to_string()).unwrap_or_default();
    if written == text { Vec::new() } else { vec![format!("must be in canonical form ({written:?})")] }
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

/// Errors of a value that has to be one segment of a path.
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
