//! Nodes: a kubelet writes its own, but not what would steer pods to it.

use api::{Status, Tree};

use crate::{Attributes, Operation};
use registry::tree::{entries, get, has, same, text};

/// Labels of the API's own domains that a kubelet may set on its node.
fn own_label(key: &str) -> bool {
    const KNOWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    KNOWN.contains(&key) || within(key, &["kubelet.kubernetes.io", "node.kubernetes.io"])
}

/// Whether a key is of one of these domains, or below one.
fn within(key: &str, domains: &[&str]) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domains
        .iter()
        .any(|own| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Labels that are reserved for administrators, and those in the API's own domains that a kubelet may not set.
fn forbidden_labels<'t>(labels: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut bad: Vec<&str> = labels
        .filter(|key| {
            within(key, &["node-restriction.kubernetes.io"])
                || (within(key, &["kubernetes.io", "k8s.io"]) && !own_label(key))
        })
        .collect();
    bad.sort_unstable();
    bad.dedup();
    bad
}

pub(super) fn admit(attributes: &Attributes<'_>, object: &Tree, node: &str) -> Result<(), Status> {
    let refuse = |why: String| Err(attributes.forbid(&why));
    let name = match attributes.name {
        "" => text(object, "metadata.name"),
        name => name,
    };
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    if attributes.operation == Operation::Create {
        if has(object, "spec.configSource") {
            return refuse(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            ));
        }
        let bad = forbidden_labels(entries(object, "metadata.labels").map(|(key, _)| key));
        if !bad.is_empty() {
            return refuse(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                bad.join(", ")
            ));
        }
    }
    let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else { return Ok(()) };
    if has(object, "spec.configSource")
        && !same(get(object, "spec.configSource"), get(old, "spec.configSource"))
    {
        return refuse(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !same(get(object, "spec.taints"), get(old, "spec.taints")) {
        return refuse(format!("node {node:?} is not allowed to modify taints"));
    }
    if !same(get(object, "metadata.ownerReferences"), get(old, "metadata.ownerReferences")) {
        return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let changed = |a: &Tree, b: &Tree| -> Vec<String> {
        let other = get(b, "metadata.labels");
        let differs = entries(a, "metadata.labels").filter(|(key, value)| other.get(key) != Some(value));
        differs.map(|(key, _)| key.to_owned()).collect()
    };
    let mut keys = changed(object, old);
    keys.extend(changed(old, object));
    let bad = forbidden_labels(keys.iter().map(String::as_str));
    if !bad.is_empty() {
        return refuse(format!("is not allowed to modify labels: {}", bad.join(", ")));
    }
    Ok(())
}
