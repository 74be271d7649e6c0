//! Writes what was chosen for a pod's claims, and finds whether it has come about.

use std::collections::BTreeMap;

use client::Patch;
use serde_json::{Value, json};

use super::Chosen;
use crate::cluster::facts::storage::{BOUND_BY_CONTROLLER, Claim, SELECTED_NODE, Volume};
use crate::cluster::{Pod, Symbol};
use crate::framework::{Handle, Subject};

async fn patch_object<V: client::View>(
    handle: &Handle,
    namespace: Option<&str>,
    name: &str,
    patch: Value,
) -> client::Result<()> {
    let resource = client::ResourceRef::of::<V>();
    let api = handle.client.at(&resource);
    api.patch::<serde::de::IgnoredAny>(namespace, name, None, Patch::Merge(patch)).await.map(drop)
}

/// Has a volume provisioned for the claim, where the node can reach it.
pub(super) async fn write_selected_node(handle: &Handle, claim: &Claim, node: &Symbol) -> Result<(), String> {
    let patch = json!({"metadata": {"resourceVersion": &*claim.resource_version,
        "annotations": {SELECTED_NODE: node.as_str()}}});
    let patched = patch_object::<Claim>(handle, claim.key.namespace(), &claim.key.name, patch).await;
    patched.map_err(|error| error.to_string())
}

/// Reserves the volume for the claim; the controller does the rest.
pub(super) async fn write_binding(handle: &Handle, claim: &Claim, volume: &Volume) -> Result<(), String> {
    let seen = handle.volumes.get(None, volume.name.as_str());
    if seen.as_ref().is_some_and(|seen| seen.is_reserved_for(claim)) {
        return Ok(());
    }
    let mut annotations = BTreeMap::new();
    if seen.is_none_or(|seen| !seen.is_for(claim)) {
        annotations.insert(BOUND_BY_CONTROLLER, "yes");
    }
    let patch = json!({
        "metadata": {"resourceVersion": &*volume.resource_version, "annotations": annotations},
        "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": &*claim.key.namespace, "name": &*claim.key.name,
            "uid": &*claim.uid, "resourceVersion": &*claim.resource_version,
        }},
    });
    match patch_object::<Volume>(handle, None, volume.name.as_str(), patch).await {
        // Another pod with this claim reserved it meanwhile.
        Err(error) if error.is_conflict() && volume.is_reserved_for(claim) => Ok(()),
        patched => patched.map_err(|error| error.to_string()),
    }
}

/// What [`is_bound`] depends on.
pub(super) fn subjects(pod: &Pod, chosen: &Chosen, node: &Symbol) -> Vec<Subject> {
    let mut subjects = vec![Subject::Pod(pod.key.clone()), Subject::Node(node.clone())];
    for (claim, volume) in &chosen.bindings {
        subjects.extend([Subject::Claim(claim.key.clone()), Subject::Volume(volume.name.clone())]);
    }
    subjects.extend(chosen.provisions.iter().map(|claim| Subject::Claim(claim.key.clone())));
    subjects
}

/// Whether all claims are bound as chosen; an error when one never will be.
pub(super) fn is_bound(handle: &Handle, pod: &Pod, chosen: &Chosen, node: &Symbol) -> Result<bool, String> {
    if handle.pods.get_key(&pod.key).is_none_or(|seen| seen.uid != pod.uid) {
        return Err("pod does not exist any more".into());
    }
    let Some(place) = handle.nodes.get(None, node.as_str()) else {
        return Err(format!("failed to get node {:?}", node.as_str()));
    };
    let claim_of = |claim: &Claim| {
        let seen = handle.claims.get_key(&claim.key);
        seen.ok_or_else(|| format!("persistentvolumeclaim {:?} not found", claim.key.name))
    };
    let reaches = |volume: &Volume| {
        if volume.reaches(&place) {
            return Ok(());
        }
        let name = volume.name.as_str();
        Err(format!("pv {name:?} node affinity doesn't match node {:?}", node.as_str()))
    };
    for (claim, volume) in &chosen.bindings {
        let name = volume.name.as_str();
        let Some(seen) = handle.volumes.get(None, name) else {
            return Err(format!("persistentvolume {name:?} not found"));
        };
        let is_reserved = seen.is_reserved_for(claim);
        if seen.resource_version == volume.resource_version && !is_reserved {
            return Ok(false);
        }
        reaches(&seen)?;
        if !is_reserved {
            return Err(format!("ClaimRef got reset for pv {name:?}"));
        }
        if !claim_of(claim)?.is_bound() {
            return Ok(false);
        }
    }
    for claim in &chosen.provisions {
        let seen = claim_of(claim)?;
        if seen.resource_version == claim.resource_version {
            return Ok(false);
        }
        if seen.selected_node.as_ref() != Some(node) {
            return Err(format!("provisioning failed for PVC {:?}", seen.key.name));
        }
        if !seen.volume.is_empty() {
            let Some(volume) = handle.volumes.get(None, seen.volume.as_str()) else { return Ok(false) };
            reaches(&volume)?;
        }
        if !seen.is_bound() {
            return Ok(false);
        }
    }
    Ok(true)
}
