//! A Service's families and policy, and what its fields say about addresses. Pure.

use std::net::IpAddr;

use api::Tree;
use serde_json::json;

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

/// The first of the addresses asked for that is none.
pub fn not_an_address(service: &Tree) -> Option<(usize, String)> {
    let spec = &service["spec"];
    let mut texts: Vec<&str> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Tree::as_str).collect();
    if texts.is_empty() {
        texts.extend(spec["clusterIP"].as_str());
    }
    let wrong = |text: &&str| !text.is_empty() && *text != "None" && text.parse::<IpAddr>().is_err();
    texts.iter().position(wrong).map(|index| (index, texts[index].to_owned()))
}

/// Indexes into the ranges, one per family of the Service, in its order. `ipv4` tells each range's family.
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

/// Fills policy and families in. `ipv4` tells each range's family, the primary first.
pub fn complete(service: &mut Tree, ipv4: &[bool]) -> Result<(), (&'static str, String)> {
    let dual = ipv4.len() > 1;
    let named: Vec<bool> = asked(service).iter().map(IpAddr::is_ipv4).collect();
    let spec = &mut service["spec"];
    if spec["clusterIP"].as_str().unwrap_or_default().is_empty()
        && let Some(first) = spec["clusterIPs"][0].as_str().map(str::to_owned)
    {
        spec["clusterIP"] = json!(first);
    }
    let family = |is_ipv4: bool| if is_ipv4 { "IPv4" } else { "IPv6" };
    let mut families: Vec<String> = spec["ipFamilies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|family| family.as_str().map(str::to_owned))
        .collect();
    let headless = spec["clusterIP"] == "None";
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    if headless && !selects {
        // Its endpoints are written by hand and may be of any family.
        if spec["ipFamilyPolicy"].is_null() {
            let policy = if families.len() == 1 { "SingleStack" } else { "RequireDualStack" };
            spec["ipFamilyPolicy"] = json!(policy);
        }
        if families.is_empty() {
            families.push(family(ipv4[0]).to_owned());
        }
        if families.len() == 1 && spec["ipFamilyPolicy"] != "SingleStack" {
            let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            families.push(other.to_owned());
        }
        spec["ipFamilies"] = json!(families);
        return Ok(());
    }
    if spec["ipFamilyPolicy"].is_null() {
        let policy = if families.len() > 1 || named.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        spec["ipFamilyPolicy"] = json!(policy);
    }
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    if policy == "RequireDualStack" && !dual {
        let message =
            "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
                .to_owned();
        return Err(("spec.ipFamilyPolicy", message));
    }
    for (index, family) in families.iter().enumerate() {
        if !ipv4.contains(&(family == "IPv4")) {
            let field = if index == 0 { "spec.ipFamilies[0]" } else { "spec.ipFamilies[1]" };
            return Err((field, format!("Invalid value: {family:?}: not configured on this cluster")));
        }
    }
    for is_ipv4 in named {
        if families.len() < 2 && !families.iter().any(|own| own == family(is_ipv4)) {
            families.push(family(is_ipv4).to_owned());
        }
    }
    if families.is_empty() {
        families.push(family(ipv4[0]).to_owned());
    }
    if policy == "SingleStack" {
        families.truncate(1);
    } else if dual && families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    spec["ipFamilies"] = json!(families);
    Ok(())
}

/// Takes everything off that an ExternalName Service does not have.
pub fn strip(service: &mut Tree) {
    let Some(spec) = service["spec"].as_object_mut() else { return };
    for field in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "allocateLoadBalancerNodePorts",
    ] {
        spec.shift_remove(field);
    }
    if let Some(ports) = spec.get_mut("ports").and_then(Tree::as_array_mut) {
        ports.iter_mut().filter_map(Tree::as_object_mut).for_each(|port| drop(port.shift_remove("nodePort")));
    }
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
    let external = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if external(&now) && external(&before) {
        let had = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if port["nodePort"].as_u64().unwrap_or(0) != 0 {
                continue;
            }
            let same = |other: &&Tree| other["port"] == port["port"] && other["protocol"] == port["protocol"];
            if let Some(number) = had
                .iter()
                .find(same)
                .map(|other| other["nodePort"].clone())
                .filter(|number| !number.is_null())
            {
                port["nodePort"] = number;
            }
        }
        let health = &old["spec"]["healthCheckNodePort"];
        if service["spec"]["healthCheckNodePort"].is_null()
            && !health.is_null()
            && service["spec"]["externalTrafficPolicy"] == "Local"
        {
            service["spec"]["healthCheckNodePort"] = health.clone();
        }
    }
    // A port that is no longer opened on nodes is not kept by accident.
    if !external(&now)
        && let Some(spec) = service["spec"].as_object_mut()
    {
        spec.shift_remove("externalTrafficPolicy");
        spec.shift_remove("healthCheckNodePort");
        for port in spec.get_mut("ports").and_then(Tree::as_array_mut).into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.shift_remove("nodePort");
            }
        }
    }
}
