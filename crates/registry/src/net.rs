//! IP addresses and CIDRs as the API has always taken them: octets and prefix lengths may have leading zeros, IPv4 may
//! be mapped into IPv6. What is parsed that way is refused where it is newly written, and warned of where it stays.

use std::net::IpAddr;

use api::status::Cause;
use ipnet::IpNet;
use machinery::fieldpath::Path;

const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address, with leading zeros or without.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (before, four) = text.rfind(':').map_or(("", text), |colon| text.split_at(colon + 1));
    let octets: Option<Vec<String>> = four.split('.').map(octet).collect();
    let octets = octets.filter(|octets| octets.len() == 4)?;
    format!("{before}{}", octets.join(".")).parse().ok()
}

fn octet(text: &str) -> Option<String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<u8>().ok()).flatten().map(|number| number.to_string())
}

/// The address of a CIDR as it is written, and the network it is in.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, IpNet)> {
    let (address, length) = text.split_once('/')?;
    let address = parse_ip(address)?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let net = IpNet::new(address, length.parse().ok()?).ok()?;
    Some((address, net.trunc()))
}

fn is_mapped(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An address as it should be written.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => address.to_canonical(),
        address => address,
    }
}

/// The error in a newly written address, if any.
pub fn ip_problem(text: &str) -> Option<&'static str> {
    match (parse_ip(text), text.parse::<IpAddr>()) {
        (None, _) => Some(NOT_AN_ADDRESS),
        (Some(_), Err(_)) => Some("must not have leading 0s"),
        (Some(address), Ok(_)) => is_mapped(&address).then_some("must not be an IPv4-mapped IPv6 address"),
    }
}

/// The error in a newly written CIDR, if any.
pub fn cidr_problem(text: &str) -> Option<&'static str> {
    let Some((address, net)) = parse_cidr(text) else { return Some(NOT_A_CIDR) };
    if !is_strict_cidr(text) {
        Some("must not have leading 0s in IP or prefix length")
    } else if is_mapped(&address) {
        Some("must not have an IPv4-mapped IPv6 address")
    } else {
        (net.addr() != address).then_some("must not have bits set beyond the prefix length")
    }
}

fn is_strict_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0'))
    })
}

/// The complaint about an address, if any.
pub fn check_ip(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    errors.extend(ip_problem(text).map(|problem| path.invalid(text, problem)));
}

/// The complaint about a CIDR, if any.
pub fn check_cidr(text: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    errors.extend(cidr_problem(text).map(|problem| path.invalid(text, problem)));
}

/// The warning about an address that is accepted, if any.
pub fn ip_warning(text: &str, path: &str) -> Option<String> {
    let address = parse_ip(text)?;
    let strict = text.parse::<IpAddr>();
    if strict.is_err() || is_mapped(&address) {
        let better = plain(address).to_string();
        return Some(format!("{path}: non-standard IP address {text:?} is invalid: use {better:?}"));
    }
    let canonical = address.to_string();
    (address.is_ipv6() && canonical != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

/// The warnings about a CIDR that is accepted.
pub fn cidr_warnings(text: &str, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some((address, net)) = parse_cidr(text) else { return warnings };
    let better = plain_net(net);
    if net.addr() != address {
        let alone = format!("{}/{}", plain(address), net.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {better:?} or {alone:?}?)"
        ));
    }
    if !is_strict_cidr(text) || is_mapped(&address) {
        warnings.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use {better:?}"));
    }
    let canonical = format!("{address}/{}", net.prefix_len());
    if warnings.is_empty() && address.is_ipv6() && canonical != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
    warnings
}

fn plain_net(net: IpNet) -> String {
    const MAPPED: u8 = 96;
    match net {
        IpNet::V6(own) if is_mapped(&net.addr()) && own.prefix_len() >= MAPPED => {
            format!("{}/{}", plain(net.addr()), own.prefix_len() - MAPPED)
        }
        net => net.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_refused_for_how_they_are_written() {
        for (text, expect) in [
            ("10.0.0.1", None),
            ("fd00::5", None),
            ("FD00:0::5", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("::ffff:1.2.03.4", Some("must not have leading 0s")),
            ("10.0.0", Some(NOT_AN_ADDRESS)),
            ("10.0.0.256", Some(NOT_AN_ADDRESS)),
            ("10.0.0.+1", Some(NOT_AN_ADDRESS)),
            ("fe80::1%eth0", Some(NOT_AN_ADDRESS)),
            ("", Some(NOT_AN_ADDRESS)),
        ] {
            assert_eq!(ip_problem(text), expect, "{text}");
        }
    }

    #[test]
    fn cidrs_are_refused_for_how_they_are_written() {
        for (text, expect) in [
            ("10.0.0.0/8", None),
            ("0.0.0.0/0", None),
            ("fd00::/8", None),
            ("10.0.0.1/8", Some("must not have bits set beyond the prefix length")),
            ("010.0.0.0/8", Some("must not have leading 0s in IP or prefix length")),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("::ffff:10.0.0.0/104", Some("must not have an IPv4-mapped IPv6 address")),
            ("10.0.0.0", Some(NOT_A_CIDR)),
            ("10.0.0.0/33", Some(NOT_A_CIDR)),
            ("10.0.0.0/+8", Some(NOT_A_CIDR)),
        ] {
            assert_eq!(cidr_problem(text), expect, "{text}");
        }
    }

    #[test]
    fn accepted_but_nonstandard_addresses_are_warned_of() {
        for (text, expect) in [
            ("10.0.0.1", None),
            ("fd00::5", None),
            ("010.0.0.1", Some("p: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"")),
            (
                "::ffff:1.2.3.4",
                Some("p: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""),
            ),
            (
                "FD00::5",
                Some("p: IPv6 address \"FD00::5\" should be in RFC 5952 canonical format (\"fd00::5\")"),
            ),
        ] {
            assert_eq!(ip_warning(text, "p").as_deref(), expect, "{text}");
        }
        for (text, expect) in [
            ("10.0.0.0/8", Vec::new()),
            (
                "10.0.0.1/8",
                vec![
                    "p: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
                ],
            ),
            (
                "10.0.0.0/08",
                vec!["p: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\""],
            ),
            (
                "::ffff:10.0.0.0/104",
                vec!["p: non-standard CIDR value \"::ffff:10.0.0.0/104\" is invalid: use \"10.0.0.0/8\""],
            ),
            (
                "FD00::/8",
                vec!["p: IPv6 CIDR value \"FD00::/8\" should be in RFC 5952 canonical format (\"fd00::/8\")"],
            ),
        ] {
            assert_eq!(cidr_warnings(text, "p"), expect, "{text}");
        }
    }
}
