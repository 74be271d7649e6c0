//! What is written into a claim: its devices, how drivers are to configure them, and the nodes that reach them.

use serde_json::{Value, json};

use super::search::{Found, Input};
use crate::cluster::facts::devices::{DeviceClaim, Exact, Nodes, Request};
use crate::cluster::{Node, Symbol};

fn chosen(request: &Request, alternative: usize) -> Option<&Exact> {
    request.exactly.as_ref().or_else(|| request.first_available.get(alternative))
}

/// As results and configurations name it.
fn name(request: &Request, alternative: usize) -> String {
    match request.first_available.get(alternative).filter(|_| request.exactly.is_none()) {
        Some(exact) => format!("{}/{}", request.name, exact.name),
        None => request.name.clone(),
    }
}

pub(super) fn allocation(input: &Input<'_>, claim: &DeviceClaim, found: &Found, node: &Node) -> Value {
    let results: Vec<Value> = found
        .devices
        .iter()
        .map(|picked| {
            let (request, alternative) =
                (&claim.requests[picked.request], found.alternatives[picked.request]);
            let mut result = json!({
                "request": name(request, alternative), "driver": picked.id.driver.as_str(),
                "pool": picked.id.pool.as_str(), "device": picked.id.name.as_str(),
            });
            if let Some(share) = &picked.share {
                result["shareID"] = uuid::Uuid::new_v4().to_string().into();
                if !share.is_empty() {
                    let amounts =
                        share.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
                    result["consumedCapacity"] = Value::Object(amounts.collect());
                }
            }
            let device = picked.device();
            for (field, conditions) in [
                ("bindingConditions", &device.binding_conditions),
                ("bindingFailureConditions", &device.binding_failure_conditions),
            ] {
                if !conditions.is_empty() {
                    result[field] = json!(conditions);
                }
            }
            if let Some(exact) = chosen(request, alternative) {
                if exact.has_admin_access() {
                    result["adminAccess"] = true.into();
                }
                if !exact.tolerations.is_empty() {
                    let whole = exact.tolerations.iter().map(|toleration| toleration.whole.clone());
                    result["tolerations"] = whole.collect();
                }
            }
            result
        })
        .collect();
    let mut allocation = json!({"devices": {"results": results}});
    let config = configurations(input, claim, found);
    if !config.is_empty() {
        allocation["devices"]["config"] = config.into();
    }
    if let Some(selector) = node_selector(found, node) {
        allocation["nodeSelector"] = selector;
    }
    allocation
}

/// Those of the classes, each once, then those of the claim that concern what was chosen. One that concerns all requests
/// names none.
fn configurations(input: &Input<'_>, claim: &DeviceClaim, found: &Found) -> Vec<Value> {
    let names: Vec<String> =
        claim.requests.iter().zip(&found.alternatives).map(|(request, own)| name(request, *own)).collect();
    let mut classes: Vec<(&str, Vec<&str>)> = Vec::new();
    for ((request, alternative), name) in claim.requests.iter().zip(&found.alternatives).zip(&names) {
        let Some(exact) = chosen(request, *alternative) else { continue };
        match classes.iter_mut().find(|(class, _)| *class == exact.device_class_name) {
            Some((_, users)) => users.push(name),
            None => classes.push((&exact.device_class_name, vec![name])),
        }
    }
    let with = |config: &Value, source: &str, requests: &[&str]| {
        let mut own = config.clone();
        own["source"] = source.into();
        if let Some(fields) = own.as_object_mut() {
            fields.remove("requests");
        }
        let concerns = |(request, name): (&Request, &String)| {
            requests.iter().any(|own| *own == request.name || own == name)
        };
        if !requests.is_empty() && !claim.requests.iter().zip(&names).all(concerns) {
            own["requests"] = json!(requests);
        }
        own
    };
    let mut all = Vec::new();
    for (class, users) in &classes {
        let Some(class) = input.classes.get(&Symbol::new(class)) else { continue };
        all.extend(class.config.iter().map(|config| with(config, "FromClass", users)));
    }
    for config in &claim.config {
        let requests = config["requests"].as_array().into_iter().flatten();
        let requests: Vec<&str> = requests.filter_map(Value::as_str).collect();
        let concerns = |(request, name): (&Request, &String)| {
            requests.iter().any(|own| *own == request.name || own == name)
        };
        if requests.is_empty() || claim.requests.iter().zip(&names).any(concerns) {
            all.push(with(config, "FromClaim", &requests));
        }
    }
    all
}

/// Nodes that reach all of the devices; none for all nodes.
fn node_selector(found: &Found, node: &Node) -> Option<Value> {
    let (mut fields, mut expressions): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for picked in &found.devices {
        let nodes = picked.slice.nodes_of(picked.device());
        if matches!(nodes, Nodes::Named(_)) || picked.device().binds_to_node {
            let field = json!({"key": "metadata.name", "operator": "In", "values": [node.name.as_str()]});
            return Some(json!({"nodeSelectorTerms": [{"matchFields": [field]}]}));
        }
        let Nodes::Selected(_, whole) = nodes else { continue };
        for (own, of) in [(&mut fields, "matchFields"), (&mut expressions, "matchExpressions")] {
            for requirement in whole["nodeSelectorTerms"][0][of].as_array().into_iter().flatten() {
                if !own.contains(requirement) {
                    own.push(requirement.clone());
                }
            }
        }
    }
    let mut term = serde_json::Map::new();
    for (name, requirements) in [("matchExpressions", expressions), ("matchFields", fields)] {
        if !requirements.is_empty() {
            term.insert(name.to_owned(), requirements.into());
        }
    }
    (!term.is_empty()).then(|| json!({"nodeSelectorTerms": [term]}))
}
