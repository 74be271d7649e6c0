//! A Service's families and policy, and what its fields say about addresses. Pure.

use std::net::IpAddr;

use api::Tree;
use api::json;
use api::status::Cause;
use machinery::fieldpath::Path;

use super::ports;

/// The addresses a stored Service holds.
pub fn addresses(service: &Tree) -> Vec<IpAddr> {
    if service["spec"]["type"] == "ExternalName" {
        return Vec::new();
    }
    asked(service)
}

/// The addresses the fields name; `None` and what is no address are left out.
pub fn asked(service: &Tree) -> Vec<IpAddr> {
    let spec = &service["spec"];
    let mut texts: Vec<&str> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Tree::as_str).collect();
    if texts.is_empty() {
        texts.extend(spec["clusterIP"].as_str());
    }
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// Indexes into the ranges, one per family of the Service, in its order. `ipv4` says for each range whether it is IPv4.
pub fn of(service: &Tree, ipv4: &[bool]) -> Vec<usize> {
    let families = service["spec"]["ipFamilies"].as_array().into_iter().flatten();
    let mut indexes: Vec<usize> = families
        .filter_map(|family| ipv4.iter().position(|is_ipv4| *is_ipv4 == (family == "IPv4")))
        .collect();
    if indexes.is_empty() {
        indexes.push(0);
    }
    indexes
}

/// Fills in policy and families, or returns why the cluster's ranges do not allow them. `ipv4` says for each range whether it is
/// IPv4, the primary first.
pub fn complete(service: &mut Tree, ipv4: &[bool]) -> Vec<Cause> {
    let spec = &mut service["spec"];
    let mut families: Vec<String> = spec["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|family| family.as_str().map(str::to_owned))
        .collect();
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    // its endpoints are written by hand and may be of any family
    let free = spec["clusterIP"] == "None" && !selects;
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!(if free { "RequireDualStack" } else { "SingleStack" });
    }
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    let dual = ipv4.len() > 1 || free;
    let asked = asked(&*service);
    let named: Vec<bool> = asked.iter().map(IpAddr::is_ipv4).collect();
    if !free {
        let causes = misfits(&service["spec"], &policy, &families, &named, ipv4);
        if !causes.is_empty() {
            return causes;
        }
    }
    for is_ipv4 in named {
        if families.len() < 2 && !families.iter().any(|own| own == name(is_ipv4)) {
            families.push(name(is_ipv4).to_owned());
        }
    }
    if families.is_empty() {
        families.push(name(ipv4[0]).to_owned());
    }
    if policy == "SingleStack" {
        families.truncate(1);
    } else if dual && families.len() == 1 {
        families.push(name(families[0] != "IPv4").to_owned());
    }
    service["spec"]["ipFamilies"] = json!(families);
    Vec::new()
}

fn name(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}

fn misfits(spec: &Tree, policy: &str, families: &[String], named: &[bool], ipv4: &[bool]) -> Vec<Cause> {
    let path = Path::new("spec");
    let mut causes = Vec::new();
    let several = match (named.len() > 1, families.len() > 1) {
        (true, _) => Some("cluster IPs"),
        (_, true) => Some("IP families"),
        _ => None,
    };
    match (policy, several) {
        ("SingleStack", Some(what)) => {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            causes.push(path.field("ipFamilyPolicy").invalid(policy, &detail));
        }
        _ => {
            if policy == "RequireDualStack" && ipv4.len() < 2 {
                let detail = "this cluster is not configured for dual-stack services";
                causes.push(path.field("ipFamilyPolicy").invalid(policy, detail));
            }
            for (index, family) in families.iter().enumerate() {
                if !ipv4.contains(&(family == "IPv4")) {
                    let at = path.field("ipFamilies");
                    let cause = at.index(index).invalid(family.as_str(), "not configured on this cluster");
                    causes.push(cause);
                }
            }
        }
    }
    for (index, is_ipv4) in named.iter().enumerate() {
        if !ipv4.contains(is_ipv4) {
            let detail = format!("{} is not configured on this cluster", name(*is_ipv4));
            let at = path.field("clusterIPs");
            causes.push(at.index(index).invalid(&spec["clusterIPs"], &detail));
        }
    }
    causes
}

/// An update that leaves out what was allocated keeps it, as clients that write whole objects expect.
pub fn carry_over(service: &mut Tree, old: &Tree) {
    let kind = |service: &Tree| service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let (now, before) = (kind(service), kind(old));
    if now == "ExternalName" || before == "ExternalName" {
        return;
    }
    let unset = |value: &Tree| value.is_null() || value == "";
    if unset(&service["spec"]["clusterIP"]) && service["spec"]["clusterIPs"][0].is_null() {
        service["spec"]["clusterIP"] = old["spec"]["clusterIP"].clone();
        service["spec"]["clusterIPs"] = old["spec"]["clusterIPs"].clone();
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if service["spec"][field].is_null() && !old["spec"][field].is_null() {
            service["spec"][field] = old["spec"][field].clone();
        }
    }
    ports::carry_over(service, old);
    let checked = |service: &Tree| {
        service["spec"]["type"] == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
    };
    if checked(service) && checked(old) {
        let health = &old["spec"]["healthCheckNodePort"];
        if service["spec"]["healthCheckNodePort"].is_null() && !health.is_null() {
            service["spec"]["healthCheckNodePort"] = health.clone();
        }
    }
}
