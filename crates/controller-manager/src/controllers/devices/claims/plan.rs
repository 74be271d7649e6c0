//! The claims of a pod: their names, and what is made of their templates.

use std::collections::BTreeMap;

use controllers::views::{
    Object, OwnerReference, Pod, PodResourceClaim, ResourceClaim, ResourceClaimTemplate,
};
use serde_json::{Value, json};

use super::POD_CLAIM;

/// The most letters before the part of a generated name that is random.
const LONGEST_BASE: usize = 57;

/// The claim of an entry of a pod.
#[derive(Debug, PartialEq)]
pub(in crate::controllers::devices) enum Named<'a> {
    Claim {
        name: &'a str,
        /// It is one of the pod's own.
        is_generated: bool,
    },
    /// It is still to be made.
    NotYet,
    Unneeded,
}

/// Fails on an entry that says nothing that is known here.
pub(in crate::controllers::devices) fn named<'a>(
    pod: &'a Pod,
    entry: &'a PodResourceClaim,
) -> Result<Named<'a>, String> {
    if let Some(name) = &entry.resource_claim_name {
        return Ok(Named::Claim { name, is_generated: false });
    }
    if entry.resource_claim_template_name.is_none() {
        let key = pod.metadata.key();
        let name = &*entry.name;
        return Err(format!(
            "pod \"{key}\", spec.resourceClaim {name:?}: none of the supported fields are set"
        ));
    }
    let status = pod.status.resource_claim_statuses.iter().find(|status| status.name == entry.name);
    Ok(match status.map(|status| &status.resource_claim_name) {
        None => Named::NotYet,
        Some(None) => Named::Unneeded,
        Some(Some(name)) => Named::Claim { name, is_generated: true },
    })
}

/// The names of all claims that a pod uses, those for its extended resources included.
pub(super) fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    let entries = pod.spec.resource_claims.iter().filter_map(|entry| match named(pod, entry) {
        Ok(Named::Claim { name, .. }) => Some(name),
        _ => None,
    });
    let extended = pod.status.extended_resource_claim_status.iter();
    entries.chain(extended.map(|status| status.resource_claim_name.as_str()))
}

/// Whether a pod may run, now or later.
pub(super) fn needs_claims(pod: &Pod) -> bool {
    !(pod.is_terminal() || (pod.metadata.is_deleting() && pod.spec.node_name.is_empty()))
}

/// Whether claims are made and reserved for a pod. What one that has ended got would be taken back at once.
pub(super) fn gets_claims(pod: &Pod) -> bool {
    needs_claims(pod) && !pod.metadata.is_deleting()
}

pub(in crate::controllers::devices) fn check_owner(pod: &Pod, claim: &ResourceClaim) -> Result<(), String> {
    if claim.metadata.is_controlled_by(&pod.metadata.uid) {
        return Ok(());
    }
    let (claim, pod) = (claim.metadata.key(), pod.metadata.key());
    Err(format!("ResourceClaim {claim} was not created for Pod {pod} (Pod is not owner)"))
}

/// The names in a pod's status, with those of claims that were made now.
pub(super) fn statuses(pod: &Pod, made: Vec<(String, String)>) -> Vec<Value> {
    let known = pod.status.resource_claim_statuses.iter();
    let known = known.filter_map(|status| {
        Some((status.name.to_string(), status.resource_claim_name.as_ref()?.to_string()))
    });
    let all: BTreeMap<String, String> = known.chain(made).collect();
    all.iter().map(|(entry, claim)| json!({"name": entry, "resourceClaimName": claim})).collect()
}

/// Both names are to be seen in the claim's, so both are cut.
fn base(pod: &str, entry: &str) -> String {
    let whole = format!("{pod}-{entry}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let cut = |name: &str| name[..name.len() * LONGEST_BASE / whole.len()].to_owned();
    format!("{}-{}", cut(pod), cut(entry))
}

pub(super) fn claim(pod: &Pod, entry: &PodResourceClaim, template: &ResourceClaimTemplate) -> Value {
    let given = &template.spec["metadata"];
    let mut annotations = given["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), entry.name.as_str().into());
    let owner = OwnerReference {
        block_owner_deletion: None,
        ..pod.metadata.controller_reference(Pod::API_VERSION, Pod::KIND)
    };
    json!({
        "apiVersion": ResourceClaim::API_VERSION,
        "kind": ResourceClaim::KIND,
        "metadata": {
            "generateName": base(&pod.metadata.name, &entry.name),
            "annotations": annotations,
            "labels": given["labels"],
            "ownerReferences": [owner],
        },
        "spec": template.spec["spec"],
    })
}
