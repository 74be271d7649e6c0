//! What a name below the cluster's domain asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name, read by the DNS specification's schema.
#[derive(Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// The domain, `svc`, `pod` or a namespace below them: exists, without records.
    Apex,
    /// As [`Question::Apex`], when there is such a namespace.
    Namespace(&'a str),
    /// `dns-version`: the version of the specification.
    Version,
    Service {
        namespace: &'a str,
        name: &'a str,
    },
    Endpoint {
        namespace: &'a str,
        service: &'a str,
        label: &'a str,
    },
    Port {
        namespace: &'a str,
        service: &'a str,
        port: &'a str,
        protocol: &'a str,
    },
    Pod {
        namespace: &'a str,
        address: IpAddr,
    },
    Unknown,
}

/// Reads the labels that stand before the cluster's domain, from left to right and in lower case.
pub fn read<'a>(labels: &[&'a str]) -> Question<'a> {
    match labels {
        [] | ["svc" | "pod"] => Question::Apex,
        ["dns-version"] => Question::Version,
        [namespace, "svc" | "pod"] => Question::Namespace(namespace),
        [name, namespace, "svc"] => Question::Service { namespace, name },
        [port, protocol, service, namespace, "svc"] => {
            match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => Question::Port { namespace, service, port, protocol },
                _ => Question::Unknown,
            }
        }
        [label, service, namespace, "svc"] => Question::Endpoint { namespace, service, label },
        [address, namespace, "pod"] => match dashed(address) {
            Some(address) => Question::Pod { namespace, address },
            None => Question::Unknown,
        },
        _ => Question::Unknown,
    }
}

/// An address written with dashes for its dots or colons.
fn dashed(text: &str) -> Option<IpAddr> {
    text.replace('-', ".")
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| text.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

/// The address a reverse name (`4.3.2.1.in-addr.arpa`) asks about.
pub fn reverse(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [parts @ .., "in-addr", "arpa"] if parts.len() == 4 => {
            let mut octets = [0; 4];
            for (octet, part) in octets.iter_mut().rev().zip(parts) {
                *octet = part.parse().ok()?;
            }
            Some(IpAddr::from(octets))
        }
        [parts @ .., "ip6", "arpa"] if parts.len() == 32 => {
            let mut bits: u128 = 0;
            for part in parts.iter().rev() {
                bits =
                    bits << 4 | u128::from(u8::from_str_radix(part, 16).ok().filter(|nibble| *nibble < 16)?);
            }
            Some(IpAddr::V6(bits.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: Question<'_>) {
        let labels: Vec<&str> = name.split('.').filter(|label| !label.is_empty()).collect();
        assert_eq!(read(&labels), expect, "{name}");
    }

    #[test]
    fn names_are_read_by_the_schema() {
        check("", Question::Apex);
        check("svc", Question::Apex);
        check("default.svc", Question::Namespace("default"));
        check("web.default.svc", Question::Service { namespace: "default", name: "web" });
        check("a.web.default.svc", Question::Endpoint { namespace: "default", service: "web", label: "a" });
        check(
            "_http._tcp.web.default.svc",
            Question::Port { namespace: "default", service: "web", port: "http", protocol: "tcp" },
        );
        check("http.tcp.web.default.svc", Question::Unknown);
        check("10-1-2-3.default.pod", Question::Pod { namespace: "default", address: [10, 1, 2, 3].into() });
        check(
            "fd00--1.default.pod",
            Question::Pod { namespace: "default", address: "fd00::1".parse().unwrap() },
        );
        check("nonsense.default.pod", Question::Unknown);
        check("dns-version", Question::Version);
        check("x.y", Question::Unknown);
    }

    #[test]
    fn reverse_names_give_addresses() {
        let read = |name: &str| reverse(&name.split('.').collect::<Vec<_>>());
        assert_eq!(read("10.0.96.10.in-addr.arpa"), Some([10, 96, 0, 10].into()));
        assert_eq!(read("0.96.10.in-addr.arpa"), None);
        assert_eq!(read("300.0.96.10.in-addr.arpa"), None);
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(read(v6), Some("fd00::1".parse().unwrap()));
    }
}
