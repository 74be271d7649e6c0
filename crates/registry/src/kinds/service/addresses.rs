//! What `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` say, and whether it fits together.

use super::*;

/// Errors in these fields. The API server checks them before it allocates anything, and then reports no others.
pub fn cluster_addresses(service: &Tree) -> Vec<Cause> {
    let (spec, mut errors) = (get(service, "spec"), Vec::new());
    if text(spec, "type") == "ExternalName" {
        return errors;
    }
    let one = text(spec, "clusterIP");
    let (all, at) = (list(spec, "clusterIPs"), SPEC.field("clusterIPs"));
    if one.is_empty() && !all.is_empty() {
        errors.push(at.invalid(get(spec, "clusterIPs"), "must be empty when `clusterIP` is not specified"));
    } else if all.first().is_some_and(|first| *first != one) {
        errors.push(at.invalid(get(spec, "clusterIPs"), "first value must match `clusterIP`"));
    }
    let families: Vec<&str> = texts(spec, "ipFamilies").collect();
    let mut seen = Seen::new();
    for (index, family) in families.iter().enumerate() {
        if is_full(&errors) {
            break;
        }
        let at = SPEC.field("ipFamilies");
        if !matches!(*family, "IPv4" | "IPv6") {
            errors.push(at.index(index).not_supported(*family, &["IPv4", "IPv6"]));
        }
        if seen.repeats(*family) {
            errors.push(at.index(index).duplicate(*family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    rules::one_of(spec, "ipFamilyPolicy", &policies, &SPEC, &mut errors);
    values(spec, &families, &mut errors);
    errors
}

fn values(spec: &Tree, families: &[&str], errors: &mut Vec<Cause>) {
    let at = SPEC.field("clusterIPs");
    let all: Vec<&str> = texts(spec, "clusterIPs").collect();
    if all.len() > 2 {
        errors.push(at.invalid(get(spec, "clusterIPs"), "may only hold up to 2 values"));
        return;
    }
    let headless = all.first() == Some(&"None");
    if headless && all.len() > 1 {
        errors.push(at.invalid(get(spec, "clusterIPs"), "'None' must be the first and only value"));
    }
    let before = errors.len();
    for (index, address) in all.iter().enumerate().skip(usize::from(headless)) {
        if is_full(errors) {
            break;
        }
        let is_v6 = match strict_ip(address) {
            Ok(parsed) => parsed.is_ipv6(),
            Err(detail) => {
                errors.push(at.index(index).invalid(*address, detail));
                continue;
            }
        };
        let family = if is_v6 { "IPv6" } else { "IPv4" };
        if let Some(wanted) = families.get(index).filter(|wanted| **wanted != family) {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
            errors.push(at.index(index).invalid(*address, &detail));
        }
    }
    if let ([first, second], false, true) = (all.as_slice(), headless, errors.len() == before)
        && first.contains(':') == second.contains(':')
    {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(at.invalid(get(spec, "clusterIPs"), detail));
    }
}

/// An address that everyone reads the same way.
fn strict_ip(address: &str) -> Result<std::net::IpAddr, &'static str> {
    match address.parse() {
        Ok(std::net::IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err("must not be an IPv4-mapped IPv6 address")
        }
        Ok(parsed) => Ok(parsed),
        Err(_) => {
            let short = |part: &str| match part.trim_start_matches('0') {
                "" if !part.is_empty() => "0".to_owned(),
                rest => rest.to_owned(),
            };
            let plain: Vec<String> = address.split('.').map(short).collect();
            match plain.join(".").parse::<std::net::Ipv4Addr>() {
                Ok(_) => Err("must not have leading 0s"),
                Err(_) => Err("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            }
        }
    }
}
