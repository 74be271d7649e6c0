//! What to do about a claim or a volume, from what is known of both sides.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use client::EventType;
use controllers::views::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use machinery::quantity::Quantity;

use super::migrated;
use super::reclaim::PLUGINS;
use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE};

/// What is known besides the object itself.
pub(super) trait Facts {
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    /// Volumes of the claim's class, and those that are reserved for the claim, by name.
    fn candidates(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>>;
    fn class(&self, name: &str) -> Option<Arc<StorageClass>>;
    fn default_class(&self) -> Option<String>;
    /// Names of the pods that use the claim and have no node.
    fn waiting_pods(&self, claim: &PersistentVolumeClaim) -> Vec<String>;
    /// Whether volumes are to be provisioned.
    fn provisions(&self) -> bool;
}

/// An event.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug)]
pub(super) enum ForClaim {
    Bind(Arc<PersistentVolume>),
    /// Nothing can be done now.
    Wait(Option<Report>),
    /// What it was bound to is not its own any more.
    Lose(Report),
    /// Its objects contradict each other: an error to come back to.
    Refuse(Report, String),
    AssignClass(String),
    Provision {
        provisioner: String,
    },
    CannotProvision(Option<Report>),
}

#[derive(Debug)]
pub(super) enum ForVolume {
    /// Its phase is this one.
    Enter(&'static str),
    /// It is reserved for a claim that it cannot serve.
    Mismatch { of_volume: Report, of_claim: Report },
    /// The claim's reference is missing, which is added with the claim.
    Complete,
    /// Its claim has another volume.
    Unbind,
    /// Its claim is gone, or does not need it.
    Reclaim,
}

/// Fails on objects that cannot be.
pub(super) fn for_claim(claim: &PersistentVolumeClaim, facts: &impl Facts) -> Result<ForClaim, String> {
    let chosen = &claim.spec.volume_name;
    if claim.metadata.annotation(BIND_COMPLETED).is_some() {
        return Ok(bound(claim, facts.volume(chosen)));
    }
    if chosen.is_empty() { unbound(claim, facts) } else { Ok(choosing(claim, facts.volume(chosen))) }
}

/// A claim that was bound once.
fn bound(claim: &PersistentVolumeClaim, volume: Option<Arc<PersistentVolume>>) -> ForClaim {
    let lost = |reason, message: &str| ForClaim::Lose(Report::warning(reason, message));
    if claim.spec.volume_name.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    }
    let Some(volume) = volume else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match &volume.spec.claim_ref {
        Some(reference) if reference.uid != claim.metadata.uid => {
            lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        _ => ForClaim::Bind(volume),
    }
}

/// A claim that names its volume.
fn choosing(claim: &PersistentVolumeClaim, volume: Option<Arc<PersistentVolume>>) -> ForClaim {
    let Some(volume) = volume else { return ForClaim::Wait(None) };
    let name = &volume.metadata.name;
    if volume.is_for(claim) {
        return ForClaim::Bind(volume);
    }
    let Some(other) = &volume.spec.claim_ref else {
        return match mismatch(&volume, claim) {
            None => ForClaim::Bind(volume),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                ForClaim::Wait(Some(Report::warning("VolumeMismatch", message)))
            }
        };
    };
    let message = format!("volume {name:?} already bound to a different claim.");
    let report = Report::warning("FailedBinding", message);
    if claim.metadata.annotation(BOUND_BY_CONTROLLER).is_none() {
        return ForClaim::Wait(Some(report));
    }
    let key = claim.metadata.key();
    let error = format!(
        "invalid binding of claim {key:?} to volume {name:?}: volume already claimed by {:?}",
        other.key().to_string()
    );
    ForClaim::Refuse(report, error)
}

fn unbound(claim: &PersistentVolumeClaim, facts: &impl Facts) -> Result<ForClaim, String> {
    let name = claim.class().unwrap_or_default();
    let class = if name.is_empty() { None } else { facts.class(name) };
    let delayed = match class.as_ref().map(|class| class.volume_binding_mode.as_deref()) {
        Some(None) => return Err(format!("VolumeBindingMode not set for StorageClass {name:?}")),
        mode => mode == Some(Some("WaitForFirstConsumer")),
    };
    if let Some(volume) = best(claim, facts.candidates(claim), delayed)? {
        return Ok(ForClaim::Bind(volume));
    }
    if claim.class().is_none()
        && let Some(class) = facts.default_class()
    {
        return Ok(ForClaim::AssignClass(class));
    }
    if delayed && claim.metadata.annotation(SELECTED_NODE).is_none() {
        return Ok(ForClaim::Wait(Some(consumer(&facts.waiting_pods(claim)))));
    }
    if name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Ok(ForClaim::Wait(Some(Report::normal("FailedBinding", message))));
    }
    if !facts.provisions() {
        return Ok(ForClaim::CannotProvision(None));
    }
    let missing = || format!("storageclass.storage.k8s.io {name:?} not found");
    Ok(match class.ok_or_else(missing).and_then(|class| provisioner(&class.provisioner)) {
        Ok(provisioner) => ForClaim::Provision { provisioner },
        Err(message) => ForClaim::CannotProvision(Some(Report::warning("ProvisioningFailed", message))),
    })
}

/// Who provisions volumes of a class.
fn provisioner(name: &str) -> Result<String, String> {
    if let Some(driver) = migrated::driver(name) {
        return Ok(driver.to_owned());
    }
    if !name.starts_with("kubernetes.io/") {
        return Ok(name.to_owned());
    }
    Err(match name {
        "kubernetes.io/host-path" => {
            format!("Failed to create provisioner: provisioning in volume plugin {name:?} is disabled")
        }
        _ if PLUGINS.contains(&name) => "no provisionable volume plugin matched".to_owned(),
        _ => format!("no volume plugin matched name: {name}"),
    })
}

/// What a claim waits for that is bound for its first consumer.
fn consumer(pods: &[String]) -> Report {
    let scheduled = |message: String| Report::normal("WaitForPodScheduled", message);
    match pods {
        [] => {
            Report::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
        }
        [pod] => scheduled(format!("waiting for pod {pod} to be scheduled")),
        several => scheduled(format!("waiting for pods {} to be scheduled", several.join(","))),
    }
}

fn size(amounts: &controllers::views::Quantities) -> Quantity {
    let text = amounts.get("storage");
    text.and_then(|text| Quantity::parse(text).ok()).unwrap_or(Quantity::ZERO)
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim.spec.access_modes.iter().all(|mode| volume.spec.access_modes.contains(mode))
}

/// Why a volume that the user chose does not serve the claim.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    let (of_volume, of_claim) = (&volume.spec, &claim.spec);
    let why = if volume.metadata.is_deleting() {
        return Some(format!("the volume is marked for deletion {:?}", volume.metadata.name));
    } else if size(&of_volume.capacity).value() < size(&of_claim.resources.requests).value() {
        "requested PV is too small"
    } else if volume.class() != claim.class().unwrap_or_default() {
        "storageClassName does not match"
    } else if attributes(&of_volume.volume_attributes_class_name)
        != attributes(&of_claim.volume_attributes_class_name)
    {
        "volumeAttributesClassName does not match"
    } else if volume.mode() != claim.mode() {
        "incompatible volumeMode"
    } else if !has_modes(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The volume reserved for the claim, or else the smallest that serves it. Those with the fewest access modes come first:
/// a claim should not take a volume that can do more than it asks for.
fn best(
    claim: &PersistentVolumeClaim,
    candidates: Vec<Arc<PersistentVolume>>,
    delayed: bool,
) -> Result<Option<Arc<PersistentVolume>>, String> {
    if let Some(error) = claim.spec.selector.error() {
        let key = claim.metadata.key();
        let why = format!("error creating internal label selector for claim: {key}: {error}");
        return Err(format!("error finding PV for claim {key:?}: {why}"));
    }
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    let wanted = size(&claim.spec.resources.requests);
    let serves = |volume: &PersistentVolume| {
        (volume.spec.claim_ref.is_none() || volume.is_for(claim))
            && has_modes(volume, claim)
            && size(&volume.spec.capacity) >= wanted
            && volume.mode() == claim.mode()
            && attributes(&volume.spec.volume_attributes_class_name)
                == attributes(&claim.spec.volume_attributes_class_name)
            && !volume.metadata.is_deleting()
    };
    let mut by_modes: BTreeMap<(usize, String), Vec<Arc<PersistentVolume>>> = BTreeMap::new();
    for volume in candidates.into_iter().filter(|volume| serves(volume)) {
        let mut modes = volume.spec.access_modes.clone();
        modes.sort();
        modes.dedup();
        by_modes.entry((modes.len(), modes.join(","))).or_default().push(volume);
    }
    let selects = |volume: &PersistentVolume| {
        claim.spec.selector.source().is_none() || claim.spec.selector.matches(&volume.metadata.labels)
    };
    for volumes in by_modes.into_values() {
        if let Some(reserved) = volumes.iter().find(|volume| volume.is_for(claim)) {
            return Ok(Some(reserved.clone()));
        }
        // The scheduler binds a claim that waits for its consumer.
        let free = volumes.iter().filter(|volume| {
            !delayed
                && volume.status.phase == "Available"
                && volume.class() == claim.class().unwrap_or_default()
                && selects(volume)
        });
        if let Some(smallest) = free.min_by(|one, other| by_size(one, other)) {
            return Ok(Some(smallest.clone()));
        }
    }
    Ok(None)
}

fn by_size(one: &PersistentVolume, other: &PersistentVolume) -> Ordering {
    size(&one.spec.capacity).cmp(&size(&other.spec.capacity))
}

/// `claim` is the one that the volume is bound to, where it exists.
pub(super) fn for_volume(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> ForVolume {
    if volume.spec.claim_ref.as_ref().is_none_or(|claim| claim.uid.is_empty()) {
        // One that is reserved by the user is bound with its claim.
        return ForVolume::Enter("Available");
    }
    let Some(claim) = claim else { return ForVolume::Reclaim };
    let (name, of_claim) = (&volume.metadata.name, &claim.metadata.name);
    if claim.spec.volume_name == *name {
        return ForVolume::Enter("Bound");
    }
    if claim.spec.volume_name.is_empty() {
        if volume.mode() == claim.mode() {
            return ForVolume::Complete;
        }
        let to_volume = format!(
            "Cannot bind PersistentVolume to requested PersistentVolumeClaim {of_claim:?} due to incompatible volumeMode."
        );
        let to_claim = format!(
            "Cannot bind PersistentVolume {name:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
        );
        return ForVolume::Mismatch {
            of_volume: Report::warning("VolumeMismatch", to_volume),
            of_claim: Report::warning("VolumeMismatch", to_claim),
        };
    }
    let provisioned = volume.metadata.annotation(PROVISIONED_BY).is_some();
    if provisioned && volume.spec.persistent_volume_reclaim_policy == "Delete" {
        return ForVolume::Reclaim;
    }
    ForVolume::Unbind
}
