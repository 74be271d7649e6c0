//! What an update of a service carries over from the old one.

use std::collections::HashMap;

use super::*;

pub(super) fn prepare(_: &Context<'_>, service: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else {
        put(as_object(service), "status", json!({"loadBalancer": {}}));
        same_addresses(service, None);
        if text(service, "spec.type") == "ExternalName" {
            ensure(service, "spec").remove("internalTrafficPolicy");
        }
        return;
    };
    same_addresses(service, Some(old));
    // Allocated values stay unless the new type has none.
    let kind = text(service, "spec.type").to_owned();
    if kind == "ExternalName" {
        if text(old, "spec.type") != "ExternalName"
            && let Some(spec) = object_mut(service, "spec")
        {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
            {
                if get(old, &format!("spec.{field}")) == spec.get(field).unwrap_or(&Tree::Null) {
                    spec.remove(field);
                }
            }
        }
    } else if text(old, "spec.type") != "ExternalName" {
        let all = get(service, "spec.clusterIPs");
        let none = unset(all) || same(all, get(old, "spec.clusterIPs"));
        if text(service, "spec.clusterIP").is_empty() && none {
            let (one, all) = (get(old, "spec.clusterIP").clone(), get(old, "spec.clusterIPs").clone());
            let spec = ensure(service, "spec");
            put(spec, "clusterIP", one);
            put(spec, "clusterIPs", all);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if unset(get(service, &format!("spec.{field}"))) {
                put(ensure(service, "spec"), field, get(old, &format!("spec.{field}")).clone());
            }
        }
        keep_node_ports(service, old);
    }
    let spec = ensure(service, "spec");
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        // A service that needs no node ports any more gives up those it did not ask for.
        let before: Seen<i64> = list(old, "spec.ports").iter().map(|port| number(port, "nodePort")).collect();
        for port in spec.get_mut("ports").and_then(Tree::as_array_mut).into_iter().flatten() {
            if before.contains(&number(port, "nodePort")) {
                as_object(port).remove("nodePort");
            }
        }
        let external = spec.get("externalIPs").is_some_and(|ips| !unset(ips));
        if !external
            && spec.get("externalTrafficPolicy")
                == old.get("spec").and_then(|s| s.get("externalTrafficPolicy"))
        {
            spec.remove("externalTrafficPolicy");
        }
    }
    let is_probed = |kind: &str, policy: Option<&Tree>| {
        kind == "LoadBalancer" && policy.and_then(Tree::as_str) == Some("Local")
    };
    let policy = |spec: Option<&Object>| spec.and_then(|spec| spec.get("externalTrafficPolicy")).cloned();
    let before = old.get("spec").and_then(Tree::as_object);
    if is_probed(text(old, "spec.type"), policy(before).as_ref())
        && !is_probed(&kind, policy(Some(spec)).as_ref())
        && spec.get("healthCheckNodePort") == before.and_then(|spec| spec.get("healthCheckNodePort"))
    {
        spec.remove("healthCheckNodePort");
    }
    if kind != "LoadBalancer" && text(old, "spec.type") == "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field) == before.and_then(|spec| spec.get(field)) {
                spec.remove(field);
            }
        }
        put(as_object(service), "status", json!({"loadBalancer": {}}));
    }
}

/// Who names one address in `clusterIP` alone means the first of `clusterIPs`, too.
fn same_addresses(service: &mut Tree, old: Option<&Tree>) {
    let one = text(service, "spec.clusterIP").to_owned();
    let all = get(service, "spec.clusterIPs");
    let changed_alone =
        old.is_some_and(|old| one != text(old, "spec.clusterIP") && same(all, get(old, "spec.clusterIPs")));
    if !one.is_empty() && (unset(all) || changed_alone) {
        ensure(service, "spec").insert("clusterIPs", Tree::Array(vec![one.into()]));
    }
}

/// Ports that name no node port keep the one they had.
pub(super) fn keep_node_ports(service: &mut Tree, old: &Tree) {
    let has_ports = |service: &Tree| match text(service, "spec.type") {
        "NodePort" => true,
        "LoadBalancer" => get(service, "spec.allocateLoadBalancerNodePorts").as_bool() != Some(false),
        _ => false,
    };
    if !has_ports(service) || !has_ports(old) {
        return;
    }
    let identity = |port: &Tree| (number(port, "port"), text(port, "protocol").to_owned());
    // The first of several ports with one identity counts.
    let before = list(old, "spec.ports").iter().rev().map(|port| (identity(port), number(port, "nodePort")));
    let before: HashMap<(i64, String), i64> = before.collect();
    let Some(ports) = object_mut(service, "spec").and_then(|spec| spec.get_mut("ports")?.as_array_mut())
    else {
        return;
    };
    for port in ports {
        let kept = before.get(&identity(port)).copied().unwrap_or(0);
        if kept != 0 && number(port, "nodePort") == 0 {
            as_object(port).insert("nodePort", kept.into());
        }
    }
}
